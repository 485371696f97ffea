"""Read a band, or rain, as if it lay on the grid of a stack."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics.rain import check_rain
from zoo.rasters.grid import grid_crs
from zoo.rasters.ground import crs_name
from zoo.rasters.layers import BandFile, Layer, open_layer
from zoo.rasters.reading import opened, readable
from zoo.rasters.stacks import Stack

CLASSES = frozenset({"scl"})
"""Roles whose numbers are names of classes: nothing lies between two of them."""

_SAME_LATTICE = 0.01
"""Pixels by which two grids may differ at the far corner and still count as one."""


class AlignedBand:
    """One layer on one grid; a context manager.

    A layer that already lies on the grid's lattice is read as it is. Any other goes through GDAL's warper: classes by
    the nearest pixel, quantities bilinearly where the grid is as fine or finer, and as the mean of the pixels below
    where it is coarser.

    Args:
        layer: what to read.
        grid: where to.

    Raises:
        DataError: if the file cannot be opened.

    Attributes:
        resampling: "none", "nearest", "bilinear" or "average".
    """

    def __init__(self, layer: Layer, grid: GeoBox) -> None:
        self.layer, self.grid = layer, grid
        self._shift = _shift(layer, grid)
        self.resampling = "none" if self._shift is not None else _method(layer, grid)
        self._stack = ExitStack()
        try:
            self._source: Any = self._stack.enter_context(opened(layer.path))
            self._index = layer.file.band
            flags = self._source.mask_flag_enums[self._index - 1]
            # GDAL takes alpha for a mask only in bands of whole numbers.
            alphas = [i for i, kind in enumerate(self._source.colorinterp, 1) if kind == ColorInterp.alpha]
            self._alpha: int = alphas[0] if alphas and alphas[0] != self._index else 0
            self._masked = bool(self._alpha) or MaskFlags.per_dataset in flags
            if self._shift is None:
                # GDAL warps every band of a file for the sake of one; alpha and masks would be lost with the others.
                if self._source.count > 1 and not self._masked and "?" not in layer.path:
                    self._source = self._stack.enter_context(opened(f"vrt://{layer.path}?bands={self._index}"))
                    self._index = 1
                self._source = self._stack.enter_context(self._warped(self._source))
        except BaseException:
            self._stack.close()
            raise

    def _warped(self, source: Any) -> Any:
        nodata = self.layer.nodata
        # GDAL looks at alpha and masks only where no number is said to mean nothing.
        if nodata is None and self.layer.dtype.kind == "f" and not self._masked:
            nodata = math.nan
        rows, columns = self.grid.shape
        return WarpedVRT(
            source,
            crs=grid_crs(self.grid),
            transform=self.grid.transform,
            width=columns,
            height=rows,
            resampling=Resampling[self.resampling],
            src_nodata=nodata,
            src_alpha=self._alpha,
            nodata=math.nan,
            dtype="float32",
            tolerance=0.01,
            warp_mem_limit=64,
        )

    def read(self, window: Window) -> NDArray[np.float32]:
        """Give the numbers in the file for a window of the grid.

        Args:
            window: within the grid.

        Returns:
            float32 (rows, columns), NaN where the file has nothing.

        Raises:
            DataError: if the file is truncated there.
        """
        with readable(self.layer.path):
            if self._shift is None:
                warped: NDArray[np.float32] = self._source.read(self._index, window=window)
                return warped
            return self._read_as_is(window)

    def _read_as_is(self, window: Window) -> NDArray[np.float32]:
        assert self._shift is not None
        rows, columns = self.layer.shape
        top, left = window.row_off + self._shift[0], window.col_off + self._shift[1]
        first = (max(top, 0), max(left, 0))
        last = (min(top + window.height, rows), min(left + window.width, columns))
        values = np.full((window.height, window.width), np.nan, dtype=np.float32)
        if first[0] >= last[0] or first[1] >= last[1]:
            return values
        part = Window(first[1], first[0], last[1] - first[1], last[0] - first[0])
        found = self._source.read(self._index, window=part)
        numbers = found.astype(np.float32)
        nodata = self.layer.nodata
        if nodata is not None and not math.isnan(nodata):
            numbers[found == (np.float32(nodata) if found.dtype == np.float32 else nodata)] = np.nan
        if self._masked:
            mask = self._source.read(self._alpha, window=part) if self._alpha else self._mask(part)
            numbers[mask == 0] = np.nan
        values[first[0] - top : last[0] - top, first[1] - left : last[1] - left] = numbers
        return values

    def _mask(self, window: Window) -> NDArray[np.uint8]:
        mask: NDArray[np.uint8] = self._source.read_masks(self._index, window=window)
        return mask

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> AlignedBand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shift(layer: Layer, grid: GeoBox) -> tuple[int, int] | None:
    """Rows and columns from the grid's pixels to the layer's, None when they do not coincide."""
    if layer.crs != grid_crs(grid):
        return None
    between = ~layer.transform * grid.transform
    rows, columns = grid.shape
    turned = max(abs(between.b) * rows, abs(between.d) * columns)
    drift = max(abs(between.a - 1) * columns, abs(between.e - 1) * rows, turned)
    row, column = round(between.f), round(between.c)
    if max(drift, abs(between.f - row), abs(between.c - column)) > _SAME_LATTICE:
        return None
    return row, column


def _method(layer: Layer, grid: GeoBox) -> str:
    if layer.role in CLASSES:
        return "nearest"
    box = grid.boundingbox
    width, height = layer.pixel_size_in(grid_crs(grid), ((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    transform: Affine = grid.transform
    # A few per cent are a change of projection, not of scale.
    return "average" if transform.a * -transform.e > width * height * 1.1 else "bilinear"


_INTENSITY_UNITS = frozenset({"", "unknown", "mm/h", "mm h-1", "mm/hr", "mm/hour", "mm h**-1"})
_DURATION_UNITS = frozenset({"", "unknown", "day", "days", "d"})
_TO_MM_PER_HOUR = {
    **dict.fromkeys(("mm/day", "mm/d", "mm d-1", "mm day-1"), "divide by 24"),
    **dict.fromkeys(("m", "m/h", "m h-1"), "multiply metres of each hour by 1000"),
    **dict.fromkeys(("kg m-2 s-1", "kg/m2/s", "mm/s", "mm s-1"), "multiply by 3600"),
    **dict.fromkeys(("m/s", "m s-1"), "multiply by 3,600,000"),
    "mm": "divide the depth by its hours",
}
_TO_DAYS = {
    **dict.fromkeys(("h", "hr", "hour", "hours"), "divide by 24"),
    **dict.fromkeys(("min", "minutes"), "divide by 1440"),
    **dict.fromkeys(("s", "sec", "seconds"), "divide by 86,400"),
}


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
            layers = {role: open_layer(role, BandFile(self.path, band)) for role, band in bands.items()}
            check_rain_layers(layers["rain_intensity"], layers.get("rain_duration", duration))
            for role, layer in layers.items():
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


def check_rain_layers(intensity: Layer, duration: Layer | float | None) -> None:
    """Check the units and values of rain rasters before anything is computed from them.

    Values are read at a low resolution, which is enough to recognise another unit.

    Args:
        intensity: raster in mm/h.
        duration: raster in days, or days.

    Raises:
        DataError: if a file states another unit, or rain is implausible; see :func:`zoo.physics.rain.check_rain`.
    """
    _check_unit(intensity)
    most = _overview(intensity)
    days = np.zeros(0, np.float32)
    if isinstance(duration, Layer):
        _check_unit(duration)
        days = _overview(duration)
        check_rain(0.0, days, duration.path)
    elif duration is not None:
        days = np.full(1, duration, np.float32)
    if most.size and days.size:
        # The rasters may have different grids: the largest intensity is compared with the shortest duration, which
        # allows the most.
        positive = days[days > 0]
        check_rain(most, positive.min() if positive.size else 0.0, intensity.path)


def _overview(layer: Layer) -> Values:
    """Return finite values of a band at a low resolution, (N,), in its unit."""
    with opened(layer.path) as source:
        shape = (min(source.height, 512), min(source.width, 512))
        values = source.read(layer.file.band, out_shape=shape, masked=True)
    found = in_unit(layer, values.compressed().astype(np.float32))
    return np.asarray(found[np.isfinite(found)], np.float32)


def _check_unit(layer: Layer) -> None:
    intensity = layer.role == "rain_intensity"
    unit = layer.unit.strip().lower()
    if unit in (_INTENSITY_UNITS if intensity else _DURATION_UNITS):
        return
    what, needed = ("intensity", "mm/h") if intensity else ("duration", "days")
    factor = (_TO_MM_PER_HOUR if intensity else _TO_DAYS).get(unit)
    hint = "Convert it first, for instance with gdal_calc.py"
    raise DataError(
        f"band {layer.file.band} is in {layer.unit!r}, but rain {what} is needed in {needed}",
        where=layer.path,
        hint=hint if factor is None else f"{hint}: {factor}",
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


Values: TypeAlias = NDArray[np.float32]


def physical(band: AlignedBand, window: Window) -> Values:
    """Values of a band that is no reflectance, in the unit of its file; NaN where there is nothing."""
    return in_unit(band.layer, band.read(window))


def in_unit(layer: Layer, values: Values) -> Values:
    """Numbers in a file that is no reflectance, as values in its unit: as the source says, else as its tags say."""
    file, (scale, offset) = layer.file, layer.tagged
    if file.scale not in (None, 1.0) or file.offset not in (None, 0.0):
        return (values + np.float32(file.offset or 0.0)) * np.float32(1.0 if file.scale is None else file.scale)
    return values if (scale, offset) == (1, 0) else values * np.float32(scale) + np.float32(offset)
