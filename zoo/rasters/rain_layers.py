"""Rain as a raster, read on the grid of a stack."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.grid import grid_crs
from zoo.rasters.layers import Layer, crs_name, open_layer, opened
from zoo.rasters.sources import BandFile
from zoo.rasters.stacking.channels import physical
from zoo.rasters.stacks import Stack

_INTENSITY_UNITS = frozenset({"", "unknown", "mm/h", "mm h-1", "mm/hr", "mm/hour", "mm h**-1"})
_DURATION_UNITS = frozenset({"", "unknown", "day", "days", "d"})


class RainLayers:
    """Rain intensity and duration on a stack's grid, read by windows; a context manager.

    Coarser rain is interpolated, finer rain averaged.

    Args:
        path: bands intensity (mm/h) and duration (days), in this order or named so; or intensity alone.
        like: the stack.
        duration: days, for a file of one band.

    Raises:
        DataError: if the file is missing or damaged, lies elsewhere, has no CRS, or says another unit.
        ConfigError: if one band comes without a duration, or two with one, or it is negative or not finite.
    """

    def __init__(self, path: str | os.PathLike[str], like: Stack, duration: float | None = None) -> None:
        self.path = os.fspath(path)
        if duration is not None and not 0 <= duration < math.inf:
            raise ConfigError(
                f"{duration:g} days of rain", where="option duration", hint="It is not negative, and finite"
            )
        with opened(self.path) as source:
            count, names = source.count, [(text or "").lower() for text in source.descriptions]
        if count == 1 and duration is None:
            raise ConfigError(
                "holds one band, the intensity", where=self.path, hint="Give the days that it rained: --duration 2"
            )
        if count >= 2 and duration is not None:
            raise ConfigError("holds a duration already", where=self.path, hint="Leave --duration out")
        if count > 2 and not {"intensity", "duration"} <= set(names):
            raise DataError(
                f"has {count} bands and does not say which is the rain",
                where=self.path,
                hint="Name two bands intensity and duration",
            )
        self._duration = duration
        bands = {"rain_intensity": _band(names, "intensity", 1)}
        if count >= 2:
            bands["rain_duration"] = _band(names, "duration", 2)
        grid = GeoBox(like.shape, like.transform, like.crs.to_wkt())
        self._exits = ExitStack()
        self._bands: dict[str, AlignedBand] = {}
        try:
            for role, band in bands.items():
                layer = open_layer(role, BandFile(self.path, band))
                _check_unit(layer)
                _check_place(layer, grid, like)
                self._bands[role] = self._exits.enter_context(AlignedBand(layer, grid))
        except BaseException:
            self._exits.close()
            raise

    @property
    def varies(self) -> tuple[str, ...]:
        """Of "intensity" and "duration", those that the file holds."""
        return ("intensity", "duration")[: len(self._bands)]

    def intensity(self, window: Window) -> NDArray[np.float32]:
        """mm/h in a window, float32, NaN where unknown."""
        return physical(self._bands["rain_intensity"], window)

    def duration(self, window: Window) -> NDArray[np.float32]:
        """Days in a window, float32, NaN where unknown."""
        if self._duration is not None:
            return np.full((int(window.height), int(window.width)), self._duration, dtype=np.float32)
        return physical(self._bands["rain_duration"], window)

    def close(self) -> None:
        """Close the file."""
        self._exits.close()

    def __enter__(self) -> RainLayers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _band(names: list[str], name: str, otherwise: int) -> int:
    return names.index(name) + 1 if name in names else otherwise


def _check_unit(layer: Layer) -> None:
    intensity = layer.role == "rain_intensity"
    if layer.unit.strip().lower() not in (_INTENSITY_UNITS if intensity else _DURATION_UNITS):
        what, unit = ("intensity", "mm/h") if intensity else ("duration", "days")
        raise DataError(
            f"band {layer.file.band} is in {layer.unit!r}, rain {what} is needed in {unit}",
            where=layer.path,
            hint="Convert it first, for instance with gdal_calc.py",
        )


def _check_place(layer: Layer, grid: GeoBox, like: Stack) -> None:
    left, bottom, right, top = layer.bounds(grid_crs(grid))
    box = grid.boundingbox
    if left >= box.right or right <= box.left or bottom >= box.top or top <= box.bottom:
        raise DataError(
            f"does not overlap {like.path}",
            where=layer.path,
            hint=f"Is it the rain of another place? The stack is in {crs_name(like.crs)}",
        )
