"""Low, medium and high: where the index is cut, and what the cuts are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError

CLASS_NAMES: tuple[str, ...] = ("low", "medium", "high")
"""Classes 1, 2 and 3 of Figure 8 [P]; 0 is nodata."""

CLASS_COLOURS = MappingProxyType({1: (44, 123, 182), 2: (255, 225, 120), 3: (202, 0, 32)})
"""Colours by class, told apart by colour-blind people too [O]."""

CLASS_METHODS: tuple[str, ...] = ("jenks", "quantile")

_POINTS = 1000
"""Points that Jenks works on, evenly spaced in the ranking of the sample: the optimum takes time squared."""


@dataclass(frozen=True)
class ClassBreaks:
    """Where low ends and where medium ends.

    Attributes:
        low: largest index that is low.
        high: largest index that is medium.
        method: "jenks", "quantile" or "fixed".

    Raises:
        ConfigError: if they are not finite and rising.
    """

    low: float
    high: float
    method: str = "fixed"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"class breaks {self.low:g} and {self.high:g}", hint="Give two rising numbers")
        if self.method not in (*CLASS_METHODS, "fixed"):
            raise ConfigError(f"method of class breaks {self.method!r}", hint=f"One of: {', '.join(CLASS_METHODS)}")

    def classify(self, index: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Give 1 low, 2 medium, 3 high, and 0 where the index is NaN; the shape of ``index``."""
        # Breaks in the index's own precision: a float32 equal to a break is not above it.
        low, high = index.dtype.type(self.low), index.dtype.type(self.high)
        with np.errstate(invalid="ignore"):
            classes = (index > low).view(np.uint8) + (index > high).view(np.uint8)
            # NaN is above nothing and not below itself: it stays 0.
            classes += (index == index).view(np.uint8)
        return classes


def fit_breaks(index: NDArray[np.floating[Any]], method: str = "jenks") -> ClassBreaks:
    """Cut the index of a region into three classes.

    Args:
        index: of pixels drawn from the whole region, (N,); NaN is left out.
        method: "jenks" for natural breaks (Fisher-Jenks: least variance within classes), "quantile" for equal areas.

    Raises:
        DataError: if the index takes fewer than three values.
        ConfigError: for another method, or if Jenks is wanted and mapclassify is not installed.
    """
    values = np.sort(np.asarray(index, dtype=np.float64))
    values = values[np.isfinite(values)]
    if len(np.unique(values)) < 3:
        raise DataError("the index takes fewer than three values, which cannot be three classes")
    if method == "quantile":
        low, high = np.quantile(values, (1 / 3, 2 / 3))
    elif method == "jenks":
        low, high = _jenks(values)
    else:
        raise ConfigError(f"method of class breaks {method!r}", hint="jenks, quantile, or two numbers such as 0.5,0.6")
    if not low < high:
        raise DataError(
            f"{method} puts both class breaks at {low:.6g}: most pixels have one index",
            hint="Give the breaks: --classes 0.5,0.6",
        )
    return ClassBreaks(float(low), float(high), method)


def _jenks(values: NDArray[np.float64]) -> tuple[float, float]:
    try:
        from mapclassify import FisherJenks
    except ImportError as error:
        raise ConfigError(
            "natural breaks (Jenks) need mapclassify",
            hint="pip install 'landslide-zoo[risk]', or choose --classes quantile",
        ) from error
    if len(values) > _POINTS:
        # The quantiles stand for equally many pixels each; the ends stay in.
        values = np.quantile(values, np.linspace(0, 1, _POINTS))
    if len(np.unique(values)) < 3:
        raise DataError("nearly all pixels have one index", hint="Give the breaks: --classes 0.5,0.6")
    bins = FisherJenks(values, k=3).bins
    return float(bins[0]), float(bins[1])


@dataclass(frozen=True)
class ClassShare:
    """What a class holds.

    Attributes:
        name: "low", "medium" or "high".
        area: share of the area in it, 0..1.
        landslides: share of the landslide area in it, 0..1.
    """

    name: str
    area: float
    landslides: float

    @property
    def ratio(self) -> float:
        """How much denser landslides are here than everywhere; NaN for a class without area."""
        return self.landslides / self.area if self.area else math.nan


def class_shares(
    breaks: ClassBreaks, region: NDArray[np.floating[Any]], landslides: NDArray[np.floating[Any]]
) -> tuple[ClassShare, ...]:
    """Share of area and of landslides by class.

    Args:
        breaks: of the index.
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
    """Give the success-rate curve: share of landslides in the riskiest share of the area (Chung & Fabbri 2003 [S]).

    Args:
        region: index of pixels drawn from the whole region, (N,).
        landslides: index of pixels drawn from the landslides, (M,).
        points: of the curve, evenly spaced in area.

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
