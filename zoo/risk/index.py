"""A calibrated risk index as one file: weights, scaling, rain, form, class breaks, and where they come from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from zoo.errors import ConfigError, DataError, UnknownNameError, suggestion
from zoo.files import write_text_atomic
from zoo.physics import Band, IndexParameters, weighted_sum
from zoo.physics.arrays import FloatArray, as_float
from zoo.physics.lsi import FEATURES
from zoo.risk.classes import ClassBreaks

FORMS: tuple[str, ...] = ("multiplicative", "log-additive")
"""sigmoid(R_m S), equation 4 [P]; sigmoid(a + b S + g ln R_m) [O], in which more rain never lowers the index."""

SECTION = "risk"
SCHEMA = 1

LEAST_FACTOR = 1e-3
"""Smallest R_m that a logarithm is taken of [O]: no rain is far below the reference, and not infinitely far."""


@dataclass(frozen=True)
class RiskIndex:
    """The index of one region, ready for another.

    Attributes:
        index: weights, ranges, rain parameters and clip, as ``zoo stack --weights`` reads them.
        form: one of :data:`FORMS`.
        intercept, slope, gain: a, b and g of the log-additive form; the other form does not use them.
        classes: where low and medium end; None when not fitted.
        method: how the weights were found: "logistic", "spearman", "expert" or "".
        intervals: 95 % interval of a weight by feature, and of rain parameters under "alpha", "beta" and "intensity".
        region: CRS, bounds and name of the training region.
        evaluation: figures of merit from the calibration.
        provenance: stack, inventory, counts, seed and version.

    Raises:
        ConfigError: for an unknown form, a coefficient that is not finite, or a negative gain or slope.
    """

    index: IndexParameters
    form: str = "multiplicative"
    intercept: float = 0.0
    slope: float = 1.0
    gain: float = 1.0
    classes: ClassBreaks | None = None
    method: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    region: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UnknownNameError("form", self.form, FORMS, where="risk index")
        for name in ("intercept", "slope", "gain"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name != "intercept" and value < 0):
                raise ConfigError(f"{name} {value} of the risk index", hint="Finite; slope and gain are not negative")

    @property
    def features(self) -> tuple[str, ...]:
        """Channels whose weight is not 0."""
        return tuple(name for name, weight in self.index.weights.items() if weight)

    def evaluate(self, features: Mapping[str, npt.ArrayLike], rain_factor: npt.ArrayLike = 1.0) -> FloatArray:
        """Give the index of rows or pixels.

        Args:
            features: by name, in the units of the stored ranges, of one shape.
            rain_factor: R_m, >= 0, one number or the features' shape; it is clipped as the file says.

        Returns:
            (0, 1), NaN where a feature or the rain is.

        Raises:
            DataError: if a feature or range is missing, or a rain factor is negative.
        """
        factor = as_float(rain_factor)
        if np.any(factor < 0):
            raise DataError("negative rainfall factor")
        if self.index.rain_clip is not None:
            factor = np.clip(factor, *self.index.rain_clip)
        total = weighted_sum(features, self.index.ranges, {name: self.index.weights[name] for name in self.features})
        if self.form == "multiplicative":
            return np.asarray(expit(factor * total))
        rain = np.log(np.maximum(factor, LEAST_FACTOR))
        return np.asarray(expit(self.intercept + self.slope * total + self.gain * rain))

    def check_bands(self, bands: Sequence[Band], where: object = None) -> list[str]:
        """Refuse a stack that the index does not fit.

        Args:
            bands: of the stack.
            where: the stack.

        Returns:
            notes on bands whose unit is not known.

        Raises:
            DataError: for a weighted feature that no band is named after, a band in another unit than the stored range,
                or a name that two bands have.
        """
        by_name: dict[str, Band] = {}
        for band in bands:
            if band.name in self.features and band.name in by_name:
                raise DataError(f"has two bands named {band.name!r}", where=where)
            by_name[band.name] = band
        notes = []
        for name in self.features:
            if name not in by_name:
                raise DataError(
                    f"has no band {name!r}, which the weights name", where=where, hint=suggestion(name, by_name)
                )
            unit = by_name[name].unit
            if unit == "unknown":
                notes.append(f"{name}: the stack does not say its unit; taken to be {FEATURES[name]}")
            elif unit != FEATURES[name]:
                raise DataError(
                    f"{name} is in {unit!r}, the weights scale it in {FEATURES[name]!r}",
                    where=where,
                    hint="Convert the band, or put its unit right",
                )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: what ``zoo stack`` reads, and a section of our own that it leaves alone."""
        classes = self.classes
        return {
            **self.index.to_dict(),
            SECTION: {
                "version": SCHEMA,
                "form": self.form,
                "coefficients": {"intercept": self.intercept, "slope": self.slope, "gain": self.gain},
                "method": self.method,
                "intervals": {name: list(ends) for name, ends in self.intervals.items()},
                "classes": None
                if classes is None
                else {"method": classes.method, "low": classes.low, "high": classes.high},
                "region": dict(self.region),
                "evaluation": dict(self.evaluation),
                "provenance": dict(self.provenance),
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object = None) -> RiskIndex:
        """Return what :meth:`to_dict` wrote; a file of ``zoo stack --save-weights`` or by hand will do.

        Raises:
            ZooError: as :class:`zoo.physics.IndexParameters`, or if our section is damaged; the message names the key.
        """
        index = IndexParameters.from_dict(values, where)
        section = values.get(SECTION)
        if section is None:
            return cls(index)
        section = _table(values, SECTION, where)
        if section.get("version") != SCHEMA:
            raise DataError(f"version {section.get('version')!r} of {SECTION!r} is not known here", where=where)
        coefficients = _table(section, "coefficients", where)
        try:
            return cls(
                index=index,
                form=_text(section, "form", where),
                intercept=_number(coefficients, "intercept", where),
                slope=_number(coefficients, "slope", where),
                gain=_number(coefficients, "gain", where),
                classes=_classes(section, where),
                method=_text(section, "method", where),
                intervals={
                    str(name): _pair(ends, f"intervals.{name}", where)
                    for name, ends in _table(section, "intervals", where).items()
                },
                region=_table(section, "region", where),
                evaluation=_table(section, "evaluation", where),
                provenance=_table(section, "provenance", where),
            )
        except (ConfigError, UnknownNameError) as error:
            raise DataError(error.problem, where=where, hint=error.hint) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RiskIndex:
        """Read a file.

        Raises:
            DataError: if the file is missing, is no JSON, or :meth:`from_dict` refuses it; with the file's name.
        """
        IndexParameters.load(path, any_form=True)
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")), path)

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        write_text_atomic(path, self.to_json())

    def digest(self) -> str:
        """sha256 of the file that :meth:`save` writes, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _table(values: Mapping[str, Any], key: str, where: object) -> Mapping[str, Any]:
    table = values.get(key)
    if not isinstance(table, Mapping):
        raise DataError(f"{key!r} is {table!r}, not a table of names", where=where)
    return table


def _text(values: Mapping[str, Any], key: str, where: object) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise DataError(f"{key!r} is {value!r}, not a text", where=where)
    return value


def _number(values: Mapping[str, Any], key: str, where: object) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{key!r} is {value!r}, not a number", where=where)
    return float(value)


def _pair(ends: object, key: str, where: object) -> tuple[float, float]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise DataError(f"{key!r} is {ends!r}, not [low, high]", where=where)
    low, high = (_number({key: end}, key, where) for end in ends)
    return low, high


def _classes(section: Mapping[str, Any], where: object) -> ClassBreaks | None:
    if section.get("classes") is None:
        return None
    classes = _table(section, "classes", where)
    return ClassBreaks(_number(classes, "low", where), _number(classes, "high", where), _text(classes, "method", where))
