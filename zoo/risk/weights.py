"""Weights of the landslide risk index: of experts, of rank correlation, of logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.stats import rankdata

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, FeatureRange
from zoo.risk.blocks import REPEATS, block_bootstrap
from zoo.risk.logistic import RIDGE, LogisticFit, fit_logistic

Features = Mapping[str, npt.ArrayLike]
Scaler = Literal["percentiles", "minmax"]

METHODS: tuple[str, ...] = ("logistic", "spearman", "expert")

PAPER_SIGNS: Mapping[str, int] = MappingProxyType(
    {name: 1 if weight > 0 else -1 for name, weight in PAPER_WEIGHTS.items()}
)
"""Signs of Table 1 [P]: what experts know of the direction in which each feature works."""

BOOTSTRAP_ROWS = 20_000
"""Rows that a bootstrap works on [O]: intervals come from how blocks differ, which more rows of it do not change."""


@dataclass(frozen=True)
class FittedWeights:
    """Weights and how sure they are.

    Attributes:
        weights: by feature; the sum of their sizes is 1.
        ranges: by feature, in its unit, with which features are scaled to 0-1.
        method: one of :data:`METHODS`.
        intervals: 95 % block-bootstrap interval by feature; empty for an expert's weights.
        intercept: a of logit = a + b S for the rows fitted on, S being the weighted sum.
        slope: b of the same.
        against: what the data say of features whose sign was held against them, by feature: rank correlation, or
            coefficient of a regression without constraints.
    """

    weights: Mapping[str, float]
    ranges: Mapping[str, FeatureRange]
    method: str
    intercept: float
    slope: float
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    against: Mapping[str, float] = field(default_factory=dict)

    def sum_of(self, features: Features) -> NDArray[np.float64]:
        """The weighted sum S of rows, (N,)."""
        weights = np.array([self.weights[name] for name in self.ranges])
        return np.asarray(_scaled(features, self.ranges) @ weights)


def ranges_of(features: Features, scaler: Scaler = "percentiles") -> dict[str, FeatureRange]:
    """Give the range with which each feature is scaled.

    Args:
        features: values by name, (N,) each, without NaN.
        scaler: "percentiles" for the 0.5 and 99.5 percentile, which one wrong pixel does not move; "minmax".

    Raises:
        DataError: for a feature that is the same in all rows, or has values that are not finite.
    """
    ranges = {}
    for name, values in features.items():
        array = np.asarray(values, dtype=np.float64)
        if not array.size or not np.isfinite(array).all():
            raise DataError("has no value, or values that are not finite", where=name)
        low, high = (
            (array.min(), array.max()) if scaler == "minmax" else np.percentile(array, (0.5, 99.5), method="linear")
        )
        if not low < high:
            raise DataError(
                f"is {low:.6g} in (almost) every row, so it says nothing",
                where=name,
                hint="Leave it out of the table or stack",
            )
        ranges[name] = FeatureRange(float(low), float(high))
    return ranges


def from_expert(
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    weights: Mapping[str, float] = PAPER_WEIGHTS,
) -> FittedWeights:
    """Take an expert's weights for the features that there are, brought to a sum of sizes of 1.

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,), on which intercept and slope are fitted.
        ranges: of every feature.
        weights: by feature; Table 1 by default.

    Raises:
        UnknownNameError: for a feature that the expert has no weight for.
    """
    for name in ranges:
        if name not in weights:
            raise UnknownNameError("feature of an expert's weights", name, weights)
    chosen = _normalised(np.array([weights[name] for name in ranges]))
    return _finish(chosen, features, labels, ranges, "expert")


def from_spearman(
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    *,
    signs: Mapping[str, int] | None = PAPER_SIGNS,
    blocks: NDArray[Any] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> FittedWeights:
    """Take weights in proportion to Spearman's rank correlation with the label (section 3.1 [P]).

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,).
        ranges: of every feature.
        signs: direction by feature; a correlation against it weighs 0. None to let the data speak.
        blocks: block of each row, for intervals; None for rows.
        repeats: draws of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.

    Raises:
        DataError: if all labels are the same, or no feature correlates in its direction.
    """
    _check_labels(labels)
    names = list(ranges)
    ranks = _dense_ranks(np.column_stack([np.asarray(features[name], dtype=np.float64) for name in names]))
    direction = _directions(names, signs)
    free = _rank_correlation(ranks, labels, np.ones(len(labels)))
    held = np.where(direction * free < 0, 0.0, free)
    if not held.any():
        raise DataError(
            "no feature goes with landslides in the direction that it should",
            hint="Let the data speak with free signs, and look at whether inventory and stack belong together",
        )
    rows = _thinned(len(labels), seed)
    part, part_labels = ranks[rows], labels[rows]

    def fit(times: NDArray[np.float64]) -> dict[str, float] | None:
        if not 0 < times @ part_labels < times.sum():
            return None
        drawn = _rank_correlation(part, part_labels, times)
        drawn = np.where(direction * drawn < 0, 0.0, drawn)
        return dict(zip(names, _normalised(drawn), strict=True)) if drawn.any() else None

    intervals = _intervals(fit, blocks, rows, repeats, seed)
    against = {name: float(value) for name, value, kept in zip(names, free, held, strict=True) if kept != value}
    return _finish(_normalised(held), features, labels, ranges, "spearman", intervals, against)


def from_logistic(
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    *,
    signs: Mapping[str, int] | None = PAPER_SIGNS,
    blocks: NDArray[Any] | None = None,
    ridge: float = RIDGE,
    repeats: int = REPEATS,
    seed: int = 0,
) -> FittedWeights:
    """Take weights in proportion to the coefficients of a logistic regression on features scaled to 0-1 [O].

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,).
        ranges: of every feature.
        signs: direction by feature, a bound on its coefficient; None to let the data speak.
        blocks: block of each row, for intervals; None for rows.
        ridge: see :func:`zoo.risk.logistic.fit_logistic`.
        repeats: draws of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.

    Returns:
        weights with the sum of their sizes 1, ``slope`` being that sum before.

    Raises:
        DataError: if all labels are the same, or every coefficient is held at 0.
    """
    _check_labels(labels)
    names = list(ranges)
    x = _scaled(features, ranges)
    direction = _directions(names, signs)
    found = fit_logistic(x, labels, signs=direction.tolist(), ridge=ridge)
    size = float(np.abs(found.coefficients).sum())
    if size < 1e-9:
        raise DataError(
            "no feature goes with landslides in the direction that it should",
            hint="Let the data speak with free signs, and look at whether inventory and stack belong together",
        )
    against = {}
    if direction.any():
        free = fit_logistic(x, labels, ridge=ridge, start=found)
        against = {
            name: float(value)
            for name, value, sign in zip(names, free.coefficients, direction, strict=True)
            if value * sign < 0
        }
    rows = _thinned(len(labels), seed)
    part, part_labels = x[rows], labels[rows]

    def fit(times: NDArray[np.float64]) -> dict[str, float] | None:
        try:
            drawn = fit_logistic(
                part, part_labels, signs=direction.tolist(), weight=times, ridge=ridge, start=found
            ).coefficients
        except DataError:
            return None
        return dict(zip(names, _normalised(drawn), strict=True)) if drawn.any() else None

    return FittedWeights(
        weights=dict(zip(names, _normalised(found.coefficients).tolist(), strict=True)),
        ranges=dict(ranges),
        method="logistic",
        intercept=found.intercept,
        slope=size,
        intervals=_intervals(fit, blocks, rows, repeats, seed),
        against=against,
    )


def fit_weights(
    method: str,
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    *,
    signs: Mapping[str, int] | None = PAPER_SIGNS,
    blocks: NDArray[Any] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> FittedWeights:
    """Fit by the name of a method; see the functions above.

    Raises:
        UnknownNameError: for a method that does not exist.
    """
    if method == "expert":
        return from_expert(features, labels, ranges)
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    chosen = from_logistic if method == "logistic" else from_spearman
    return chosen(features, labels, ranges, signs=signs, blocks=blocks, repeats=repeats, seed=seed)


def _finish(
    weights: NDArray[np.float64],
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    method: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    against: Mapping[str, float] | None = None,
) -> FittedWeights:
    """With intercept and slope of a regression on the weighted sum alone."""
    line: LogisticFit = fit_logistic((_scaled(features, ranges) @ weights)[:, None], labels, signs=[1])
    return FittedWeights(
        weights=dict(zip(ranges, weights.tolist(), strict=True)),
        ranges=dict(ranges),
        method=method,
        intercept=line.intercept,
        slope=float(line.coefficients[0]),
        intervals=intervals or {},
        against=against or {},
    )


def _scaled(features: Features, ranges: Mapping[str, FeatureRange]) -> NDArray[np.float64]:
    missing = [name for name in ranges if name not in features]
    if missing:
        raise UnknownNameError("feature", missing[0], list(features))
    return np.column_stack([span.scale(features[name]).astype(np.float64) for name, span in ranges.items()])


def _directions(names: list[str], signs: Mapping[str, int] | None) -> NDArray[np.int64]:
    if signs is None:
        return np.zeros(len(names), dtype=np.int64)
    if any(sign not in (-1, 0, 1) for sign in signs.values()):
        raise ConfigError(f"signs {dict(signs)}", hint="Each is -1, 0 (free) or 1")
    return np.array([signs.get(name, 0) for name in names], dtype=np.int64)


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    # Adding 0 turns the -0.0 of a coefficient held at its bound into 0.0.
    return np.asarray(weights / np.abs(weights).sum() + 0.0)


def _thinned(count: int, seed: int) -> NDArray[np.int64]:
    if count <= BOOTSTRAP_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, BOOTSTRAP_ROWS, replace=False))


def _intervals(
    fit: Any, blocks: NDArray[Any] | None, rows: NDArray[np.int64], repeats: int, seed: int
) -> dict[str, tuple[float, float]]:
    if not repeats:
        return {}
    return block_bootstrap(fit, None if blocks is None else blocks[rows], len(rows), repeats=repeats, seed=seed)


def _dense_ranks(columns: NDArray[np.float64]) -> NDArray[np.int64]:
    return rankdata(columns, method="dense", axis=0).astype(np.int64) - 1


def _rank_correlation(
    ranks: NDArray[np.int64], labels: NDArray[np.int64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Spearman's correlation of each column of dense ranks with a binary label, rows counting ``times``.

    Ranks of a binary label are a linear function of it, so that they correlate alike.
    """
    total = times.sum()
    label = labels - times @ labels / total
    found = np.empty(ranks.shape[1])
    for index, dense in enumerate(ranks.T):
        counts = np.bincount(dense, weights=times)
        rank = (np.cumsum(counts) - counts / 2)[dense]
        rank = rank - times @ rank / total
        spread = np.sqrt((times @ rank**2) * (times @ label**2))
        found[index] = (times @ (rank * label)) / spread if spread > 0 else 0.0
    return found


def _check_labels(labels: NDArray[np.int64]) -> None:
    if set(np.unique(labels)) != {0, 1}:
        raise DataError("labels are not of two kinds, 0 and 1", hint="Places with and without landslides are needed")
