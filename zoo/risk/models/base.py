"""Base of all risk models: the scikit-learn interface, the encoding of tables and the choice of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.risk.scores import auc
from zoo.risk.splits import Fold, random_folds

Settings = dict[str, Any]

INNER_FOLDS = 3
MIN_CLASS_ROWS = 10
"""Minimum number of training rows for a class to get its own column [O]. Rarer and unseen classes have no column."""


class Encoder:
    """Turn a table into numbers: fill missing values, give each class a column, scale.

    Medians, scales and classes are learned from the training rows only, so nothing leaks from the test rows. Numbers
    that do not vary in the training rows are left out.

    Args:
        scale: subtract the mean and divide by the standard deviation.
        fill: replace missing numbers by the training median and mark them in a separate column. False keeps NaN,
            which trees can use.

    Attributes:
        names: names of the output columns.
    """

    def __init__(self, *, scale: bool = True, fill: bool = True) -> None:
        self.scale = scale
        self.fill = fill
        self.names: list[str] = []

    def fit(self, X: pd.DataFrame) -> Encoder:
        """Learn from training rows: numbers with NaN where missing, and columns of category dtype.

        Raises:
            DataError: if no column varies.
        """
        numbers, gaps, self._classes = [], [], dict[str, list[str]]()
        for name in X.columns:
            if isinstance(X[name].dtype, pd.CategoricalDtype):
                counts = X[name].astype(object).dropna().astype(str).value_counts()
                frequent = sorted(counts.index[counts >= MIN_CLASS_ROWS])
                if frequent:
                    self._classes[name] = frequent
                continue
            known = X[name].to_numpy(np.float64)
            missing = np.isnan(known)
            known = known[~missing]
            if not known.size:
                continue
            if np.ptp(known) > 1e-12 * max(1.0, float(np.abs(known).max())):
                numbers.append(name)
            if self.fill and missing.any():
                gaps.append(name)
        parts: list[tuple[str, Any, list[str]]] = []
        if numbers:
            steps = [SimpleImputer(strategy="median")] if self.fill else []
            steps += [StandardScaler()] if self.scale else []
            parts.append(("numbers", make_pipeline(*steps) if steps else "passthrough", numbers))
        if gaps:
            parts.append(("gaps", MissingIndicator(features="all"), gaps))
        if self._classes:
            one_hot = OneHotEncoder(
                categories=[np.array(kept, dtype=object) for kept in self._classes.values()],
                handle_unknown="ignore",
                sparse_output=False,
            )
            parts.append(("classes", one_hot, list(self._classes)))
        if not parts:
            raise DataError("no feature is left: none varies in the training rows, and every class has too few rows")
        self._transformer = ColumnTransformer(parts, sparse_threshold=0.0).fit(self._with_texts(X))
        self.names = [*numbers, *(f"{name} is missing" for name in gaps)]
        self.names += [f"{name} = {one}" for name, kept in self._classes.items() for one in kept]
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Return float64 (N, len(names))."""
        return np.asarray(self._transformer.transform(self._with_texts(X)), dtype=np.float64)

    def _with_texts(self, X: pd.DataFrame) -> pd.DataFrame:
        texts = {name: X[name].astype(object).map(str, na_action="ignore").fillna("\0") for name in self._classes}
        return X.assign(**texts) if texts else X


