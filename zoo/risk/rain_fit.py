"""Exponents and reference intensity of the rainfall factor, fitted to landslides and the rain that fell on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics import RainParameters
from zoo.risk.blocks import REPEATS, block_bootstrap
from zoo.risk.logistic import RIDGE, LogisticFit, fit_logistic

DURATION = 1.0
"""Reference duration D0 in days, fixed [O]: only P0^alpha D0^beta can be told from data."""


@dataclass(frozen=True)
class RainFit:
    """logit = ``intercept`` + ``slope`` S + ``gain`` ln R_m, and the R_m that was found.

    Attributes:
        parameters: P0, D0, alpha and beta.
        intercept: log-odds at S = 0 under the reference rain, among the rows fitted on.
        slope: log-odds of the weighted sum S, >= 0.
        gain: g, always 1: alpha and beta carry it.
        intervals: 95 % block-bootstrap intervals of "alpha", "beta" and "intensity".
        notes: what could not be told from the data, in words.
    """

    parameters: RainParameters
    intercept: float
    slope: float
    gain: float = 1.0
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fit(
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

    Written out, the logit is (a - g alpha ln P0 - g beta ln D0) + b S + g alpha ln P + g beta ln D. Data tell the four
    numbers of that line and no more, so three conventions [O] are needed:

    - g = 1: g alpha and g beta are all that can be told; alpha and beta are log-odds per unit of ln P and ln D.
    - D0 = 1 day: P0 and D0 enter as one product.
    - P0 is the intensity of a one-day rain at which a place with the average S of the rows has even odds (0.5) when
      landslides and other places are equally many: a curve R_m = 1 that parts them, an intensity-duration threshold.
      P0 and the intercept shift each other; another P0 changes neither the fit nor the map of a log-additive index.

    Args:
        intensity: P in mm/h, above 0, (N,).
        duration: D in days, above 0, (N,).
        weighted_sum: S of :meth:`zoo.risk.weights.FittedWeights.sum_of`, (N,).
        labels: 0 and 1, (N,), of several rains.
        blocks: event or spatial block of each row, for intervals; None for rows.
        repeats: draws of the bootstrap; 0 for no intervals.
        ridge: penalty; see :func:`zoo.risk.logistic.fit_logistic`.
        seed: of the bootstrap.

    Raises:
        DataError: if rain is not positive and finite, is the same everywhere, does not go with landslides at all, or
            labels are of one kind.
    """
    p, d, s = (np.asarray(values, dtype=np.float64) for values in (intensity, duration, weighted_sum))
    for what, values in (("intensity", p), ("duration", d)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise DataError(
                f"rain {what} has values that are not positive numbers", hint="ln R_m needs rain: leave dry rows out"
            )
    x = np.column_stack([s, np.log(p), np.log(d / DURATION)])
    if not np.ptp(x[:, 1:], axis=0).any():
        raise DataError(
            "the rain is the same in all rows, so nothing can be learnt of it",
            hint="Give rows of several events, or keep a preset",
        )
    # A constant column would do the intercept's work.
    x[:, 1:][:, np.ptp(x[:, 1:], axis=0) == 0] = 0.0
    found = fit_logistic(x, labels, signs=[1, 1, 1], ridge=ridge)
    notes = []
    for what, values, exponent in (("intensity", p, found.coefficients[1]), ("duration", d, found.coefficients[2])):
        if not np.ptp(values):
            notes.append(f"the {what} is the same in all rows: its exponent is 0, which says nothing")
        elif exponent <= 0:
            notes.append(f"landslides do not come with more {what} here: its exponent was held at 0")
    if not found.coefficients[1] > 0:
        raise DataError(
            "landslides do not come with more intense rain in these rows, so there is no reference intensity",
            hint="Look at units (mm/h, days) and dates, or keep a preset",
        )
    mean, share = x.mean(axis=0), float(np.mean(labels))
    parameters, intercept = _named(found, float(mean[0]), share)

    def refit(times: NDArray[np.float64]) -> dict[str, float] | None:
        try:
            drawn = fit_logistic(x, labels, signs=[1, 1, 1], weight=times, ridge=ridge, start=found)
        except DataError:
            return None
        if not drawn.coefficients[1] > 0:
            return None
        named, _ = _named(drawn, float(times @ s / times.sum()), float(times @ labels / times.sum()))
        return {"alpha": named.alpha, "beta": named.beta, "intensity": named.intensity}

    intervals = block_bootstrap(refit, blocks, len(labels), repeats=repeats, seed=seed) if repeats else {}
    return RainFit(parameters, intercept, float(found.coefficients[0]), intervals=intervals, notes=tuple(notes))


def _named(found: LogisticFit, mean_sum: float, share: float) -> tuple[RainParameters, float]:
    """P0 and the intercept a by the conventions of :func:`fit`."""
    slope, alpha, beta = (float(value) for value in found.coefficients)
    # Even odds among equally many of both kinds are the sample's own odds where its kinds are not equally many.
    intercept = float(np.log(share / (1 - share))) - slope * mean_sum
    # A reference beyond any rain on Earth stands for "cannot be told" and must not overflow.
    logarithm = float(np.clip((intercept - found.intercept) / alpha, -50.0, 50.0))
    return RainParameters(float(np.exp(logarithm)), DURATION, alpha, beta), intercept
