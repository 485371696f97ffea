"""Landslide risk on tables and rasters: weights of the index, calibration, classes, the risk models of Table 2."""
