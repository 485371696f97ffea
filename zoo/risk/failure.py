"""Factor of safety of a stack under rain, for a certain or uncertain soil."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import check_output
from zoo.jobs import ProgressCallback
from zoo.physics import Band
from zoo.physics.rain import check_rain
from zoo.physics.stability import (
    MAX_SAFETY,
    SAFETY_CHANNELS,
    SAFETY_SOURCES,
    Soil,
    SoilRange,
    check_size,
    safety_channels,
    steady_rain,
    supplied_failure,
    upslope_area,
)
from zoo.rasters.alignment import RainLayers
from zoo.rasters.cog import CogWriter, check_geotiff_name
from zoo.rasters.ground import PixelAreas
from zoo.rasters.reading import gdal_threads
from zoo.rasters.stacks import SOFTWARE, TAG_RAIN, TAG_SOURCE, Stack
from zoo.risk.channel_values import check_values

FAILURE_CHANNELS: tuple[Band, ...] = (
    Band("failure_probability", "1", 0.0, 1.0, description="share of the random soils with a factor below 1"),
    Band("factor_of_safety", "1", 0.0, MAX_SAFETY, description="mean factor of safety of the random soils"),
    Band("factor_of_safety_spread", "1", 0.0, MAX_SAFETY, description="standard deviation of the factor of safety"),
)

WINDOW = 256
"""Side of a window in pixels; a window takes about a second."""


@dataclass(frozen=True)
class SafetyReport:
    """Summary of :func:`map_failure`.

    Attributes:
        out: output file.
        known: number of pixels with slope and elevation.
        likely_km2: area on the ground where the probability of failure is at least 0.5.
        expected_km2: sum of area x probability: the area that fails on average.
        area_km2: area of all known pixels.
    """

    out: Path
    known: int
    likely_km2: float
    expected_km2: float
    area_km2: float

    def __str__(self) -> str:
        likely, expected = self.likely_km2 / self.area_km2, self.expected_km2 / self.area_km2
        return (
            f"of {self.area_km2:,.3f} km2, {self.likely_km2:,.3f} ({likely:.1%}) are more likely to fail than not; "
            f"{self.expected_km2:,.3f} km2 ({expected:.1%}) fail on average"
        )


def map_failure(
    stack: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rain: tuple[float, float] | str | os.PathLike[str],
    duration: float | None = None,
    soil: SoilRange | None = None,
    draws: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> SafetyReport:
    """Map the probability that a slope fails under given rain when the soil is uncertain.

    The command is ``zoo risk safety``. Each pixel is an infinite slope. Its factor of safety is computed for many
    random soils, with the wetness that results from the rain and the upslope area
    (:func:`zoo.physics.failure_probability`). The upslope area needs the whole elevation in memory; the draws are
    computed window by window. Raster rain is summed over the upslope area of each pixel.

    Args:
        stack: raster with the bands ``slope`` (degree) and ``DEM`` (m) and square pixels in metres; ``zoo stack --dem``
            writes one.
        out: cloud-optimised GeoTIFF with the bands ``failure_probability``, ``factor_of_safety`` (mean) and
            ``factor_of_safety_spread`` (standard deviation), float32, NaN for nodata. It is written atomically.
        rain: intensity in mm/h and duration in days; or a raster with the bands intensity and duration, as
            :func:`zoo.rain` writes it, which covers the stack.
        duration: duration in days, if the raster holds only the intensity.
        soil: distributions of the soil's properties; ``None`` for those of the synthetic scenes.
        draws: number of random soils.
        seed: seed of the random soils.
        overwrite: replace an existing file.
        progress: called with the number of windows done and the total.

    Returns:
        The area that is more likely to fail than not, and the area that fails on average.

    Raises:
        DataError: if a band is missing or in another unit, pixels are not square metres, the stack is too large, or no
            pixel has both bands.
        ConfigError: if ``out`` exists or is not a GeoTIFF, ``draws`` is not positive, or a duration is given without a
            rain raster.

    Example:
        >>> import zoo
        >>> report = zoo.risk.safety("stack.tif", "failure.tif", rain=(12, 2))  # doctest: +SKIP
    """
    stack, out, soil = Path(stack), Path(out), soil or SoilRange()
    if isinstance(rain, tuple):
        check_rain(*rain, where="--rain")
        if duration is not None:
            raise ConfigError(
                "a duration can only be given with a rain raster",
                where="--duration",
                hint="Write --rain 12,2 (mm/h, days)",
            )
    check_geotiff_name(out)
    check_output(out, [stack, *([] if isinstance(rain, tuple) else [Path(rain)])], overwrite=overwrite)
    with gdal_threads(stack), Stack(stack) as opened:
        elevation, slope = read_terrain(opened)
        unknown = np.isnan(elevation)
        supply = upslope_area(elevation, opened.pixel_size or math.nan, _steady_rain(rain, duration, opened, unknown))
        supply[unknown] = np.nan
        # float32 may round 0 degrees to a negative number.
        np.clip(slope, 0.0, 89.9, out=slope)
        known, likely, expected, whole = 0, 0.0, 0.0, 0.0
        ground = PixelAreas(opened.crs, opened.transform, opened.shape)
        windows = list(opened.windows(WINDOW))
        with CogWriter(out, opened, FAILURE_CHANNELS, average=True) as writer:
            for number, window in enumerate(windows, 1):
                part = window.toslices()
                found = supplied_failure(slope[part], supply[part], soil, draws=draws, seed=seed)
                for band, values in zip(FAILURE_CHANNELS, found, strict=True):
                    writer.write(values.astype(np.float32), window, band.name)
                chances = found[0][np.isfinite(found[0])]
                size = ground.mean(window) / 1e6
                known += len(chances)
                whole += size * len(chances)
                likely += size * float(np.count_nonzero(chances >= 0.5))
                expected += size * float(chances.sum())
                if progress is not None:
                    progress(number, len(windows))
            if not known:
                raise DataError("no pixel has both slope and elevation", where=stack)
            tags = {
                **_tags(opened, soil, rain if isinstance(rain, tuple) else Path(rain).name),
                "DRAWS": str(draws),
                "SEED": str(seed),
            }
            writer.publish(tags)
    return SafetyReport(out, known, likely, expected, whole)


def _steady_rain(
    rain: tuple[float, float] | str | os.PathLike[str], duration: float | None, stack: Stack, unknown: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the steady rain of each pixel in m/day, float32 (H, W); 0 where elevation is unknown.

    Raises:
        DataError: if a raster lacks rain data in part of the stack, or has another unit.
    """
    if isinstance(rain, tuple):
        return np.where(unknown, 0, steady_rain(*rain)).astype(np.float32)
    found = np.empty(stack.shape, dtype=np.float32)
    with RainLayers(rain, stack, duration) as layers:
        for window in stack.windows():
            intensity, days = layers.intensity(window), layers.duration(window)
            check_rain(intensity, days, where=rain)
            found[window.toslices()] = steady_rain(intensity, days)
    found[unknown] = 0
    missing = int(np.count_nonzero(np.isnan(found)))
    if missing:
        raise DataError(
            f"has no rain in {missing / found.size:.1%} of the pixels, so the water on the slopes below is unknown",
            where=rain,
            hint="Give rain that covers the stack, or crop the stack to the rain",
        )
    return found


