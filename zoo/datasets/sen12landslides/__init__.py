"""Sen12Landslides: Sentinel-1 and Sentinel-2 time series with landslide masks, 128 x 128 pixels of 10 m.

Importing this package imports no torch; the class is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.sen12landslides.dataset import Sen12Landslides

__all__ = ["Sen12Landslides"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.dataset"), name)
