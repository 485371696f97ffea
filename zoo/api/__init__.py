"""The public functions and classes of ``import zoo``, which also the command line calls."""
