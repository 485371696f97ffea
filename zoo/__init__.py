"""landslide-zoo: a model zoo for landslide segmentation.

Names are resolved on first use, so that ``import zoo`` costs nothing: ``zoo.blocks`` needs torch alone, the
registry needs pluggy alone, and each says so when it is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.registry import create_dataset, create_model, list_datasets, list_models

__version__ = "0.1.0"
__all__ = ["__version__", "create_dataset", "create_model", "list_datasets", "list_models"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("zoo.registry"), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
