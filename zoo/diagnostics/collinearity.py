"""Whether channels repeat each other: correlation, variance inflation and principal components of a covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-12
"""Variance, as a share of the squared mean, below which a channel is constant [O]."""

COLLINEAR = 1e-9
"""Share of a channel's variance that the others leave unexplained, below which it repeats them [O]."""


@dataclass(frozen=True)
class Collinearity:
    """How channels depend on each other.

    Attributes:
        names: of the channels.
        constant: bool (C,), channels that do not vary; they are in nothing below.
        correlation: Pearson's, float64 (C, C); NaN for constant channels.
        vif: variance inflation factors, float64 (C,): 1 for a channel that no other explains, infinite for one that
            others determine; NaN for constant channels.
        explained: share of the standardised variance that each principal component explains, float64 (K,), falling.
        loadings: float64 (K, C): each row a component of length 1, the largest entry positive; 0 for constant channels.
    """

    names: tuple[str, ...]
    constant: NDArray[np.bool_]
    correlation: NDArray[np.float64]
    vif: NDArray[np.float64]
    explained: NDArray[np.float64]
    loadings: NDArray[np.float64]

    def strongest(self) -> tuple[int, int, float] | None:
        """Give the two channels of the largest absolute correlation, and it; None with fewer than two that vary."""
        upper = np.triu(np.ones_like(self.correlation, dtype=bool), 1) & np.isfinite(self.correlation)
        if not upper.any():
            return None
        best = int(np.argmax(np.where(upper, np.abs(self.correlation), -1)))
        one, other = divmod(best, len(self.names))
        return one, other, float(self.correlation[one, other])


def collinearity(
    names: tuple[str, ...], covariance: NDArray[np.float64], means: NDArray[np.float64] | None = None
) -> Collinearity:
    """Compute correlation, VIF and principal components.

    Components are those of the correlation matrix: channels in metres, degrees and shares have no common scale.
    A VIF is 1 / (1 - R2) of the regression of a channel on all others, [S] Belsley, Kuh and Welsch (1980), Regression
    Diagnostics; above 5 or 10 it is usually called high.

    Args:
        names: of the channels.
        covariance: float64 (C, C), symmetric, NaN nowhere but when nothing was measured.
        means: of the channels, float64 (C,), to tell a constant of 3,000 from one that varies by little; None for 0.

    Returns:
        All of it; without components and all NaN when the covariance is NaN.
    """
    variance = np.diag(covariance)
    scale = np.square(means) if means is not None else np.zeros(len(names))
    varies = variance > np.maximum(CONSTANT * scale, np.finfo(np.float64).tiny)
    correlation = np.full(covariance.shape, np.nan)
    vif = np.full(len(names), np.nan)
    kept = np.flatnonzero(varies)
    deviations = np.sqrt(variance[kept])
    inner = covariance[np.ix_(kept, kept)] / np.outer(deviations, deviations)
    inner = np.clip(inner, -1, 1)
    np.fill_diagonal(inner, 1)
    correlation[np.ix_(kept, kept)] = inner
    vif[kept] = variance_inflation(inner)
    values, vectors = np.linalg.eigh(inner)
    order = np.argsort(-values)
    loadings = np.zeros((len(kept), len(names)))
    for row, column in enumerate(order):
        vector = vectors[:, column]
        loadings[row, kept] = vector * np.sign(vector[np.argmax(np.abs(vector))])
    explained = np.maximum(values[order], 0)
    return Collinearity(
        names=tuple(names),
        constant=~varies,
        correlation=correlation,
        vif=vif,
        explained=explained / explained.sum() if len(kept) else explained,
        loadings=loadings,
    )


def variance_inflation(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the variance inflation factors of a correlation matrix.

    Args:
        correlation: float64 (C, C), without constant channels.

    Returns:
        float64 (C,), at least 1, infinite for a channel that the others determine.
    """
    count = len(correlation)
    out = np.ones(count)
    for channel in range(count if count > 1 else 0):
        others = np.delete(np.arange(count), channel)
        towards = correlation[others, channel]
        # The others may repeat each other; a pseudo-inverse regresses on what they span.
        inverse = np.linalg.pinv(correlation[np.ix_(others, others)], rcond=COLLINEAR, hermitian=True)
        unexplained = 1 - float(towards @ inverse @ towards)
        out[channel] = np.inf if unexplained < COLLINEAR else max(1.0, 1 / unexplained)
    return out
