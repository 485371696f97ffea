"""Fit parameters of the risk index to landslides: feature weights, and exponents of the rainfall factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, RainParameters
from zoo.risk.logistic import RIDGE, LogisticFit, fit_logistic
from zoo.risk.scores import block_bootstrap

Features = Mapping[str, npt.ArrayLike]
Scaler = Literal["percentiles", "minmax"]

METHODS: tuple[str, ...] = ("logistic", "spearman", "expert")

PAPER_SIGNS: Mapping[str, int] = MappingProxyType(
    {name: 1 if weight > 0 else -1 for name, weight in PAPER_WEIGHTS.items()}
)
"""Signs of Table 1 [P]: the direction in which experts expect each feature to work."""

REPEATS = 200
BOOTSTRAP_ROWS = 20_000
"""Maximum rows of the bootstrap [O]: intervals reflect differences between blocks, which more rows do not change."""

REFERENCE_DURATION = 1.0
"""Fixed reference duration D0 in days [O]: data determine only P0^alpha D0^beta."""

_NO_DIRECTION = "Allow free signs (--signs free), and check that inventory and stack belong together"


@dataclass(frozen=True)
class FittedWeights:
    """Weights with their intervals.

    Attributes:
        weights: weight by feature; absolute values sum to 1.
        ranges: range by feature, in its unit, to scale features to 0-1.
        method: one of :data:`METHODS`.
        intercept: a of logit = a + b S for the fitted rows, S being the weighted sum.
        slope: b of the same equation.
        intervals: 95 % block-bootstrap interval by feature; empty for expert weights.
        contradicted: rank correlation, or coefficient of an unconstrained regression, by feature whose sign
            contradicts the data, so that its weight is 0.
    """

    weights: Mapping[str, float]
    ranges: Mapping[str, FeatureRange]
    method: str
    intercept: float
    slope: float
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    contradicted: Mapping[str, float] = field(default_factory=dict)

    def weighted_sum(self, features: Features) -> NDArray[np.float64]:
        """Return the weighted sum S of rows, (N,)."""
        weights = np.array([self.weights[name] for name in self.ranges])
        return np.asarray(_scaled(features, self.ranges) @ weights)


@dataclass(frozen=True)
class RainFit:
    """logit = ``intercept`` + ``slope`` S + ln R_m, and the parameters of R_m.

    The gain g of ln R_m is 1, because alpha and beta already carry it.

    Attributes:
        parameters: P0, D0, alpha and beta.
        intercept: log-odds at S = 0 under the reference rain, among the fitted rows.
        slope: log-odds per unit of the weighted sum S, >= 0.
        intervals: 95 % block-bootstrap intervals of "alpha", "beta" and "intensity".
        notes: sentences about parameters that the data do not determine.
    """

    parameters: RainParameters
    intercept: float
    slope: float
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fit_ranges(features: Features, scaler: Scaler = "percentiles") -> dict[str, FeatureRange]:
    """Return the range that scales each feature to 0-1.

    Args:
        features: values by name, (N,) each, without NaN.
        scaler: "percentiles" for the 0.5 and 99.5 percentile, which a few wrong pixels do not affect; "minmax".

    Raises:
        DataError: if a feature is constant, or has values that are not finite.
    """
    ranges = {}
    for name, values in features.items():
        array = np.asarray(values, dtype=np.float64)
        if not array.size or not np.isfinite(array).all():
            raise DataError("has no values, or values that are not finite", where=name)
        low, high = (
            (array.min(), array.max()) if scaler == "minmax" else np.percentile(array, (0.5, 99.5), method="linear")
        )
        if not low < high:
            raise DataError(
                f"is {low:.6g} in (almost) every row, so it carries no information",
                where=name,
                hint="Leave it out of the table or stack",
            )
        ranges[name] = FeatureRange(float(low), float(high))
    return ranges


def weights_from_expert(
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    weights: Mapping[str, float] = PAPER_WEIGHTS,
) -> FittedWeights:
    """Return expert weights of the given features, scaled so that absolute values sum to 1.

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,), to which intercept and slope are fitted.
        ranges: range of every feature.
        weights: weight by feature; Table 1 by default.

    Raises:
        UnknownNameError: if a feature has no expert weight.
    """
    for name in ranges:
        if name not in weights:
            raise UnknownNameError("feature of the expert weights", name, weights)
    chosen = _normalised(np.array([weights[name] for name in ranges]))
    return _with_line(chosen, features, labels, ranges, "expert")


def weights_from_spearman(
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    *,
    signs: Mapping[str, int] | None = PAPER_SIGNS,
    blocks: NDArray[Any] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> FittedWeights:
    """Return weights in proportion to Spearman's rank correlation with the label (section 3.1 [P]).

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,).
        ranges: range of every feature.
        signs: direction by feature; a correlation against it gets weight 0. None for free signs.
        blocks: block of each row, for intervals; None for rows.
        repeats: number of bootstrap draws; 0 for no intervals.
        seed: seed of the bootstrap.

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
        raise DataError("no feature is related to landslides in its expected direction", hint=_NO_DIRECTION)
    rows = _thin(len(labels), seed)
    part, part_labels = ranks[rows], labels[rows]

    def fit(times: NDArray[np.float64]) -> dict[str, float] | None:
        if not 0 < times @ part_labels < times.sum():
            return None
        drawn = _rank_correlation(part, part_labels, times)
        drawn = np.where(direction * drawn < 0, 0.0, drawn)
        return dict(zip(names, _normalised(drawn), strict=True)) if drawn.any() else None

    contradicted = {name: float(value) for name, value, kept in zip(names, free, held, strict=True) if kept != value}
    intervals = _intervals(fit, blocks, rows, repeats, seed)
    return _with_line(_normalised(held), features, labels, ranges, "spearman", intervals, contradicted)


