"""Maps of whole scenes: tiles, blending, resuming, and more than one machine."""

from zoo.mapping.output import MapReport
from zoo.mapping.pipeline import MapOptions, map_scene
from zoo.mapping.probability import ProbabilityClasses
from zoo.mapping.scene import Scene

__all__ = ["MapOptions", "MapReport", "ProbabilityClasses", "Scene", "map_scene"]
