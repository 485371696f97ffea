"""The fastest exact form of a model on this machine: folding, layout, precision, backends, export."""
