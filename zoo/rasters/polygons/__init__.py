"""Polygons of what a probability raster of any size shows, with area, probability and slope."""

from zoo.rasters.polygons.run import PolygonOptions, PolygonReport, write_polygons
from zoo.rasters.polygons.writer import check_polygons

__all__ = ["PolygonOptions", "PolygonReport", "check_polygons", "write_polygons"]
