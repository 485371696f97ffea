"""A spatial and a meteorological model combined ([6]: Moreno et al. 2024, Sci. Total Environ. 912, 169166)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from zoo.errors import ConfigError, DataError
from zoo.risk.folds import Fold
from zoo.risk.logistic import fit_logistic
from zoo.risk.models.base import RiskModel
from zoo.risk.models.gamm import AdditiveMixed

COMBINATIONS = ("additive", "product")


class SpatialMeteo(RiskModel):
    """Two binomial GAMMs, one of where and one of when, put together.

    The paper says "separate binomial models for spatial and meteorological factors, which are then combined" [P,
    section 3.5.2] and not how. "additive" [O] regresses the label on both log-odds, with weights of 0 or more, fitted
    on rows that neither model was fitted on. "product" [O] multiplies the odds and divides by those of the table,
    which is right when place and weather are independent given the label. Groups belong to the spatial model.

    Args:
        combine: one of :data:`COMBINATIONS`.
    """

    def __init__(
        self,
        combine: str = "additive",
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.combine = combine

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.combine not in COMBINATIONS:
            raise ConfigError(f"combination {self.combine!r}", hint=f"There are: {', '.join(COMBINATIONS)}")
        if self.rain is None:
            raise ConfigError("the meteorological model needs rain", hint="Name intensity (mm/h) and duration (days)")
        if self._spatial_columns(X).drop(columns=[self.group] if self.group else []).shape[1] == 0:
            raise DataError("the spatial model has no feature: the table holds rain alone")
        prior = float(np.log(y.mean() / (1 - y.mean())))
        self.intercept_, self.weights_ = -prior, np.ones(2)
        if self.combine == "additive" and inner:
            held = np.zeros((len(y), 2))
            for fold in inner:
                models = self._pair(X.iloc[fold.train], y[fold.train], [])
                held[fold.test] = self._logits(models, X.iloc[fold.test])
            rows = np.concatenate([fold.test for fold in inner])
            found = fit_logistic(held[rows], y[rows], signs=[1, 1])
            self.intercept_, self.weights_ = found.intercept, found.coefficients
        self.models_ = self._pair(X, y, inner)

    def _pair(
        self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]
    ) -> tuple[AdditiveMixed, AdditiveMixed]:
        smoothness = None if inner else 30.0
        spatial = AdditiveMixed(smoothness=smoothness, group=self.group, seed=self.seed)
        meteo = AdditiveMixed(smoothness=smoothness, seed=self.seed)
        spatial.fit(self._spatial_columns(X), y, inner)
        meteo.fit(X[list(self.rain or ())], y, inner)
        return spatial, meteo

    def _spatial_columns(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.drop(columns=list(self.rain or ()))

    def _logits(self, models: tuple[AdditiveMixed, AdditiveMixed], X: pd.DataFrame) -> NDArray[np.float64]:
        spatial, meteo = models
        return np.column_stack([spatial.logit(self._spatial_columns(X)), meteo.logit(X[list(self.rain or ())])])

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(expit(self.intercept_ + self._logits(self.models_, X) @ self.weights_))
