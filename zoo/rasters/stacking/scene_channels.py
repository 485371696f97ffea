"""Channels that need the whole scene first: SMI by OPTRAM (its edges), LSI (ranges), wetness and safety (flow)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics import FeatureRange, IndexParameters, OptramEdges, landslide_index, rainfall_factor
from zoo.physics.arrays import FloatArray
from zoo.physics.lsi import NegativeIndexWarning
from zoo.physics.slope_safety import SAFETY_CHANNELS, Soil, safety_channels
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.cog import StackWriter
from zoo.rasters.stacking.channels import physical
from zoo.rasters.stacking.moments import RunningStatistics

OWN_PERCENTILES = (0.5, 99.5)


def finish_optram(
    writer: StackWriter, edges: OptramEdges, statistics: RunningStatistics, steps: Iterator[Window]
) -> None:
    """Turn STR in the band SMI into soil moisture, window by window.

    Args:
        writer: with STR in the band SMI, and NDVI.
        edges: of this scene.
        statistics: of SMI, which is filled.
        steps: windows that cover the grid once.
    """
    for window in steps:
        values = edges.moisture(writer.read("NDVI", window), writer.read("SMI", window)).astype(np.float32)
        statistics.add(values)
        writer.write("SMI", values, window)


def settle_ranges(index: IndexParameters, statistics: Mapping[str, RunningStatistics], scene: str) -> IndexParameters:
    """Give the parameters with ranges: their own, or the 0.5-99.5 percentiles of this scene.

    Args:
        index: with or without ranges.
        statistics: of every weighted channel.
        scene: what this scene is called in the parameters' source.

    Raises:
        DataError: if a weighted channel is the same all over the scene.
    """
    if index.ranges:
        return index if index.source else replace(index, source="the weights file")
    ranges = {}
    for name in index.weights:
        low, high = (statistics[name].percentile(percent) for percent in OWN_PERCENTILES)
        if not low < high:
            raise DataError(
                f"{name} is {low:.6g} all over the scene, and the index needs a range to scale it with",
                hint="--weights FILE brings the ranges of another scene; --moisture none leaves SMI and LSI out",
            )
        ranges[name] = FeatureRange(low, high)
    return replace(
        index, ranges=ranges, source=f"{scene}, its own {OWN_PERCENTILES[0]}-{OWN_PERCENTILES[1]} percentiles"
    )


def rain_factor(
    index: IndexParameters, rain: tuple[float, float] | None, bands: Mapping[str, AlignedBand]
) -> tuple[Callable[[Window], FloatArray | float], str]:
    """Give R_m by window, and the sentence that says where it comes from.

    Args:
        index: reference rain, exponents and clip.
        rain: (mm/h, days) for the whole scene.
        bands: aligned ones; ``rain_intensity`` and ``rain_duration`` among them or not.

    Raises:
        ConfigError: if rain is given twice, or one of the two rasters alone.
    """
    given = [role for role in ("rain_intensity", "rain_duration") if role in bands]
    clip = index.rain_clip
    bounds = "not clipped" if clip is None else f"clipped to {clip[0]:g}-{clip[1]:g}"
    if rain is not None:
        if given:
            raise ConfigError("rain is given both as numbers and as a raster")
        free = float(rainfall_factor(*rain, index.rain_parameters))
        factor = float(rainfall_factor(*rain, index.rain_parameters, clip))
        cut = "" if factor == free else f" (clipped from {free:.3g})"
        return lambda window: factor, f"rain {rain[0]:g} mm/h over {rain[1]:g} days: R_m = {factor:.3g}{cut}"
    if not given:
        return lambda window: 1.0, "no rain is given: R_m = 1, the reference rain"
    if len(given) == 1:
        raise ConfigError(f"{given[0].replace('_', ' ')} is given without its companion", hint="Give both rasters")

    def by_window(window: Window) -> FloatArray:
        intensity, duration = (physical(bands[role], window) for role in ("rain_intensity", "rain_duration"))
        return rainfall_factor(intensity, duration, index.rain_parameters, clip)

    return by_window, f"rain from rasters; R_m {bounds}"


def finish_index(
    writer: StackWriter,
    index: IndexParameters,
    factor: Callable[[Window], FloatArray | float],
    statistics: RunningStatistics,
    steps: Iterator[Window],
) -> float:
    """Write the band LSI, window by window.

    Args:
        writer: with all weighted channels.
        index: with ranges.
        factor: R_m of a window.
        statistics: of LSI, which is filled.
        steps: windows that cover the grid once.

    Returns:
        share of the valid pixels where the weighted sum is negative: more rain lowers the index there.
    """
    negative = 0
    for window in steps:
        features = {name: writer.read(name, window) for name in index.weights}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NegativeIndexWarning)
            values = landslide_index(features, index.ranges, factor(window), index.weights).astype(np.float32)
        negative += int((values < 0.5).sum())
        statistics.add(values)
        writer.write("LSI", values, window)
    return negative / statistics.valid if statistics.valid else 0.0


def finish_safety(
    writer: StackWriter,
    pixel_metres: float,
    rain: tuple[float, float],
    soil: Soil,
    statistics: Mapping[str, RunningStatistics],
    steps: Iterator[Window],
) -> float:
    """Write the bands wetness and factor_of_safety.

    Args:
        writer: with slope and DEM, of a size that :func:`zoo.physics.slope_safety.check_size` lets pass.
        pixel_metres: side of a pixel.
        rain: intensity in mm/h, duration in days.
        soil: of the whole scene.
        statistics: of both bands, which are filled.
        steps: windows that cover the grid once.

    Returns:
        share of the known pixels whose factor of safety is below 1.

    Raises:
        DataError: if the rain is negative or not finite.
    """
    rows, columns = writer.grid.shape
    whole = Window(0, 0, columns, rows)
    made = safety_channels(writer.read("DEM", whole), writer.read("slope", whole), pixel_metres, rain, soil)
    for window in steps:
        part = window.toslices()
        for band, values in zip(SAFETY_CHANNELS, made, strict=True):
            cut = np.ascontiguousarray(values[part])
            statistics[band.name].add(cut)
            writer.write(band.name, cut, window)
    known = np.isfinite(made[1])
    return float(np.mean(made[1][known] < 1)) if known.any() else 0.0
