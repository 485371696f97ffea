"""Figures of Table 2 of one model, over all rows or over rows drawn with replacement, and their intervals.

Ranking figures (AUC, PR-AUC) are taken within each fold and averaged: each fold has a model of its own, and a
probability of one need not rank against that of another. The others are over all held-out rows, as is usual for a mean
of squares; a calibration error of a fold of seventy rows would be mostly noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.risk.blocks import block_bootstrap
from zoo.risk.scores import BINS

REPEATS = 300


class Judgement:
    """Held-out probabilities of one model, sorted once, so that hundreds of draws stay cheap.

    Args:
        labels: 0 and 1, (N,).
        probability: 0..1, (N,), of models that had not seen the row.
        fold: fold in which the row was held out, (N,).
    """

    def __init__(self, labels: NDArray[np.int64], probability: NDArray[np.float64], fold: NDArray[np.int64]) -> None:
        self.truth = (labels == 1).astype(np.float64)
        self.probability = probability
        self._right = ((probability >= 0.5) == (labels == 1)).astype(np.float64)
        self._square = (probability - self.truth) ** 2
        self._gap = self.truth - probability
        self._bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        self._folds = []
        for number in np.unique(fold):
            rows = np.flatnonzero(fold == number)
            rows = rows[np.argsort(probability[rows], kind="stable")]
            tie = np.cumsum(np.append(0, np.diff(probability[rows]) > 0))
            self._folds.append((rows, tie))

    def fold_auc(self) -> list[float]:
        """AUC of each fold."""
        ones = np.ones(len(self.truth))
        return [self._ranking(rows, tie, ones)[0] for rows, tie in self._folds]

    def scores(self, times: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Figures by the names of :data:`zoo.risk.scores.SCORES`.

        Args:
            times: how often each row was drawn, (N,); None for once. A fold of which one label only was drawn is left
                out of the ranking figures; they are NaN when none is left.
        """
        weight = np.ones(len(self.truth)) if times is None else times
        total = float(weight.sum())
        ranked = np.array([self._ranking(rows, tie, weight) for rows, tie in self._folds])
        ranked = ranked[~np.isnan(ranked).any(axis=1)]
        area, precision = ranked.mean(axis=0) if len(ranked) else (np.nan, np.nan)
        square = float(weight @ self._square) / total
        gaps = np.bincount(self._bins, weights=weight * self._gap, minlength=BINS)
        return {
            "accuracy": float(weight @ self._right) / total,
            "auc": float(area),
            "pr_auc": float(precision),
            "mse": square,
            "rmse": float(np.sqrt(square)),
            "ece": float(np.abs(gaps).sum()) / total,
        }

    def _ranking(
        self, rows: NDArray[np.int64], tie: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> tuple[float, float]:
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


def intervals(
    judged: Judgement, units: NDArray[Any] | None, *, repeats: int = REPEATS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of every figure.

    Args:
        judged: a model's held-out probabilities.
        units: what is drawn, (N,): spatial blocks, since rows beside each other repeat each other; None for rows.
        repeats: draws.
        seed: of the draws.

    Returns:
        (low, high) by figure, with the figure itself inside: draws repeat rows, which makes bins noisier, so that a
        calibration error near 0 lies below most of its draws.
    """
    drawn = block_bootstrap(
        lambda times: _finite(judged.scores(times)), units, len(judged.truth), repeats=repeats, seed=seed
    )
    figures = judged.scores()
    return {name: (min(low, figures[name]), max(high, figures[name])) for name, (low, high) in drawn.items()}


def paired_intervals(
    one: Judgement, other: Judgement, units: NDArray[Any] | None, *, repeats: int = REPEATS, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Differences of two models on the same rows, and their 95 % intervals: both are judged on the same draws.

    Args:
        one: the model whose figures are taken.
        other: the model whose figures are subtracted.
        units: see :func:`intervals`.
        repeats: draws.
        seed: of the draws.

    Returns:
        (difference, low, high) by figure.
    """

    def difference(times: NDArray[np.float64] | None) -> Mapping[str, float]:
        first, second = one.scores(times), other.scores(times)
        return _finite({name: value - second[name] for name, value in first.items()})

    spread = block_bootstrap(difference, units, len(one.truth), repeats=repeats, seed=seed)
    return {name: (value, *spread[name]) for name, value in difference(None).items() if name in spread}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
