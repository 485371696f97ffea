"""Optimise a model for this machine without changing its results, and export it to other formats.

Importing this package imports no torch; its names are loaded on first use. See :func:`zoo.deploy.search.optimize`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.deploy.folding import fold
    from zoo.deploy.search import optimize
    from zoo.machine import raise_allocator_thresholds

_HOMES = {
    "fold": "zoo.deploy.folding",
    "optimize": "zoo.deploy.search",
    "raise_allocator_thresholds": "zoo.machine",
}

__all__ = ["fold", "optimize", "raise_allocator_thresholds"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
