"""Trained weights: what users name instead of a bundle folder, the hub, and model cards."""
