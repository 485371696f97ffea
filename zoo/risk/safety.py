"""Factor of safety and wetness of a stack's terrain, as two more channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import Band, factor_of_safety, steady_wetness
from zoo.physics.flow import dispersed_area, route
from zoo.physics.wetness import storm_recharge
from zoo.rasters.map_writer import stack_writer
from zoo.rasters.stacks import Stack

MOST_PIXELS = 9_000_000
"""Water comes from anywhere upslope, so the whole elevation lies in memory, with some 550 bytes a pixel while its way
is found: 5 GB for this many."""

MOST_SAFETY = 10.0
"""Largest factor of safety that is written [O]: level ground is infinitely safe, which no raster shows well."""

CHANNELS: tuple[Band, ...] = (
    Band("wetness", "1", 0.0, 1.0, description="saturated share of the soil, Montgomery & Dietrich (1994)"),
    Band("factor_of_safety", "1", 0.0, MOST_SAFETY, description="infinite slope; below 1 it cannot stand"),
)


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
    if elevation.size > MOST_PIXELS:
        raise DataError(
            f"upslope area needs the whole elevation in memory, and {elevation.size:,} pixels are more than "
            f"{MOST_PIXELS:,}",
            hint="Cut a catchment out of the stack, or make it coarser: gdalwarp -te ... or -tr ...",
        )
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


def map_safety(
    stack: Stack, out: Path, rain: tuple[float, float], soil: Soil | None = None, tags: Mapping[str, str] | None = None
) -> float:
    """Write wetness and factor of safety of a stack's slope and DEM as a cloud-optimised GeoTIFF of two bands.

    Args:
        stack: with bands ``slope`` (degrees) and ``DEM`` (m), in metres, square pixels.
        out: the file.
        rain: intensity in mm/h, duration in days.
        soil: of the whole area.
        tags: of the file.

    Returns:
        share of the known pixels whose factor of safety is below 1.

    Raises:
        DataError: if a band is missing or in another unit, pixels are not square metres, or the stack is too large.
        ZooError: if the file cannot be written.
    """
    soil = soil or Soil()
    bands = {band.name: (number, band.unit) for number, band in enumerate(stack.bands)}
    for name, unit in (("slope", "degree"), ("DEM", "m")):
        if name not in bands:
            raise UnknownNameError("band", name, bands, where=stack.path)
        if bands[name][1] not in (unit, "unknown"):
            raise DataError(f"{name} is in {bands[name][1]!r}, not in {unit!r}", where=stack.path)
    if stack.pixel_size is None:
        raise DataError(
            "flow of water needs square pixels in metres", where=stack.path, hint="Warp the stack to its UTM zone"
        )
    if stack.shape[0] * stack.shape[1] > MOST_PIXELS:
        raise DataError(
            f"upslope area needs the whole elevation in memory, and {stack.shape[1]} x {stack.shape[0]} pixels are "
            f"more than {MOST_PIXELS:,}",
            where=stack.path,
            hint="Cut a catchment out of the stack, or make it coarser: gdalwarp -te ... or -tr ...",
        )
    terrain = np.empty((2, *stack.shape), dtype=np.float32)
    for window in stack.windows():
        image = stack.read(window)
        rows = slice(window.row_off, window.row_off + window.height)
        columns = slice(window.col_off, window.col_off + window.width)
        terrain[:, rows, columns] = image[[bands["DEM"][0], bands["slope"][0]]]
    made = safety_channels(terrain[0], terrain[1], stack.pixel_size, rain, soil)
    words = ", ".join(f"{field.name} {getattr(soil, field.name):g}" for field in fields(soil))
    told = {
        "wetness": {"SOURCE": "steady wetness (Montgomery & Dietrich 1994), water shared among lower neighbours"},
        "factor_of_safety": {"SOURCE": "infinite slope", "MOST": f"{MOST_SAFETY:g}"},
    }
    with stack_writer(out, stack, CHANNELS) as writer:
        for window in stack.windows():
            rows = slice(window.row_off, window.row_off + window.height)
            columns = slice(window.col_off, window.col_off + window.width)
            for band, values in zip(CHANNELS, made, strict=True):
                writer.write(band.name, np.ascontiguousarray(values[rows, columns]), window)
        writer.publish({**(tags or {}), "SOIL": words, "RAIN": f"{rain[0]:g},{rain[1]:g}"}, told)
    known = np.isfinite(made[1])
    return float(np.mean(made[1][known] < 1)) if known.any() else math.nan
