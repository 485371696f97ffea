"""Equations on arrays, with units: spectral indices, slope, rain, wetness, stability and the risk index.

numpy and scipy alone, so that rasters, tables and the synthetic scenes compute the same thing with the same code.
"""

from zoo.physics.bands import PAPER_CHANNELS, Band
from zoo.physics.indices import ndbi, ndvi, ndwi, normalized_difference
from zoo.physics.lsi import PAPER_WEIGHTS, FeatureRange, landslide_index, weighted_sum
from zoo.physics.rain import RAIN_PRESETS, RainParameters, rainfall_factor
from zoo.physics.slope import horn_gradient, slope_degrees
from zoo.physics.stability import factor_of_safety
from zoo.physics.wetness import steady_wetness

__all__ = [
    "PAPER_CHANNELS",
    "PAPER_WEIGHTS",
    "RAIN_PRESETS",
    "Band",
    "FeatureRange",
    "RainParameters",
    "factor_of_safety",
    "horn_gradient",
    "landslide_index",
    "ndbi",
    "ndvi",
    "ndwi",
    "normalized_difference",
    "rainfall_factor",
    "slope_degrees",
    "steady_wetness",
    "weighted_sum",
]
