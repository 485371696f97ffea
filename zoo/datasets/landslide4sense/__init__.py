"""Landslide4Sense: 14-band Sentinel-2 and ALOS PALSAR patches of four areas. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.landslide4sense.dataset import Landslide4Sense

__all__ = ["Landslide4Sense"]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name != "Landslide4Sense":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.dataset").Landslide4Sense
