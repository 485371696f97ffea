"""Training through Lightning: recipes, losses, the task, and the bundle that a trained model is kept in."""
