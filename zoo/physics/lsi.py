"""Landslide risk index (LSI), and the file of its weights, ranges and rain parameters."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
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

PAPER_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"slope": 0.25, "DEM": 0.15, "NDVI": -0.2, "NDWI": 0.2, "SMI": 0.1, "NDBI": 0.1}
)
"""Weights w1 to w6 of Table 1 [P]."""

FORMAT = "zoo-index"
FORMAT_VERSION = 1

FEATURES: Mapping[str, str] = {band.name: band.unit for band in PAPER_CHANNELS if band.name != "LSI"}
"""Unit of each channel that the index may be made of."""

EQUATION_4 = "multiplicative"
"""Form of the index of the paper, as files name it."""

RAIN_CLIP = (0.0, 5.0)
"""Bounds of the rainfall factor [O]: the weighted sum reaches 0.8, and beyond sigmoid(5 * 0.8) = 0.98 the index no
longer tells one slope from another."""


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


@dataclass(frozen=True)
class IndexParameters:
    """Weights, ranges and rain parameters of the landslide risk index.

    Attributes:
        weights: by channel, of SMI, NDBI, NDVI, NDWI, slope and DEM; Table 1 by default.
        ranges: by channel, in the channel's unit; empty, or one for every weighted channel.
        rain: reference rain and exponents, or the name of a preset of :data:`zoo.physics.rain.RAIN_PRESETS`.
        rain_clip: smallest and largest rainfall factor; None for no bound.
        source: in words, where the numbers come from.

    Raises:
        ConfigError: if a weight is not finite, all are 0, a preset does not exist, or the clip is not 0 <= low <= high.
        UnknownNameError: if a weight or range names no channel.
        DataError: if only some of the weighted channels have a range.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(PAPER_WEIGHTS))
    ranges: Mapping[str, FeatureRange] = field(default_factory=dict)
    rain: RainParameters | str = "paper"
    rain_clip: tuple[float, float] | None = RAIN_CLIP
    source: str = ""

    def __post_init__(self) -> None:
        for name in (*self.weights, *self.ranges):
            if name not in FEATURES:
                raise UnknownNameError("channel", name, FEATURES, where="weights of the index")
        if not any(self.weights.values()) or not all(abs(weight) < 1e6 for weight in self.weights.values()):
            raise ConfigError(f"weights {dict(self.weights)}", hint="At least one is not 0, and all are finite")
        if isinstance(self.rain, str) and self.rain not in RAIN_PRESETS:
            raise UnknownNameError("rain preset", self.rain, RAIN_PRESETS, where="weights of the index")
        if self.rain_clip is not None and not 0 <= self.rain_clip[0] <= self.rain_clip[1]:
            raise ConfigError(f"clip of the rainfall factor {self.rain_clip}", hint="Give 0 <= low <= high")
        without = [name for name in self.weights if name not in self.ranges]
        if self.ranges and without:
            raise DataError(
                f"there is no range for {', '.join(without)}",
                where="weights of the index",
                hint="Give one for every weighted channel, or none at all",
            )

    @property
    def rain_parameters(self) -> RainParameters:
        """The reference rain, looked up when it is a preset."""
        return RAIN_PRESETS[self.rain] if isinstance(self.rain, str) else self.rain

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; the unit stands beside each number that has one."""
        rain: dict[str, Any]
        if isinstance(self.rain, str):
            rain = {"preset": self.rain}
        else:
            rain = {
                "intensity": self.rain.intensity,
                "duration": self.rain.duration,
                "alpha": self.rain.alpha,
                "beta": self.rain.beta,
            }
        rain["units"] = {"intensity": "mm/h", "duration": "day"}
        rain["clip"] = None if self.rain_clip is None else list(self.rain_clip)
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "source": self.source,
            "weights": dict(self.weights),
            "features": {
                name: {"low": span.low, "high": span.high, "unit": FEATURES[name]} for name, span in self.ranges.items()
            },
            "rain": rain,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object = None) -> IndexParameters:
        """Return what :meth:`to_dict` wrote, or a person: weights alone will do. Unknown fields are left alone.

        Raises:
            ZooError: as the constructor, or if the format, a type or a unit is wrong.
        """
        kind = values.get("format", FORMAT)
        if kind != FORMAT:
            raise DataError(f"its format is {kind!r}, not {FORMAT!r}", where=where)
        if values.get("version", FORMAT_VERSION) != FORMAT_VERSION:
            raise DataError(f"version {values['version']!r} of the format is not known here", where=where)
        if "weights" not in values:
            raise DataError("there are no weights", where=where, hint='It needs {"weights": {"slope": 0.25, ...}}')
        weights = {str(name): _number(value, name, where) for name, value in _table(values, "weights", where).items()}
        ranges = {}
        for name, entry in _table(values, "features", where).items():
            if name not in FEATURES:
                raise UnknownNameError("channel", str(name), FEATURES, where=where)
            if not isinstance(entry, Mapping):
                raise DataError(f"the range of {name} is {entry!r}", where=where, hint='Write {"low": 0, "high": 60}')
            unit = entry.get("unit", FEATURES[name])
            if unit != FEATURES[name]:
                raise DataError(f"{name} is in {FEATURES[name]!r} here, the file says {unit!r}", where=where)
            low, high = (_number(entry.get(end), f"{name} {end}", where) for end in ("low", "high"))
            try:
                ranges[name] = FeatureRange(low, high)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error.problem}", hint="Low is below high") from error
        rain = _table(values, "rain", where)
        _check_rain_units(_table(rain, "units", where), where)
        return cls(weights, ranges, _rain(rain, where), _clip(rain, where), str(values.get("source", "")))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, any_form: bool = False) -> IndexParameters:
        """Read a file.

        Args:
            path: of the JSON.
            any_form: take the weights of an index of another form too; an LSI channel is equation 4's.

        Raises:
            DataError: if the file is missing, is no JSON, holds an index of another form (``zoo risk calibrate
                --form log-additive``), or :meth:`from_dict` refuses it; with the file's name.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError("there is no such file", where=path) from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read ({error})", where=path) from error
        except json.JSONDecodeError as error:
            raise DataError(f"is no JSON: {error}", where=path) from error
        if not isinstance(values, dict):
            raise DataError("holds no table of weights", where=path)
        risk = values.get("risk")
        form = risk.get("form", EQUATION_4) if isinstance(risk, Mapping) else EQUATION_4
        if form != EQUATION_4 and not any_form:
            raise DataError(
                f"holds the weights of a {form} index, and the LSI channel is equation 4",
                where=path,
                hint="Calibrate with --form multiplicative, or map it with: zoo risk map",
            )
        try:
            return cls.from_dict(values, path)
        except ZooError as error:
            if error.where == str(path):
                raise
            raise DataError(error.problem, where=path, hint=error.hint) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        write_json_atomic(path, self.to_dict())


