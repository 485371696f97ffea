"""What every risk model shares: checks, columns that are no features, and the scikit-learn interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.risk.folds import Fold, random_folds
from zoo.risk.scores import auc

INNER_FOLDS = 3
TUNING_ROWS = 5_000
"""Rows that settings are chosen on [O]: enough to tell a deep tree from a shallow one, and a grid stays cheap."""


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A binary classifier on a table.

    Args:
        rain: columns with rain intensity (mm/h) and duration (days); None when unknown.
        group: column with the region or event, which only mixed models use; None when unknown.
        threads: of libraries that have their own.
        seed: of everything random.

    Attributes:
        classes_: 0 and 1.
        notes_: what was decided while fitting, in words.
    """

    def __init__(
        self,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        self.rain = rain
        self.group = group
        self.threads = threads
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: Any, inner: Sequence[Fold] | None = None) -> RiskModel:
        """Fit.

        Args:
            X: numbers with NaN where missing, and columns of category dtype, (N, columns).
            y: 0 and 1, (N,).
            inner: folds of these rows on which settings are chosen, of the same kind as the outer ones; None for
                three random ones.

        Raises:
            DataError: if labels are not 0 and 1, one is absent, lengths differ or no feature is left.
            UnknownNameError: if a rain or group column is not there.
        """
        labels = _labels(y, len(X))
        for name in (*(self.rain or ()), *([self.group] if self.group else ())):
            if name not in X.columns:
                raise UnknownNameError("column", name, [str(column) for column in X.columns])
        if self.features(X).shape[1] == 0:
            raise DataError("no feature is left")
        self.notes_: list[str] = []
        self.classes_ = np.array([0, 1])
        self.columns_ = [str(column) for column in X.columns]
        if inner is None:
            fewest = int(min(labels.sum(), len(labels) - labels.sum()))
            inner = random_folds(labels, INNER_FOLDS, self.seed) if fewest >= INNER_FOLDS else []
        self._fit(X.reset_index(drop=True), labels, inner)
        return self

    def predict_proba(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Probabilities of no landslide and of one, float64 (N, 2).

        Raises:
            DataError: if a column that the model was fitted on is missing.
        """
        check_is_fitted(self, "columns_")
        missing = [name for name in self.columns_ if name not in X.columns]
        if missing:
            raise DataError(f"column {missing[0]!r} is missing, which the model was fitted on")
        probability = self._probability(X[self.columns_].reset_index(drop=True))
        return np.column_stack([1 - probability, probability])

    def predict(self, X: pd.DataFrame) -> NDArray[np.int64]:
        """1 where the probability of a landslide is 0.5 or more, (N,)."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(np.int64)

    def features(self, X: pd.DataFrame) -> pd.DataFrame:
        """The columns that are features: all but the group."""
        return X.drop(columns=[self.group]) if self.group else X

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        raise NotImplementedError

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        raise NotImplementedError

    def rain_columns(self, X: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intensity in mm/h and duration in days, (N,) each.

        Raises:
            ConfigError: if no rain columns are named.
        """
        if self.rain is None:
            raise ConfigError("this model needs rain", hint="Name intensity (mm/h) and duration (days)")
        intensity, duration = self.rain
        return X[intensity].to_numpy(np.float64), X[duration].to_numpy(np.float64)


def thinned(folds: Sequence[Fold], rows: int, seed: int) -> list[Fold]:
    """Cut folds down to about ``rows`` rows, evenly, so that choosing settings stays cheap on a big table.

    Args:
        folds: of the training rows.
        rows: wanted in training and test of a fold together.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)

    def some(indices: NDArray[np.int64], share: float) -> NDArray[np.int64]:
        if share >= 1:
            return indices
        return np.sort(rng.choice(indices, max(2, int(len(indices) * share)), replace=False))

    cut = []
    for fold in folds:
        share = rows / (len(fold.train) + len(fold.test))
        cut.append(Fold(some(fold.train, share), some(fold.test, share)))
    return cut


def choose(
    candidates: Sequence[dict[str, Any]],
    folds: Sequence[Fold],
    y: NDArray[np.int64],
    judge: Callable[[dict[str, Any], Fold], NDArray[np.float64]],
) -> dict[str, Any]:
    """Give the candidate with the highest mean AUC over folds, if it beats the first by more than a standard error.

    With three hundred rows the best of a grid is mostly luck; the rule keeps the plain settings unless folds agree
    (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3 [S], on differences instead of levels [O]).

    Args:
        candidates: settings, the plainest first.
        folds: of the training rows; without any, the first candidate is given.
        y: labels of the training rows.
        judge: fits settings on a fold's training rows, and gives scores of its test rows.
    """
    usable = [fold for fold in folds if all(len(np.unique(y[rows])) == 2 for rows in (fold.train, fold.test))]
    if len(usable) < 2 or len(candidates) == 1:
        return dict(candidates[0])
    areas = np.array([[auc(y[fold.test], judge(one, fold)) for fold in usable] for one in candidates])
    gains = areas - areas[0]
    error = gains.std(axis=1, ddof=1) / np.sqrt(len(usable))
    means = np.where(gains.mean(axis=1) > error, gains.mean(axis=1), 0.0)
    return dict(candidates[int(np.argmax(means))])


def _labels(y: Any, count: int) -> NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.shape != (count,):
        raise DataError(f"{count} rows and labels of shape {labels.shape}")
    kinds = set(np.unique(labels).tolist())
    if not kinds <= {0, 1}:
        raise DataError("labels are not 0 and 1")
    if len(kinds) < 2:
        raise DataError("rows of one label only", hint="Places with and without landslides are needed")
    return labels.astype(np.int64)
