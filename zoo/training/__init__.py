"""Training through Lightning: recipes, losses, the task, and the bundle of a trained model."""
