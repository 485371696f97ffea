"""Count pixels and landslides in predictions, and compute every reported metric from the counts."""
