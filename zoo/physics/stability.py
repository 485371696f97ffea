"""Wetness and factor of safety of shallow soil on a slope under rain: two channels in addition to the paper's seven."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

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
"""Days of rain after which the soil reaches 63 % of its steady-state wetness [O]."""

MAX_PIXELS = 16_000_000
"""Maximum pixels of a terrain. Water can come from anywhere upslope, so the whole elevation is in memory; flow routing
needs about 300 bytes per pixel, which is 5 GB for this many pixels."""

MAX_SAFETY = 10.0
"""Upper limit of the factor of safety in outputs [O]; on level ground the factor is infinite."""

SAFETY_CHANNELS: tuple[Band, ...] = (
    Band("wetness", "1", 0.0, 1.0, description="saturated share of the soil, Montgomery & Dietrich (1994)"),
    Band("factor_of_safety", "1", 0.0, MAX_SAFETY, description="factor of an infinite slope; below 1 it fails"),
)

SAFETY_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "wetness": "steady wetness (Montgomery & Dietrich 1994), water shared among lower neighbours",
        "factor_of_safety": f"infinite slope, at most {MAX_SAFETY:g}",
    }
)
"""Description of how each channel is computed."""


def storm_recharge(intensity: float, duration: float) -> float:
    """Return the steady recharge, m/day, that wets the soil as much as rain of finite duration [O].

    Long rain leads to the steady-state wetness; short rain reaches the share 1 - exp(-D / 0.7 days) of it.

    Args:
        intensity: rain intensity P, mm/h.
        duration: rain duration D, days.

    Raises:
        DataError: if either is negative or not finite.
    """
    for what, value, unit in (("intensity", intensity, "mm/h"), ("duration", duration, "days")):
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"the rain {what} is {value:g} {unit}", hint="Give a finite number of at least 0")
    return INFILTRATION * float(steady_rain(intensity, duration))


def steady_rain(intensity: npt.ArrayLike, duration: npt.ArrayLike) -> FloatArray:
    """Return the steady rain, m/day, that wets the soil as much as rain of finite duration.

    See :func:`storm_recharge`.

    Args:
        intensity: rain intensity P, mm/h, at least 0; NaN where unknown.
        duration: rain duration D, days, broadcastable with ``intensity``.

    Returns:
        The broadcast shape.
    """
    return np.asarray(as_float(intensity) * 24.0 / 1000.0 * (1.0 - np.exp(-as_float(duration) / RESPONSE)))


def steady_wetness(
    recharge: npt.ArrayLike, specific_area: npt.ArrayLike, transmissivity: npt.ArrayLike, slope: npt.ArrayLike
) -> FloatArray:
    """Return m = min(1, R a / (T sin theta)): Montgomery & Dietrich (1994), Water Resources Research 30, 1153 [S].

    Subsurface flow parallel to the slope balances steady rain; water that the soil cannot carry runs off.

    Args:
        recharge: rain R that enters the soil, m/day.
        specific_area: upslope area a per metre of contour, m.
        transmissivity: transmissivity T = Ks z of the saturated soil, m2/day.
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
    # Level ground without rain (0 / 0) is dry. The comparison avoids a division by a capacity that underflows.
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
        wetness: saturated share m of the soil, [0, 1].
        cohesion: cohesion c of soil and roots together, kPa.
        friction_angle: friction angle phi, degrees, [0, 90).
        depth: vertical soil depth z, m, above 0.
        soil_unit_weight: unit weight of moist soil g, kN/m3.
        water_unit_weight: unit weight of water gw, kN/m3.

    Returns:
        dimensionless, the broadcast shape; infinite on level ground, NaN where an input is NaN.

    Raises:
        DataError: if an argument is out of range, or a unit weight is not positive.
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


_PLAUSIBLE: Mapping[str, tuple[float, float, str]] = MappingProxyType(
    {
        "cohesion": (0.0, 200.0, "It is in kPa; 5000 Pa are 5 kPa"),
        "friction": (2.0, 90.0, "It is in degrees; 0.58 rad are 33 degrees"),
        "depth": (0.1, 20.0, "It is in metres; 170 cm are 1.7 m"),
        "conductivity": (1e-3, 1e4, "It is in metres a day; 1e-5 m/s are 0.86 m/day"),
    }
)
"""Plausible minimum and maximum of each soil property, and a hint for values outside, probably in another unit [O]."""