def weights_from_logistic(
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
    """Return weights in proportion to the coefficients of a logistic regression on features scaled to 0-1 [O].

    Args:
        features: values by name, (N,) each.
        labels: 0 and 1, (N,).
        ranges: range of every feature.
        signs: direction by feature, which bounds its coefficient; None for free signs.
        blocks: block of each row, for intervals; None for rows.
        ridge: see :func:`zoo.risk.logistic.fit_logistic`.
        repeats: number of bootstrap draws; 0 for no intervals.
        seed: seed of the bootstrap.

    Returns:
        Weights whose absolute values sum to 1; ``slope`` is their sum before scaling.

    Raises:
        DataError: if all labels are the same, or every coefficient is bounded to 0.
    """
    _check_labels(labels)
    names = list(ranges)
    x = _scaled(features, ranges)
    direction = _directions(names, signs)
    found = fit_logistic(x, labels, signs=direction.tolist(), ridge=ridge)
    size = float(np.abs(found.coefficients).sum())
    if size < 1e-9:
        raise DataError("no feature is related to landslides in its expected direction", hint=_NO_DIRECTION)
    contradicted = {}
    if direction.any():
        free = fit_logistic(x, labels, ridge=ridge, start=found)
        contradicted = {
            name: float(value)
            for name, value, sign in zip(names, free.coefficients, direction, strict=True)
            if value * sign < 0
        }
    rows = _thin(len(labels), seed)
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
        contradicted=contradicted,
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
    """Fit weights by the name of a method; see the functions above.

    Raises:
        UnknownNameError: if the method does not exist.
    """
    if method == "expert":
        return weights_from_expert(features, labels, ranges)
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    chosen = weights_from_logistic if method == "logistic" else weights_from_spearman
    return chosen(features, labels, ranges, signs=signs, blocks=blocks, repeats=repeats, seed=seed)


def fit_rain(
    intensity: npt.ArrayLike,
    duration: npt.ArrayLike,
    weighted_sum: npt.ArrayLike,
    labels: NDArray[np.int64],
    *,
    blocks: NDArray[Any] | None = None,
    repeats: int = REPEATS,
    ridge: float = RIDGE,
    seed: int = 0,
) -> RainFit:
    """Fit alpha, beta and P0 by maximum likelihood of logit = a + b S + g ln R_m, with alpha, beta and b >= 0.

    Written out, the logit is (a - g alpha ln P0 - g beta ln D0) + b S + g alpha ln P + g beta ln D. Data determine only
    the four coefficients of this expression, so three conventions [O] are needed:

    - g = 1: only g alpha and g beta are determined; alpha and beta are log-odds per unit of ln P and ln D.
    - D0 = 1 day: P0 and D0 enter as one product.
    - P0 is the intensity of a one-day rain at which a place with the average S of the rows has a probability of 0.5 if
      landslides and other places are equally frequent. R_m = 1 is then an intensity-duration threshold. P0 and the
      intercept offset each other: another P0 changes neither the fit nor the map of a log-additive index.

    Args:
        intensity: P in mm/h, above 0, (N,).
        duration: D in days, above 0, (N,).
        weighted_sum: S of :meth:`FittedWeights.weighted_sum`, (N,).
        labels: 0 and 1, (N,), under several rains.
        blocks: event or spatial block of each row, for intervals; None for rows.
        repeats: number of bootstrap draws; 0 for no intervals.
        ridge: penalty; see :func:`zoo.risk.logistic.fit_logistic`.
        seed: seed of the bootstrap.

    Raises:
        DataError: if rain is not positive and finite, is the same in all rows, is not related to landslides, or all
            labels are the same.
    """
    p, d, s = (np.asarray(values, dtype=np.float64) for values in (intensity, duration, weighted_sum))
    for what, values in (("intensity", p), ("duration", d)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise DataError(f"rain {what} has values that are not positive numbers", hint="Leave dry rows out")
    x = np.column_stack([s, np.log(p), np.log(d / REFERENCE_DURATION)])
    if not np.ptp(x[:, 1:], axis=0).any():
        raise DataError(
            "the rain is the same in all rows, so its effect cannot be estimated",
            hint="Give rows of several events, or keep a preset",
        )
    # A constant column would duplicate the intercept.
    x[:, 1:][:, np.ptp(x[:, 1:], axis=0) == 0] = 0.0
    found = fit_logistic(x, labels, signs=[1, 1, 1], ridge=ridge)
    notes = []
    for what, values, exponent in (("intensity", p, found.coefficients[1]), ("duration", d, found.coefficients[2])):
        if not np.ptp(values):
            notes.append(f"the {what} is the same in all rows, so its exponent is set to 0")
        elif exponent <= 0:
            notes.append(f"landslides do not increase with {what} here, so its exponent is set to 0")
    if not found.coefficients[1] > 0:
        raise DataError(
            "landslides do not increase with rain intensity in these rows, so there is no reference intensity",
            hint="Check units (mm/h, days) and dates, or keep a preset",
        )
    parameters, intercept = _rain_parameters(found, float(x[:, 0].mean()), float(np.mean(labels)))

    def refit(times: NDArray[np.float64]) -> dict[str, float] | None:
        try:
            drawn = fit_logistic(x, labels, signs=[1, 1, 1], weight=times, ridge=ridge, start=found)
        except DataError:
            return None
        if not drawn.coefficients[1] > 0:
            return None
        named, _ = _rain_parameters(drawn, float(times @ s / times.sum()), float(times @ labels / times.sum()))
        return {"alpha": named.alpha, "beta": named.beta, "intensity": named.intensity}

    intervals = block_bootstrap(refit, blocks, len(labels), repeats=repeats, seed=seed) if repeats else {}
    return RainFit(parameters, intercept, float(found.coefficients[0]), intervals, tuple(notes))


def _rain_parameters(found: LogisticFit, mean_sum: float, share: float) -> tuple[RainParameters, float]:
    """Return the parameters and the intercept a by the conventions of :func:`fit_rain`."""
    slope, alpha, beta = (float(value) for value in found.coefficients)
    # Even odds in a balanced sample correspond to the odds of the sample in an unbalanced one.
    intercept = float(np.log(share / (1 - share))) - slope * mean_sum
    # A reference above any rain on Earth means "not determined" and must not overflow.
    logarithm = float(np.clip((intercept - found.intercept) / alpha, -50.0, 50.0))
    return RainParameters(float(np.exp(logarithm)), REFERENCE_DURATION, alpha, beta), intercept


def _with_line(
    weights: NDArray[np.float64],
    features: Features,
    labels: NDArray[np.int64],
    ranges: Mapping[str, FeatureRange],
    method: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    contradicted: Mapping[str, float] | None = None,
) -> FittedWeights:
    """Add the intercept and slope of a regression on the weighted sum only."""
    line = fit_logistic((_scaled(features, ranges) @ weights)[:, None], labels, signs=[1])
    return FittedWeights(
        weights=dict(zip(ranges, weights.tolist(), strict=True)),
        ranges=dict(ranges),
        method=method,
        intercept=line.intercept,
        slope=float(line.coefficients[0]),
        intervals=intervals or {},
        contradicted=contradicted or {},
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
        raise ConfigError(f"signs {dict(signs)}", hint="Each sign is -1, 0 (free) or 1")
    return np.array([signs.get(name, 0) for name in names], dtype=np.int64)


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    # Adding 0 converts the -0.0 of a coefficient at its bound to 0.0.
    return np.asarray(weights / np.abs(weights).sum() + 0.0)


def _thin(count: int, seed: int) -> NDArray[np.int64]:
    if count <= BOOTSTRAP_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, BOOTSTRAP_ROWS, replace=False))


def _intervals(
    fit: Callable[[NDArray[np.float64]], Mapping[str, float] | None],
    blocks: NDArray[Any] | None,
    rows: NDArray[np.int64],
    repeats: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    if not repeats:
        return {}
    return block_bootstrap(fit, None if blocks is None else blocks[rows], len(rows), repeats=repeats, seed=seed)


def _dense_ranks(columns: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.stack([np.unique(column, return_inverse=True)[1] for column in columns.T], axis=1)


def _rank_correlation(
    ranks: NDArray[np.int64], labels: NDArray[np.int64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Spearman's correlation of each column of dense ranks with a binary label, with row weights ``times``.

    The ranks of a binary label are a linear function of it, so both have the same correlation. scipy's ``spearmanr``
    does not support weights.
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
        raise DataError("all rows have the same label", hint="Places with and without landslides are needed")