def _table(values: Mapping[str, Any], key: str, where: object) -> Mapping[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, Mapping):
        raise DataError(f"{key!r} is {table!r}, not a table of names", where=where)
    return table


def _number(value: object, name: object, where: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{name} is {value!r}, not a number", where=where)
    return float(value)


def _check_rain_units(units: Mapping[str, Any], where: object) -> None:
    for name, unit in (("intensity", "mm/h"), ("duration", "day")):
        if units.get(name, unit) != unit:
            raise DataError(f"rain {name} is in {unit!r} here, the file says {units[name]!r}", where=where)


def _rain(rain: Mapping[str, Any], where: object) -> RainParameters | str:
    names = [name for name in ("intensity", "duration", "alpha", "beta") if name in rain]
    if not names:
        return str(rain.get("preset", "paper"))
    if "preset" in rain:
        raise DataError("rain has both a preset and numbers of its own", where=where)
    if "intensity" not in rain:
        raise DataError("rain has no reference intensity", where=where)
    return RainParameters(**{name: _number(rain[name], f"rain {name}", where) for name in names})


def _clip(rain: Mapping[str, Any], where: object) -> tuple[float, float] | None:
    clip = rain.get("clip", list(RAIN_CLIP))
    if clip is None:
        return None
    if not isinstance(clip, list) or len(clip) != 2:
        raise DataError(f"clip of the rainfall factor is {clip!r}, not [low, high]", where=where)
    return _number(clip[0], "clip", where), _number(clip[1], "clip", where)
