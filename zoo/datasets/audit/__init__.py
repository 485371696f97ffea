"""Audit of the splits of a data set: patches of different splits that show the same or neighbouring ground.

Importing this package does not import torch; names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.audit.findings import KINDS, Audit, AuditSummary, SharedScene, TouchedPatches, TouchingPair
    from zoo.datasets.audit.leakage import audit_splits, cached_summary

__all__ = [
    "KINDS",
    "Audit",
    "AuditSummary",
    "SharedScene",
    "TouchedPatches",
    "TouchingPair",
    "audit_splits",
    "cached_summary",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "leakage" if name in ("audit_splits", "cached_summary") else "findings"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
