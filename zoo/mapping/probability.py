"""The encoding, the classes and the colours of a landslide probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.mapping.tiling import UINT8_NODATA, UINT8_STEPS, is_missing

Rgb = tuple[int, int, int]

_RAMP = ((255, 255, 229), (254, 227, 145), (254, 153, 41), (204, 76, 2), (102, 37, 6))
"""Pale yellow to dark brown: lightness falls evenly, so that the map can be read in grey and by the colour-blind."""

MOST_CLASSES = 20


@dataclass(frozen=True)
class ProbabilityClasses:
    """Names for ranges of the landslide probability.

    Args:
        names: from the lowest to the highest, two or more.
        breaks: probability at which each but the first begins, rising, within 0 and 1.

    Raises:
        ConfigError: if they do not fit each other.
    """

    names: tuple[str, ...]
    breaks: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= MOST_CLASSES or len(set(self.names)) < len(self.names) or "" in self.names:
            raise ConfigError(
                f"classes {', '.join(self.names)!r}", hint="Name two or more, each once: --classes low,medium,high"
            )
        if len(self.breaks) != len(self.names) - 1:
            raise ConfigError(
                f"{len(self.breaks)} breaks for {len(self.names)} classes", hint="One fewer break than classes"
            )
        edges = (0.0, *self.breaks, 1.0)
        if not all(low < high for low, high in pairwise(edges)):
            raise ConfigError(
                f"breaks {', '.join(f'{one:g}' for one in self.breaks)}", hint="They rise, between 0 and 1: 0.2,0.5"
            )

    @classmethod
    def from_threshold(cls, names: Sequence[str], threshold: float) -> ProbabilityClasses:
        """The last class begins at the threshold of the bundle; the others share what lies below evenly [O]."""
        threshold = min(max(threshold, 0.02), 0.98)
        parts = max(1, len(names) - 1)
        return cls(tuple(names), tuple(threshold * number / parts for number in range(1, len(names))))

    def classify(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Number the classes of what :func:`zoo.mapping.tiling.encode` gave, from 1; 0 is nodata.

        The probability that is written decides, so that both maps agree everywhere.
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

    def colours(self) -> dict[int, Rgb]:
        """Colour of each class by number."""
        last = len(self.names) - 1
        return {number + 1: ramp(number / last) for number in range(len(self.names))}


def ramp(share: float) -> Rgb:
    """The colour of a probability, 0..1."""
    place = share * (len(_RAMP) - 1)
    stops = range(len(_RAMP))
    red, green, blue = (round(float(np.interp(place, stops, [stop[i] for stop in _RAMP]))) for i in range(3))
    return red, green, blue


def probability_colours() -> dict[int, Rgb]:
    """Colour of each number that a byte of probability may hold."""
    colours = {number: ramp(number / UINT8_STEPS) for number in range(UINT8_STEPS + 1)}
    return colours | {number: ramp(1.0) for number in range(UINT8_STEPS + 1, UINT8_NODATA)}
