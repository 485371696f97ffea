"""Training with Lightning: recipes, losses, the task, and the bundle of a trained model."""
