"""Logistic regression whose coefficients may be kept on one side of zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from zoo.errors import DataError

RIDGE = 1.0
"""Strength of the penalty on coefficients, as scikit-learn's C = 1 [O]: nothing beside thousands of rows, and an end to
coefficients that run away where a feature separates the labels."""


@dataclass(frozen=True)
class LogisticFit:
    """logit = ``intercept`` + ``coefficients`` . x.

    Attributes:
        coefficients: float64 (k,).
        intercept: log-odds where every x is 0.
    """

    coefficients: NDArray[np.float64]
    intercept: float

    def probability(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """0..1, (N,), of rows x (N, k)."""
        return np.asarray(expit(self.intercept + x @ self.coefficients))


def fit_logistic(
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    signs: Sequence[int] | None = None,
    weight: NDArray[np.float64] | None = None,
    ridge: float = RIDGE,
    start: LogisticFit | None = None,
) -> LogisticFit:
    """Fit by penalised maximum likelihood (L-BFGS-B; Byrd et al. 1995 [S]).

    Args:
        x: (N, k), of comparable scale.
        labels: 0 and 1, (N,).
        signs: 1 for a coefficient >= 0, -1 for one <= 0, 0 for a free one; None for all free.
        weight: how often each row counts, (N,); None for once.
        ridge: half of it times the sum of squared coefficients is added to the negative log-likelihood.
        start: where to begin; None for nothing but the share of landslides.

    Raises:
        DataError: if the labels that count are of one kind only.
    """
    weight = np.ones(len(labels)) if weight is None else weight
    total, positive = float(weight.sum()), float(weight @ labels)
    if not 0 < positive < total:
        raise DataError("rows of one label only", hint="Places with and without landslides are needed")
    target = labels.astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, intercept = parameters[:-1], parameters[-1]
        logit = intercept + x @ slope
        # log(1 + e^z) - y z, from the smaller exponential: a big logit overflows.
        value = float(weight @ (np.maximum(logit, 0) - target * logit + np.log1p(np.exp(-np.abs(logit)))))
        residual = weight * (expit(logit) - target)
        gradient = np.append(x.T @ residual + ridge * slope, residual.sum())
        return (value + ridge / 2 * float(slope @ slope)) / total, gradient / total

    width = x.shape[1]
    begin = np.zeros(width + 1)
    begin[-1] = np.log(positive / (total - positive))
    if start is not None:
        begin = np.append(start.coefficients, start.intercept)
    bounds = [(0.0 if sign > 0 else None, 0.0 if sign < 0 else None) for sign in (signs or [0] * width)]
    found = minimize(
        loss, begin, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)], options={"ftol": 1e-12, "gtol": 1e-7}
    )
    return LogisticFit(np.asarray(found.x[:-1]), float(found.x[-1]))
