"""Calibrated risk index, stored as one JSON file, and its classes low, medium and high."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.special import expit

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError, suggestion
from zoo.files import write_text_atomic
from zoo.physics import Band, IndexParameters, weighted_sum
from zoo.physics.arrays import FloatArray, as_float
from zoo.physics.lsi import FEATURES
from zoo.schema import encode_json, read_json, to_plain

FORMS: tuple[str, ...] = ("multiplicative", "log-additive")
"""sigmoid(R_m S), equation 4 [P]; sigmoid(a + b S + g ln R_m) [O], in which more rain never lowers the index."""

SCHEMA = 1

MIN_FACTOR = 1e-3
"""Lower bound of R_m before the logarithm [O], so that no rain is far below the reference, but not infinitely far."""

CLASS_NAMES: tuple[str, ...] = ("low", "medium", "high")
"""Classes 1, 2 and 3 of Figure 8 [P]; 0 is nodata."""

CLASS_COLOURS = MappingProxyType({1: (44, 123, 182), 2: (255, 225, 120), 3: (202, 0, 32)})
"""Colours by class, distinguishable for colour-blind readers [O]."""

CLASS_METHODS: tuple[str, ...] = ("jenks", "quantile")

_JENKS_POINTS = 1000
"""Number of quantiles of the sample to which Jenks is applied: its time grows with their square."""


@dataclass(frozen=True)
class ClassBreaks:
    """Upper bounds of the classes low and medium.

    Attributes:
        low: largest index that is low.
        high: largest index that is medium.
        method: "jenks", "quantile" or "fixed".

    Raises:
        ConfigError: if the breaks are not finite and increasing, or the method does not exist.
    """

    low: float
    high: float
    method: str = "fixed"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                f"class breaks {self.low:g} and {self.high:g} do not increase", hint="Give two increasing numbers"
            )
        if self.method not in (*CLASS_METHODS, "fixed"):
            raise ConfigError(
                f"unknown method of class breaks {self.method!r}", hint=f"Choose from: {', '.join(CLASS_METHODS)}"
            )

    def classify(self, index: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Return 1 (low), 2 (medium), 3 (high), and 0 where the index is NaN, in the shape of ``index``."""
        # Convert breaks to the dtype of the index, so that a float32 equal to a break is not above it.
        low, high = index.dtype.type(self.low), index.dtype.type(self.high)
        with np.errstate(invalid="ignore"):
            classes = (index > low).view(np.uint8) + (index > high).view(np.uint8)
            # NaN compares false with everything, itself included, so it remains 0.
            classes += (index == index).view(np.uint8)
        return classes


@dataclass(frozen=True)
class ClassShare:
    """Shares of one class.

    Attributes:
        name: "low", "medium" or "high".
        area: share of the area, 0..1.
        landslides: share of the landslide area, 0..1.
    """

    name: str
    area: float
    landslides: float

    @property
    def ratio(self) -> float:
        """Landslide density of the class divided by that of the region; NaN for a class without area."""
        return self.landslides / self.area if self.area else math.nan


@dataclass(frozen=True)
class TrainingRegion:
    """Region that an index was calibrated on.

    Attributes:
        crs: name of the coordinate reference system.
        bounds: (left, bottom, right, top) in its units.
        pixel_size_m: side of a pixel in metres.
        landslide_share: share of the area covered by landslides.
    """

    crs: str | None = None
    bounds: tuple[float, ...] | None = None
    pixel_size_m: float | None = None
    landslide_share: float | None = None


