"""Gradient boosting (XGBoost of Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from zoo.risk.folds import Fold
from zoo.risk.models.base import RiskModel, choose, thinned
from zoo.risk.models.encoding import Encoder

MOST_TREES = 500
PATIENCE = 25
"""Trees without a smaller loss on the inner test rows, after which boosting ends [O]."""

_TUNING = 8_000
_GRID: tuple[dict[str, Any], ...] = (
    {"max_depth": 4, "min_child_weight": 5},
    {"max_depth": 2, "min_child_weight": 5},
    {"max_depth": 6, "min_child_weight": 20},
)


class Boosting(RiskModel):
    """Histogram trees; depth is chosen, and their number found by early stopping, on inner folds.

    Args:
        rate: learning rate.
        tune: False takes depth 4 and 200 trees.
    """

    def __init__(
        self,
        rate: float = 0.06,
        tune: bool = True,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.rate = rate
        self.tune = tune

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        features = self.features(X)
        self.encoder_ = Encoder(scale=False, fill=False).fit(features)
        x = self.encoder_.transform(features).astype(np.float32)
        self.settings_, self.trees_ = dict(_GRID[0]), 200
        stopped: dict[str, list[int]] = {}
        if self.tune and inner:

            def judge(settings: dict[str, Any], fold: Fold) -> NDArray[np.float64]:
                machine = self._machine(MOST_TREES, settings, early_stopping_rounds=PATIENCE)
                machine.fit(x[fold.train], y[fold.train], eval_set=[(x[fold.test], y[fold.test])], verbose=False)
                stopped.setdefault(str(settings), []).append(int(machine.best_iteration) + 1)
                return np.asarray(machine.predict_proba(x[fold.test])[:, 1])

            self.settings_ = choose(_GRID, thinned(inner, _TUNING, self.seed), y, judge)
            if str(self.settings_) in stopped:
                self.trees_ = max(10, round(float(np.mean(stopped[str(self.settings_)]))))
        self.machine_ = self._machine(self.trees_, self.settings_).fit(x, y)

    def _machine(self, trees: int, settings: dict[str, Any], **more: Any) -> Any:
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

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        x = self.encoder_.transform(self.features(X)).astype(np.float32)
        return np.asarray(self.machine_.predict_proba(x)[:, 1], dtype=np.float64)
