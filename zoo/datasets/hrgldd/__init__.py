"""HR-GLDD: PlanetScope patches of ten landslide events. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.hrgldd.dataset import HRGLDD

__all__ = ["HRGLDD"]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name != "HRGLDD":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.dataset").HRGLDD
