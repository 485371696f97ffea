"""The fastest exact form of a model on this machine: folding, layout, precision, backends, export.

    >>> from zoo.deploy import optimize
    >>> fast = optimize(model, example)                              # same interface, same logits
    >>> print(fast.report)

Importing this imports no torch; what is named here is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.deploy.allocator import raise_allocator_thresholds
    from zoo.deploy.folding import fold
    from zoo.deploy.search import optimize

_PLACES = {
    "fold": "zoo.deploy.folding",
    "optimize": "zoo.deploy.search",
    "raise_allocator_thresholds": "zoo.deploy.allocator",
}

__all__ = ["fold", "optimize", "raise_allocator_thresholds"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
