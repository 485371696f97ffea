"""Generalised additive mixed models: the GAMM of Table 2 and the two models of section 3.5 that are built on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import expit
from sklearn.preprocessing import SplineTransformer

from zoo.errors import ConfigError, DataError
from zoo.risk.logistic import BLOCK_ROWS, fit_logistic, fit_penalised
from zoo.risk.models.base import Encoder, RiskModel, Settings, choose, thin_folds
from zoo.risk.splits import Fold

DEGREE = 3
COMBINATIONS = ("additive", "product")

_MIN_RIDGE = 0.05
"""Ridge that slightly shrinks the straight line, which second differences do not penalise [O], so that separated labels
have a finite fit."""

_CACHED_NUMBERS = 60_000_000
"""Maximum size of a design matrix (480 MB) that is kept between Newton steps."""

_SMOOTHNESS = (30.0, 3.0, 300.0)
_TUNING_ROWS = 8_000
_RAIN_STEPS = 241


class Spline:
    """Cubic B-spline basis of one column, with knots at quantiles and straight lines beyond the outermost.

    Args:
        values: training values, (N,), without NaN.
        knots: number of knots; columns with few different values get fewer.
    """

    def __init__(self, values: NDArray[np.float64], knots: int) -> None:
        places = np.unique(np.quantile(values, np.linspace(0, 1, knots)))
        self._transformer: SplineTransformer | None = None
        if len(places) >= 4:
            self._transformer = SplineTransformer(
                knots=places[:, None], degree=DEGREE, extrapolation="linear", include_bias=False
            ).fit(values[:, None])
        self.width = 1 if self._transformer is None else self._transformer.n_features_out_

    def basis(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the basis without its last function, (N, width); columns with few values are returned unchanged."""
        if self._transformer is None:
            return values[:, None]
        return np.asarray(self._transformer.transform(values[:, None]))

    def penalty(self, smoothness: float) -> NDArray[np.float64]:
        """Return the penalty on second differences of coefficients, (width, width); the last coefficient is 0."""
        if self._transformer is None:
            return np.eye(1)
        second = np.diff(np.eye(self.width + 1), n=2, axis=0)[:, :-1]
        return np.asarray(smoothness * second.T @ second + _MIN_RIDGE * np.eye(self.width))


