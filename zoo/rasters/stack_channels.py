"""Compute the channels of a stack from aligned bands.

:class:`ChannelMaker` computes the channels that need only one window at a time. The ``finish_`` functions then compute
those that need the whole scene: SMI by OPTRAM needs the edges of the scene, LSI the ranges of its features, and wetness
and factor of safety the flow of water.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import ConfigError, DataError
from zoo.physics import (
    PAPER_CHANNELS,
    FeatureRange,
    IndexParameters,
    OptramEdges,
    bsi,
    landslide_index,
    ndbi,
    ndmi,
    ndvi,
    ndwi,
    rainfall_factor,
    scale_moisture,
    slope_degrees,
    transformed_swir,
)
from zoo.physics.arrays import FloatArray
from zoo.physics.lsi import NegativeIndexWarning
from zoo.physics.rain import check_rain
from zoo.physics.running import PERCENTILES, BinnedMoments
from zoo.physics.stability import SAFETY_CHANNELS, Soil, safety_channels
from zoo.rasters.alignment import AlignedBand, Values, check_rain_layers, physical
from zoo.rasters.cog import CogWriter
from zoo.rasters.grid import grid_crs
from zoo.rasters.ground import true_scale
from zoo.rasters.layers import OPTICAL, Layer
from zoo.rasters.optical import Calibration, cloud_pixels

Moisture = Literal["product", "optram", "ndmi", "none"]

MOISTURE_SOURCES: tuple[Moisture, ...] = ("product", "optram", "ndmi", "none")
STR = "STR"
"""Transformed SWIR. It is stored in the SMI band until the edges that OPTRAM needs are known."""

_REQUIRED_ROLES: Mapping[str, tuple[str, ...]] = {
    "NDBI": ("swir", "nir"),
    "NDVI": ("nir", "red"),
    "NDWI": ("green", "nir"),
    "slope": ("dem",),
    "DEM": ("dem",),
}
_SMI_NEEDS: Mapping[str, tuple[str, ...]] = {
    "product": ("moisture",),
    "optram": ("swir2", "nir", "red"),
    "ndmi": ("nir", "swir"),
}
VALID_RANGES = {band.name: (band.valid_min or 0.0, band.valid_max or 0.0) for band in PAPER_CHANNELS}
VALID_RANGES["BSI"] = (-1.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """Channels of a stack.

    Attributes:
        channels: names of the channels, in the order of the paper; BSI, which only differences of dates use, is last.
        missing: reason for each channel that cannot be computed, by name.
        moisture: source of the SMI; "none" if there is no SMI.
    """

    channels: tuple[str, ...]
    missing: Mapping[str, str]
    moisture: Moisture


def plan_channels(roles: Collection[str], moisture: Moisture | None, weights: Collection[str]) -> Plan:
    """Choose the channels that can be computed from the given files.

    Args:
        roles: roles of the given files.
        moisture: source of the SMI; ``None`` for the moisture product if its file is given.
        weights: names of the channels that the risk index uses.

    Raises:
        ConfigError: if the source of the SMI needs a file that is not given, or if no source is chosen and every other
            channel can be computed.
        DataError: if no channel can be computed.
    """
    missing = {}
    for name, needed in _REQUIRED_ROLES.items():
        absent = [role for role in needed if role not in roles]
        if absent:
            missing[name] = f"no {' and no '.join(absent)}"
    if moisture is None and "moisture" in roles:
        moisture = "product"
    if moisture is None or moisture == "none":
        if moisture is None and not missing:
            raise ConfigError(
                "no source of soil moisture is chosen",
                where="SMI",
                hint="Choose --moisture FILE (a coarse product: SMAP, ERA5-Land), --optram B12.tif, or --moisture ndmi "
                "(which equals -NDBI). --moisture none leaves SMI and LSI out",
            )
        missing["SMI"] = "no source of soil moisture"
    else:
        absent = [role for role in _SMI_NEEDS[moisture] if role not in roles]
        if absent:
            raise ConfigError(f"SMI by {moisture} needs {' and '.join(absent)}", where="SMI", hint="Give the file")
    features = [name for name in weights if name in missing]
    if features:
        missing["LSI"] = f"no {', no '.join(features)}"
    channels = tuple(band.name for band in PAPER_CHANNELS if band.name not in missing)
    if not channels:
        raise DataError(
            f"no channel can be computed from {', '.join(sorted(roles))}" if roles else "no input file is given",
            hint="Give at least a DEM (slope, DEM), or red and NIR (NDVI)",
        )
    ordered = {band.name: missing[band.name] for band in PAPER_CHANNELS if band.name in missing}
    return Plan(channels, ordered, "none" if moisture is None else moisture)


class ChannelMaker:
    """Computes the channels of a window, except those that need the whole scene (SMI by OPTRAM, LSI).

    Args:
        plan: channels to compute.
        bands: bands by role, on one grid.
        calibrations: calibrations of the optical bands by role.
        moisture_range: dry and saturated value of the moisture product.

    Attributes:
        outside: number of pixels, by channel, that were outside the valid range of the channel and became nodata.
    """

    def __init__(
        self,
        plan: Plan,
        bands: Mapping[str, AlignedBand],
        calibrations: Mapping[str, Calibration],
        moisture_range: tuple[float, float],
    ) -> None:
        self._plan, self._bands, self._calibrations = plan, bands, calibrations
        self._moisture_range = moisture_range
        self.outside: dict[str, int] = {}
        self._scale = (0.0, 0.0)
        if "dem" in bands:
            grid = bands["dem"].grid
            box = grid.boundingbox
            crs = grid_crs(grid)
            across, along = true_scale(crs, (box.left + box.right) / 2, (box.bottom + box.top) / 2)
            self._scale = (-grid.transform.e * along, grid.transform.a * across)

    def make(self, window: Window) -> dict[str, Values]:
        """Return the channels of a window by name, float32, NaN where missing; ``STR`` for SMI by OPTRAM.

        Raises:
            DataError: if a file is truncated in this window.
        """
        wanted = set(self._plan.channels)
        made: dict[str, Values] = {}
        if "DEM" in wanted:
            made["slope"], made["DEM"] = self._terrain(window)
        optical = {role: self._reflectance(role, window) for role in OPTICAL if role in self._bands}
        if "NDBI" in wanted:
            made["NDBI"] = _single(ndbi(optical["swir"], optical["nir"]))
        if "NDVI" in wanted:
            made["NDVI"] = _single(ndvi(optical["nir"], optical["red"]))
        if "NDWI" in wanted:
            made["NDWI"] = _single(ndwi(optical["green"], optical["nir"]))
        if "BSI" in wanted:
            made["BSI"] = _single(bsi(optical["swir"], optical["red"], optical["nir"], optical["blue"]))
        if self._plan.moisture == "optram":
            made[STR] = _single(transformed_swir(optical["swir2"]))
        elif self._plan.moisture == "ndmi":
            # NDMI is in [-1, 1], the channel in [0, 1].
            made["SMI"] = (_single(ndmi(optical["nir"], optical["swir"])) + np.float32(1)) / np.float32(2)
        elif self._plan.moisture == "product":
            made["SMI"] = _single(scale_moisture(physical(self._bands["moisture"], window), *self._moisture_range))
        for name, values in made.items():
            if name in VALID_RANGES:
                self.outside[name] = self.outside.get(name, 0) + clear_outside(values, name)
        return made

    def _reflectance(self, role: str, window: Window) -> Values:
        """Return the reflectance of a band, NaN under clouds."""
        values = self._calibrations[role].apply(self._bands[role].read(window))
        if "scl" in self._bands:
            values[cloud_pixels(self._bands["scl"].read(window))] = np.nan
        return values

    def _terrain(self, window: Window) -> tuple[Values, Values]:
        """Return slope and elevation of a window; it is read with a margin for Horn's 3 x 3 kernel."""
        band = self._bands["dem"]
        rows, columns = band.grid.shape
        margin = 1 + band.reach
        top, left = min(window.row_off, margin), min(window.col_off, margin)
        bottom = min(rows - window.row_off - window.height, margin)
        right = min(columns - window.col_off - window.width, margin)
        wide = Window(
            window.col_off - left, window.row_off - top, window.width + left + right, window.height + top + bottom
        )
        inner = (slice(top, top + window.height), slice(left, left + window.width))
        elevation = physical(band, wide)
        # Count only the inner window, because the margin belongs to other windows.
        self.outside["DEM"] = self.outside.get("DEM", 0) + clear_outside(elevation[inner], "DEM")
        clear_outside(elevation, "DEM")
        slope = _single(slope_degrees(elevation, self._scale))
        if band.reach:
            # Extrapolated elevation is constant, so the slope there would be too small.
            flat = band.extrapolated(wide, elevation)
            slope[ndimage.binary_dilation(flat, np.ones((3, 3), bool))] = np.nan
        return slope[inner].copy(), elevation[inner].copy()


