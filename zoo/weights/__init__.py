"""Trained weights: what users name in place of a bundle folder, the hub, and model cards."""
