"""Landslide risk on tables and rasters: weights of the index, calibration, classes, the comparators of Table 2."""