@dataclass(frozen=True)
class Soil:
    """Soil properties for the whole stack; by default the middle of the ranges of the synthetic scenes [O, risk.md].

    Attributes:
        cohesion: cohesion of soil and roots, kPa.
        friction: friction angle, degrees.
        depth: soil depth on level ground, m; it decreases with slope as exp(-0.6 tan theta), within 0.3-3 m.
        conductivity: saturated hydraulic conductivity, m/day.

    Raises:
        ConfigError: if a number is out of range.
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
        for name, (low, high, hint) in _PLAUSIBLE.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} of the soil is {value:g}, outside {low:g} to {high:g}", hint=hint)

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name):g}" for field in fields(self))

    @classmethod
    def from_text(cls, text: str) -> Soil:
        """Parse a soil from text such as "cohesion=4,friction=30"; other properties keep their defaults.

        Raises:
            ConfigError: if the text is not of this form.
            UnknownNameError: if a property does not exist.
        """
        return cls(**dict(_properties(text, cls, float, "cohesion=4,friction=30")))


Range = tuple[float, float, float]
"""Lowest, most likely and highest value of a triangular distribution."""


@dataclass(frozen=True)
class SoilRange:
    """Uncertain soil properties for the whole stack: independent triangular distributions.

    The defaults are the ranges of the synthetic scenes [O, risk.md].

    Attributes:
        cohesion: cohesion of soil and roots, kPa.
        friction: friction angle, degrees.
        depth: soil depth on level ground, m; see :class:`Soil`.
        conductivity: saturated hydraulic conductivity, m/day.
        infiltration: share of the rain that infiltrates, 0..1.

    Raises:
        ConfigError: if a number is out of range, or a range is not increasing.
    """

    cohesion: Range = (2.0, 5.0, 11.0)
    friction: Range = (28.0, 33.0, 38.0)
    depth: Range = (1.2, 1.7, 2.2)
    conductivity: Range = (5.0, 12.0, 20.0)
    infiltration: Range = (0.5, INFILTRATION, 0.9)

    def __post_init__(self) -> None:
        for field in fields(self):
            low, mode, high = getattr(self, field.name)
            if not low <= mode <= high:
                raise ConfigError(
                    f"{field.name} of the soil is {low:g}:{mode:g}:{high:g}, which does not rise",
                    hint="Write the lowest, the most likely and the highest value, such as 2:5:11",
                )
        for place in (0, 2):
            named = {field.name: getattr(self, field.name)[place] for field in fields(self)}
            share = named.pop("infiltration")
            if not 0 <= share <= 1:
                raise ConfigError(f"infiltration of the soil is {share:g}", hint="Give a share from 0 to 1")
            Soil(**named)

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {_range_text(getattr(self, field.name))}" for field in fields(self))

    @classmethod
    def from_text(cls, text: str) -> SoilRange:
        """Parse ranges from text such as "cohesion=2:5:11,friction=33"; a single number is certain.

        Raises:
            ConfigError: if the text is not of this form, or a range is not possible.
            UnknownNameError: if a property does not exist.
        """
        return cls(**dict(_properties(text, cls, _parse_range, "cohesion=2:5:11,friction=28:33:38")))

    def draw(self, count: int, seed: int = 0) -> dict[str, FloatArray]:
        """Draw random soils; return float64 (count,) by property.

        A Latin hypercube covers the range of each property evenly (McKay, Beckman & Conover 1979) [S].
        """
        names = [field.name for field in fields(self)]
        from scipy.stats import qmc  # the import takes half a second, too long for every command

        shares = qmc.LatinHypercube(len(names), seed=np.random.default_rng(seed)).random(count)
        return {name: _quantile(getattr(self, name), shares[:, place]) for place, name in enumerate(names)}


def _properties(text: str, kind: type[Any], parse: Callable[[str], Any], example: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each property in text of the form ``name=value,name=value``."""
    names = [field.name for field in fields(kind)]
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in names:
            raise UnknownNameError("property of the soil", name, names)
        try:
            yield name, parse(value)
        except ValueError as error:
            raise ConfigError(f"{part!r} does not set a property of the soil", hint=f"Write {example}") from error


def _parse_range(text: str) -> Range:
    low, mode, high = (float(one) for one in (text.split(":") if ":" in text else [text] * 3))
    return low, mode, high


def _range_text(values: Range) -> str:
    return f"{values[0]:g}" if values[0] == values[2] else ":".join(f"{value:g}" for value in values)


