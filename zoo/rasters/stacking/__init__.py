"""The paper's seven channels on one grid, made of satellite bands, a DEM and a source of soil moisture."""

from zoo.rasters.stacking.build import build_stack
from zoo.rasters.stacking.options import StackOptions, StackReport

__all__ = ["StackOptions", "StackReport", "build_stack"]