class AdditiveDesign:
    """Design matrix of an additive model: intercept, splines, classes, one product of two splines, groups.

    Args:
        knots: knots of each spline.
        group: column of regions or events, each with its own intercept; None for none.
        product: two columns whose joint effect is a product of splines instead of a sum.
    """

    def __init__(self, knots: int, group: str | None = None, product: Sequence[str] | None = None) -> None:
        self.knots = knots
        self.group = group
        self.product = tuple(product or ())

    def fit(self, X: pd.DataFrame) -> AdditiveDesign:
        """Learn knots, medians, classes and groups from training rows."""
        single = X.drop(columns=[*self.product, *([self.group] if self.group else [])])
        self._encoder = Encoder().fit(single) if single.shape[1] else None
        self._splines: list[Spline] = []
        if self._encoder is not None:
            self._splines = [Spline(column, self.knots) for column in self._encoder.transform(single).T]
        self._factors: list[tuple[float, Spline]] = []
        for name in self.product:
            values = _logarithm(X[name].to_numpy(np.float64))
            middle = float(np.nanmedian(values))
            self._factors.append((middle, Spline(np.where(np.isnan(values), middle, values), 4)))
        self._groups: dict[str, int] = {}
        if self.group:
            names = sorted({str(one) for one in X[self.group].dropna()})
            self._groups = {name: number for number, name in enumerate(names)}
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Return float64 (N, k), the intercept first. A group that was not in training has intercept 0."""
        parts = [np.ones((len(X), 1))]
        if self._encoder is not None:
            columns = self._encoder.transform(X).T
            parts += [spline.basis(column) for spline, column in zip(self._splines, columns, strict=True)]
        if self._factors:
            parts.append(self._product(X))
        if self._groups:
            member = np.zeros((len(X), len(self._groups)))
            number = X[self.group].astype(object).astype(str).map(self._groups).to_numpy(np.float64)
            known = np.flatnonzero(~np.isnan(number))
            member[known, number[known].astype(np.int64)] = 1.0
            parts.append(member)
        return np.concatenate(parts, axis=1)

    def penalty(self, smoothness: float, group_ridge: float) -> NDArray[np.float64]:
        """Return the penalty matrix, (k, k); the intercept is not penalised."""
        parts = [np.zeros((1, 1)), *(spline.penalty(smoothness) for spline in self._splines)]
        if self._factors:
            widths = [spline.width for _, spline in self._factors]
            parts.append(np.eye(widths[0] * widths[1] + sum(widths)) * max(0.1, smoothness / 10))
        if self._groups:
            parts.append(group_ridge * np.eye(len(self._groups)))
        return np.asarray(block_diag(*parts))

    def _product(self, X: pd.DataFrame) -> NDArray[np.float64]:
        one, other = (
            spline.basis(np.where(np.isnan(values), middle, values))
            for name, (middle, spline) in zip(self.product, self._factors, strict=True)
            for values in (_logarithm(X[name].to_numpy(np.float64)),)
        )
        joint = (one[:, :, None] * other[:, None, :]).reshape(len(X), -1)
        return np.concatenate([joint, one, other], axis=1)


def _logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Rain spans orders of magnitude; 0.01 mm/h and 0.01 days are below measurable values.
    return np.asarray(np.log(np.maximum(values, 0.01)))


@dataclass(eq=False, repr=False, kw_only=True)
class AdditiveMixed(RiskModel):
    """Binomial GAMM: a smooth of each number, an effect of each class, a random intercept of each region or event.

    Smooths are P-splines. Effects of classes and intercepts of groups are normal around 0, which is a ridge penalty.
    A region or event that was not in training has intercept 0, the mean of all.

    Args:
        knots: knots of each spline.
        smoothness: penalty of the splines; None chooses it on inner folds, and with groups also a stronger
            ``group_ridge``.
        group_ridge: inverse variance of the groups' intercepts [O].
    """

    knots: int = 8
    smoothness: float | None = None
    group_ridge: float = 1.0

    def product(self) -> tuple[str, str] | None:
        """Return two columns with a joint smooth; None here."""
        return None

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.knots < 4 or self.group_ridge <= 0 or (self.smoothness is not None and self.smoothness <= 0):
            raise ConfigError("a smooth needs at least 4 knots and penalties above 0")
        candidates: list[Settings] = [
            {"smoothness": one, "group_ridge": self.group_ridge}
            for one in (_SMOOTHNESS if self.smoothness is None else (self.smoothness,))
        ]
        if self.group and self.smoothness is None:
            # An event's intercept can absorb the effect of its rain, but a new event has no intercept.
            candidates.append({"smoothness": _SMOOTHNESS[0], "group_ridge": 100 * self.group_ridge})
        folds = thin_folds(inner, _TUNING_ROWS, self.seed)
        designs: dict[int, AdditiveDesign] = {}

        def score(settings: Settings, fold: Fold) -> NDArray[np.float64]:
            key = id(fold)
            if key not in designs:
                designs[key] = self._smooths().fit(X.iloc[fold.train])
            weights = self._solve(designs[key], X.iloc[fold.train], y[fold.train], settings)
            return np.asarray(designs[key].transform(X.iloc[fold.test]) @ weights)

        self.settings_ = choose(candidates, folds, y, score)
        self.smooths_ = self._smooths().fit(X)
        self.coefficients_ = self._solve(self.smooths_, X, y, self.settings_)

    def _smooths(self) -> AdditiveDesign:
        return AdditiveDesign(self.knots, self.group, self.product())

    def _solve(
        self, smooths: AdditiveDesign, X: pd.DataFrame, y: NDArray[np.int64], settings: Settings
    ) -> NDArray[np.float64]:
        penalty = smooths.penalty(settings["smoothness"], settings["group_ridge"])
        labels = y.astype(np.float64)
        starts = range(0, len(X), BLOCK_ROWS)
        cached: list[NDArray[np.float64]] = []
        if len(X) * len(penalty) <= _CACHED_NUMBERS:
            cached = [smooths.transform(X.iloc[start : start + BLOCK_ROWS]) for start in starts]

        def blocks() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
            for number, start in enumerate(starts):
                design = cached[number] if cached else smooths.transform(X.iloc[start : start + BLOCK_ROWS])
                yield design, labels[start : start + BLOCK_ROWS]

        return fit_penalised(blocks, penalty)

    def logit(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Return the log-odds of a landslide, float64 (N,)."""
        out = np.empty(len(X))
        for start in range(0, len(X), BLOCK_ROWS):
            stop = start + BLOCK_ROWS
            out[start:stop] = self.smooths_.transform(X.iloc[start:stop]) @ self.coefficients_
        return out

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(expit(self.logit(X)))


