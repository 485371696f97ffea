"""CAS Landslide Dataset: 20,865 RGB images of 512 x 512 pixels, by satellites and drones, of nine regions.

Importing this package imports no torch; the class is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.cas.dataset import CAS

__all__ = ["CAS"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.dataset"), name)
