"""The landslide risk index as a risk model: LSI without rainfall and LSI of Table 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, rainfall_factor
from zoo.physics.lsi import RAIN_CLIP
from zoo.risk.folds import Fold
from zoo.risk.index import FORMS, LEAST_FACTOR
from zoo.risk.logistic import fit_logistic
from zoo.risk.models.base import RiskModel
from zoo.risk.models.encoding import Encoder
from zoo.risk.weights import PAPER_SIGNS, from_spearman, ranges_of

WEIGHTS = ("logistic", "spearman", "paper")


class RainlessIndex(RiskModel):
    """S = sum of w_i x_i, x_i scaled to 0-1, and logit = a + b S.

    Weights and ranges come from the training rows. Equation 4 [P] has a = 0 and b = 1, so that every S above 0 is a
    landslide; a and b >= 0 [O] change no ranking without rain, and make accuracy, MSE and ECE those of probabilities.
    Columns of rain are no features.

    Args:
        weights: "logistic", sign-constrained; "spearman", in proportion to the rank correlation with the label;
            "paper", Table 1, for tables that name its six channels. Signs are those of Table 1 for its channels, and
            for other features that of their rank correlation in the training rows.

    Attributes:
        weights_: by column, sizes summing to 1.
        ranges_: by column.
    """

    uses_rain = False

    def __init__(
        self,
        weights: str = "logistic",
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(rain, group, threads, seed)
        self.weights = weights

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.weights not in WEIGHTS:
            raise UnknownNameError("weights", self.weights, WEIGHTS)
        static = self._static(X)
        self.encoder_ = Encoder(scale=False).fit(static)
        columns = self._columns(static)
        self.ranges_: dict[str, FeatureRange] = {}
        for name, values in columns.items():
            found = _range(values)
            if found is not None:
                self.ranges_[name] = found
        if self.weights == "paper":
            self._check_channels()
        if not self.ranges_:
            raise DataError("no feature varies in the training rows")
        scaled = self._scaled(columns)
        factor = self._factor(X)
        if self.weights == "logistic":
            self._fit_logistic(scaled, y, factor)
        else:
            if self.weights == "paper":
                chosen = np.array([PAPER_WEIGHTS[name] for name in self.ranges_])
                chosen = chosen / np.abs(chosen).sum()
            else:
                ranked = {name: columns[name] for name in self.ranges_}
                made = from_spearman(ranked, y, self.ranges_, signs=None, repeats=0)
                chosen = np.array([made.weights[name] for name in self.ranges_])
            self.weights_ = dict(zip(self.ranges_, chosen.tolist(), strict=True))
            self._fit_line(scaled @ chosen, y, factor)
        total = scaled @ np.array(list(self.weights_.values()))
        if factor is not None and self._multiplies() and (total < 0).any():
            self.notes_.append("lsi: the weighted sum is negative in some rows, and more rain lowers the index there")

    def _static(self, X: pd.DataFrame) -> pd.DataFrame:
        features = self.features(X).drop(columns=list(self.rain or ()))
        if self.weights == "paper":
            missing = [name for name in PAPER_WEIGHTS if name not in features.columns]
            if missing:
                raise ConfigError(
                    f"Table 1 has no weights for this table: there is no column {missing[0]!r}",
                    hint="Use weights fitted on the training rows",
                )
            features = features[list(PAPER_WEIGHTS)]
        if features.shape[1] == 0:
            raise DataError("the index has no feature: the table holds rain alone")
        return features

    def _check_channels(self) -> None:
        self.ranges_ = {name: self.ranges_[name] for name in PAPER_WEIGHTS if name in self.ranges_}

    def _columns(self, X: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        return dict(zip(self.encoder_.names, self.encoder_.transform(X).T, strict=True))

    def _scaled(self, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.column_stack([span.scale(columns[name]) for name, span in self.ranges_.items()])

    def _factor(self, X: pd.DataFrame) -> NDArray[np.float64] | None:
        return None

    def _multiplies(self) -> bool:
        return True

    def _design(
        self, part: NDArray[np.float64], factor: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], list[int]]:
        """Columns of the regression beside the intercept, and how many of the last ones are ln R_m."""
        return part, []

    def _fit_logistic(
        self, scaled: NDArray[np.float64], y: NDArray[np.int64], factor: NDArray[np.float64] | None
    ) -> None:
        names = list(self.ranges_)
        unit = dict(zip(names, scaled.T, strict=True))
        free = from_spearman(unit, y, {name: FeatureRange(0.0, 1.0) for name in names}, signs=None, repeats=0)
        signs = [PAPER_SIGNS.get(name, 1 if free.weights[name] >= 0 else -1) for name in names]
        design, extra = self._design(scaled, factor)
        found = fit_logistic(design, y, signs=[*signs, *extra])
        slopes = found.coefficients[: len(names)]
        size = float(np.abs(slopes).sum())
        self.weights_ = dict(zip(names, (slopes / size if size > 0 else slopes).tolist(), strict=True))
        self.slope_, self.intercept_ = size, found.intercept
        self.gain_ = float(found.coefficients[-1]) if extra else 0.0

    def _fit_line(self, total: NDArray[np.float64], y: NDArray[np.int64], factor: NDArray[np.float64] | None) -> None:
        design, extra = self._design(total[:, None], factor)
        found = fit_logistic(design, y, signs=[1, *extra])
        self.slope_, self.intercept_ = float(found.coefficients[0]), found.intercept
        self.gain_ = float(found.coefficients[-1]) if extra else 0.0

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        scaled = self._scaled(self._columns(self._static(X)))
        total = scaled @ np.array(list(self.weights_.values()))
        design, extra = self._design(total[:, None], self._factor(X))
        return np.asarray(expit(self.intercept_ + design @ np.array([self.slope_, *([self.gain_] if extra else [])])))


class RainIndex(RainlessIndex):
    """The same with rain: logit = a + b R_m S, or the log-additive a + b S + g ln R_m.

    R_m is equation 5 of the columns that ``rain`` names; where rain is missing, it is that of the median rain of the
    training rows.

    Args:
        weights: see :class:`RainlessIndex`.
        form: "multiplicative", equation 4 [P], or "log-additive" [O], in which more rain never lowers the index.
        parameters: preset of :data:`zoo.physics.rain.RAIN_PRESETS`.
        clip: smallest and largest R_m.
    """

    uses_rain = True

    def __init__(
        self,
        weights: str = "logistic",
        form: str = "multiplicative",
        parameters: str = "paper",
        clip: tuple[float, float] | None = RAIN_CLIP,
        rain: tuple[str, str] | None = None,
        group: str | None = None,
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(weights, rain, group, threads, seed)
        self.form = form
        self.parameters = parameters
        self.clip = clip

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.form not in FORMS:
            raise UnknownNameError("form", self.form, FORMS)
        self.usual_rain_ = tuple(float(np.nanmedian(values)) for values in self.rain_columns(X))
        super()._fit(X, y, inner)

    def _multiplies(self) -> bool:
        return self.form == FORMS[0]

    def _factor(self, X: pd.DataFrame) -> NDArray[np.float64] | None:
        intensity, duration = (
            np.where(np.isnan(values), usual, values)
            for values, usual in zip(self.rain_columns(X), self.usual_rain_, strict=True)
        )
        return np.asarray(rainfall_factor(intensity, duration, self.parameters, self.clip), dtype=np.float64)

    def _design(
        self, part: NDArray[np.float64], factor: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], list[int]]:
        if factor is None:
            return part, []
        if self._multiplies():
            return part * factor[:, None], []
        return np.column_stack([part, np.log(np.maximum(factor, LEAST_FACTOR))]), [1]


def _range(values: NDArray[np.float64]) -> FeatureRange | None:
    """0.5 and 99.5 percentiles, as the index of a raster; smallest and largest for what is nearly constant."""
    try:
        return ranges_of({"x": values})["x"]
    except DataError:
        low, high = float(values.min()), float(values.max())
        return FeatureRange(low, high) if low < high else None
