"""Landslide risk index (LSI, equation 4), and the file that holds its weights, ranges and rain parameters."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import write_json_atomic
from zoo.physics.arrays import FloatArray, as_float
from zoo.physics.bands import PAPER_CHANNELS
from zoo.physics.rain import RAIN_PRESETS, RainParameters
from zoo.schema import from_plain, read_json

PAPER_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"slope": 0.25, "DEM": 0.15, "NDVI": -0.2, "NDWI": 0.2, "SMI": 0.1, "NDBI": 0.1}
)
"""Weights w1 to w6 of Table 1 [P]."""

FORMAT = "zoo-index"
FORMAT_VERSION = 1

FEATURES: Mapping[str, str] = {band.name: band.unit for band in PAPER_CHANNELS if band.name != "LSI"}
"""Unit of each channel that the index can use."""

EQUATION_4 = "multiplicative"
"""Name of the paper's form of the index in files."""

RAIN_CLIP = (0.0, 5.0)
"""Bounds of the rainfall factor [O]. The weighted sum is at most 0.8; above sigmoid(5 * 0.8) = 0.98 the index no longer
distinguishes slopes."""


class NegativeIndexWarning(UserWarning):
    """Warning that the weighted sum is negative in places, where more rain lowers the index."""


@dataclass(frozen=True)
class FeatureRange:
    """Smallest and largest value of a feature in the region of the weights; also used to scale other regions.

    Raises:
        ConfigError: if the range is empty or not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"feature range [{self.low}, {self.high}] is empty")

    def scale(self, values: npt.ArrayLike) -> FloatArray:
        """Return (values - low) / (high - low), clipped to [0, 1] because a new region may exceed the range."""
        return np.asarray(np.clip((as_float(values) - self.low) / (self.high - self.low), 0.0, 1.0))


def weighted_sum(
    features: Mapping[str, npt.ArrayLike],
    ranges: Mapping[str, FeatureRange],
    weights: Mapping[str, float] = PAPER_WEIGHTS,
) -> FloatArray:
    """Return the sum of w_i times feature i, each feature scaled to [0, 1] with its stored range.

    Equation 4 repeats three terms as a denominator. The text says "weighted summation", and the two similar equations
    have no denominator, so it is treated as a typesetting error [O].

    Args:
        features: arrays of the same shape by name, in the unit of ``ranges``.
        ranges: value range of each feature in the region of the weights, by the same names.
        weights: weight by name; a feature without a weight is not used.

    Returns:
        dimensionless, from the sum of the negative weights to the sum of the positive ones; NaN where a feature is
        NaN.

    Raises:
        DataError: if a weighted feature or its range is missing, or shapes differ.
        ConfigError: if there is no weight.
    """
    if not weights:
        raise ConfigError("the index has no weights")
    for name in weights:
        if name not in features:
            raise DataError("the index needs this feature", where=name, hint=f"Given: {', '.join(features)}")
        if name not in ranges:
            raise DataError("this feature has no stored range to scale it with", where=name)
    shapes = {np.shape(features[name]) for name in weights}
    if len(shapes) > 1:
        raise DataError(f"the features have {len(shapes)} different shapes: {sorted(shapes)}")
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
        rain_factor: R_m of :func:`zoo.physics.rain.rainfall_factor`, >= 0, a scalar or in the shape of the features.
        weights: see :func:`weighted_sum`; Table 1 by default.

    Returns:
        dimensionless, (0, 1), 0.5 where the weighted sum is 0.

    Raises:
        DataError: as in :func:`weighted_sum`, or if a rain factor is negative.

    Warns:
        NegativeIndexWarning: if the weighted sum is negative in places, where more rain lowers the index.
    """
    factor = as_float(rain_factor)
    if np.any(factor < 0):
        raise DataError("the rainfall factor is negative")
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


