"""Synthetic landslide scenes generated from physics.

``generate_scene`` generates one scene and needs only numpy and scipy. ``Synthetic`` is the torch data set of many
scenes, cached on disk; only ``Synthetic`` imports torch, on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.synthetic.scene import Scene, SceneConfig, generate_scene
    from zoo.datasets.synthetic.synthetic_dataset import Synthetic

__all__ = ["Scene", "SceneConfig", "Synthetic", "generate_scene"]

_HOMES = {"Scene": "scene", "generate_scene": "scene", "SceneConfig": "scene", "Synthetic": "synthetic_dataset"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
