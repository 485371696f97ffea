"""Bands, units and grids of files: the one room that knows rasterio."""