@dataclass(frozen=True)
class IndexParameters:
    """Weights, ranges and rain parameters of the landslide risk index.

    Attributes:
        weights: weight by channel, for any of SMI, NDBI, NDVI, NDWI, slope and DEM; Table 1 by default.
        ranges: range by channel, in the channel's unit; empty, or one for every weighted channel.
        rain: reference rain and exponents, or the name of a preset in :data:`zoo.physics.rain.RAIN_PRESETS`.
        rain_clip: smallest and largest rainfall factor; None for no bounds.
        source: origin of the numbers, as text.

    Raises:
        ConfigError: if a weight is not finite, all weights are 0, or the clip is not 0 <= low <= high.
        UnknownNameError: if a channel or preset does not exist.
        DataError: if only some of the weighted channels have a range.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(PAPER_WEIGHTS))
    ranges: Mapping[str, FeatureRange] = field(default_factory=dict)
    rain: RainParameters | str = "paper"
    rain_clip: tuple[float, float] | None = RAIN_CLIP
    source: str = ""

    def __post_init__(self) -> None:
        where = "weights of the index"
        for name in (*self.weights, *self.ranges):
            if name not in FEATURES:
                raise UnknownNameError("channel", name, FEATURES, where=where)
        if not any(self.weights.values()) or not all(abs(weight) < 1e6 for weight in self.weights.values()):
            raise ConfigError(
                f"the weights are {dict(self.weights)}", hint="Give finite weights, at least one of which is not 0"
            )
        if isinstance(self.rain, str) and self.rain not in RAIN_PRESETS:
            raise UnknownNameError("rain preset", self.rain, RAIN_PRESETS, where=where)
        if self.rain_clip is not None and not 0 <= self.rain_clip[0] <= self.rain_clip[1]:
            raise ConfigError(f"the clip of the rainfall factor is {self.rain_clip}", hint="Give 0 <= low <= high")
        without = [name for name in self.weights if name not in self.ranges]
        if self.ranges and without:
            raise DataError(
                f"there is no range for {', '.join(without)}",
                where=where,
                hint="Give one for every weighted channel, or none at all",
            )

    @property
    def rain_parameters(self) -> RainParameters:
        """The reference rain and exponents; those of the preset if ``rain`` names one."""
        return RAIN_PRESETS[self.rain] if isinstance(self.rain, str) else self.rain

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; each number that has a unit is written with it."""
        rain: dict[str, Any] = {"preset": self.rain} if isinstance(self.rain, str) else asdict(self.rain)
        rain["units"] = {"intensity": "mm/h", "duration": "day"}
        rain["clip"] = None if self.rain_clip is None else list(self.rain_clip)
        ranges = {
            name: {"low": range_.low, "high": range_.high, "unit": FEATURES[name]}
            for name, range_ in self.ranges.items()
        }
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "source": self.source,
            "weights": dict(self.weights),
            "features": ranges,
            "rain": rain,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object = None) -> IndexParameters:
        """Return the parameters from the output of :meth:`to_dict` or a hand-written file; only weights are required.

        Unknown fields are ignored.

        Raises:
            ZooError: as in the constructor, or if the format, a type or a unit is wrong.
        """
        return from_plain(values, _IndexFile, what=_FILE_KIND, where=where, hint=_HINT, error=DataError).parameters(
            where
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, any_form: bool = False) -> IndexParameters:
        """Read a file.

        Args:
            path: the JSON file.
            any_form: also accept the weights of an index of another form; an LSI channel needs equation 4.

        Raises:
            DataError: if the file is missing, is not valid JSON, holds an index of another form (``zoo risk calibrate
                --form log-additive``), or :meth:`from_dict` would reject it; the message names the file.
        """
        path = Path(path)
        try:
            content = read_json(path, _IndexFile, what=_FILE_KIND, hint=_HINT, error=DataError)
        except FileNotFoundError:
            raise DataError("there is no such file", where=path) from None
        if content.risk.form != EQUATION_4 and not any_form:
            raise DataError(
                f"holds the weights of a {content.risk.form} index, and the LSI channel is equation 4",
                where=path,
                hint="Calibrate with --form multiplicative, or map it with: zoo risk map",
            )
        try:
            return content.parameters(path)
        except ZooError as error:
            if error.where == str(path):
                raise
            raise DataError(error.problem, where=path, hint=error.hint) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically."""
        write_json_atomic(path, self.to_dict())


_FILE_KIND = "file of index weights"
_HINT = 'It needs {"weights": {"slope": 0.25, ...}}'


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    unit: str | None = None


@dataclass(frozen=True)
class _Rain:
    preset: str | None = None
    intensity: float | None = None
    duration: float | None = None
    alpha: float | None = None
    beta: float | None = None
    units: dict[str, str] = field(default_factory=dict)
    clip: tuple[float, float] | None = RAIN_CLIP

    def parameters(self, where: object) -> RainParameters | str:
        for name, unit in (("intensity", "mm/h"), ("duration", "day")):
            if self.units.get(name, unit) != unit:
                raise DataError(f"the unit of rain {name} is {self.units[name]!r}, expected {unit!r}", where=where)
        names = ("intensity", "duration", "alpha", "beta")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if not given:
            return "paper" if self.preset is None else self.preset
        if self.preset is not None:
            raise DataError("rain has both a preset and explicit numbers", where=where)
        if self.intensity is None:
            raise DataError("rain has no reference intensity", where=where)
        return RainParameters(**given)


@dataclass(frozen=True)
class _Risk:
    form: str = EQUATION_4


@dataclass(frozen=True)
class _IndexFile:
    """Layout of the file. ``zoo risk calibrate`` adds more to ``risk``, which :mod:`zoo.risk.index` reads."""

    weights: dict[str, Any]
    format: str = FORMAT
    version: int = FORMAT_VERSION
    source: str = ""
    features: dict[str, Any] = field(default_factory=dict)
    rain: _Rain = field(default_factory=_Rain)
    risk: _Risk = field(default_factory=_Risk)

    def parameters(self, where: object) -> IndexParameters:
        if self.format != FORMAT:
            raise DataError(f"the format is {self.format!r}, expected {FORMAT!r}", where=where)
        if self.version != FORMAT_VERSION:
            raise DataError(f"version {self.version} of the format is unknown", where=where)
        # Values are decoded one by one, so that an error message names the channel.
        weights = {
            name: from_plain(weight, float, what=f"weight of {name}", where=where, error=DataError)
            for name, weight in self.weights.items()
        }
        ranges = {}
        for name, entry in self.features.items():
            if name not in FEATURES:
                raise UnknownNameError("channel", name, FEATURES, where=where)
            hint = 'Write {"low": 0, "high": 60}'
            one = from_plain(entry, _Range, what=f"range of {name}", where=where, hint=hint, error=DataError)
            if one.unit not in (None, FEATURES[name]):
                raise DataError(f"the unit of {name} is {one.unit!r}, expected {FEATURES[name]!r}", where=where)
            try:
                ranges[name] = FeatureRange(one.low, one.high)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error.problem}", hint="Low must be below high") from error
        return IndexParameters(weights, ranges, self.rain.parameters(where), self.rain.clip, self.source)