@dataclass(frozen=True)
class IndexEvaluation:
    """Scores of a calibration.

    Attributes:
        auc_fitted: AUC of the training pixels.
        auc_blocks: AUC of held-out blocks; None if there were too few blocks.
        auc_blocks_interval: 95 % interval of ``auc_blocks``.
        classes: shares of "area" and "landslides" by class.
    """

    auc_fitted: float | None = None
    auc_blocks: float | None = None
    auc_blocks_interval: tuple[float, float] | None = None
    classes: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Origin of an index: version, files, counts and settings."""

    software: str = ""
    stack: str = ""
    inventory: str = ""
    landslide_pixels: int | None = None
    other_pixels: int | None = None
    scaler: str = ""
    signs: dict[str, int] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class _Coefficients:
    intercept: float
    slope: float
    gain: float


@dataclass(frozen=True)
class _Section:
    """Layout of the key "risk" of the file, which ``zoo stack`` ignores."""

    version: int
    form: str
    coefficients: _Coefficients
    method: str
    intervals: dict[str, tuple[float, float]]
    classes: ClassBreaks | None
    region: TrainingRegion
    evaluation: IndexEvaluation
    provenance: Provenance


@dataclass(frozen=True)
class _File:
    risk: _Section | None = None


@dataclass(frozen=True)
class RiskIndex:
    """Risk index of one region, transferable to others.

    Attributes:
        index: weights, ranges, rain parameters and clip, as ``zoo stack --weights`` reads them.
        form: one of :data:`FORMS`.
        intercept, slope, gain: a, b and g of the log-additive form; the other form does not use them.
        classes: class breaks; None if not fitted.
        method: method of the weights: "logistic", "spearman", "expert" or "".
        intervals: 95 % interval of each weight by feature, and of rain parameters as "alpha", "beta" and "intensity".
        region: training region.
        evaluation: scores of the calibration.
        provenance: files, counts, seed and version.

    Raises:
        UnknownNameError: if the form does not exist.
        ConfigError: if a coefficient is not finite, or gain or slope is negative.
    """

    index: IndexParameters
    form: str = "multiplicative"
    intercept: float = 0.0
    slope: float = 1.0
    gain: float = 1.0
    classes: ClassBreaks | None = None
    method: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    region: TrainingRegion = field(default_factory=TrainingRegion)
    evaluation: IndexEvaluation = field(default_factory=IndexEvaluation)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UnknownNameError("form", self.form, FORMS, where="risk index")
        for name in ("intercept", "slope", "gain"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name != "intercept" and value < 0):
                raise ConfigError(
                    f"{name} {value} of the risk index", hint="It must be finite; slope and gain at least 0"
                )

    @property
    def features(self) -> tuple[str, ...]:
        """Channels whose weight is not 0."""
        return tuple(name for name, weight in self.index.weights.items() if weight)

    def evaluate(self, features: Mapping[str, npt.ArrayLike], rain_factor: npt.ArrayLike = 1.0) -> FloatArray:
        """Return the index of rows or pixels.

        Args:
            features: values by name, in the units of the stored ranges, all of one shape.
            rain_factor: R_m >= 0, one number or the shape of the features; it is clipped to the stored bounds.

        Returns:
            (0, 1), NaN where a feature or the rain is NaN.

        Raises:
            DataError: if a feature or range is missing, or a rain factor is negative.
        """
        factor = as_float(rain_factor)
        if np.any(factor < 0):
            raise DataError("a rainfall factor is negative")
        if self.index.rain_clip is not None:
            factor = np.clip(factor, *self.index.rain_clip)
        total = weighted_sum(features, self.index.ranges, {name: self.index.weights[name] for name in self.features})
        if self.form == "multiplicative":
            return np.asarray(expit(factor * total))
        rain = np.log(np.maximum(factor, MIN_FACTOR))
        return np.asarray(expit(self.intercept + self.slope * total + self.gain * rain))

    def check_bands(self, bands: Sequence[Band], where: object = None) -> list[str]:
        """Check that a stack has the bands of the index, in the right units.

        Args:
            bands: bands of the stack.
            where: the stack, for messages.

        Returns:
            Notes on bands of unknown unit.

        Raises:
            DataError: if a weighted band is missing, in another unit than the stored range, or occurs twice.
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
                    f"has no band {name!r}, which the weights need", where=where, hint=suggestion(name, by_name)
                )
            unit = by_name[name].unit
            if unit == "unknown":
                notes.append(f"{name}: the stack does not state the unit; {FEATURES[name]} is assumed")
            elif unit != FEATURES[name]:
                raise DataError(
                    f"{name} is in {unit!r}, but the weights need {FEATURES[name]!r}",
                    where=where,
                    hint="Convert the band, or correct its unit",
                )
        return notes

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RiskIndex:
        """Read a file from :meth:`save` or ``zoo stack --save-weights``, or a hand-written one.

        Raises:
            DataError: if the file is missing, not valid JSON, or a field is missing or wrong; the message names the
                file and the field.
        """
        index = IndexParameters.load(path, any_form=True)
        try:
            section = read_json(path, _File, what="weights file", error=DataError).risk
            if section is None:
                return cls(index)
            if section.version != SCHEMA:
                raise DataError(
                    f"has version {section.version} of the section 'risk'; this version of zoo reads {SCHEMA}",
                    hint="Update zoo, or calibrate again",
                )
            return cls(
                index=index,
                form=section.form,
                intercept=section.coefficients.intercept,
                slope=section.coefficients.slope,
                gain=section.coefficients.gain,
                classes=section.classes,
                method=section.method,
                intervals=section.intervals,
                region=section.region,
                evaluation=section.evaluation,
                provenance=section.provenance,
            )
        except ZooError as error:
            raise DataError(error.problem, where=path, hint=error.hint) from error

    def to_json(self) -> str:
        """Return the text of the file."""
        section = _Section(
            version=SCHEMA,
            form=self.form,
            coefficients=_Coefficients(self.intercept, self.slope, self.gain),
            method=self.method,
            intervals=dict(self.intervals),
            classes=self.classes,
            region=self.region,
            evaluation=self.evaluation,
            provenance=self.provenance,
        )
        return encode_json({**self.index.to_dict(), "risk": to_plain(section)}, indent=2) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file, atomically; ``zoo risk map --weights`` and ``zoo stack --weights`` read it."""
        write_text_atomic(path, self.to_json())

    def digest(self) -> str:
        """Return the sha256 of the file that :meth:`save` writes, as hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def fit_breaks(index: NDArray[np.floating[Any]], method: str = "jenks") -> ClassBreaks:
    """Fit the breaks of three classes to the index of a region.

    Args:
        index: index of pixels drawn from the whole region, (N,); NaN is ignored.
        method: "jenks" for natural breaks (Fisher-Jenks: least variance within classes), "quantile" for equal areas.

    Raises:
        DataError: if the index has fewer than three values.
        ConfigError: if the method does not exist, or Jenks is requested but mapclassify is not installed.
    """
    values = np.sort(np.asarray(index, dtype=np.float64))
    values = values[np.isfinite(values)]
    if len(np.unique(values)) < 3:
        raise DataError("the index has fewer than three values, too few for three classes")
    if method == "quantile":
        low, high = np.quantile(values, (1 / 3, 2 / 3))
    elif method == "jenks":
        low, high = _jenks(values)
    else:
        raise ConfigError(
            f"unknown method of class breaks {method!r}", hint="Use jenks, quantile, or two numbers such as 0.5,0.6"
        )
    if not low < high:
        raise DataError(
            f"{method} puts both class breaks at {low:.6g}, because most pixels have the same index",
            hint="Give the breaks: --classes 0.5,0.6",
        )
    return ClassBreaks(float(low), float(high), method)