@dataclass(eq=False, repr=False, kw_only=True)
class SpatialMeteo(RiskModel):
    """A combination of a spatial and a meteorological GAMM ([6]: Moreno et al. 2024, Sci. Total Environ. 912, 169166).

    The paper says "separate binomial models for spatial and meteorological factors, which are then combined" [P,
    section 3.5.2], but not how. "additive" [O] regresses the label on both log-odds, with weights of at least 0, fitted
    to rows on which neither model was fitted. "product" [O] multiplies the odds and divides by those of the table,
    which is correct if location and weather are independent given the label. Groups belong to the spatial model.

    Args:
        combine: one of :data:`COMBINATIONS`.
    """

    combine: str = "additive"

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.combine not in COMBINATIONS:
            raise ConfigError(f"unknown combination {self.combine!r}", hint=f"Choose from: {', '.join(COMBINATIONS)}")
        if self.rain is None:
            raise ConfigError("the meteorological model needs rain", hint="Name intensity (mm/h) and duration (days)")
        if self._spatial_columns(X).drop(columns=[self.group] if self.group else []).shape[1] == 0:
            raise DataError("the spatial model has no feature: the table only has rain columns")
        prior = float(np.log(y.mean() / (1 - y.mean())))
        self.intercept_, self.weights_ = -prior, np.ones(2)
        if self.combine == "additive" and inner:
            held_out = np.zeros((len(y), 2))
            for fold in inner:
                models = self._fit_pair(X.iloc[fold.train], y[fold.train], [])
                held_out[fold.test] = self._logits(models, X.iloc[fold.test])
            rows = np.concatenate([fold.test for fold in inner])
            found = fit_logistic(held_out[rows], y[rows], signs=[1, 1])
            self.intercept_, self.weights_ = found.intercept, found.coefficients
        self.models_ = self._fit_pair(X, y, inner)

    def _fit_pair(
        self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]
    ) -> tuple[AdditiveMixed, AdditiveMixed]:
        smoothness = None if inner else _SMOOTHNESS[0]
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