def clear_outside(values: Values, channel: str) -> int:
    """Replace values outside the valid range of a channel by NaN in place, and return their number."""
    low, high = VALID_RANGES[channel]
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high)
    count = int(outside.sum())
    if count:
        values[outside] = np.nan
    return count


def _single(values: FloatArray) -> Values:
    return values.astype(np.float32, copy=False)


VOLUMETRIC = (0.0, 0.5)
"""Dry and saturated soil moisture in m3/m3: half the volume of a loam is pores [O]."""

_UNITS = {
    "m3/m3": VOLUMETRIC,
    "m3 m-3": VOLUMETRIC,
    "m**3 m**-3": VOLUMETRIC,
    "m^3/m^3": VOLUMETRIC,
    "cm3/cm3": VOLUMETRIC,
    "cm3 cm-3": VOLUMETRIC,
    "1": (0.0, 1.0),
    "%": (0.0, 100.0),
    "percent": (0.0, 100.0),
}


def moisture_range(layer: Layer, numbers: NDArray[np.float32]) -> tuple[tuple[float, float], str]:
    """Choose the dry and the saturated value of a moisture product by its unit, or by its values if it has none.

    Args:
        layer: layer with the role ``moisture``.
        numbers: physical values of a sample of its pixels.

    Returns:
        (dry, saturated), and a sentence that gives the reason.

    Raises:
        DataError: if the unit is unknown, or the values are neither m3/m3 nor a share of saturation.
    """
    if layer.unit:
        unit = layer.unit.strip().lower()
        if unit not in _UNITS:
            raise DataError(
                f"the unit {layer.unit!r} of soil moisture is unknown",
                where=layer.path,
                hint="Give the dry and the saturated value: --moisture-range LOW,HIGH",
            )
        low, high = _UNITS[unit]
        return (low, high), f"{layer.label}: {layer.unit}, {low:g} counts as dry and {high:g} as saturated"
    known = numbers[np.isfinite(numbers)]
    if not known.size:
        return VOLUMETRIC, f"{layer.label}: no pixel of the stack has soil moisture"
    minimum, maximum = float(known.min()), float(known.max())
    if minimum < 0 or maximum > 1:
        raise DataError(
            f"soil moisture ranges from {minimum:.3g} to {maximum:.3g} and has no unit",
            where=layer.path,
            hint="Give the dry and the saturated value: --moisture-range LOW,HIGH (0,100 for percent)",
        )
    low, high = VOLUMETRIC if maximum <= 0.6 else (0.0, 1.0)
    kind = "m3/m3" if maximum <= 0.6 else "a share of saturation"
    return (low, high), (
        f"{layer.label} has no unit: {minimum:.3g} to {maximum:.3g} was read as {kind}, {low:g} dry and {high:g} "
        "saturated. To set it, use --moisture-range LOW,HIGH"
    )


