"""Wetness and factor of safety of a terrain under a rain: two channels more than the paper's seven."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics.bands import Band
from zoo.physics.flow import dispersed_area, route
from zoo.physics.stability import factor_of_safety
from zoo.physics.wetness import steady_wetness, storm_recharge

MOST_PIXELS = 9_000_000
"""Water comes from anywhere upslope, so the whole elevation lies in memory, with some 550 bytes a pixel while its way
is found: 5 GB for this many."""

MOST_SAFETY = 10.0
"""Largest factor of safety that is written [O]: level ground is infinitely safe, which no raster shows well."""

SAFETY_CHANNELS: tuple[Band, ...] = (
    Band("wetness", "1", 0.0, 1.0, description="saturated share of the soil, Montgomery & Dietrich (1994)"),
    Band("factor_of_safety", "1", 0.0, MOST_SAFETY, description="infinite slope; below 1 it cannot stand"),
)

SAFETY_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "wetness": "steady wetness (Montgomery & Dietrich 1994), water shared among lower neighbours",
        "factor_of_safety": f"infinite slope, at most {MOST_SAFETY:g}",
    }
)
"""What the channels are made of, in words, by name."""


@dataclass(frozen=True)
class Soil:
    """One soil for the whole stack; the middle of what the synthetic scenes draw from [O, risk.md].

    Attributes:
        cohesion: of soil and roots, kPa.
        friction: angle, degrees.
        depth: on level ground, m; it thins with slope as exp(-0.6 tan theta), within 0.3-3 m.
        conductivity: saturated, m/day.

    Raises:
        ConfigError: for a number out of range.
    """

    cohesion: float = 5.0
    friction: float = 33.0
    depth: float = 1.7
    conductivity: float = 12.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least_open = field.name != "cohesion"
            if not math.isfinite(value) or value < 0 or (least_open and value == 0):
                raise ConfigError(f"{field.name} {value:g} of the soil", hint="Give a positive number")
        if self.friction >= 90:
            raise ConfigError(f"friction {self.friction:g} of the soil", hint="Degrees below 90")

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name):g}" for field in fields(self))

    @classmethod
    def from_text(cls, text: str) -> Soil:
        """Read "cohesion=4,friction=30"; what is not named keeps its default.

        Raises:
            ConfigError: if it is not written so.
            UnknownNameError: for a name that there is not.
        """
        given: dict[str, float] = {}
        for part in filter(None, (one.strip() for one in text.split(","))):
            name, equals, value = part.partition("=")
            if name not in {field.name for field in fields(cls)}:
                raise UnknownNameError("property of the soil", name, [field.name for field in fields(cls)])
            try:
                given[name] = float(value) if equals else math.nan
            except ValueError:
                given[name] = math.nan
            if math.isnan(given[name]):
                raise ConfigError(f"{part!r} is no property of a soil", hint="Write it like cohesion=4,friction=30")
        return cls(**given)


def check_size(shape: tuple[int, ...], where: object = None) -> None:
    """Refuse a terrain before it is read.

    Args:
        shape: (rows, columns).
        where: the file.

    Raises:
        DataError: if it has more pixels than :data:`MOST_PIXELS`.
    """
    pixels = math.prod(shape)
    if pixels > MOST_PIXELS:
        raise DataError(
            f"upslope area needs the whole elevation in memory, and {pixels:,} pixels are more than {MOST_PIXELS:,}",
            where=where,
            hint="Cut a catchment out of it, or make it coarser: gdalwarp -te ... or -tr ...",
        )


def safety_channels(
    elevation: NDArray[np.float32],
    slope: NDArray[np.float32],
    pixel_size: float,
    rain: tuple[float, float],
    soil: Soil | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give wetness and factor of safety under a rain.

    Upslope area is shared among all lower neighbours (:func:`zoo.physics.flow.dispersed_area`) after closed basins are
    filled, as the synthetic scenes do; water from beyond the edge is not known, so edges are too dry.

    Args:
        elevation: metres, (H, W), NaN where unknown.
        slope: degrees, (H, W), NaN where unknown.
        pixel_size: metres.
        rain: intensity in mm/h, duration in days.
        soil: of the whole area; the default one where None.

    Returns:
        wetness and factor of safety, float32 (H, W), NaN where elevation or slope is; the latter at most 10.

    Raises:
        DataError: if the area is larger than :data:`MOST_PIXELS`, elevation is unknown everywhere, or rain is negative.
    """
    soil = soil or Soil()
    check_size(elevation.shape)
    recharge = storm_recharge(*rain)
    unknown = np.isnan(elevation)
    if unknown.all():
        raise DataError("elevation is unknown everywhere")
    # Where nothing is known water leaves: as low as anything, and an outlet.
    ground = np.where(unknown, np.nanmin(elevation), elevation).astype(np.float64)
    outlets = np.zeros(ground.shape, dtype=np.bool_)
    outlets[[0, -1]] = outlets[:, [0, -1]] = True
    outlets |= ndimage.binary_dilation(unknown, np.ones((3, 3), dtype=bool))
    filled = route(ground, pixel_size, outlets).filled(ground)
    area = dispersed_area(filled, pixel_size, np.zeros(filled.shape)) / pixel_size
    # Rounding of single precision must not turn 0 degrees into less.
    steep = np.clip(np.where(np.isnan(slope), np.nan, slope.astype(np.float64)), 0.0, 89.9)
    depth = np.clip(soil.depth * np.exp(-0.6 * np.tan(np.radians(steep))), 0.3, 3.0)
    wetness = steady_wetness(recharge, area, soil.conductivity * depth, steep)
    safety = np.minimum(factor_of_safety(steep, wetness, soil.cohesion, soil.friction, depth), MOST_SAFETY)
    blank = unknown | np.isnan(steep)
    return (
        np.where(blank, np.nan, wetness).astype(np.float32),
        np.where(blank, np.nan, safety).astype(np.float32),
    )
