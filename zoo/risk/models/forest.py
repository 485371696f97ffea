"""Random forest (RF of Table 2), tuned or as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from zoo.risk.folds import Fold
from zoo.risk.models.base import TUNING_ROWS, RiskModel, choose, thinned
from zoo.risk.models.encoding import Encoder

ROWS_OF_A_TREE = 50_000
"""Rows that a tree draws at most [O]: on a million rows trees of fifty thousand differ more from each other, and a
forest takes minutes in place of hours."""

_GRID: tuple[dict[str, Any], ...] = (
    {"min_samples_leaf": 1, "max_features": "sqrt"},
    {"min_samples_leaf": 5, "max_features": 2, "max_samples": 0.5},
    {"min_samples_leaf": 3, "max_features": 0.3},
)
"""As it comes; trees that differ more, for places unlike those seen; trees that fit closer [O]."""

_TUNING_TREES = 40
FEWEST_TREES, MOST_TREES = 120, 500
_ROWS_OF_ALL_TREES = 5_000_000
"""Trees cost what they are fitted to [O]: a small table can have the many that a mean over trees gains from."""


class Forest(RiskModel):
    """Probabilities are the mean share of landslides in the leaves of all trees.

    Args:
        trees: of the forest; None for 500 up to 10,000 rows, fewer for more, and 120 from 42,000 rows on.
        tune: choose size of leaves and features of a split on inner folds; False is scikit-learn's default forest.
    """

    def __init__(
        self,
        trees: int | None = None,
        tune: bool = True,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.trees = trees
        self.tune = tune

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        features = self.features(X)
        self.encoder_ = Encoder(scale=False, fill=False).fit(features)
        x = self.encoder_.transform(features).astype(np.float32)
        self.settings_: dict[str, Any] = {}
        if self.tune:

            def judge(settings: dict[str, Any], fold: Fold) -> NDArray[np.float64]:
                forest = self._forest(_TUNING_TREES, len(fold.train), settings).fit(x[fold.train], y[fold.train])
                return np.asarray(forest.predict_proba(x[fold.test])[:, 1])

            self.settings_ = choose(_GRID, thinned(inner, TUNING_ROWS, self.seed), y, judge)
        if len(y) > ROWS_OF_A_TREE:
            self.notes_.append(f"random forest: each tree draws {ROWS_OF_A_TREE:,} rows of more")
        self.forest_ = self._forest(self._trees(len(y)), len(y), self.settings_).fit(x, y)

    def _trees(self, rows: int) -> int:
        if self.trees is not None:
            return self.trees
        return min(max(_ROWS_OF_ALL_TREES // rows, FEWEST_TREES), MOST_TREES) if self.tune else 100

    def _forest(self, trees: int, rows: int, settings: dict[str, Any]) -> RandomForestClassifier:
        chosen = dict(settings)
        if rows * chosen.get("max_samples", 1.0) > ROWS_OF_A_TREE:
            chosen["max_samples"] = ROWS_OF_A_TREE
        if isinstance(chosen.get("max_features"), int):
            chosen["max_features"] = min(chosen["max_features"], len(self.encoder_.names))
        return RandomForestClassifier(trees, n_jobs=self.threads, random_state=self.seed, **chosen)

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        x = self.encoder_.transform(self.features(X)).astype(np.float32)
        return np.asarray(self.forest_.predict_proba(x)[:, 1])
