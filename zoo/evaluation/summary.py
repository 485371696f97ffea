"""The figures of one trial, computed from its counts."""

from __future__ import annotations

import math

from zoo.evaluation.counts import Counts
from zoo.evaluation.metrics import dice_per_image, false_positive_rate_per_km2
from zoo.registry import catalogue


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
