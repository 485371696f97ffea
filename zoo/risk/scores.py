"""Scores of held-out probabilities, their bootstrap intervals, and curves.

AUC and PR-AUC are computed within each fold and averaged, because each fold has its own model, and probabilities of
different models are not comparable in rank. The other scores use all held-out rows, as is usual for a mean of squares;
the calibration error of a fold of seventy rows would be mostly noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError

RELIABILITY_BINS = 10
"""Number of equal-width bins for the calibration error. Tables have hundreds of rows, and 15 bins, as for the millions
of pixels of a test split, would leave a few rows in each. The committed results of Table 2 have ten."""
REPEATS = 300
LEVEL = 0.95

SCORES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced acc.",
        "mcc": "MCC",
        "auc": "AUC",
        "pr_auc": "PR-AUC",
        "mse": "MSE",
        "rmse": "RMSE",
        "ece": "ECE",
    }
)
"""Scores of Table 2 [P] and additional ones [O]: key in result files, and heading.

Accuracy, balanced accuracy (mean recall of both labels) and MCC (Matthews' correlation, NaN if one label is never or
always predicted, as in :mod:`zoo.evaluation.metrics`; scikit-learn returns 0) use a threshold of 0.5. MSE is the Brier
score. ECE has :data:`RELIABILITY_BINS` bins.
"""

PRINTED_SCORES: tuple[str, ...] = tuple(name for name in SCORES if name != "rmse")
"""Scores to show in terminals and notebooks; RMSE is omitted because it is the square root of MSE."""


def base_rate(labels: NDArray[Any]) -> float:
    """Return the accuracy of predicting the more frequent label everywhere."""
    share = float(np.mean(np.asarray(labels) == 1))
    return max(share, 1 - share)


def auc(labels: NDArray[Any], probability: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve; ties count half.

    It does not use scikit-learn, which ``zoo risk calibrate`` does not require.
    """
    truth = labels == 1
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, ties = np.unique(probability, return_inverse=True, return_counts=True)
    ranks = (ties.cumsum() - (ties - 1) / 2)[place]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


class SortedProbabilities:
    """Held-out probabilities of one model, sorted once so that hundreds of bootstrap draws are cheap.

    Args:
        labels: 0 and 1, (N,).
        probability: 0..1, (N,), from models that were not fitted to the row.
        fold: fold in which the row was held out, (N,); None for one fold.
    """

    def __init__(
        self, labels: NDArray[np.int64], probability: NDArray[np.float64], fold: NDArray[np.int64] | None = None
    ) -> None:
        self.truth = (labels == 1).astype(np.float64)
        self.probability = probability
        self._positive = (probability >= 0.5).astype(np.float64)
        self._square = (probability - self.truth) ** 2
        self._gap = self.truth - probability
        self._bins = _bins(probability)
        fold = np.zeros(len(labels), dtype=np.int64) if fold is None else fold
        self._folds = []
        for number in np.unique(fold):
            rows = np.flatnonzero(fold == number)
            rows = rows[np.argsort(probability[rows], kind="stable")]
            tie = np.cumsum(np.append(0, np.diff(probability[rows]) > 0))
            self._folds.append((rows, tie))

    def fold_auc(self) -> list[float]:
        """Return the AUC of each fold."""
        ones = np.ones(len(self.truth))
        return [self._ranking(rows, tie, ones)[0] for rows, tie in self._folds]

    def scores(self, times: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the scores by the keys of :data:`SCORES`.

        Args:
            times: how often each row was drawn, (N,); None for once. AUC and PR-AUC exclude folds with only one drawn
                label, and are NaN if no fold remains.

        Returns:
            The scores; NaN where one is undefined.
        """
        weight = np.ones(len(self.truth)) if times is None else times
        total = float(weight.sum())
        ranked = np.array([self._ranking(rows, tie, weight) for rows, tie in self._folds])
        ranked = ranked[~np.isnan(ranked).any(axis=1)]
        area, precision = ranked.mean(axis=0) if len(ranked) else (np.nan, np.nan)
        square = float(weight @ self._square) / total
        gaps = np.bincount(self._bins, weights=weight * self._gap, minlength=RELIABILITY_BINS)
        positives, called = float(weight @ self.truth), float(weight @ self._positive)
        hits = float(weight @ (self._positive * self.truth))
        rejections = total - called - positives + hits
        recalls = (_ratio(hits, positives), _ratio(rejections, total - positives))
        spread = positives * (total - positives) * called * (total - called)
        return {
            "accuracy": (hits + rejections) / total,
            "balanced_accuracy": sum(recalls) / 2,
            "mcc": (hits * total - positives * called) / math.sqrt(spread) if spread > 0 else math.nan,
            "auc": float(area),
            "pr_auc": float(precision),
            "mse": square,
            "rmse": float(np.sqrt(square)),
            "ece": float(np.abs(gaps).sum()) / total,
        }

    def _ranking(
        self, rows: NDArray[np.int64], tie: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> tuple[float, float]:
        """Return the AUC and average precision of one fold; ties are grouped."""
        drawn = weight[rows]
        positive = np.bincount(tie, weights=drawn * self.truth[rows])
        negative = np.bincount(tie, weights=drawn) - positive
        positives, negatives = float(positive.sum()), float(negative.sum())
        if positives <= 0 or negatives <= 0:
            return float("nan"), float("nan")
        below = np.cumsum(negative) - negative / 2
        found = np.cumsum(positive[::-1])
        taken = found + np.cumsum(negative[::-1])
        gained = positive[::-1]
        used = gained > 0
        precision = float(np.sum(gained[used] * found[used] / taken[used])) / positives
        return float(positive @ below) / (positives * negatives), precision


def block_bootstrap(
    fit: Callable[[NDArray[np.float64]], Mapping[str, float] | None],
    blocks: NDArray[Any] | None,
    count: int,
    *,
    repeats: int,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the results of ``fit``, over draws of whole blocks with replacement.

    Neighbouring rows are similar, so an interval over rows would be too narrow.

    Args:
        fit: maps how often each row was drawn, float64 (N,), to numbers by name; None for a draw that cannot be used.
        blocks: block, region or event of each row, (N,); None to draw rows.
        count: number of rows.
        repeats: number of draws.
        level: level of the interval.
        seed: random seed.

    Returns:
        (low, high) by name; empty if no draw could be used.

    Raises:
        ConfigError: if there are fewer than two blocks.
    """
    number = np.arange(count) if blocks is None else np.unique(blocks, return_inverse=True)[1].ravel()
    total = int(number.max()) + 1
    if total < 2:
        raise ConfigError("a single block gives no bootstrap interval", hint="Use smaller blocks")
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(repeats):
        times = np.bincount(rng.integers(total, size=total), minlength=total).astype(np.float64)
        for name, value in (fit(times[number]) or {}).items():
            drawn.setdefault(name, []).append(value)
    tail = (1 - level) / 2
    return {
        name: (float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))) for name, values in drawn.items()
    }


