"""Dynamic thresholds of rain, from cutpoints of a GAMM ([55]: Steger et al. 2024, Geoscience Frontiers 15, 101822)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.risk.folds import Fold
from zoo.risk.models.gamm import AdditiveMixed

_STEPS = 241


class DynamicThresholds(AdditiveMixed):
    """Binomial GAMM of terrain and rain, whose probabilities become thresholds.

    The reference fits a binomial GAMM to places and days and sets probability cutpoints by the true and false
    positive rates that go with them; a map then shows where a cutpoint is exceeded [S, its abstract]. The joint smooth
    of intensity and duration is ours [O], so that the intensity at a cutpoint depends on the duration, as an
    intensity-duration threshold does; season enters when the table has a column of it, as any other number.
    Probabilities and Table 2 are those of the model; thresholds come from :meth:`dynamic`.

    Attributes:
        held_: probabilities of training rows by models fitted on other rows, (M,), from which cutpoints are read.
        held_labels_: their labels, (M,).
    """

    def product(self) -> tuple[str, str] | None:
        """Rain intensity and duration."""
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
        self.held_labels_ = np.concatenate(labels) if labels else y
        logit = np.concatenate(logits) if logits else self.logit(X)
        self.held_ = 1 / (1 + np.exp(-logit))
        landslides = X[y == 1]
        self.place_ = landslides.iloc[[0]].copy()
        for name in X.columns:
            values = landslides[name]
            if pd.api.types.is_numeric_dtype(values):
                self.place_[name] = values.median()
            elif not values.dropna().empty:
                self.place_[name] = pd.Categorical(values.mode().iloc[:1], categories=pd.unique(X[name].dropna()))
        self.durations_ = _quantiles(X[self.product()[1]])  # type: ignore[index]
        self.intensities_ = X[self.product()[0]].to_numpy(np.float64)  # type: ignore[index]
        self.intensities_ = np.array([np.nanmin(self.intensities_), np.nanmax(self.intensities_)])

    def cutpoint(self, tpr: float | None = None, fpr: float | None = None) -> tuple[float, float, float]:
        """Give (probability, true positive rate, false positive rate) of a cutpoint.

        Args:
            tpr: at least this share of landslides is at or above the highest cutpoint that does so.
            fpr: at most this share of places without landslides is, at the lowest cutpoint that does so.

        Raises:
            ConfigError: unless exactly one of the two is given, within 0..1.
        """
        if (tpr is None) == (fpr is None):
            raise ConfigError("a cutpoint is set by either a true or a false positive rate")
        rate = tpr if tpr is not None else fpr
        if rate is None or not 0 < rate < 1:
            raise ConfigError(f"a rate of {rate} is not between 0 and 1")
        landslides = np.sort(self.held_[self.held_labels_ == 1])
        others = np.sort(self.held_[self.held_labels_ == 0])
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
        """Give the rain intensity that reaches a cutpoint, by duration and place.

        Args:
            tpr: see :meth:`cutpoint`.
            fpr: see :meth:`cutpoint`.
            durations: days; None for five between the 5 and 95 percentile of the training rows.
            places: rows with the features of places, whose rain is not looked at; None for one place with the median
                features of landslides in training.

        Returns:
            Columns place, duration (days), intensity (mm/h), cutpoint, tpr and fpr. The intensity is 0 where the
            smallest one of training exceeds the cutpoint, and infinite where the largest one does not.

        Raises:
            ConfigError: if rates are out of range or a duration is not positive.
        """
        cut, found_tpr, found_fpr = self.cutpoint(tpr, fpr)
        days = np.asarray(self.durations_ if durations is None else durations, dtype=np.float64)
        if not (np.isfinite(days).all() and (days > 0).all()):
            raise ConfigError("a duration is not a positive number of days")
        where = self.place_ if places is None else places
        level = float(np.log(cut / (1 - cut))) if 0 < cut < 1 else np.inf
        low, high = max(float(self.intensities_[0]), 0.01), max(float(self.intensities_[1]), 0.02)
        grid = np.geomspace(low, high, _STEPS)
        name_p, name_d = self.product() or ("", "")
        rows = []
        for number in range(len(where)):
            asked = where.iloc[np.full(_STEPS, number)].reset_index(drop=True)
            for duration in days:
                asked[name_p], asked[name_d] = grid, duration
                rows.append(
                    {
                        "place": where.index[number],
                        "duration": float(duration),
                        "intensity": _crossing(grid, self.logit(asked[self.columns_]), level),
                        "cutpoint": cut,
                        "tpr": found_tpr,
                        "fpr": found_fpr,
                    }
                )
        return pd.DataFrame(rows)


def _crossing(grid: NDArray[np.float64], logit: NDArray[np.float64], level: float) -> float:
    above = np.flatnonzero(logit >= level)
    if not above.size:
        return float("inf")
    first = int(above[0])
    if first == 0:
        return 0.0
    share = (level - logit[first - 1]) / (logit[first] - logit[first - 1])
    return float(grid[first - 1] * (grid[first] / grid[first - 1]) ** share)


def _quantiles(values: pd.Series) -> NDArray[np.float64]:
    return np.unique(np.nanquantile(values.to_numpy(np.float64), [0.05, 0.275, 0.5, 0.725, 0.95]).clip(0.01))
