"""Equations on arrays, with units: spectral indices, slope, rain, wetness, stability and the risk index.

They need only numpy and scipy. Rasters, tables and the synthetic scenes all use them.
"""

from zoo.physics.bands import CHANGE_CHANNELS, PAPER_CHANNELS, Band
from zoo.physics.indices import (
    OptramEdges,
    OptramFit,
    bsi,
    ndbi,
    ndmi,
    ndvi,
    ndwi,
    normalized_difference,
    scale_moisture,
    transformed_swir,
)
from zoo.physics.lsi import PAPER_WEIGHTS, FeatureRange, IndexParameters, landslide_index, weighted_sum
from zoo.physics.rain import RAIN_PRESETS, RainParameters, rainfall_factor, threshold_rain
from zoo.physics.sentinel2 import DarkPixels, baseline_offset, dark_pixels, guess_offset, harmonize
from zoo.physics.slope import hillshade, horn_gradient, slope_degrees
from zoo.physics.speckle import filter_speckle, local_looks
from zoo.physics.stability import Soil, SoilRange, factor_of_safety, failure_probability, steady_wetness

__all__ = [
    "CHANGE_CHANNELS",
    "PAPER_CHANNELS",
    "PAPER_WEIGHTS",
    "RAIN_PRESETS",
    "Band",
    "DarkPixels",
    "FeatureRange",
    "IndexParameters",
    "OptramEdges",
    "OptramFit",
    "RainParameters",
    "Soil",
    "SoilRange",
    "baseline_offset",
    "bsi",
    "dark_pixels",
    "factor_of_safety",
    "failure_probability",
    "filter_speckle",
    "guess_offset",
    "harmonize",
    "hillshade",
    "horn_gradient",
    "landslide_index",
    "local_looks",
    "ndbi",
    "ndmi",
    "ndvi",
    "ndwi",
    "normalized_difference",
    "rainfall_factor",
    "scale_moisture",
    "slope_degrees",
    "steady_wetness",
    "threshold_rain",
    "transformed_swir",
    "weighted_sum",
]
