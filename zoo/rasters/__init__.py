"""Raster and vector files; the only package that imports rasterio."""
