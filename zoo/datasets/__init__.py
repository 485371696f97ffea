"""Data sets as torchgeo classes: patches with bands that have units, groups, and splits without leakage.

Importing this package imports neither torch nor torchgeo; names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.augmentation import TrainingAugmentation
    from zoo.datasets.base import IGNORE, DataWarning, Patch, PatchDataset
    from zoo.datasets.bijie import Bijie
    from zoo.datasets.cas import CAS
    from zoo.datasets.datamodule import PatchDataModule
    from zoo.datasets.folder import Folder
    from zoo.datasets.hrgldd import HRGLDD
    from zoo.datasets.landslide4sense import Landslide4Sense
    from zoo.datasets.sen12landslides import Sen12Landslides
    from zoo.datasets.source import DataSource
    from zoo.datasets.splits import LeakageWarning
    from zoo.datasets.statistics import BandStatistics, Statistics, compute_statistics, normalise
    from zoo.datasets.synthetic import Synthetic

__all__ = [
    "CAS",
    "HRGLDD",
    "IGNORE",
    "BandStatistics",
    "Bijie",
    "DataSource",
    "DataWarning",
    "Folder",
    "Landslide4Sense",
    "LeakageWarning",
    "Patch",
    "PatchDataModule",
    "PatchDataset",
    "Sen12Landslides",
    "Statistics",
    "Synthetic",
    "TrainingAugmentation",
    "compute_statistics",
    "normalise",
]

_HOMES = {
    "CAS": "cas",
    "HRGLDD": "hrgldd",
    "IGNORE": "base",
    "BandStatistics": "statistics",
    "Bijie": "bijie",
    "DataSource": "source",
    "DataWarning": "base",
    "Folder": "folder",
    "Landslide4Sense": "landslide4sense",
    "LeakageWarning": "splits",
    "Patch": "base",
    "PatchDataModule": "datamodule",
    "PatchDataset": "base",
    "Sen12Landslides": "sen12landslides",
    "Statistics": "statistics",
    "Synthetic": "synthetic",
    "TrainingAugmentation": "augmentation",
    "compute_statistics": "statistics",
    "normalise": "statistics",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
