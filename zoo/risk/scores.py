"""Figures of merit of probabilities against labels, of rows that a model has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Score: TypeAlias = Callable[[NDArray[Any], NDArray[np.float64]], float]

BINS = 10


def accuracy(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Share of rows on the right side of a probability of 0.5."""
    return float(np.mean((probability >= 0.5) == (labels == 1)))


def auc(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a landslide has the higher probability of a pair; ties count half."""
    truth = labels == 1
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(probability)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def pr_auc(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Average precision: the sum of precision times the gain of recall down the ranking, ties taken together."""
    truth = labels == 1
    if not truth.any():
        return float("nan")
    order = np.argsort(-probability, kind="stable")
    found = np.cumsum(truth[order])
    last = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    precision = found[last] / (last + 1)
    recall = found[last] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mse(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Mean squared difference of probability and label: the Brier score."""
    return float(np.mean((probability - (labels == 1)) ** 2))


def rmse(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Square root of :func:`mse`."""
    return float(np.sqrt(mse(labels, probability)))


def ece(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Expected calibration error over ten bins of equal width: mean |share of landslides - mean probability|."""
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=(labels == 1) - probability, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


SCORES: Mapping[str, Score] = MappingProxyType(
    {"accuracy": accuracy, "auc": auc, "pr_auc": pr_auc, "mse": mse, "rmse": rmse, "ece": ece}
)
"""Figures of Table 2 [P] and those beside them [O], by the name in result files."""
