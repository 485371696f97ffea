"""Metrics as functions of the four counts. Each takes int64 arrays and returns float64, NaN where undefined.

The formulas are the paper's eqs. 16, 17 and 19 and their textbook neighbours; they are tested against
scikit-learn. Averaging is done by whoever calls them: pooled counts give pooled metrics, counts of single images
give per-image metrics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.counts import Counts, IntArray

FloatArray = NDArray[np.float64]


def _ratio(numerator: NDArray[np.float64] | IntArray, denominator: NDArray[np.float64] | IntArray) -> FloatArray:
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    ratio: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return ratio


def dice(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """2TP / (2TP + FP + FN) (eq. 19), which is the F1 score of the landslide class."""
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """TP / (TP + FP + FN), the Jaccard index of the landslide class."""
    return _ratio(tp, tp + fp + fn)


def precision(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """TP / (TP + FP); undefined when nothing is predicted."""
    return _ratio(tp, tp + fp)


def recall(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """TP / (TP + FN) (eq. 16); undefined without a landslide."""
    return _ratio(tp, tp + fn)


def accuracy(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """(TP + TN) / all. With 2-6 % landslide pixels it says little; it is here because the paper prints it."""
    return _ratio(tp + tn, tp + fp + fn + tn)


def mcc(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Matthews correlation coefficient in [-1, 1]; undefined when a margin of the table is empty."""
    # int64 would overflow: four margins of a large test set multiply to more than 2**63.
    a, b, c, d = (np.asarray(cell, np.float64) for cell in (tp, fp, fn, tn))
    margins = np.sqrt(a + b) * np.sqrt(a + c) * np.sqrt(d + b) * np.sqrt(d + c)
    return _ratio(a * d - b * c, margins)


def false_positive_rate_per_km2(counts: Counts, pixel_size: float) -> float:
    """Falsely predicted pixels per square kilometre over the images without a landslide; NaN without any.

    Args:
        counts: of single images.
        pixel_size: edge of a pixel in metres.
    """
    empty = counts.select(~counts.has_landslide)
    area_km2 = float(empty.pixels.sum()) * pixel_size**2 / 1e6
    return float(empty.fp.sum()) / area_km2 if area_km2 > 0 else float("nan")


def dice_per_image(counts: Counts) -> float:
    """Mean over images of each one's Dice; images without a landslide are left out, for there it is undefined."""
    chosen = counts.select(counts.has_landslide)
    return float(dice(chosen.tp, chosen.fp, chosen.fn, chosen.tn).mean()) if len(chosen) else float("nan")