def intervals(
    judged: SortedProbabilities, units: NDArray[Any] | None, *, repeats: int = REPEATS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return 95 % bootstrap intervals of every score.

    Args:
        judged: held-out probabilities of a model.
        units: resampling unit of each row, (N,), such as a spatial block; None for rows.
        repeats: number of draws.
        seed: random seed.

    Returns:
        (low, high) by score that is defined, widened to contain the score itself: draws repeat rows, which makes bins
        noisier, so a calibration error near 0 is below most of its draws.
    """
    drawn = block_bootstrap(
        lambda times: _finite(judged.scores(times)), units, len(judged.truth), repeats=repeats, seed=seed
    )
    scores = _finite(judged.scores())
    return {
        name: (min(drawn[name][0], score), max(drawn[name][1], score))
        for name, score in scores.items()
        if name in drawn
    }


def paired_intervals(
    one: SortedProbabilities,
    other: SortedProbabilities,
    units: NDArray[Any] | None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Return the differences ``one - other`` of two models on the same rows and draws, with 95 % intervals.

    Args:
        one: a model.
        other: the reference model.
        units: see :func:`intervals`.
        repeats: number of draws.
        seed: random seed.

    Returns:
        (difference, low, high) by score.
    """

    def difference(times: NDArray[np.float64] | None) -> Mapping[str, float]:
        first, second = one.scores(times), other.scores(times)
        return _finite({name: value - second[name] for name, value in first.items()})

    spread = block_bootstrap(difference, units, len(one.truth), repeats=repeats, seed=seed)
    return {name: (value, *spread[name]) for name, value in difference(None).items() if name in spread}


def rate_curve(
    labels: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of area, the highest risk first, and the share of landslides in it.

    On training rows it is the success rate, on held-out rows the prediction rate (Chung and Fabbri 2003, Natural
    Hazards 30, 451-472 [S]). All rows count as equal areas.

    Args:
        labels: 0 and 1, (N,), both present.
        probability: (N,); ties are grouped.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(labels, probability)
    share = float(np.mean(labels == 1))
    return np.asarray(false * (1 - share) + true * share), np.asarray(true)


@dataclass(frozen=True)
class Reliability:
    """Probabilities in ten bins of equal width, without the empty bins.

    Attributes:
        predicted: mean probability of each bin.
        observed: share of landslides of each bin.
        rows: number of rows of each bin.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    rows: NDArray[np.int64]


def reliability(labels: NDArray[np.int64], probability: NDArray[np.float64]) -> Reliability:
    """Compare mean probability and share of landslides in the bins of the calibration error.

    scikit-learn's ``calibration_curve`` does not return the number of rows and assigns values on bin edges differently.

    Args:
        labels: 0 and 1, (N,).
        probability: 0..1, (N,).
    """
    bins = _bins(probability)
    rows = np.bincount(bins, minlength=RELIABILITY_BINS)
    used = rows > 0
    predicted = np.bincount(bins, weights=probability, minlength=RELIABILITY_BINS)[used] / rows[used]
    observed = np.bincount(bins, weights=labels == 1, minlength=RELIABILITY_BINS)[used] / rows[used]
    return Reliability(predicted, observed, rows[used])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((probability * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
