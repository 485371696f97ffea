"""Which channels and which ground a model's answer rests on, in one window of a scene."""

from zoo.mapping.explain.occlusion import Explanation, Occluded, explain_window

__all__ = ["Explanation", "Occluded", "explain_window"]
