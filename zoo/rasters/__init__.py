"""Rasters and vector files: the one room that imports rasterio."""
