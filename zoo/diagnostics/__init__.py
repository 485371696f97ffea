"""Descriptions of data: statistics, correlation, collinearity, classes and landslide sizes."""