@dataclass(eq=False, repr=False, kw_only=True)
class DynamicThresholds(AdditiveMixed):
    """Binomial GAMM of terrain and rain whose probabilities become rain thresholds.

    The reference ([55]: Steger et al. 2024, Geoscience Frontiers 15, 101822) fits a binomial GAMM to places and days
    and sets probability cutpoints by their true and false positive rates; a map then shows where a cutpoint is
    exceeded [S, its abstract]. The joint smooth of intensity and duration is ours [O]: it lets the intensity at a
    cutpoint depend on the duration, as an intensity-duration threshold does. The season enters as a number if the table
    has such a column. Probabilities and Table 2 are those of the model; :meth:`dynamic` gives the thresholds.

    Attributes:
        held_out_: probabilities of training rows by models fitted to other rows, (M,), from which cutpoints are read.
        held_out_labels_: their labels, (M,).
    """

    def product(self) -> tuple[str, str]:
        """Return the columns of rain intensity and duration."""
        if self.rain is None:
            raise ConfigError("dynamic thresholds need rain", hint="Name intensity (mm/h) and duration (days)")
        return self.rain

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        super()._fit(X, y, inner)
        logits, labels = [], []
        for fold in inner:
            smooths = self._smooths().fit(X.iloc[fold.train])
            weights = self._solve(smooths, X.iloc[fold.train], y[fold.train], self.settings_)
            logits.append(smooths.transform(X.iloc[fold.test]) @ weights)
            labels.append(y[fold.test])
        self.held_out_labels_ = np.concatenate(labels) if labels else y
        self.held_out_ = expit(np.concatenate(logits) if logits else self.logit(X))
        landslides = X[y == 1]
        self.place_ = landslides.iloc[[0]].copy()
        for name in X.columns:
            values = landslides[name]
            if pd.api.types.is_numeric_dtype(values):
                self.place_[name] = values.median()
            elif not values.dropna().empty:
                self.place_[name] = pd.Categorical(values.mode().iloc[:1], categories=pd.unique(X[name].dropna()))
        intensity, duration = self.rain_columns(X)
        self.durations_ = np.unique(np.nanquantile(duration, [0.05, 0.275, 0.5, 0.725, 0.95]).clip(0.01))
        self.intensities_ = (float(np.nanmin(intensity)), float(np.nanmax(intensity)))

    def cutpoint(self, tpr: float | None = None, fpr: float | None = None) -> tuple[float, float, float]:
        """Return (probability, true positive rate, false positive rate) of a cutpoint.

        Args:
            tpr: return the highest cutpoint that at least this share of landslides reaches.
            fpr: return the lowest cutpoint that at most this share of places without landslides reaches.

        Raises:
            ConfigError: unless exactly one of the two is given, between 0 and 1.
        """
        if (tpr is None) == (fpr is None):
            raise ConfigError("set a cutpoint by either a true or a false positive rate")
        rate = tpr if tpr is not None else fpr
        if rate is None or not 0 < rate < 1:
            raise ConfigError(f"a rate of {rate} is not between 0 and 1")
        landslides = np.sort(self.held_out_[self.held_out_labels_ == 1])
        others = np.sort(self.held_out_[self.held_out_labels_ == 0])
        if tpr is not None:
            cut = float(landslides[len(landslides) - int(np.ceil(rate * len(landslides)))])
        else:
            cut = float(np.nextafter(others[len(others) - 1 - int(np.floor(rate * len(others)))], 2.0))
        return cut, float(np.mean(landslides >= cut)), float(np.mean(others >= cut))

    def dynamic(
        self,
        tpr: float | None = None,
        fpr: float | None = None,
        durations: Sequence[float] | None = None,
        places: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Return the rain intensity at which the probability reaches a cutpoint, by duration and place.

        Args:
            tpr: see :meth:`cutpoint`.
            fpr: see :meth:`cutpoint`.
            durations: days; None for five between the 5 and 95 percentile of the training rows.
            places: rows with the features of places, whose rain is ignored; None for one place with the median
                features of landslides in training.

        Returns:
            Columns place, duration (days), intensity (mm/h), cutpoint, tpr and fpr. The intensity is 0 where the
            smallest training intensity exceeds the cutpoint, and infinite where the largest does not.

        Raises:
            ConfigError: if a rate is out of range or a duration is not positive.
        """
        cut, found_tpr, found_fpr = self.cutpoint(tpr, fpr)
        days = np.asarray(self.durations_ if durations is None else durations, dtype=np.float64)
        if not (np.isfinite(days).all() and (days > 0).all()):
            raise ConfigError("a duration is not a positive number of days")
        where = self.place_ if places is None else places
        level = float(np.log(cut / (1 - cut))) if 0 < cut < 1 else np.inf
        grid = np.geomspace(max(self.intensities_[0], 0.01), max(self.intensities_[1], 0.02), _RAIN_STEPS)
        name_p, name_d = self.product()
        rows = []
        for number in range(len(where)):
            points = where.iloc[np.full(_RAIN_STEPS, number)].reset_index(drop=True)
            for duration in days:
                points[name_p], points[name_d] = grid, duration
                rows.append(
                    {
                        "place": where.index[number],
                        "duration": float(duration),
                        "intensity": _crossing_value(grid, self.logit(points[self.columns_]), level),
                        "cutpoint": cut,
                        "tpr": found_tpr,
                        "fpr": found_fpr,
                    }
                )
        return pd.DataFrame(rows)


def _crossing_value(grid: NDArray[np.float64], logit: NDArray[np.float64], level: float) -> float:
    above = np.flatnonzero(logit >= level)
    if not above.size:
        return float("inf")
    first = int(above[0])
    if first == 0:
        return 0.0
    share = (level - logit[first - 1]) / (logit[first] - logit[first - 1])
    return float(grid[first - 1] * (grid[first] / grid[first - 1]) ** share)
