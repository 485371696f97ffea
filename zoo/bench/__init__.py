"""The benchmark: every model on the same patches, steps and seeds, one result file per trial."""
