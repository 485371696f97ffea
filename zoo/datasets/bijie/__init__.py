"""Bijie landslide data set: RGB images of 0.8 m with masks and a DEM, of many sizes, cut into patches of one.

Importing this package imports no torch; the class is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.bijie.dataset import Bijie

__all__ = ["Bijie"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.dataset"), name)
