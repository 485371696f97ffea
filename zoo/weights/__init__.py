"""Trained weights: sources of bundles, the hub, and model cards."""
