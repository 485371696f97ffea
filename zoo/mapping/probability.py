"""Encoding, classes and colours of a landslide probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError

Rgb = tuple[int, int, int]
MapDtype = Literal["uint8", "float32"]

PROBABILITY_STEPS = 1 << 24
"""Probabilities are rounded to multiples of 1 / this, the resolution of float32 near 1. Multiplied by two 12-bit
weights, they have 48 bits, so float64 sums are exact and do not depend on the order of tiles."""

UINT8_STEPS = 250
"""Steps of a uint8 map: it stores the probability in multiples of 1 / 250 = 0.004."""

UINT8_NODATA = 255

CHUNK_ROWS = 32
"""Number of rows that are encoded at a time, so that they stay in the processor's cache."""

MAX_CLASSES = 20

_RAMP = ((255, 255, 229), (254, 227, 145), (254, 153, 41), (204, 76, 2), (102, 37, 6))
"""Pale yellow to dark brown. Lightness decreases evenly, for greyscale prints and colour-blind readers."""


def encode(sums: NDArray[np.float64], missing: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Encode probabilities for the file.

    Args:
        sums: probabilities, 0..1, (..., rows, columns). Non-finite values become nodata.
        missing: mask of pixels that become nodata, in the same shape, or (rows, columns) for all layers.
        dtype: uint8 (steps of 1 / 250, 255 is nodata) or float32 (NaN is nodata).
    """
    if dtype == np.uint8:
        values = np.empty(sums.shape, dtype=np.uint8)
        for first in range(0, sums.shape[-2], CHUNK_ROWS):
            steps = sums[..., first : first + CHUNK_ROWS, :] * UINT8_STEPS
            steps[~np.isfinite(steps)] = UINT8_NODATA
            values[..., first : first + CHUNK_ROWS, :] = np.rint(steps, out=steps)
        values[..., missing] = UINT8_NODATA
        return values
    numbers = sums.astype(np.float32)
    numbers[missing | ~np.isfinite(numbers)] = np.nan
    return numbers


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of nodata in values from :func:`encode`."""
    found: NDArray[np.bool_] = values == UINT8_NODATA if values.dtype == np.uint8 else np.isnan(values)
    return found


def first_step(probability: float) -> int:
    """Return the lowest uint8 value whose probability is at least ``probability``."""
    return math.ceil(probability * UINT8_STEPS - 1e-6)


def map_threshold(probability: float, dtype: MapDtype) -> float:
    """Return the threshold that a map of ``dtype`` applies.

    It is ``probability`` for float32, and the next multiple of 0.004 for uint8. Terminal, tags, polygons and picture
    all show this value.
    """
    return first_step(probability) / UINT8_STEPS if dtype == "uint8" else probability


def probability_text(probability: float) -> str:
    """Format a threshold or break for display: ``0.316``."""
    return f"{probability:.6g}"


@dataclass(frozen=True)
class ProbabilityClasses:
    """Names for ranges of the landslide probability.

    Args:
        names: names from the lowest class to the highest, two or more.
        breaks: lower probability bound of each class except the first, increasing, between 0 and 1.

    Raises:
        ConfigError: if the number of names or breaks is wrong, a name is repeated, or the breaks do not increase.

    >>> ProbabilityClasses(("low", "medium", "high"), (0.2, 0.5)).ranges()
    ('below 0.2', '0.2 to 0.5', '0.5 and above')
    """

    names: tuple[str, ...]
    breaks: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= MAX_CLASSES or len(set(self.names)) < len(self.names) or "" in self.names:
            raise ConfigError(
                f"{', '.join(self.names)!r} are not valid class names",
                hint=f"Give 2 to {MAX_CLASSES} different names: --classes low,medium,high",
            )
        if len(self.breaks) != len(self.names) - 1:
            raise ConfigError(
                f"{len(self.breaks)} breaks for {len(self.names)} classes",
                hint=f"{len(self.names)} classes need {len(self.names) - 1} breaks",
            )
        edges = (0.0, *self.breaks, 1.0)
        if not all(low < high for low, high in pairwise(edges)):
            raise ConfigError(
                f"breaks {', '.join(map(probability_text, self.breaks))} do not increase between 0 and 1",
                hint="Such as --breaks 0.2,0.5",
            )

    @classmethod
    def from_threshold(cls, names: Sequence[str], threshold: float) -> ProbabilityClasses:
        """Return classes of which the last begins at the threshold and the others divide the rest evenly [O]."""
        threshold = min(max(threshold, 0.02), 0.98)
        parts = max(1, len(names) - 1)
        return cls(tuple(names), tuple(threshold * number / parts for number in range(1, len(names))))

    def as_applied(self, dtype: MapDtype) -> ProbabilityClasses:
        """Return the classes with the breaks that a map of ``dtype`` applies (:func:`map_threshold`).

        Raises:
            ConfigError: if two breaks fall on the same step of a uint8 map.
        """
        return replace(self, breaks=tuple(map_threshold(edge, dtype) for edge in self.breaks))

    def classify(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class numbers, from 1, of values from :func:`encode`; 0 is nodata.

        Classes follow from the encoded probability, so that both files agree in every pixel.
        """
        if values.dtype == np.uint8:
            table = np.zeros(256, dtype=np.uint8)
            steps = np.arange(UINT8_STEPS + 1) / UINT8_STEPS
            table[: UINT8_STEPS + 1] = 1 + np.searchsorted(self.breaks, steps + 1e-9)
            numbers: NDArray[np.uint8] = table[values]
            return numbers
        found: NDArray[np.uint8] = (1 + np.digitize(values, np.asarray(self.breaks, dtype=np.float32))).astype(np.uint8)
        found[is_missing(values)] = 0
        return found

    def ranges(self) -> tuple[str, ...]:
        """Return the range of each class as text."""
        edges = [probability_text(edge) for edge in self.breaks]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        return (f"below {edges[0]}", *between, f"{edges[-1]} and above")

    def colours(self) -> dict[int, Rgb]:
        """Return the colour of each class by its number."""
        last = len(self.names) - 1
        return {number + 1: ramp(number / last) for number in range(len(self.names))}


def ramp(share: float) -> Rgb:
    """Return the colour of a probability, 0..1."""
    place = share * (len(_RAMP) - 1)
    stops = range(len(_RAMP))
    red, green, blue = (round(float(np.interp(place, stops, [stop[i] for stop in _RAMP]))) for i in range(3))
    return red, green, blue


def probability_colours() -> dict[int, Rgb]:
    """Return the colour of each value of a uint8 map."""
    colours = {number: ramp(number / UINT8_STEPS) for number in range(UINT8_STEPS + 1)}
    return colours | {number: ramp(1.0) for number in range(UINT8_STEPS + 1, UINT8_NODATA)}
