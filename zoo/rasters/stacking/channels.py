"""The channels of a window, computed from aligned bands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_CHANNELS, ndbi, ndmi, ndvi, ndwi, scale_moisture, slope_degrees, transformed_swir
from zoo.physics.arrays import FloatArray
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.grid import grid_crs
from zoo.rasters.layers import Layer, linear_metres
from zoo.rasters.sources import OPTICAL
from zoo.rasters.stacking.optical import Calibration, clouded

Values: TypeAlias = NDArray[np.float32]
Moisture = Literal["product", "optram", "ndmi", "none"]

MOISTURE_SOURCES: tuple[Moisture, ...] = ("product", "optram", "ndmi", "none")
STR = "STR"
"""Transformed SWIR, computed instead of SMI on the way to OPTRAM."""

_NEEDS: Mapping[str, tuple[str, ...]] = {
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


@dataclass(frozen=True)
class Plan:
    """Which channels are made.

    Attributes:
        channels: names, in the paper's order.
        missing: why the others are not made.
        moisture: source of the SMI; "none" when there is no SMI.
    """

    channels: tuple[str, ...]
    missing: Mapping[str, str]
    moisture: Moisture


def plan_channels(roles: Collection[str], moisture: Moisture | None, weights: Collection[str]) -> Plan:
    """Decide which of the seven channels the given files allow.

    Args:
        roles: of the files that are given.
        moisture: source of the SMI; None for the product where one is given.
        weights: channels that the risk index is made of.

    Raises:
        ConfigError: if the source of the SMI needs a file that is not given, or all but it is given and no source is
            named.
        DataError: if no channel can be made.
    """
    missing = {}
    for name, needed in _NEEDS.items():
        absent = [role for role in needed if role not in roles]
        if absent:
            missing[name] = f"no {' and no '.join(absent)}"
    if moisture is None and "moisture" in roles:
        moisture = "product"
    if moisture is None or moisture == "none":
        if moisture is None and not missing:
            raise ConfigError(
                "no source of soil moisture is chosen, and there are three",
                where="SMI",
                hint="--moisture FILE (a coarse product: SMAP, ERA5-Land), --optram B12.tif, or --moisture ndmi (which "
                "is -NDBI over again); --moisture none leaves SMI and LSI out",
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
            "no channel can be made of " + (", ".join(sorted(roles)) or "nothing"),
            hint="The fewest are a DEM (slope, DEM), or red and NIR (NDVI)",
        )
    ordered = {band.name: missing[band.name] for band in PAPER_CHANNELS if band.name in missing}
    return Plan(channels, ordered, "none" if moisture is None else moisture)


class ChannelMaker:
    """Computes a window's channels, all but those that need the whole scene first (SMI by OPTRAM, LSI).

    Args:
        plan: what is to be made.
        bands: by role, on one grid.
        calibrations: of the optical bands, by role.
        moisture_range: dry and saturated value of the moisture product.

    Attributes:
        outside: pixels by channel that were outside the channel's valid range and became nodata.
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

    def make(self, window: Window) -> dict[str, Values]:
        """Give the channels of a window by name, float32, NaN where there is nothing; ``STR`` for SMI by OPTRAM.

        Raises:
            DataError: if a file is truncated there.
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
        if self._plan.moisture == "optram":
            made[STR] = _single(transformed_swir(optical["swir2"]))
        elif self._plan.moisture == "ndmi":
            # The index lies in [-1, 1], and the channel in [0, 1].
            made["SMI"] = (_single(ndmi(optical["nir"], optical["swir"])) + np.float32(1)) / np.float32(2)
        elif self._plan.moisture == "product":
            made["SMI"] = _single(scale_moisture(physical(self._bands["moisture"], window), *self._moisture_range))
        for name, values in made.items():
            if name in VALID_RANGES:
                self.outside[name] = self.outside.get(name, 0) + clear_outside(values, name)
        return made

    def _reflectance(self, role: str, window: Window) -> Values:
        values = self._calibrations[role].apply(self._bands[role].read(window))
        if "scl" in self._bands:
            values[clouded(self._bands["scl"].read(window))] = np.nan
        return values

    def _terrain(self, window: Window) -> tuple[Values, Values]:
        """Slope and elevation; Horn's window reaches one pixel beyond, where the grid goes on."""
        band = self._bands["dem"]
        rows, columns = band.grid.shape
        top, left = min(window.row_off, 1), min(window.col_off, 1)
        bottom = min(rows - window.row_off - window.height, 1)
        right = min(columns - window.col_off - window.width, 1)
        wide = Window(
            window.col_off - left, window.row_off - top, window.width + left + right, window.height + top + bottom
        )
        inner = (slice(top, top + window.height), slice(left, left + window.width))
        elevation = physical(band, wide)
        # Counted before the rim is cleared too: a rim is another window's.
        self.outside["DEM"] = self.outside.get("DEM", 0) + clear_outside(elevation[inner], "DEM")
        clear_outside(elevation, "DEM")
        metres = linear_metres(grid_crs(band.grid))
        transform = band.grid.transform
        slope = _single(slope_degrees(elevation, (-transform.e * metres, transform.a * metres)))
        return slope[inner].copy(), elevation[inner].copy()


def physical(band: AlignedBand, window: Window) -> Values:
    """Values of a band that is no reflectance, in the unit of its file; NaN where there is nothing."""
    return in_unit(band.layer, band.read(window))


def in_unit(layer: Layer, values: Values) -> Values:
    """Numbers in a file that is no reflectance, as values in its unit: as the source says, else as its tags say."""
    file, (scale, offset) = layer.file, layer.tagged
    if file.scale not in (None, 1.0) or file.offset not in (None, 0.0):
        return (values + np.float32(file.offset or 0.0)) * np.float32(1.0 if file.scale is None else file.scale)
    return values if (scale, offset) == (1, 0) else values * np.float32(scale) + np.float32(offset)


def clear_outside(values: Values, channel: str) -> int:
    """Turn what the channel cannot hold into NaN, in place, and count it."""
    low, high = VALID_RANGES[channel]
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high)
    count = int(outside.sum())
    if count:
        values[outside] = np.nan
    return count


def _single(values: FloatArray) -> Values:
    return values.astype(np.float32, copy=False)
