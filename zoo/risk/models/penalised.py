"""Penalised logistic regression by Newton steps over blocks of rows: a million rows need no more memory than one block.

scikit-learn's LogisticRegression has one strength of penalty for all columns; a smooth needs one of its own, over
differences of neighbouring coefficients, and an intercept of a region another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

BLOCK_ROWS = 50_000
_MOST_STEPS = 40

Blocks = Callable[[], Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]]
"""Gives blocks of (design (n, k), labels (n,)), the same ones each time."""


def fit_penalised(blocks: Blocks, penalty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise -log-likelihood + b' P b / 2 (P-splines: Eilers and Marx 1996, Statistical Science 11, 89-121 [S]).

    Args:
        blocks: of rows; the first column of the design is the intercept.
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
    for _ in range(_MOST_STEPS):
        step = cho_solve(cho_factor(hessian + 1e-8 * np.eye(len(best))), gradient)
        share = 1.0
        while True:
            trial = best + share * step
            now, next_hessian, next_gradient = _derivatives(blocks, penalty, trial)
            # Newton overshoots where labels are nearly separated; half the step, until the fit gets no worse.
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
        value += float(np.sum(np.maximum(logit, 0) - labels * logit + np.log1p(np.exp(-np.abs(logit)))))
        share = expit(logit)
        gradient += design.T @ (labels - share)
        hessian += design.T @ (design * np.maximum(share * (1 - share), 1e-10)[:, None])
    return value, hessian, gradient
