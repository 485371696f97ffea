"""Curves of probabilities against labels: ROC, success and prediction rate, reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.risk.scores import BINS

_MOST_POINTS = 400


def roc_curve(
    labels: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give false and true positive rates, rising from (0, 0) to (1, 1), at most 400 points.

    Args:
        labels: 0 and 1, (N,), with some of both.
        probability: (N,); equal ones are taken together.
    """
    found, taken = _counts(labels, probability)
    others = taken - found
    return _thin(others / others[-1], found / found[-1])


def rate_curve(
    labels: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the share of area, the most dangerous first, and the share of landslides in it.

    On training rows it is the success rate, on held-out rows the prediction rate (Chung and Fabbri 2003, Natural
    Hazards 30, 451-472 [S]). Rows count as equal areas.

    Args:
        labels: 0 and 1, (N,), with some of both.
        probability: (N,); equal ones are taken together.
    """
    found, taken = _counts(labels, probability)
    return _thin(taken / taken[-1], found / found[-1])


@dataclass(frozen=True)
class Reliability:
    """Probabilities in ten bins of equal width; empty bins are left out.

    Attributes:
        predicted: mean probability of each bin.
        observed: share of landslides of each bin.
        rows: of each bin.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    rows: NDArray[np.int64]


def reliability(labels: NDArray[np.int64], probability: NDArray[np.float64]) -> Reliability:
    """Compare mean probability and share of landslides, in the bins of the calibration error.

    Args:
        labels: 0 and 1, (N,).
        probability: 0..1, (N,).
    """
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    used = rows > 0
    predicted = np.bincount(bins, weights=probability, minlength=BINS)[used] / rows[used]
    observed = np.bincount(bins, weights=labels == 1, minlength=BINS)[used] / rows[used]
    return Reliability(predicted, observed, rows[used])


def _counts(
    labels: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Landslides and rows at or above each distinct probability, highest first, from 0."""
    order = np.argsort(-probability, kind="stable")
    last = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    found = np.cumsum(labels[order] == 1)[last]
    return np.append(0.0, found), np.append(0.0, last + 1.0)


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(x) <= _MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).astype(np.int64))
    return x[kept], y[kept]
