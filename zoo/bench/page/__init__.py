"""A results folder as one HTML page that needs nothing else."""
