"""Any scikit-learn classifier as a risk model, so that a plugin need not know ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from zoo.risk.folds import Fold
from zoo.risk.models.base import RiskModel


class Plain(RiskModel):
    """A classifier that is fitted as it is: no tuning, no encoding, no rain.

    Args:
        classifier: with ``fit(X, y)`` and ``predict_proba(X)``, unfitted.
        rain: see :class:`RiskModel`; a plain classifier finds its columns itself.
        group: likewise; the column is left out.
        threads: likewise.
        seed: given as ``random_state`` where the classifier has one.
    """

    def __init__(
        self,
        classifier: Any,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.classifier = classifier

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        self.classifier_ = clone(self.classifier)
        if "random_state" in self.classifier_.get_params():
            self.classifier_.set_params(random_state=self.seed)
        self.classifier_.fit(self.features(X), y)

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(self.classifier_.predict_proba(self.features(X))[:, 1], dtype=np.float64)
