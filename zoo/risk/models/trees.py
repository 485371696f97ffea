"""Random Forest and XGBoost of Table 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from zoo.risk.models.base import EncodedModel, Settings
from zoo.risk.splits import Fold

ROWS_PER_TREE = 50_000
"""Maximum number of rows per tree [O]: on a million rows such trees differ more from each other, and a forest takes
minutes instead of hours."""

MIN_TREES, MAX_TREES = 120, 500
_TUNING_TREES = 40
_ROWS_OF_ALL_TREES = 5_000_000
"""The cost of a tree grows with its rows [O], so a small table gets more trees."""

EARLY_STOPPING_ROUNDS = 25
"""Boosting stops after this many trees without a smaller loss on the inner test rows [O]."""


@dataclass(eq=False, repr=False, kw_only=True)
class Forest(EncodedModel):
    """Random forest; the probability is the mean share of landslides in the leaves of all trees.

    Args:
        trees: number of trees; None for 500 up to 10,000 rows, fewer on larger tables, and 120 from 42,000 rows on.
        tune: choose leaf size and features of a split on inner folds; False uses scikit-learn's defaults.
    """

    trees: int | None = None

    grid: ClassVar[tuple[Settings, ...]] = (
        {"min_samples_leaf": 1, "max_features": "sqrt"},
        {"min_samples_leaf": 5, "max_features": 2, "max_samples": 0.5},
        {"min_samples_leaf": 3, "max_features": 0.3},
    )
    # The defaults; more diverse trees, for places unlike the training rows; trees that fit more closely [O].

    def _score(
        self, x: NDArray[np.float64], y: NDArray[np.int64], settings: Settings, fold: Fold
    ) -> NDArray[np.float64]:
        forest = self._forest(_TUNING_TREES, len(fold.train), settings)
        forest.fit(x[fold.train].astype(np.float32), y[fold.train])
        return np.asarray(forest.predict_proba(x[fold.test].astype(np.float32))[:, 1])

    def _fit_rows(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        if len(y) > ROWS_PER_TREE:
            self.notes_.append(f"random forest: each tree draws {ROWS_PER_TREE:,} of the {len(y):,} rows")
        self.forest_ = self._forest(self._tree_count(len(y)), len(y), self.settings_).fit(x.astype(np.float32), y)

    def _predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.forest_.predict_proba(x.astype(np.float32))[:, 1])

    def _tree_count(self, rows: int) -> int:
        if self.trees is not None:
            return self.trees
        return min(max(_ROWS_OF_ALL_TREES // rows, MIN_TREES), MAX_TREES) if self.tune else 100

    def _forest(self, trees: int, rows: int, settings: Settings) -> RandomForestClassifier:
        chosen = dict(settings)
        if rows * chosen.get("max_samples", 1.0) > ROWS_PER_TREE:
            chosen["max_samples"] = ROWS_PER_TREE
        if isinstance(chosen.get("max_features"), int):
            chosen["max_features"] = min(chosen["max_features"], len(self.encoder_.names))
        return RandomForestClassifier(trees, n_jobs=self.threads, random_state=self.seed, **chosen)


@dataclass(eq=False, repr=False, kw_only=True)
class Boosting(EncodedModel):
    """Gradient-boosted histogram trees; early stopping on the inner folds sets their number.

    Args:
        rate: learning rate.
        tune: choose the depth on inner folds; False uses depth 4 and 200 trees.
    """

    rate: float = 0.06

    grid: ClassVar[tuple[Settings, ...]] = (
        {"max_depth": 4, "min_child_weight": 5},
        {"max_depth": 2, "min_child_weight": 5},
        {"max_depth": 6, "min_child_weight": 20},
    )
    tuning_rows: ClassVar[int] = 8_000

    def _score(
        self, x: NDArray[np.float64], y: NDArray[np.int64], settings: Settings, fold: Fold
    ) -> NDArray[np.float64]:
        machine = self._machine(MAX_TREES, settings, early_stopping_rounds=EARLY_STOPPING_ROUNDS)
        train, test = x[fold.train].astype(np.float32), x[fold.test].astype(np.float32)
        machine.fit(train, y[fold.train], eval_set=[(test, y[fold.test])], verbose=False)
        if not hasattr(self, "_stopped"):
            self._stopped: dict[str, list[int]] = {}
        self._stopped.setdefault(str(settings), []).append(int(machine.best_iteration) + 1)
        return np.asarray(machine.predict_proba(test)[:, 1])

    def _fit_rows(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        stopped = self.__dict__.pop("_stopped", {}).get(str(self.settings_))
        self.trees_ = 200 if stopped is None else max(10, round(float(np.mean(stopped))))
        self.machine_ = self._machine(self.trees_, self.settings_).fit(x.astype(np.float32), y)

    def _predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.machine_.predict_proba(x.astype(np.float32))[:, 1])

    def _machine(self, trees: int, settings: Settings, **more: Any) -> Any:
        return xgboost.XGBClassifier(
            n_estimators=trees,
            learning_rate=self.rate,
            tree_method="hist",
            subsample=0.8,
            colsample_bytree=0.7,
            eval_metric="logloss",
            n_jobs=self.threads,
            random_state=self.seed,
            **settings,
            **more,
        )
