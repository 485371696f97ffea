"""The built-in metrics, registered through the hook that plugins use."""

from __future__ import annotations

from zoo.registry import MetricSpec, hookimpl
from zoo.registry.hookspecs import RegisterMetric

METRICS = {
    "dice": "2TP / (2TP + FP + FN), eq. 19",
    "iou": "TP / (TP + FP + FN)",
    "precision": "TP / (TP + FP)",
    "recall": "TP / (TP + FN), eq. 16",
    "accuracy": "(TP + TN) / all pixels",
    "balanced_accuracy": "mean of the recall of both classes",
    "mcc": "Matthews correlation coefficient",
}


@hookimpl
def zoo_register_metrics(register: RegisterMetric) -> None:
    """Register the built-in metrics of :mod:`zoo.evaluation.metrics`."""
    for name, summary in METRICS.items():
        register(MetricSpec(name=name, target=f"zoo.evaluation.metrics:{name}", summary=summary))
