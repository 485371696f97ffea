"""landslide-zoo: a model zoo for landslide segmentation.

The names below are the public API: every command calls one of these functions. They are imported on first use, so
``import zoo`` is fast and loads only what you use: ``zoo.blocks`` needs only torch, the catalogue only pluggy.

>>> import zoo
>>> zoo.list_models("*unet*")
['drs_unet', 'enhanced_unet', 'unet']
"""

TYPE_CHECKING = False
"""Type checkers read it as true. Importing it from typing would take most of the time of ``import zoo``."""

if TYPE_CHECKING:
    from zoo.api.benchmark import benchmark, plan_benchmark
    from zoo.api.doctor import doctor
    from zoo.api.export import export
    from zoo.api.maps import accuracy, draw_sample, polygons
    from zoo.api.plugin import new_plugin
    from zoo.api.preparation import audit, describe, patches, rain, stack
    from zoo.api.results import Results, read_results
    from zoo.api.speed import speed
    from zoo.api.train import train
    from zoo.api.trained_model import TrainedModel, load
    from zoo.api.weights import pull, push
    from zoo.physics.rain_events import EventRules
    from zoo.rasters.rain_series import RainReading
    from zoo.registry import (
        create_dataset,
        create_loss,
        create_model,
        disable_plugin,
        enable_plugin,
        list_datasets,
        list_losses,
        list_metrics,
        list_models,
        list_plugins,
        list_weights,
        register_model,
    )

__version__ = "0.1.0"

# Not lazy_loader: `from zoo.blocks import MCSA` must work with no dependency other than torch.
_HOMES = {
    "EventRules": "zoo.physics.rain_events",
    "RainReading": "zoo.rasters.rain_series",
    "Results": "zoo.api.results",
    "TrainedModel": "zoo.api.trained_model",
    "accuracy": "zoo.api.maps",
    "audit": "zoo.api.preparation",
    "benchmark": "zoo.api.benchmark",
    "create_dataset": "zoo.registry",
    "create_loss": "zoo.registry",
    "create_model": "zoo.registry",
    "describe": "zoo.api.preparation",
    "disable_plugin": "zoo.registry",
    "doctor": "zoo.api.doctor",
    "enable_plugin": "zoo.registry",
    "draw_sample": "zoo.api.maps",
    "export": "zoo.api.export",
    "list_datasets": "zoo.registry",
    "list_losses": "zoo.registry",
    "list_metrics": "zoo.registry",
    "list_models": "zoo.registry",
    "list_plugins": "zoo.registry",
    "list_weights": "zoo.registry",
    "load": "zoo.api.trained_model",
    "new_plugin": "zoo.api.plugin",
    "patches": "zoo.api.preparation",
    "plan_benchmark": "zoo.api.benchmark",
    "polygons": "zoo.api.maps",
    "pull": "zoo.api.weights",
    "push": "zoo.api.weights",
    "rain": "zoo.api.preparation",
    "read_results": "zoo.api.results",
    "register_model": "zoo.registry",
    "speed": "zoo.api.speed",
    "stack": "zoo.api.preparation",
    "train": "zoo.api.train",
}
_ROOMS = ("blocks", "datasets", "errors", "models", "physics", "registry", "risk", "testing")
__all__ = [
    "EventRules",
    "RainReading",
    "Results",
    "TrainedModel",
    "__version__",
    "accuracy",
    "audit",
    "benchmark",
    "create_dataset",
    "create_loss",
    "create_model",
    "describe",
    "disable_plugin",
    "doctor",
    "draw_sample",
    "enable_plugin",
    "export",
    "list_datasets",
    "list_losses",
    "list_metrics",
    "list_models",
    "list_plugins",
    "list_weights",
    "load",
    "new_plugin",
    "patches",
    "plan_benchmark",
    "polygons",
    "pull",
    "push",
    "rain",
    "read_results",
    "register_model",
    "speed",
    "stack",
    "train",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
