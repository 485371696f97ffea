"""Wetness and factor of safety of shallow soil on a slope under rain: two channels beside the paper's seven."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics.arrays import FloatArray, as_float
from zoo.physics.bands import Band
from zoo.physics.flow import dispersed_area, route

SOIL_UNIT_WEIGHT = 18.0
"""Unit weight of moist soil, kN/m3 [O, risk.md]."""

WATER_UNIT_WEIGHT = 9.81
"""Unit weight of water, kN/m3."""

INFILTRATION = 0.7
"""Share of the rain that infiltrates [O]."""

RESPONSE = 0.7
"""Days of rain after which the soil reaches 63 % of its steady wetness [O]."""

MOST_PIXELS = 9_000_000
"""Water comes from anywhere upslope, so the whole elevation is in memory. Flow routing needs about 550 bytes a pixel,
which is 5 GB for this many pixels."""

MOST_SAFETY = 10.0
"""Largest factor of safety that is written [O]; that of level ground is infinite."""

SAFETY_CHANNELS: tuple[Band, ...] = (
    Band("wetness", "1", 0.0, 1.0, description="saturated share of the soil, Montgomery & Dietrich (1994)"),
    Band("factor_of_safety", "1", 0.0, MOST_SAFETY, description="factor of an infinite slope; below 1 it fails"),
)

SAFETY_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "wetness": "steady wetness (Montgomery & Dietrich 1994), water shared among lower neighbours",
        "factor_of_safety": f"infinite slope, at most {MOST_SAFETY:g}",
    }
)
"""How each channel is computed, in words."""


def storm_recharge(intensity: float, duration: float) -> float:
    """Return the steady recharge, m/day, that wets the soil as much as a rain of finite duration [O].

    A long rain leads to the steady wetness; a short one reaches the share 1 - exp(-D / 0.7 days) of it.

    Args:
        intensity: rain intensity P, mm/h.
        duration: rain duration D, days.

    Raises:
        DataError: if either is negative or not finite.
    """
    for what, value, unit in (("intensity", intensity, "mm/h"), ("duration", duration, "days")):
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"the rain {what} is {value:g} {unit}", hint="Give a finite number of at least 0")
    reached = 1.0 - float(np.exp(-duration / RESPONSE))
    return intensity * 24.0 / 1000.0 * INFILTRATION * reached


def steady_wetness(
    recharge: npt.ArrayLike, specific_area: npt.ArrayLike, transmissivity: npt.ArrayLike, slope: npt.ArrayLike
) -> FloatArray:
    """Return m = min(1, R a / (T sin theta)): Montgomery & Dietrich (1994), Water Resources Research 30, 1153 [S].

    Subsurface flow parallel to the slope balances steady rain; water that the soil cannot carry runs off.

    Args:
        recharge: rain that enters the soil R, m/day.
        specific_area: upslope area per metre of contour a, m.
        transmissivity: transmissivity of the saturated soil T = Ks z, m2/day.
        slope: slope theta, degrees. Level ground does not drain: m is 1 there, or 0 without recharge.

    Returns:
        dimensionless, [0, 1], the broadcast shape; NaN where an input is NaN.

    Raises:
        DataError: if recharge or area is negative, transmissivity is not positive, or slope is outside [0, 90].
    """
    r, a, t, theta = (as_float(values) for values in (recharge, specific_area, transmissivity, slope))
    if np.any(r < 0) or np.any(a < 0):
        raise DataError("the recharge or the upslope area is negative")
    if np.any(t <= 0):
        raise DataError("the transmissivity is not positive", hint="Soil depth and conductivity must be above 0")
    if np.any(theta < 0) or np.any(theta > 90):
        raise DataError("the slope is outside 0-90 degrees")
    supply = r * a
    capacity = t * np.sin(np.radians(theta))
    # Level ground without rain, 0 / 0, is dry. The comparison avoids a division by a capacity that underflows.
    saturated = supply >= capacity
    share = supply / np.where(saturated, 1.0, capacity)
    wetness = np.where(saturated & (supply > 0), 1.0, np.where(supply > 0, share, 0.0))
    unknown = np.isnan(supply) | np.isnan(capacity)
    return np.asarray(np.where(unknown, np.nan, wetness))


def factor_of_safety(
    slope: npt.ArrayLike,
    wetness: npt.ArrayLike,
    cohesion: npt.ArrayLike,
    friction_angle: npt.ArrayLike,
    depth: npt.ArrayLike,
    soil_unit_weight: float = SOIL_UNIT_WEIGHT,
    water_unit_weight: float = WATER_UNIT_WEIGHT,
) -> FloatArray:
    """Return the factor of safety of an infinite slope with seepage parallel to the surface [S].

    FS = [c + (g - m gw) z cos^2(theta) tan(phi)] / (g z sin(theta) cos(theta)); Skempton & DeLory (1957), as in
    Montgomery & Dietrich (1994) with cohesion. Below 1 the slope fails.

    Args:
        slope: slope theta, degrees, [0, 90).
        wetness: saturated share of the soil m, [0, 1].
        cohesion: cohesion of soil and roots together c, kPa.
        friction_angle: friction angle phi, degrees, [0, 90).
        depth: vertical soil depth z, m, above 0.
        soil_unit_weight: unit weight of moist soil g, kN/m3.
        water_unit_weight: unit weight of water gw, kN/m3.

    Returns:
        dimensionless, the broadcast shape; infinite on level ground, NaN where an input is NaN.

    Raises:
        DataError: if an argument is outside the range above, or a unit weight is not positive.
    """
    theta, m, c, phi, z = (as_float(values) for values in (slope, wetness, cohesion, friction_angle, depth))
    if np.any(theta < 0) or np.any(theta >= 90) or np.any(phi < 0) or np.any(phi >= 90):
        raise DataError("the slope or the friction angle is outside 0-90 degrees")
    if np.any(m < 0) or np.any(m > 1):
        raise DataError("the wetness is outside 0-1")
    if np.any(c < 0) or np.any(z <= 0):
        raise DataError("the cohesion is negative, or the soil depth is not positive")
    if not (soil_unit_weight > 0 and water_unit_weight > 0):
        raise DataError("a unit weight is not positive")
    sine, cosine = np.sin(np.radians(theta)), np.cos(np.radians(theta))
    resisting = c + (soil_unit_weight - m * water_unit_weight) * z * cosine**2 * np.tan(np.radians(phi))
    driving = soil_unit_weight * z * sine * cosine
    level = driving == 0
    safety = np.where(level, np.inf, resisting / np.where(level, 1.0, driving))
    return np.asarray(np.where(np.isnan(resisting), np.nan, safety))


@dataclass(frozen=True)
class Soil:
    """One soil for the whole stack; by default the middle of the range of the synthetic scenes [O, risk.md].

    Attributes:
        cohesion: cohesion of soil and roots, kPa.
        friction: friction angle, degrees.
        depth: soil depth on level ground, m; it decreases with slope as exp(-0.6 tan theta), within 0.3-3 m.
        conductivity: saturated hydraulic conductivity, m/day.

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
                raise ConfigError(f"{field.name} of the soil is {value:g}", hint="Give a positive number")
        if self.friction >= 90:
            raise ConfigError(f"friction of the soil is {self.friction:g}", hint="Give degrees below 90")

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name):g}" for field in fields(self))

    @classmethod
    def from_text(cls, text: str) -> Soil:
        """Return the soil of a text such as "cohesion=4,friction=30"; other properties keep their defaults.

        Raises:
            ConfigError: if the text is not of this form.
            UnknownNameError: for a property that does not exist.
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
                raise ConfigError(f"{part!r} does not set a property of the soil", hint="Write cohesion=4,friction=30")
        return cls(**given)


def check_size(shape: tuple[int, ...], where: object = None) -> None:
    """Check the size of a terrain before it is read.

    Args:
        shape: (rows, columns).
        where: the file, for the message.

    Raises:
        DataError: if it has more pixels than :data:`MOST_PIXELS`.
    """
    pixels = math.prod(shape)
    if pixels > MOST_PIXELS:
        raise DataError(
            f"{pixels:,} pixels are too many: the upslope area needs all in memory, at most {MOST_PIXELS:,}",
            where=where,
            hint="Cut out a catchment, or use a coarser grid: gdalwarp -te ... or -tr ...",
        )


def safety_channels(
    elevation: NDArray[np.float32],
    slope: NDArray[np.float32],
    pixel_size: float,
    rain: tuple[float, float],
    soil: Soil | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return wetness and factor of safety under a rain.

    Closed basins are filled, and upslope area is shared among all lower neighbours
    (:func:`zoo.physics.flow.dispersed_area`), as in the synthetic scenes. Water from beyond the edge is unknown, so
    edges are too dry.

    Args:
        elevation: metres, (H, W), NaN where unknown.
        slope: degrees, (H, W), NaN where unknown.
        pixel_size: metres.
        rain: intensity in mm/h, duration in days.
        soil: soil of the whole area; None for the default one.

    Returns:
        wetness and factor of safety, float32 (H, W), NaN where elevation or slope is; the latter at most 10.

    Raises:
        DataError: if there are more pixels than :data:`MOST_PIXELS`, elevation is unknown everywhere, or rain is
            negative.
    """
    soil = soil or Soil()
    check_size(elevation.shape)
    recharge = storm_recharge(*rain)
    unknown = np.isnan(elevation)
    if unknown.all():
        raise DataError("elevation is unknown everywhere")
    # Unknown pixels are lower than all others and outlets, so that water leaves there.
    ground = np.where(unknown, np.nanmin(elevation), elevation).astype(np.float64)
    outlets = np.zeros(ground.shape, dtype=np.bool_)
    outlets[[0, -1]] = outlets[:, [0, -1]] = True
    outlets |= ndimage.binary_dilation(unknown, np.ones((3, 3), dtype=bool))
    filled = route(ground, pixel_size, outlets).filled(ground)
    area = dispersed_area(filled, pixel_size, np.zeros(filled.shape)) / pixel_size
    # Single precision may round 0 degrees to a negative number.
    steep = np.clip(np.where(np.isnan(slope), np.nan, slope.astype(np.float64)), 0.0, 89.9)
    depth = np.clip(soil.depth * np.exp(-0.6 * np.tan(np.radians(steep))), 0.3, 3.0)
    wetness = steady_wetness(recharge, area, soil.conductivity * depth, steep)
    safety = np.minimum(factor_of_safety(steep, wetness, soil.cohesion, soil.friction, depth), MOST_SAFETY)
    blank = unknown | np.isnan(steep)
    return (
        np.where(blank, np.nan, wetness).astype(np.float32),
        np.where(blank, np.nan, safety).astype(np.float32),
    )
