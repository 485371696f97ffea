"""Support vector machine of Table 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from zoo.errors import ConfigError
from zoo.risk.logistic import fit_logistic
from zoo.risk.models.base import EncodedModel, Settings
from zoo.risk.splits import Fold, random_folds

MAX_ROWS = 20_000
"""Maximum rows of the exact kernel. More rows take hours: the time grows with their square or cube [S] (user guide of
scikit-learn, section 1.4.5)."""

_CALIBRATION_ROWS = 5_000


@dataclass(eq=False, repr=False, kw_only=True)
class SupportVectors(EncodedModel):
    """Support vector machine with an RBF kernel and Platt's sigmoid.

    Args:
        kernel: "rbf" is exact and uses at most ``max_rows`` rows; "nystroem" approximates the same kernel with
            ``components`` rows and uses all.
        max_rows: training rows of the exact kernel, at most 20,000. A larger table is sampled, and a note says so.
        components: components of the approximation.
        tune: choose cost and kernel width on inner folds.
    """

    kernel: str = "rbf"
    max_rows: int = 10_000
    components: int = 400

    # Cost, and kernel width as a multiple of scikit-learn's "scale", 1 / (features * variance) [O].
    grid: ClassVar[tuple[Settings, ...]] = ({"C": 1.0}, {"C": 1.0, "shrink": 0.4}, {"C": 8.0, "shrink": 0.4})
    tuning_rows: ClassVar[int] = 2_500
    encoding: ClassVar[dict[str, bool]] = {"scale": True, "fill": True}

    def _score(
        self, x: NDArray[np.float64], y: NDArray[np.int64], settings: Settings, fold: Fold
    ) -> NDArray[np.float64]:
        machine = SVC(C=settings["C"], gamma=self._gamma(x, settings), cache_size=200)
        return np.asarray(machine.fit(x[fold.train], y[fold.train]).decision_function(x[fold.test]))

    def _fit(self, X: Any, y: NDArray[np.int64], inner: Any) -> None:
        if self.kernel not in ("rbf", "nystroem"):
            raise ConfigError(f"unknown kernel {self.kernel!r}", hint="Choose from: rbf, nystroem")
        if not 10 <= self.max_rows <= MAX_ROWS:
            raise ConfigError(f"{self.max_rows} rows for an exact kernel", hint=f"Give 10 to {MAX_ROWS:,}")
        super()._fit(X, y, inner)

    def _fit_rows(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        rng = np.random.default_rng(self.seed)
        rows = np.arange(len(y))
        if self.kernel == "rbf" and len(y) > self.max_rows:
            self.notes_.append(f"svm: fitted to {self.max_rows:,} of {len(y):,} rows, drawn at random")
            rows = _draw(y, self.max_rows, rng)
        self._calibrate(x, y, rows, rng)
        self.machine_ = self._machine(x, len(rows)).fit(x[rows], y[rows])

    def _predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(expit(self.offset_ + self.slope_ * self.machine_.decision_function(x)))

    def _calibrate(
        self, x: NDArray[np.float64], y: NDArray[np.int64], rows: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Fit Platt's sigmoid to the decision values of held-out rows.

        scikit-learn's CalibratedClassifierCV averages one machine per fold; here one machine fitted to all rows
        predicts, and two others are used only for the sigmoid.
        """
        if self.kernel == "rbf" and len(rows) > _CALIBRATION_ROWS:
            rows = rows[_draw(y[rows], _CALIBRATION_ROWS, rng)]
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

    def _gamma(self, x: NDArray[np.float64], settings: Settings) -> float:
        variance = float(x.var())
        return float(settings.get("shrink", 1.0)) / (x.shape[1] * variance) if variance > 0 else 1.0


def _draw(y: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows stratified by label, with at least one of each."""
    parts = []
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        parts.append(rng.choice(rows, max(1, min(len(rows), round(count * len(rows) / len(y)))), replace=False))
    return np.sort(np.concatenate(parts))
