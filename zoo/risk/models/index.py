"""The landslide risk index as a risk model: LSI without rainfall and LSI of Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, rainfall_factor
from zoo.physics.lsi import RAIN_CLIP
from zoo.risk.index import FORMS, MIN_FACTOR
from zoo.risk.logistic import fit_logistic
from zoo.risk.models.base import Encoder, RiskModel
from zoo.risk.splits import Fold
from zoo.risk.weights import PAPER_SIGNS, fit_ranges, weights_from_spearman

WEIGHTS = ("logistic", "spearman", "paper")


@dataclass(eq=False, repr=False, kw_only=True)
class RainlessIndex(RiskModel):
    """logit = a + b S with S = sum of w_i x_i and x_i scaled to 0-1.

    Weights and ranges come from the training rows. Equation 4 [P] has a = 0 and b = 1, so every S above 0 is a
    landslide. Fitted a and b >= 0 [O] do not change the ranking, and turn the index into a probability, which accuracy,
    MSE and ECE need. Rain columns are not features.

    Args:
        weights: "logistic", sign-constrained logistic regression; "spearman", in proportion to the rank correlation
            with the label; "paper", Table 1, for tables with its six channels. Signs are those of Table 1 for its
            channels, and those of the rank correlation in the training rows for other features.

    Attributes:
        weights_: weight by feature; absolute values sum to 1.
        ranges_: range by feature.
    """

    weights: str = "logistic"

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        if self.weights not in WEIGHTS:
            raise UnknownNameError("weights", self.weights, WEIGHTS)
        static = self._static(X)
        self.encoder_ = Encoder(scale=False).fit(static)
        columns = self._columns(static)
        found = {name: _range(values) for name, values in columns.items()}
        self.ranges_ = {name: span for name, span in found.items() if span is not None}
        if self.weights == "paper":
            self.ranges_ = {name: self.ranges_[name] for name in PAPER_WEIGHTS if name in self.ranges_}
        if not self.ranges_:
            raise DataError("no feature varies in the training rows")
        names = list(self.ranges_)
        scaled = self._scaled(columns)
        factor = self._factor(X)
        if self.weights == "logistic":
            unit = {name: FeatureRange(0.0, 1.0) for name in names}
            free = weights_from_spearman(dict(zip(names, scaled.T, strict=True)), y, unit, signs=None, repeats=0)
            signs = [PAPER_SIGNS.get(name, 1 if free.weights[name] >= 0 else -1) for name in names]
            slopes = self._fit_line(scaled, signs, y, factor)
            self.slope_ = float(np.abs(slopes).sum())
            chosen = slopes / self.slope_ if self.slope_ > 0 else slopes
        else:
            if self.weights == "paper":
                chosen = np.array([PAPER_WEIGHTS[name] for name in names])
                chosen = chosen / np.abs(chosen).sum()
            else:
                ranked = {name: columns[name] for name in names}
                made = weights_from_spearman(ranked, y, self.ranges_, signs=None, repeats=0)
                chosen = np.array([made.weights[name] for name in names])
            self.slope_ = float(self._fit_line((scaled @ chosen)[:, None], [1], y, factor)[0])
        self.weights_ = dict(zip(names, chosen.tolist(), strict=True))
        if factor is not None and self._multiplies() and (scaled @ chosen < 0).any():
            self.notes_.append("lsi: the weighted sum is negative in some rows, where more rain lowers the index")

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        scaled = self._scaled(self._columns(self._static(X)))
        total = scaled @ np.array(list(self.weights_.values()))
        design, extra = self._design_matrix(total[:, None], self._factor(X))
        return np.asarray(expit(self.intercept_ + design @ np.array([self.slope_, *([self.gain_] if extra else [])])))

    def _fit_line(
        self, part: NDArray[np.float64], signs: list[int], y: NDArray[np.int64], factor: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Regress the label on ``part`` and rain; set intercept and gain, and return the slopes of ``part``."""
        design, extra = self._design_matrix(part, factor)
        found = fit_logistic(design, y, signs=[*signs, *extra])
        self.intercept_ = found.intercept
        self.gain_ = float(found.coefficients[-1]) if extra else 0.0
        return found.coefficients[: len(signs)]

    def _static(self, X: pd.DataFrame) -> pd.DataFrame:
        features = self.features(X).drop(columns=list(self.rain or ()))
        if self.weights == "paper":
            missing = [name for name in PAPER_WEIGHTS if name not in features.columns]
            if missing:
                raise ConfigError(
                    f"Table 1 does not fit this table: there is no column {missing[0]!r}",
                    hint="Use weights fitted to the training rows",
                )
            features = features[list(PAPER_WEIGHTS)]
        if features.shape[1] == 0:
            raise DataError("the index has no feature: the table only has rain columns")
        return features

    def _columns(self, X: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        return dict(zip(self.encoder_.names, self.encoder_.transform(X).T, strict=True))

    def _scaled(self, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.column_stack([span.scale(columns[name]) for name, span in self.ranges_.items()])

    def _factor(self, X: pd.DataFrame) -> NDArray[np.float64] | None:
        return None

    def _multiplies(self) -> bool:
        return True

    def _design_matrix(
        self, part: NDArray[np.float64], factor: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], list[int]]:
        """Return the columns of the regression without intercept, and the signs of the last ones that are ln R_m."""
        return part, []


@dataclass(eq=False, repr=False, kw_only=True)
class RainIndex(RainlessIndex):
    """The index with rain: logit = a + b R_m S, or the log-additive a + b S + g ln R_m.

    R_m is equation 5 of the columns in ``rain``. Missing rain is replaced by the median rain of the training rows.

    Args:
        form: "multiplicative", equation 4 [P], or "log-additive" [O], in which more rain never lowers the index.
        parameters: name of a preset of :data:`zoo.physics.rain.RAIN_PRESETS`.
        clip: smallest and largest R_m.
    """

    form: str = "multiplicative"
    parameters: str = "paper"
    clip: tuple[float, float] | None = RAIN_CLIP

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

    def _design_matrix(
        self, part: NDArray[np.float64], factor: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], list[int]]:
        if factor is None:
            return part, []
        if self._multiplies():
            return part * factor[:, None], []
        return np.column_stack([part, np.log(np.maximum(factor, MIN_FACTOR))]), [1]


def _range(values: NDArray[np.float64]) -> FeatureRange | None:
    """Return the 0.5 and 99.5 percentiles, or the extremes of nearly constant values; None for constant ones."""
    try:
        return fit_ranges({"x": values})["x"]
    except DataError:
        low, high = float(values.min()), float(values.max())
        return FeatureRange(low, high) if low < high else None
