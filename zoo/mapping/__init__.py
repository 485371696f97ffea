"""Maps of whole scenes: tiles, blending, resuming an interrupted run, and clusters."""

from zoo.mapping.inference import MapOptions
from zoo.mapping.output import MapReport, ProbabilityMap
from zoo.mapping.pipeline import MapProducts, MapRequest, map_bundle, map_scene
from zoo.mapping.probability import ProbabilityClasses
from zoo.mapping.scene import Scene

__all__ = [
    "MapOptions",
    "MapProducts",
    "MapReport",
    "MapRequest",
    "ProbabilityClasses",
    "ProbabilityMap",
    "Scene",
    "map_bundle",
    "map_scene",
]