def _quantile(values: Range, share: FloatArray) -> FloatArray:
    """Return the quantiles of a triangular distribution."""
    low, mode, high = values
    rising = low + np.sqrt(share * (high - low) * (mode - low))
    falling = high - np.sqrt((1 - share) * (high - low) * (high - mode))
    return np.asarray(np.where(share * (high - low) < mode - low, rising, falling))


def check_size(shape: tuple[int, ...], where: object = None) -> None:
    """Check the size of a terrain before it is read.

    Args:
        shape: (rows, columns).
        where: the file, for the message.

    Raises:
        DataError: if the terrain has more pixels than :data:`MAX_PIXELS`.
    """
    pixels = math.prod(shape)
    if pixels > MAX_PIXELS:
        raise DataError(
            f"{pixels:,} pixels are too many: the upslope area needs all in memory, at most {MAX_PIXELS:,}",
            where=where,
            hint="Cut out a catchment, or use a coarser grid: gdalwarp -te ... or -tr ...",
        )


def upslope_area(elevation: NDArray[np.float32], pixel_size: float, weight: npt.ArrayLike | None = None) -> FloatArray:
    """Return the upslope area per metre of contour, m, of each pixel; with a weight, the weighted area.

    Closed basins are filled, and area is shared among all lower neighbours
    (:func:`zoo.physics.flow.dispersed_area`), as in the synthetic scenes. Inflow from outside the grid is unknown, so
    the edges are too dry.

    Args:
        elevation: metres, (H, W), NaN where unknown.
        pixel_size: metres.
        weight: weight per square metre, (H, W), such as its rain in m/day, which gives m2/day; None for 1.

    Raises:
        DataError: if there are more pixels than :data:`MAX_PIXELS`, or elevation is unknown everywhere.
    """
    check_size(elevation.shape)
    unknown = np.isnan(elevation)
    if unknown.all():
        raise DataError("elevation is unknown everywhere")
    # Unknown pixels are the lowest and are outlets, so that water leaves there.
    ground = np.where(unknown, np.nanmin(elevation), elevation).astype(np.float64)
    outlets = np.zeros(ground.shape, dtype=np.bool_)
    outlets[[0, -1]] = outlets[:, [0, -1]] = True
    outlets |= ndimage.binary_dilation(unknown, np.ones((3, 3), dtype=bool))
    filled = route(ground, pixel_size, outlets).filled(ground)
    further = np.zeros(filled.shape) if weight is None else pixel_size**2 * (np.asarray(weight, np.float64) - 1)
    return np.asarray(dispersed_area(filled, pixel_size, further) / pixel_size)


