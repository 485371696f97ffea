"""The figures of one trial, computed from its counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoo.evaluation.boundaries import DISTANCES, BoundaryCounts
from zoo.evaluation.calibration import LogitHistogram
from zoo.evaluation.counts import Counts
from zoo.evaluation.curves import ThresholdCurve
from zoo.evaluation.metrics import dice, dice_per_image, false_positive_rate_per_km2
from zoo.evaluation.objects import ObjectCounts
from zoo.evaluation.threshold import ProbabilityHistogram
from zoo.registry import catalogue


@dataclass(frozen=True)
class Evaluated:
    """All that was counted of a test split.

    Attributes:
        counts: of every image, at the frozen threshold.
        groups: event or scene of every image.
        histogram: pixels by probability.
        objects: landslides found and missed; None where they were not counted.
        boundaries: boundary pixels; None likewise.
        odds: pixels by log odds; None likewise.
        validation_odds: those of the validation split, which the temperature is fitted on; None likewise.
    """

    counts: Counts
    groups: tuple[str, ...]
    histogram: ProbabilityHistogram
    objects: ObjectCounts | None = None
    boundaries: BoundaryCounts | None = None
    odds: LogitHistogram | None = None
    validation_odds: LogitHistogram | None = None


def summarise_trial(evaluated: Evaluated, pixel_size: float | None = None) -> dict[str, float | None]:
    """The figures of :func:`summarise`, and those that need more than counts.

    ``pr_auc``: area under precision and recall. ``dice_per_event``: mean of each event's pooled Dice, events without a
    landslide left out. ``detection``: share of landslides with at least half of their pixels predicted.
    ``false_alarms_per_km2``: predicted components without any landslide pixel. ``boundary_f1_Npx``: outlines that
    agree within N pixels. ``ece``: expected calibration error; ``temperature``: fitted on validation; ``ece_scaled``:
    with it.

    Args:
        evaluated: all that was counted.
        pixel_size: edge of a pixel in metres, if it is known.

    Returns:
        Values by name, ``None`` where undefined or not counted.
    """
    figures = {
        "pr_auc": ThresholdCurve.from_histogram(evaluated.histogram).average_precision,
        "dice_per_event": _dice_per_event(evaluated),
    }
    if evaluated.objects is not None:
        total = int(evaluated.objects.total.sum())
        figures["detection"] = int(evaluated.objects.found.sum()) / total if total else math.nan
        if pixel_size is not None:
            area_km2 = int(evaluated.counts.pixels.sum()) * pixel_size**2 / 1e6
            alarms = int(evaluated.objects.false_alarms.sum())
            figures["false_alarms_per_km2"] = alarms / area_km2 if area_km2 else math.nan
    if evaluated.boundaries is not None:
        for distance, value in zip(DISTANCES, evaluated.boundaries.f1(), strict=True):
            figures[f"boundary_f1_{distance}px"] = float(value)
    if evaluated.odds is not None:
        figures["ece"] = evaluated.odds.reliability().expected_calibration_error
        if evaluated.validation_odds is not None:
            temperature = evaluated.validation_odds.best_temperature()
            figures["temperature"] = temperature
            figures["ece_scaled"] = evaluated.odds.reliability(temperature).expected_calibration_error
    defined = {name: None if math.isnan(value) else value for name, value in figures.items()}
    return {**summarise(evaluated.counts, pixel_size), **defined}


def _dice_per_event(evaluated: Evaluated) -> float:
    groups = np.asarray(evaluated.groups)
    each = [evaluated.counts.select(groups == name).pooled() for name in np.unique(groups)]
    values = [float(dice(one.tp, one.fp, one.fn, one.tn)[0]) for one in each if one.has_landslide.any()]
    return math.fsum(values) / len(values) if values else math.nan


def summarise(counts: Counts, pixel_size: float | None = None) -> dict[str, float | None]:
    """Every registered metric over the pooled counts, and the two that need single images.

    Args:
        counts: of every test image.
        pixel_size: edge of a pixel in metres, if it is known.

    Returns:
        Values by name, ``None`` where undefined: JSON has no NaN.
    """
    pooled = counts.pooled()
    figures = {
        spec.name: float(spec.resolve()(pooled.tp, pooled.fp, pooled.fn, pooled.tn)[0])
        for spec in catalogue().metrics.match()
    }
    figures["dice_per_image"] = dice_per_image(counts)
    if pixel_size is not None:
        figures["false_positives_per_km2"] = false_positive_rate_per_km2(counts, pixel_size)
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