def map_safety(stack: Stack, out: Path, rain: tuple[float, float], soil: Soil | None = None) -> float:
    """Write the wetness and factor of safety of a stack as a cloud-optimised GeoTIFF with two bands.

    Args:
        stack: an open stack with bands ``slope`` (degree) and ``DEM`` (m) and square pixels in metres.
        out: output file.
        rain: intensity in mm/h, duration in days.
        soil: soil of the whole area.

    Returns:
        Share of the known pixels with a factor of safety below 1.

    Raises:
        DataError: if a band is missing or in another unit, pixels are not square metres, or the stack is too large.
        ZooError: if the file cannot be written.
    """
    soil = soil or Soil()
    elevation, slope = read_terrain(stack)
    made = safety_channels(elevation, slope, stack.pixel_size or math.nan, rain, soil)
    with CogWriter(out, stack, SAFETY_CHANNELS, average=True) as writer:
        for window in stack.windows():
            for band, values in zip(SAFETY_CHANNELS, made, strict=True):
                writer.write(np.ascontiguousarray(values[window.toslices()]), window, band.name)
        sources = {name: {TAG_SOURCE: source} for name, source in SAFETY_SOURCES.items()}
        writer.publish(_tags(stack, soil, rain), sources)
    known = np.isfinite(made[1])
    return float(np.mean(made[1][known] < 1)) if known.any() else math.nan


def read_terrain(stack: Stack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return elevation and slope of a whole stack, float32 (H, W), NaN where unknown.

    Raises:
        DataError: if a band is missing or in another unit, pixels are not square metres, or the stack is too large.
    """
    bands = {band.name: (number, band.unit) for number, band in enumerate(stack.bands)}
    for name, unit in (("slope", "degree"), ("DEM", "m")):
        if name not in bands:
            raise UnknownNameError("band", name, bands, where=stack.path)
        if bands[name][1] not in (unit, "unknown"):
            raise DataError(f"{name} is in {bands[name][1]!r}, but {unit!r} is needed", where=stack.path)
    if stack.pixel_size is None:
        raise DataError(
            "the flow of water needs square pixels in metres on the ground",
            where=stack.path,
            hint="Warp the stack to its UTM zone",
        )
    check_size(stack.shape, stack.path)
    check_values(stack, ("slope", "DEM"))
    terrain = np.empty((2, *stack.shape), dtype=np.float32)
    for window in stack.windows():
        terrain[:, *window.toslices()] = stack.read(window)[[bands["DEM"][0], bands["slope"][0]]]
    return terrain[0], terrain[1]


def _tags(stack: Stack, soil: Soil | SoilRange, rain: tuple[float, float] | str) -> dict[str, str]:
    described = rain if isinstance(rain, str) else f"{rain[0]:g},{rain[1]:g}"
    return {TAG_SOURCE: stack.path.name, **SOFTWARE, "SOIL": str(soil), TAG_RAIN: described}