def safety_channels(
    elevation: NDArray[np.float32],
    slope: NDArray[np.float32],
    pixel_size: float,
    rain: tuple[float, float],
    soil: Soil | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the wetness and the factor of safety under rain.

    Args:
        elevation: metres, (H, W), NaN where unknown; see :func:`upslope_area`.
        slope: degrees, (H, W), NaN where unknown.
        pixel_size: metres.
        rain: intensity in mm/h, duration in days.
        soil: soil of the whole area; None for the default.

    Returns:
        wetness and factor of safety, float32 (H, W), NaN where elevation or slope is NaN; the factor is at most 10.

    Raises:
        DataError: if there are more pixels than :data:`MAX_PIXELS`, elevation is unknown everywhere, or rain is
            negative.
    """
    soil = soil or Soil()
    recharge = storm_recharge(*rain)
    area = upslope_area(elevation, pixel_size)
    # float32 may round 0 degrees to a negative number.
    steep = np.clip(np.where(np.isnan(slope), np.nan, slope.astype(np.float64)), 0.0, 89.9)
    depth = np.clip(soil.depth * np.exp(-0.6 * np.tan(np.radians(steep))), 0.3, 3.0)
    wetness = steady_wetness(recharge, area, soil.conductivity * depth, steep)
    safety = np.minimum(factor_of_safety(steep, wetness, soil.cohesion, soil.friction, depth), MAX_SAFETY)
    blank = np.isnan(elevation) | np.isnan(steep)
    return (np.where(blank, np.nan, wetness).astype(np.float32), np.where(blank, np.nan, safety).astype(np.float32))


CHUNK_PIXELS = 16_384
"""Pixels per chunk: small enough for the arrays to stay in the CPU cache."""


def failure_probability(
    slope: npt.ArrayLike,
    specific_area: npt.ArrayLike,
    rain: tuple[float, float],
    soil: SoilRange,
    *,
    draws: int = 1000,
    seed: int = 0,
    soil_unit_weight: float = SOIL_UNIT_WEIGHT,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the failure probability of an infinite slope with uncertain soil, by Monte Carlo simulation [S].

    The factor of safety is that of :func:`factor_of_safety`. All pixels use the same random soils, so that
    differences between pixels come from the terrain only.

    Args:
        slope: slope theta, degrees, [0, 90), NaN where unknown.
        specific_area: upslope area per metre of contour, m, NaN where unknown.
        rain: intensity in mm/h, duration in days.
        soil: distributions of the soil's properties.
        draws: number of random soils. The standard error of a probability p is at most sqrt(p (1 - p) / draws).
        seed: random seed.
        soil_unit_weight: unit weight of moist soil g, kN/m3.

    Returns:
        The share of soils with a factor of safety below 1, and the mean and standard deviation of the factor, clipped
        to 10; the broadcast shape, NaN where an input is NaN.

    Raises:
        DataError: if the slope is outside [0, 90), or area or rain is negative.
        ConfigError: if ``draws`` is not positive.
    """
    # The recharge is proportional to the share of rain that infiltrates.
    supply = storm_recharge(*rain) / INFILTRATION * as_float(specific_area)
    return supplied_failure(slope, supply, soil, draws=draws, seed=seed, soil_unit_weight=soil_unit_weight)


def supplied_failure(
    slope: npt.ArrayLike,
    supply: npt.ArrayLike,
    soil: SoilRange,
    *,
    draws: int = 1000,
    seed: int = 0,
    soil_unit_weight: float = SOIL_UNIT_WEIGHT,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the results of :func:`failure_probability` for rain that varies in space.

    Args:
        slope: slope theta, degrees, [0, 90), NaN where unknown.
        supply: steady rain (:func:`steady_rain`) on the upslope area per metre of contour, m2/day, NaN where unknown.
        soil, draws, seed, soil_unit_weight: see :func:`failure_probability`.
    """
    if draws < 1:
        raise ConfigError(f"{draws} random soils", hint="Give a number such as 1000")
    theta, water = np.broadcast_arrays(as_float(slope), as_float(supply))
    if np.any(theta < 0) or np.any(theta >= 90) or np.any(water < 0):
        raise DataError("the slope is outside 0-90 degrees, or the upslope area is negative")
    soils = soil.draw(draws, seed)
    found = np.full((3, theta.size), np.nan)
    known = np.flatnonzero(np.isfinite(theta) & np.isfinite(water))
    flat_theta, flat_water = theta.ravel(), water.ravel()
    for start in range(0, len(known), CHUNK_PIXELS):
        part = known[start : start + CHUNK_PIXELS]
        found[:, part] = _failure(np.radians(flat_theta[part]), flat_water[part], soils, soil_unit_weight)
    probability, mean, deviation = found.reshape(3, *theta.shape)
    return probability, mean, deviation


def _failure(
    theta: FloatArray, supply: FloatArray, soils: Mapping[str, FloatArray], unit_weight: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the three results of :func:`failure_probability` for one chunk; ``supply`` is rain x area, m2/day."""
    # Level ground is infinitely safe, and saturated unless there is no supply.
    tangent, sine = np.maximum(np.tan(theta), 1e-9), np.maximum(np.sin(theta), 1e-9)
    shallow, squared, per_sine = np.exp(-0.6 * tangent), np.cos(theta) ** 2, supply / sine
    failed, total, squares = (np.zeros(len(theta)) for _ in range(3))
    depth, safety = np.empty(len(theta)), np.empty(len(theta))
    friction = np.tan(np.radians(soils["friction"]))
    for number in range(len(friction)):
        np.multiply(shallow, soils["depth"][number], out=depth)
        np.clip(depth, 0.3, 3.0, out=depth)
        # wetness m
        np.divide(per_sine, depth, out=safety)
        safety *= soils["infiltration"][number] / soils["conductivity"][number]
        np.minimum(safety, 1.0, out=safety)
        # (1 - m gw / g) tan(phi) + c / (g z cos^2), which is FS tan(theta)
        safety *= -friction[number] * WATER_UNIT_WEIGHT / unit_weight
        safety += friction[number]
        depth *= squared
        np.divide(soils["cohesion"][number] / unit_weight, depth, out=depth)
        safety += depth
        safety /= tangent
        np.minimum(safety, MAX_SAFETY, out=safety)
        failed += safety < 1
        total += safety
        safety *= safety
        squares += safety
    count = len(friction)
    mean = total / count
    return failed / count, mean, np.sqrt(np.maximum(squares / count - mean**2, 0.0))
