"""Smooth terms: a spline a number, products of two splines, a column a class, with the penalties that go with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.preprocessing import SplineTransformer

from zoo.risk.models.encoding import Encoder

DEGREE = 3
_LEAST_RIDGE = 0.05
"""Pulls the straight line, which differences do not see, a little towards 0 [O]: an end to separation."""


class Spline:
    """Cubic B-spline basis of one column, knots at quantiles, straight beyond the outermost.

    Args:
        values: training values, (N,), without NaN.
        knots: wanted; columns with few different values get fewer.
    """

    def __init__(self, values: NDArray[np.float64], knots: int) -> None:
        places = np.unique(np.quantile(values, np.linspace(0, 1, knots)))
        self._transformer: SplineTransformer | None = None
        if len(places) >= 4:
            self._transformer = SplineTransformer(
                knots=places[:, None], degree=DEGREE, extrapolation="linear", include_bias=False
            ).fit(values[:, None])
        self.width = 1 if self._transformer is None else self._transformer.n_features_out_

    def basis(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, width): the basis without its last function, or the values themselves when they are few."""
        if self._transformer is None:
            return values[:, None]
        return np.asarray(self._transformer.transform(values[:, None]))

    def penalty(self, smoothness: float) -> NDArray[np.float64]:
        """(width, width): second differences of coefficients, the left-out last one being 0."""
        if self._transformer is None:
            return np.eye(1)
        second = np.diff(np.eye(self.width + 1), n=2, axis=0)[:, :-1]
        return np.asarray(smoothness * second.T @ second + _LEAST_RIDGE * np.eye(self.width))


class Smooths:
    """Design matrix of an additive model: intercept, a spline a number, classes, a product of two, groups.

    Args:
        knots: of each spline.
        group: column of regions or events, each with an intercept of its own; None for none.
        product: two columns whose joint effect is a product of splines instead of a sum.
    """

    def __init__(self, knots: int, group: str | None = None, product: Sequence[str] | None = None) -> None:
        self.knots = knots
        self.group = group
        self.product = tuple(product or ())

    def fit(self, X: pd.DataFrame) -> Smooths:
        """Learn knots, fillings, classes and groups from training rows."""
        plain = X.drop(columns=[*self.product, *([self.group] if self.group else [])])
        self._encoder = Encoder().fit(plain) if plain.shape[1] else None
        self._splines: list[Spline] = []
        if self._encoder is not None:
            self._splines = [Spline(column, self.knots) for column in self._encoder.transform(plain).T]
        self._factors: list[tuple[float, Spline]] = []
        for name in self.product:
            values = _logarithm(X[name].to_numpy(np.float64))
            middle = float(np.nanmedian(values))
            self._factors.append((middle, Spline(np.where(np.isnan(values), middle, values), 4)))
        self._groups: dict[str, int] = {}
        if self.group:
            names = sorted({str(one) for one in X[self.group].dropna()})
            self._groups = {name: number for number, name in enumerate(names)}
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """float64 (N, k), the intercept first. A group that was not seen in training has intercept 0."""
        parts = [np.ones((len(X), 1))]
        if self._encoder is not None:
            columns = self._encoder.transform(X).T
            parts += [spline.basis(column) for spline, column in zip(self._splines, columns, strict=True)]
        if self._factors:
            parts.append(self._product(X))
        if self._groups:
            inside = np.zeros((len(X), len(self._groups)))
            number = X[self.group].astype(object).astype(str).map(self._groups).to_numpy(np.float64)
            known = np.flatnonzero(~np.isnan(number))
            inside[known, number[known].astype(np.int64)] = 1.0
            parts.append(inside)
        return np.concatenate(parts, axis=1)

    def penalty(self, smoothness: float, group_ridge: float) -> NDArray[np.float64]:
        """(k, k); nothing on the intercept."""
        parts = [np.zeros((1, 1)), *(spline.penalty(smoothness) for spline in self._splines)]
        if self._factors:
            widths = [spline.width for _, spline in self._factors]
            parts.append(np.eye(widths[0] * widths[1] + sum(widths)) * max(0.1, smoothness / 10))
        if self._groups:
            parts.append(group_ridge * np.eye(len(self._groups)))
        return np.asarray(block_diag(*parts))

    def _product(self, X: pd.DataFrame) -> NDArray[np.float64]:
        one, other = (
            spline.basis(np.where(np.isnan(values), middle, values))
            for name, (middle, spline) in zip(self.product, self._factors, strict=True)
            for values in (_logarithm(X[name].to_numpy(np.float64)),)
        )
        joint = (one[:, :, None] * other[:, None, :]).reshape(len(X), -1)
        return np.concatenate([joint, one, other], axis=1)


def _logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Rain spans decades; 0.01 mm/h and 0.01 days are below what is measured.
    return np.asarray(np.log(np.maximum(values, 0.01)))