def finish_optram(writer: CogWriter, edges: OptramEdges, statistics: BinnedMoments, steps: Iterator[Window]) -> None:
    """Replace STR in the band SMI by soil moisture, window by window.

    Args:
        writer: writer of the stack, with STR in the band SMI, and NDVI.
        edges: OPTRAM edges of this scene.
        statistics: statistics of SMI, updated here.
        steps: windows that cover the grid once.
    """
    for window in steps:
        values = edges.moisture(writer.read(window, "NDVI"), writer.read(window, "SMI")).astype(np.float32)
        statistics.add(values)
        writer.write(values, window, "SMI")


def choose_ranges(index: IndexParameters, statistics: Mapping[str, BinnedMoments], scene: str) -> IndexParameters:
    """Return index parameters with ranges: their own, or the 0.5-99.5 percentiles of this scene.

    Args:
        index: parameters with or without ranges.
        statistics: statistics of every weighted channel by name.
        scene: name of this scene, recorded as the source of the ranges.

    Raises:
        DataError: if a weighted channel is constant in the scene.
    """
    if index.ranges:
        return index if index.source else replace(index, source="the weights file")
    ranges = {}
    for name in index.weights:
        low, high = (statistics[name].percentile(percent) for percent in PERCENTILES)
        if not low < high:
            raise DataError(
                f"{name} is {low:.6g} in the whole scene, but the index needs a range to scale it",
                hint="Use the ranges of another scene (--weights FILE) or leave SMI and LSI out (--moisture none)",
            )
        ranges[name] = FeatureRange(low, high)
    return replace(index, ranges=ranges, source=f"{scene}, its own {PERCENTILES[0]}-{PERCENTILES[1]} percentiles")


