"""Two logistic regressions: one with sign constraints on its coefficients, one with a penalty matrix.

scikit-learn's ``LogisticRegression`` supports neither bounds on coefficients nor a penalty per column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit

from zoo.errors import DataError

RIDGE = 1.0
"""Penalty on coefficients, like scikit-learn's C = 1 [O]: negligible for thousands of rows, and it keeps coefficients
finite if a feature separates the labels."""

BLOCK_ROWS = 50_000
_MAX_STEPS = 40

Blocks = Callable[[], Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]]
"""Returns an iterator of blocks (design (n, k), labels (n,)), the same ones at each call."""


@dataclass(frozen=True)
class LogisticFit:
    """logit = ``intercept`` + ``coefficients`` . x.

    Attributes:
        coefficients: float64 (k,).
        intercept: log-odds where every x is 0.
    """

    coefficients: NDArray[np.float64]
    intercept: float


def fit_logistic(
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    signs: Sequence[int] | None = None,
    weight: NDArray[np.float64] | None = None,
    ridge: float = RIDGE,
    start: LogisticFit | None = None,
) -> LogisticFit:
    """Fit a sign-constrained logistic regression by penalised maximum likelihood (L-BFGS-B; Byrd et al. 1995 [S]).

    Args:
        x: features of comparable scale, (N, k).
        labels: 0 and 1, (N,).
        signs: 1 for a coefficient >= 0, -1 for <= 0, 0 for unconstrained; None for no constraints.
        weight: weight of each row, (N,); None for 1.
        ridge: the penalty is ``ridge / 2`` times the sum of squared coefficients.
        start: start values; None for 0 and the share of landslides.

    Raises:
        DataError: if the rows with a positive weight have only one label.
    """
    weight = np.ones(len(labels)) if weight is None else weight
    total, positive = float(weight.sum()), float(weight @ labels)
    if not 0 < positive < total:
        raise DataError("all rows have the same label", hint="Places with and without landslides are needed")
    target = labels.astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, intercept = parameters[:-1], parameters[-1]
        logit = intercept + x @ slope
        residual = weight * (expit(logit) - target)
        gradient = np.append(x.T @ residual + ridge * slope, residual.sum())
        value = float(weight @ _cross_entropy(logit, target))
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


def fit_penalised(blocks: Blocks, penalty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise -log-likelihood + b' P b / 2 by Newton steps.

    This fits P-splines (Eilers and Marx 1996, Statistical Science 11, 89-121 [S]). Memory holds one block of rows.

    Args:
        blocks: blocks of rows; the first column of the design is the intercept.
        penalty: symmetric, positive semi-definite, (k, k).

    Returns:
        b, float64 (k,).
    """
    count, positive = 0, 0.0
    for _, labels in blocks():
        count += len(labels)
        positive += float(labels.sum())
    best = np.zeros(len(penalty))
    best[0] = np.log(max(positive, 0.5) / max(count - positive, 0.5))
    value, hessian, gradient = _derivatives(blocks, penalty, best)
    for _ in range(_MAX_STEPS):
        step = cho_solve(cho_factor(hessian + 1e-8 * np.eye(len(best))), gradient)
        share = 1.0
        while True:
            trial = best + share * step
            now, next_hessian, next_gradient = _derivatives(blocks, penalty, trial)
            # Newton overshoots if labels are nearly separated; halve the step until the fit is no worse.
            if now <= value + 1e-9 * abs(value) or share < 1e-4:
                break
            share /= 2
        gain = value - now
        best, value, hessian, gradient = trial, now, next_hessian, next_gradient
        if abs(gain) < 1e-7 * (abs(value) + 1):
            break
    return best


def _derivatives(
    blocks: Blocks, penalty: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    hessian = penalty.copy()
    gradient = -penalty @ at
    value = float(at @ penalty @ at) / 2
    for design, labels in blocks():
        logit = design @ at
        value += float(np.sum(_cross_entropy(logit, labels)))
        share = expit(logit)
        gradient += design.T @ (labels - share)
        hessian += design.T @ (design * np.maximum(share * (1 - share), 1e-10)[:, None])
    return value, hessian, gradient


def _cross_entropy(logit: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    # log(1 + e^z) - y z, computed from the smaller exponential to avoid overflow.
    return np.asarray(np.maximum(logit, 0) - target * logit + np.log1p(np.exp(-np.abs(logit))))
