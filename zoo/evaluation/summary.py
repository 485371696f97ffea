"""The figures of one trial, computed from its counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoo.evaluation.counts import DISTANCES, BoundaryCounts, Counts, ObjectCounts
from zoo.evaluation.histograms import LogitHistogram, ProbabilityHistogram, ThresholdCurve
from zoo.evaluation.metrics import dice, dice_per_image, false_positive_rate_per_km2
from zoo.registry import catalogue


@dataclass(frozen=True)
class SplitCounts:
    """Everything that is counted on a test split.

    Attributes:
        counts: confusion matrix of every image, at the frozen threshold.
        groups: event or scene of every image.
        histogram: pixels by probability.
        objects: landslides found and missed; ``None`` where they were not counted.
        boundaries: boundary pixels; ``None`` where they were not counted.
        logit_histogram: pixels by logit; ``None`` where they were not counted.
        validation_logit_histogram: that of the validation split, for the temperature; ``None`` where not counted.
    """

    counts: Counts
    groups: tuple[str, ...]
    histogram: ProbabilityHistogram
    objects: ObjectCounts | None = None
    boundaries: BoundaryCounts | None = None
    logit_histogram: LogitHistogram | None = None
    validation_logit_histogram: LogitHistogram | None = None


def summarise_trial(found: SplitCounts, pixel_size: float | None = None) -> dict[str, float | None]:
    """Return the figures of :func:`summarise`, and those that need more than pixel counts.

    Args:
        found: everything that was counted.
        pixel_size: edge of a pixel in metres; ``None`` where it is unknown.

    Returns:
        Values by name; ``None`` where a figure is undefined.
    """
    figures = {
        "pr_auc": ThresholdCurve.from_histogram(found.histogram).average_precision,
        "dice_per_event": _dice_per_event(found),
    }
    if found.objects is not None:
        total = int(found.objects.total.sum())
        figures["detection"] = int(found.objects.found.sum()) / total if total else math.nan
        if pixel_size is not None:
            area_km2 = int(found.counts.pixels.sum()) * pixel_size**2 / 1e6
            alarms = int(found.objects.false_alarms.sum())
            figures["false_alarms_per_km2"] = alarms / area_km2 if area_km2 else math.nan
    if found.boundaries is not None:
        for distance, value in zip(DISTANCES, found.boundaries.f1(), strict=True):
            figures[f"boundary_f1_{distance}px"] = float(value)
    if found.logit_histogram is not None:
        figures["ece"] = found.logit_histogram.reliability().expected_calibration_error
        if found.validation_logit_histogram is not None:
            temperature = found.validation_logit_histogram.best_temperature()
            figures["temperature"] = temperature
            figures["ece_scaled"] = found.logit_histogram.reliability(temperature).expected_calibration_error
    defined = {name: None if math.isnan(value) else value for name, value in figures.items()}
    return {**summarise(found.counts, pixel_size), **defined}


def _dice_per_event(found: SplitCounts) -> float:
    groups = np.asarray(found.groups)
    each = [found.counts.select(groups == name).pooled() for name in np.unique(groups)]
    values = [float(dice(*one.cells)[0]) for one in each if one.has_landslide.any()]
    return math.fsum(values) / len(values) if values else math.nan


def summarise(counts: Counts, pixel_size: float | None = None) -> dict[str, float | None]:
    """Return every registered metric of the pooled counts, and the two that need single images.

    Args:
        counts: counts of every test image.
        pixel_size: edge of a pixel in metres; ``None`` where it is unknown.

    Returns:
        Values by name; ``None`` where a figure is undefined, because JSON has no NaN.
    """
    pooled = counts.pooled()
    figures = {spec.name: float(spec.resolve()(*pooled.cells)[0]) for spec in catalogue().metrics.match()}
    figures["dice_per_image"] = dice_per_image(counts)
    if pixel_size is not None:
        figures["false_positives_per_km2"] = false_positive_rate_per_km2(counts, pixel_size)
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