def rain_factor(
    index: IndexParameters, rain: tuple[float, float] | None, bands: Mapping[str, AlignedBand]
) -> tuple[Callable[[Window], FloatArray | float], str]:
    """Return a function of R_m by window, and a sentence about its source.

    Args:
        index: parameters with reference rain, exponents and clip.
        rain: (mm/h, days) of the whole scene; ``None`` to use rasters or the reference rain.
        bands: bands by role, with or without ``rain_intensity`` and ``rain_duration``.

    Raises:
        ConfigError: if rain is given twice, or only one of the two rasters is given.
        DataError: if rain is in another unit or implausible.
    """
    given = [role for role in ("rain_intensity", "rain_duration") if role in bands]
    clip = index.rain_clip
    bounds = "not clipped" if clip is None else f"clipped to {clip[0]:g}-{clip[1]:g}"
    if rain is not None:
        if given:
            raise ConfigError("rain is given both as numbers and as rasters", hint="Give only one of them")
        check_rain(*rain, where="--rain")
        free = float(rainfall_factor(*rain, index.rain_parameters))
        factor = float(rainfall_factor(*rain, index.rain_parameters, clip))
        cut = "" if factor == free else f" (clipped from {free:.3g})"
        return lambda window: factor, f"rain {rain[0]:g} mm/h over {rain[1]:g} days: R_m = {factor:.3g}{cut}"
    if not given:
        return lambda window: 1.0, "no rain is given, so R_m = 1 (the reference rain)"
    if len(given) == 1:
        raise ConfigError(
            f"only {given[0].replace('_', ' ')} is given",
            hint="Give both --rain-intensity FILE and --rain-duration FILE",
        )

    check_rain_layers(bands["rain_intensity"].layer, bands["rain_duration"].layer)

    def by_window(window: Window) -> FloatArray:
        intensity, duration = (physical(bands[role], window) for role in ("rain_intensity", "rain_duration"))
        return rainfall_factor(intensity, duration, index.rain_parameters, clip)

    return by_window, f"rain from rasters; R_m {bounds}"


def finish_index(
    writer: CogWriter,
    index: IndexParameters,
    factor: Callable[[Window], FloatArray | float],
    statistics: BinnedMoments,
    steps: Iterator[Window],
) -> float:
    """Write the band LSI, window by window.

    Args:
        writer: writer of the stack, with all weighted channels.
        index: parameters with ranges.
        factor: function that returns R_m of a window.
        statistics: statistics of LSI, updated here.
        steps: windows that cover the grid once.

    Returns:
        Share of the valid pixels, 0..1, whose weighted sum is negative, so that more rain lowers the index.
    """
    negative = 0
    for window in steps:
        features = {name: writer.read(window, name) for name in index.weights}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NegativeIndexWarning)
            values = landslide_index(features, index.ranges, factor(window), index.weights).astype(np.float32)
        negative += int((values < 0.5).sum())
        statistics.add(values)
        writer.write(values, window, "LSI")
    return negative / statistics.count if statistics.count else 0.0


def finish_safety(
    writer: CogWriter,
    pixel_metres: float,
    rain: tuple[float, float],
    soil: Soil,
    statistics: Mapping[str, BinnedMoments],
    steps: Iterator[Window],
) -> float:
    """Write the bands wetness and factor_of_safety.

    Args:
        writer: writer of the stack, with slope and DEM; its size must pass :func:`zoo.physics.stability.check_size`.
        pixel_metres: side of a pixel in metres.
        rain: intensity in mm/h and duration in days.
        soil: soil parameters of the whole scene.
        statistics: statistics of both bands by name, updated here.
        steps: windows that cover the grid once.

    Returns:
        Share of the valid pixels, 0..1, whose factor of safety is below 1.

    Raises:
        DataError: if the rain is negative or not finite.
    """
    rows, columns = writer.shape
    whole = Window(0, 0, columns, rows)
    made = safety_channels(writer.read(whole, "DEM"), writer.read(whole, "slope"), pixel_metres, rain, soil)
    for window in steps:
        part = window.toslices()
        for band, values in zip(SAFETY_CHANNELS, made, strict=True):
            cut = np.ascontiguousarray(values[part])
            statistics[band.name].add(cut)
            writer.write(cut, window, band.name)
    known = np.isfinite(made[1])
    return float(np.mean(made[1][known] < 1)) if known.any() else 0.0
