"""Support vector machine (SVM of Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from zoo.errors import ConfigError
from zoo.risk.folds import Fold, random_folds
from zoo.risk.logistic import fit_logistic
from zoo.risk.models.base import RiskModel, choose, thinned
from zoo.risk.models.encoding import Encoder

MOST_ROWS = 20_000
"""Rows beyond which training an exact kernel machine takes hours: its time grows with their square or cube [S]
scikit-learn user guide, section 1.4.5."""

_GRID: tuple[dict[str, Any], ...] = ({"C": 1.0}, {"C": 1.0, "shrink": 0.4}, {"C": 8.0, "shrink": 0.4})
"""Cost, and width of the kernel as a share of scikit-learn's "scale", 1 / (features * variance) [O]."""

_TUNING = 2_500
_CALIBRATION = 5_000


class SupportVectors(RiskModel):
    """RBF kernel and Platt's sigmoid.

    Args:
        kernel: "rbf" is exact and takes at most ``most_rows`` rows; "nystroem" approximates the same kernel on
            ``components`` rows and takes all.
        most_rows: training rows of the exact kernel, at most 20,000; a larger table is sampled, and a note says so.
        components: of the approximation.
        tune: choose cost and width on inner folds.
    """

    def __init__(
        self,
        kernel: str = "rbf",
        most_rows: int = 10_000,
        components: int = 400,
        tune: bool = True,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.kernel = kernel
        self.most_rows = most_rows
        self.components = components
        self.tune = tune

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.kernel not in ("rbf", "nystroem"):
            raise ConfigError(f"kernel {self.kernel!r}", hint="There are: rbf, nystroem")
        if not 10 <= self.most_rows <= MOST_ROWS:
            raise ConfigError(f"{self.most_rows} rows for an exact kernel", hint=f"Give 10 to {MOST_ROWS:,}")
        features = self.features(X)
        self.encoder_ = Encoder().fit(features)
        x = self.encoder_.transform(features)
        candidates = _GRID if self.tune else _GRID[:1]

        def judge(settings: dict[str, Any], fold: Fold) -> NDArray[np.float64]:
            machine = SVC(C=settings["C"], gamma=self._gamma(x, settings), cache_size=200)
            return np.asarray(machine.fit(x[fold.train], y[fold.train]).decision_function(x[fold.test]))

        self.settings_ = choose(candidates, thinned(inner, _TUNING, self.seed), y, judge)
        rng = np.random.default_rng(self.seed)
        rows = np.arange(len(y))
        if self.kernel == "rbf" and len(y) > self.most_rows:
            self.notes_.append(f"svm: fitted on {self.most_rows:,} rows, drawn at random from more")
            rows = _sample(y, self.most_rows, rng)
        self._calibrate(x, y, rows, rng)
        self.machine_ = self._machine(x, len(rows)).fit(x[rows], y[rows])

    def _calibrate(
        self, x: NDArray[np.float64], y: NDArray[np.int64], rows: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Fit Platt's sigmoid to distances of rows that the machine measuring them was not fitted on."""
        if self.kernel == "rbf" and len(rows) > _CALIBRATION:
            rows = rows[_sample(y[rows], _CALIBRATION, rng)]
        labels = y[rows]
        distance = np.zeros(len(rows))
        if min(labels.sum(), len(labels) - labels.sum()) < 2:
            self.slope_, self.offset_ = 1.0, 0.0
            return
        for fold in random_folds(labels, 2, self.seed):
            machine = self._machine(x, len(fold.train)).fit(x[rows[fold.train]], labels[fold.train])
            distance[fold.test] = machine.decision_function(x[rows[fold.test]])
        found = fit_logistic(distance[:, None], labels, signs=[1])
        self.slope_, self.offset_ = float(found.coefficients[0]), found.intercept

    def _machine(self, x: NDArray[np.float64], rows: int) -> Any:
        gamma, cost = self._gamma(x, self.settings_), self.settings_["C"]
        if self.kernel == "rbf":
            return SVC(C=cost, gamma=gamma, cache_size=400)
        approximation = Nystroem(gamma=gamma, n_components=min(self.components, rows), random_state=self.seed)
        return make_pipeline(approximation, LinearSVC(C=cost, dual=False, random_state=self.seed))

    def _gamma(self, x: NDArray[np.float64], settings: dict[str, Any]) -> float:
        variance = float(x.var())
        return float(settings.get("shrink", 1.0)) / (x.shape[1] * variance) if variance > 0 else 1.0

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        x = self.encoder_.transform(self.features(X))
        return np.asarray(expit(self.offset_ + self.slope_ * self.machine_.decision_function(x)))


def _sample(y: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows with both labels in proportion, and at least one of each."""
    parts = []
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        parts.append(rng.choice(rows, max(1, min(len(rows), round(count * len(rows) / len(y)))), replace=False))
    return np.sort(np.concatenate(parts))