@dataclass(eq=False, repr=False, kw_only=True)
class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A binary classifier on a table, with the interface of scikit-learn.

    Subclasses are dataclasses as well: scikit-learn reads the parameters from the generated ``__init__``.

    Args:
        rain: columns with rain intensity (mm/h) and duration (days); None if unknown.
        group: column with the region or event, used by mixed models only; None if unknown.
        threads: number of threads for libraries with multithreading.
        seed: seed of the random generators.

    Attributes:
        classes_: 0 and 1.
        notes_: decisions made during the fit, as sentences.
    """

    rain: tuple[str, str] | None = None
    group: str | None = None
    threads: int = 1
    seed: int = 0

    def fit(self, X: pd.DataFrame, y: Any, inner: Sequence[Fold] | None = None) -> RiskModel:
        """Fit the model.

        Args:
            X: numbers with NaN where missing, and columns of category dtype, (N, columns).
            y: 0 and 1, (N,).
            inner: folds of these rows on which settings are chosen; use the same kind as the outer folds. None for
                three random ones.

        Raises:
            DataError: if labels are not 0 and 1, one label is absent, lengths differ or no feature is left.
            UnknownNameError: if a rain or group column is not in ``X``.
        """
        labels = _check_labels(y, len(X))
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
        """Return the probabilities of no landslide and of a landslide, float64 (N, 2).

        Raises:
            DataError: if a column that the model was fitted to is missing.
        """
        check_is_fitted(self, "columns_")
        missing = [name for name in self.columns_ if name not in X.columns]
        if missing:
            raise DataError(f"column {missing[0]!r}, on which the model was fitted, is missing")
        probability = self._probability(X[self.columns_].reset_index(drop=True))
        return np.column_stack([1 - probability, probability])

    def predict(self, X: pd.DataFrame) -> NDArray[np.int64]:
        """Return 1 where the probability of a landslide is at least 0.5, (N,)."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(np.int64)

    def features(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the feature columns: all except the group."""
        return X.drop(columns=[self.group]) if self.group else X

    def rain_columns(self, X: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return intensity in mm/h and duration in days, (N,) each.

        Raises:
            ConfigError: if no rain columns are named.
        """
        if self.rain is None:
            raise ConfigError("this model needs rain", hint="Name the columns of intensity (mm/h) and duration (days)")
        intensity, duration = self.rain
        return X[intensity].to_numpy(np.float64), X[duration].to_numpy(np.float64)

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        raise NotImplementedError

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        raise NotImplementedError


@dataclass(eq=False, repr=False, kw_only=True)
class EncodedModel(RiskModel):
    """A model on encoded numbers whose settings are chosen from a short grid.

    Subclasses define the three methods at the end.

    Attributes:
        grid: candidate settings, the simplest first.
        tuning_rows: rows of a fold on which settings are chosen [O]: enough to distinguish a deep tree from a shallow
            one.
        encoding: arguments of :class:`Encoder`.
    """

    tune: bool = True

    grid: ClassVar[tuple[Settings, ...]] = ({},)
    tuning_rows: ClassVar[int] = 5_000
    encoding: ClassVar[dict[str, bool]] = {"scale": False, "fill": False}

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        features = self.features(X)
        self.encoder_ = Encoder(**self.encoding).fit(features)
        x = self.encoder_.transform(features)
        candidates = self.grid if self.tune else self.grid[:1]
        folds = thin_folds(inner, self.tuning_rows, self.seed)
        self.settings_ = choose(candidates, folds, y, lambda settings, fold: self._score(x, y, settings, fold))
        self._fit_rows(x, y)

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(self._predict(self.encoder_.transform(self.features(X))), dtype=np.float64)

    def _score(
        self, x: NDArray[np.float64], y: NDArray[np.int64], settings: Settings, fold: Fold
    ) -> NDArray[np.float64]:
        """Fit ``settings`` to the training rows of a fold and return scores of its test rows."""
        raise NotImplementedError

    def _fit_rows(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        """Fit the chosen settings to all rows."""
        raise NotImplementedError

    def _predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities, (N,)."""
        raise NotImplementedError


@dataclass(eq=False, repr=False, kw_only=True)
class PlainClassifier(RiskModel):
    """Wrapper that makes any scikit-learn classifier a risk model, so that plugins need no special class.

    The classifier is fitted without tuning or encoding. It does not see the group column.

    Args:
        classifier: unfitted, with ``fit(X, y)`` and ``predict_proba(X)``. If it has a parameter ``random_state``, it
            gets ``seed``.
    """

    classifier: Any

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        self.classifier_ = clone(self.classifier)
        if "random_state" in self.classifier_.get_params():
            self.classifier_.set_params(random_state=self.seed)
        self.classifier_.fit(self.features(X), y)

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(self.classifier_.predict_proba(self.features(X))[:, 1], dtype=np.float64)


def thin_folds(folds: Sequence[Fold], rows: int, seed: int) -> list[Fold]:
    """Reduce folds to about ``rows`` rows each, so that choosing settings stays cheap on a large table.

    Args:
        folds: folds of the training rows.
        rows: training and test rows of a fold together.
        seed: seed of the draw.
    """
    rng = np.random.default_rng(seed)

    def draw(indices: NDArray[np.int64], share: float) -> NDArray[np.int64]:
        if share >= 1:
            return indices
        return np.sort(rng.choice(indices, max(2, int(len(indices) * share)), replace=False))

    thinned = []
    for fold in folds:
        share = rows / (len(fold.train) + len(fold.test))
        thinned.append(Fold(draw(fold.train, share), draw(fold.test, share)))
    return thinned


def choose(
    candidates: Sequence[Settings],
    folds: Sequence[Fold],
    y: NDArray[np.int64],
    score: Callable[[Settings, Fold], NDArray[np.float64]],
) -> Settings:
    """Return the settings with the highest mean AUC over folds, if they beat the first by more than a standard error.

    With three hundred rows, the best entry of a grid is mostly luck. The rule keeps the first settings unless the folds
    agree (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3 [S], on differences instead of levels
    [O]). scikit-learn's search classes are not suitable here: early stopping needs the test rows of the fold, and the
    GAMM shares its design matrix between candidates.

    Args:
        candidates: settings, the simplest first.
        folds: folds of the training rows; without any, the first candidate is returned.
        y: labels of the training rows.
        score: fits settings to a fold's training rows and returns scores of its test rows.
    """
    usable = [fold for fold in folds if all(len(np.unique(y[rows])) == 2 for rows in (fold.train, fold.test))]
    if len(usable) < 2 or len(candidates) == 1:
        return dict(candidates[0])
    areas = np.array([[auc(y[fold.test], score(candidate, fold)) for fold in usable] for candidate in candidates])
    gains = areas - areas[0]
    error = gains.std(axis=1, ddof=1) / np.sqrt(len(usable))
    means = np.where(gains.mean(axis=1) > error, gains.mean(axis=1), 0.0)
    return dict(candidates[int(np.argmax(means))])


def _check_labels(y: Any, count: int) -> NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.shape != (count,):
        raise DataError(f"{count} rows and labels of shape {labels.shape}")
    kinds = set(np.unique(labels).tolist())
    if not kinds <= {0, 1}:
        raise DataError("labels are not 0 and 1")
    if len(kinds) < 2:
        raise DataError("all rows have the same label", hint="Places with and without landslides are needed")
    return labels.astype(np.int64)
