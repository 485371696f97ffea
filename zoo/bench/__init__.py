"""Benchmark: compare models on the same patches, steps and seeds, with one result file per trial."""
