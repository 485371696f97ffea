"""Maps of whole scenes: tiles, blending, resuming, and more than one machine."""

from zoo.mapping.legend import ProbabilityClasses
from zoo.mapping.output import MapReport
from zoo.mapping.run import MapOptions, map_scene
from zoo.mapping.scene import Scene

__all__ = ["MapOptions", "MapReport", "ProbabilityClasses", "Scene", "map_scene"]
