"""Landslide risk index (LSI)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from zoo.errors import ConfigError, DataError
from zoo.physics.arrays import FloatArray, as_float

PAPER_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"slope": 0.25, "DEM": 0.15, "NDVI": -0.2, "NDWI": 0.2, "SMI": 0.1, "NDBI": 0.1}
)
"""Weights w1 to w6 of Table 1 [P]."""


class NegativeIndexWarning(UserWarning):
    """Rain lowers the index where the weighted sum is negative."""


@dataclass(frozen=True)
class FeatureRange:
    """Smallest and largest value of a feature where the weights were made; both scale every other region.

    Raises:
        ConfigError: if the range is empty or not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"feature range [{self.low}, {self.high}] is empty")

    def scale(self, values: npt.ArrayLike) -> FloatArray:
        """Return (values - low) / (high - low), clipped to [0, 1]: a new region may leave the range."""
        return np.asarray(np.clip((as_float(values) - self.low) / (self.high - self.low), 0.0, 1.0))


def weighted_sum(
    features: Mapping[str, npt.ArrayLike],
    ranges: Mapping[str, FeatureRange],
    weights: Mapping[str, float] = PAPER_WEIGHTS,
) -> FloatArray:
    """Return the sum of w_i times feature i scaled to [0, 1] with stored statistics.

    Equation 4 prints three terms a second time, as a denominator; the text says "weighted summation" and the two
    other equations of the kind have none, so it is read as a slip of typesetting [O].

    Args:
        features: arrays of one shape by name, in the unit of ``ranges``.
        ranges: statistics of the region where the weights were made, by the same names.
        weights: weight by name; a feature without a weight is not used.

    Returns:
        dimensionless, between the sum of the negative and the sum of the positive weights; NaN where a feature is.

    Raises:
        DataError: if a weighted feature or its range is missing, or shapes differ.
        ConfigError: if there is no weight.
    """
    if not weights:
        raise ConfigError("no weights")
    for name in weights:
        if name not in features:
            raise DataError("the index needs this feature", where=name, hint=f"Given: {', '.join(features)}")
        if name not in ranges:
            raise DataError("no stored range to scale this feature with", where=name)
    shapes = {np.shape(features[name]) for name in weights}
    if len(shapes) > 1:
        raise DataError(f"features of {len(shapes)} different shapes: {sorted(shapes)}")
    total: FloatArray = np.zeros(shapes.pop())
    for name, weight in weights.items():
        total = total + weight * ranges[name].scale(features[name])
    return total


def landslide_index(
    features: Mapping[str, npt.ArrayLike],
    ranges: Mapping[str, FeatureRange],
    rain_factor: npt.ArrayLike = 1.0,
    weights: Mapping[str, float] = PAPER_WEIGHTS,
) -> FloatArray:
    """Return LSI = sigmoid(R_m * weighted sum), equation 4 [P].

    Args:
        features: see :func:`weighted_sum`.
        ranges: see :func:`weighted_sum`.
        rain_factor: R_m of :func:`zoo.physics.rain.rainfall_factor`, >= 0, one number or the features' shape.
        weights: see :func:`weighted_sum`; Table 1 by default.

    Returns:
        dimensionless, (0, 1), 0.5 where the weighted sum is 0.

    Raises:
        DataError: as :func:`weighted_sum`, or if a rain factor is negative.

    Warns:
        NegativeIndexWarning: if the weighted sum is negative somewhere: more rain then LOWERS the index there.
    """
    factor = as_float(rain_factor)
    if np.any(factor < 0):
        raise DataError("negative rainfall factor")
    total = weighted_sum(features, ranges, weights)
    negative = float(np.mean(total < 0)) if total.size else 0.0
    if negative > 0:
        warnings.warn(
            f"the weighted sum is negative in {negative:.1%} of the pixels: more rain lowers the index there. "
            "Use weights or ranges that keep it positive, or a log-additive index",
            NegativeIndexWarning,
            stacklevel=2,
        )
    return np.asarray(expit(factor * total))
