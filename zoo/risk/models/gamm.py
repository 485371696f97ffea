"""Generalised additive mixed model (GAMM of Table 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from zoo.errors import ConfigError
from zoo.risk.folds import Fold
from zoo.risk.models.base import RiskModel, choose, thinned
from zoo.risk.models.penalised import BLOCK_ROWS, fit_penalised
from zoo.risk.models.smooths import Smooths

_KEPT_NUMBERS = 60_000_000
"""Numbers of a design matrix (480 MB) up to which it is kept between Newton steps."""

_GRID: tuple[float, ...] = (30.0, 3.0, 300.0)
_TUNING = 8_000


class AdditiveMixed(RiskModel):
    """Binomial model: a smooth of each number, an effect of each class, a random intercept of each region or event.

    Smooths are P-splines; effects of classes and intercepts of groups are normal around 0, which is a ridge penalty.
    A region or event that was not in training has intercept 0: the mean of all.

    Args:
        knots: of each spline.
        smoothness: of splines; None to choose it on inner folds, and with groups a stronger ``group_ridge`` too.
        group_ridge: inverse variance of the groups' intercepts [O].
    """

    def __init__(
        self,
        knots: int = 8,
        smoothness: float | None = None,
        group_ridge: float = 1.0,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.knots = knots
        self.smoothness = smoothness
        self.group_ridge = group_ridge

    def product(self) -> tuple[str, str] | None:
        """Two columns with a joint smooth; none here."""
        return None

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.knots < 4 or self.group_ridge <= 0 or (self.smoothness is not None and self.smoothness <= 0):
            raise ConfigError("a smooth needs 4 knots or more, and penalties above 0")
        candidates = [
            {"smoothness": one, "group_ridge": self.group_ridge}
            for one in (_GRID if self.smoothness is None else (self.smoothness,))
        ]
        if self.group and self.smoothness is None:
            # Rain that is one number an event can be told by the event's intercept as well, which a new event lacks.
            candidates.append({"smoothness": _GRID[0], "group_ridge": 100 * self.group_ridge})
        folds = thinned(inner, _TUNING, self.seed)
        designs: dict[int, Smooths] = {}

        def judge(settings: dict[str, Any], fold: Fold) -> NDArray[np.float64]:
            key = id(fold)
            if key not in designs:
                designs[key] = self._smooths().fit(X.iloc[fold.train])
            weights = self._solve(designs[key], X.iloc[fold.train], y[fold.train], settings)
            return np.asarray(designs[key].transform(X.iloc[fold.test]) @ weights)

        self.settings_ = choose(candidates, folds, y, judge)
        self.smooths_ = self._smooths().fit(X)
        self.coefficients_ = self._solve(self.smooths_, X, y, self.settings_)

    def _smooths(self) -> Smooths:
        return Smooths(self.knots, self.group, self.product())

    def _solve(
        self, smooths: Smooths, X: pd.DataFrame, y: NDArray[np.int64], settings: dict[str, Any]
    ) -> NDArray[np.float64]:
        penalty = smooths.penalty(settings["smoothness"], settings["group_ridge"])
        labels = y.astype(np.float64)
        starts = range(0, len(X), BLOCK_ROWS)
        kept: list[NDArray[np.float64]] = []
        if len(X) * len(penalty) <= _KEPT_NUMBERS:
            kept = [smooths.transform(X.iloc[start : start + BLOCK_ROWS]) for start in starts]

        def blocks() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
            for number, start in enumerate(starts):
                design = kept[number] if kept else smooths.transform(X.iloc[start : start + BLOCK_ROWS])
                yield design, labels[start : start + BLOCK_ROWS]

        return fit_penalised(blocks, penalty)

    def logit(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Log-odds of a landslide, float64 (N,)."""
        out = np.empty(len(X))
        for start in range(0, len(X), BLOCK_ROWS):
            stop = start + BLOCK_ROWS
            out[start:stop] = self.smooths_.transform(X.iloc[start:stop]) @ self.coefficients_
        return out

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(expit(self.logit(X)))