def _jenks(values: NDArray[np.float64]) -> tuple[float, float]:
    try:
        from mapclassify import FisherJenks
    except ImportError as error:
        raise ConfigError(
            "natural breaks (Jenks) need mapclassify, which is not installed",
            hint="pip install 'landslide-zoo[risk]', or use --classes quantile",
        ) from error
    if len(values) > _JENKS_POINTS:
        # Each quantile represents the same number of pixels; the extremes are included.
        values = np.quantile(values, np.linspace(0, 1, _JENKS_POINTS))
    if len(np.unique(values)) < 3:
        raise DataError("nearly all pixels have the same index", hint="Give the breaks: --classes 0.5,0.6")
    bins = FisherJenks(values, k=3).bins
    return float(bins[0]), float(bins[1])


def class_shares(
    breaks: ClassBreaks, region: NDArray[np.floating[Any]], landslides: NDArray[np.floating[Any]]
) -> tuple[ClassShare, ...]:
    """Return the shares of area and of landslides by class.

    Args:
        breaks: breaks of the index.
        region: index of pixels drawn from the whole region, (N,).
        landslides: index of pixels drawn from the landslides, (M,).
    """
    shares = []
    for values in (region, landslides):
        counts = np.bincount(breaks.classify(values).ravel(), minlength=4)[1:4]
        shares.append(counts / max(int(counts.sum()), 1))
    return tuple(
        ClassShare(name, float(area), float(found))
        for name, area, found in zip(CLASS_NAMES, shares[0], shares[1], strict=True)
    )


def success_rate(
    region: NDArray[np.floating[Any]], landslides: NDArray[np.floating[Any]], points: int = 101
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the success-rate curve: share of landslides in the share of area with the highest index.

    See Chung & Fabbri (2003) [S].

    Args:
        region: index of pixels drawn from the whole region, (N,).
        landslides: index of pixels drawn from the landslides, (M,).
        points: number of points, evenly spaced in area.

    Returns:
        (share of the area, share of the landslides), float64 (points,) each, from 0 to 1.
    """
    area = np.linspace(0, 1, points)
    ranked = np.sort(np.asarray(region, dtype=np.float64))
    found = np.sort(np.asarray(landslides, dtype=np.float64))
    limits = np.quantile(ranked, 1 - area)
    caught = 1 - np.searchsorted(found, limits, side="left") / len(found)
    caught[0], caught[-1] = 0.0, 1.0
    return area, caught
