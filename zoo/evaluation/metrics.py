"""Metrics as functions of the four counts. Each takes int64 arrays and returns float64, NaN where it is undefined.

The formulas are eqs. 16, 17 and 19 of the paper and other common ones, tested against scikit-learn. The caller
averages: pooled counts give pooled metrics, per-image counts give metrics per image.
"""

from __future__ import annotations

import numpy as np

from zoo.evaluation.counts import Counts, FloatArray, IntArray


def _ratio(numerator: FloatArray | IntArray, denominator: FloatArray | IntArray) -> FloatArray:
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    ratio: FloatArray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return ratio


def dice(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return 2TP / (2TP + FP + FN) (eq. 19), the F1 score of the landslide class."""
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return TP / (TP + FP + FN), the Jaccard index of the landslide class."""
    return _ratio(tp, tp + fp + fn)


def precision(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return TP / (TP + FP); undefined if nothing is predicted."""
    return _ratio(tp, tp + fp)


def recall(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return TP / (TP + FN) (eq. 16); undefined if there is no landslide."""
    return _ratio(tp, tp + fn)


def accuracy(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return (TP + TN) / all, as the paper reports it. It is near the base rate where landslides are rare."""
    return _ratio(tp + tn, tp + fp + fn + tn)


def base_rate(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return the accuracy of predicting the more frequent class everywhere."""
    return _ratio(np.maximum(tp + fn, fp + tn), tp + fp + fn + tn)


def balanced_accuracy(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return the mean of the recalls of both classes; undefined if one is absent."""
    return (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2


def mcc(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
    """Return the Matthews correlation coefficient in [-1, 1]; undefined if a marginal sum of the table is 0."""
    # The product of four marginal sums of a large test set exceeds 2**63 and would overflow int64.
    a, b, c, d = (np.asarray(cell, np.float64) for cell in (tp, fp, fn, tn))
    margins = np.sqrt(a + b) * np.sqrt(a + c) * np.sqrt(d + b) * np.sqrt(d + c)
    return _ratio(a * d - b * c, margins)


def false_positive_rate_per_km2(counts: Counts, pixel_size: float) -> float:
    """Return false positive pixels per km2 over the images without a landslide; NaN without such an image.

    Args:
        counts: counts of individual images.
        pixel_size: side of a pixel in metres.
    """
    empty = counts.select(~counts.has_landslide)
    area_km2 = float(empty.pixels.sum()) * pixel_size**2 / 1e6
    return float(empty.fp.sum()) / area_km2 if area_km2 > 0 else float("nan")


def pooled_dice(counts: Counts) -> float:
    """Return the Dice over all images together; NaN if nothing is predicted and there is no landslide."""
    return float(dice(*counts.pooled().cells)[0])


def image_dice(counts: Counts) -> FloatArray:
    """Return the Dice of each image, float64 ``(N,)``; NaN for images without a landslide, where it is undefined."""
    return np.where(counts.has_landslide, dice(*counts.cells), np.nan)


def dice_per_image(counts: Counts) -> float:
    """Return the mean Dice of the images with a landslide; NaN without such an image."""
    values = image_dice(counts)[counts.has_landslide]
    return float(values.mean()) if len(values) else float("nan")
