"""Read a band or rain on the grid of a stack."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine, array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import ConfigError, DataError
from zoo.files import Closable
from zoo.physics.rain import TO_MM, TO_MM_PER_HOUR, check_rain
from zoo.rasters.grid import grid_box, grid_crs
from zoo.rasters.ground import crs_name
from zoo.rasters.layers import CLASS_ROLES, BandFile, Layer, open_layer
from zoo.rasters.reading import RasterReader, opened, readable
from zoo.rasters.stacks import SAME_LATTICE, Stack

MARGIN = 0.05
"""Tolerance of the warper at the edge of a layer, in pixels."""

Values: TypeAlias = NDArray[np.float32]

_UNKNOWN_UNITS = frozenset({"", "unknown"})
_TO_DAYS = {
    **dict.fromkeys(("day", "days", "d"), 1.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("min", "minutes"), 1 / 1440),
    **dict.fromkeys(("s", "sec", "seconds"), 1 / 86_400),
}


class AlignedBand(Closable):
    """One layer on one grid; a context manager.

    A layer whose pixels coincide with those of the grid is read unchanged. Any other layer is warped by GDAL: classes
    with nearest neighbour, quantities with bilinear interpolation, or with the mean if the grid is coarser.

    Args:
        layer: the header of the band.
        grid: the target grid.

    Raises:
        DataError: if the file cannot be opened.

    Attributes:
        resampling: "none", "nearest", "bilinear" or "average".
        codes: missing codes without a nodata tag, if the layer is warped.
    """

    def __init__(self, layer: Layer, grid: GeoBox) -> None:
        self.layer, self.grid = layer, grid
        self._shift = _shift(layer, grid)
        self.resampling = "none" if self._shift is not None else _method(layer, grid)
        self.codes: tuple[float, ...] = ()
        self._exits = ExitStack()
        try:
            self._reader = self._exits.enter_context(RasterReader(layer.path, classes=layer.role in CLASS_ROLES))
            self._position = [band.index for band in self._reader.bands].index(layer.file.band)
            if self._shift is None:
                self._open_warped()
        except BaseException:
            self._exits.close()
            raise

    def _open_warped(self) -> None:
        reader, layer = self._reader, self.layer
        if reader.bands[self._position].own_mask:
            raise DataError(
                f"band {layer.file.band} has its own mask, which cannot be resampled",
                where=layer.path,
                hint="Write its missing pixels as a nodata number first, or give files of one grid",
            )
        masked = bool(reader.alpha) or reader.masked
        source, self._index = reader.source, layer.file.band
        # GDAL would warp all bands of the file. A VRT of one band avoids this, but it has no alpha band or mask.
        if source.count > 1 and not masked and "?" not in layer.path:
            source = self._exits.enter_context(opened(f"vrt://{layer.path}?bands={self._index}"))
            self._index = 1
        # GDAL must know every missing code, or it would interpolate even a single such pixel with its neighbours.
        self.codes = reader.find_codes(self._position, self._covered_window())
        numbers = [*self.codes, *(() if layer.nodata is None or math.isnan(layer.nodata) else (layer.nodata,))]
        if len(numbers) > 1:
            raise DataError(
                f"several numbers mark missing values: {', '.join(f'{number:g}' for number in numbers)}",
                where=layer.path,
                hint="Replace them by one number and name it: gdal_calc.py ... --NoDataValue, or gdalwarp -srcnodata",
            )
        nodata = numbers[0] if numbers else layer.nodata
        # GDAL uses alpha bands and masks only if there is no nodata value.
        if nodata is None and layer.dtype.kind == "f" and not masked:
            nodata = math.nan
        rows, columns = self.grid.shape
        with readable(layer.path):
            self._warped: Any = self._exits.enter_context(
                WarpedVRT(
                    source,
                    crs=grid_crs(self.grid),
                    transform=self.grid.transform,
                    width=columns,
                    height=rows,
                    resampling=Resampling[self.resampling],
                    src_nodata=nodata,
                    src_alpha=reader.alpha,
                    nodata=math.nan,
                    dtype="float32",
                    tolerance=0.01,
                    warp_mem_limit=64,
                )
            )

    def _covered_window(self) -> Window:
        """Return the window of the layer under the grid, with a margin; the whole layer if it is unknown."""
        rows, columns = self.layer.shape
        full = Window(0, 0, columns, rows)
        try:
            left, bottom, right, top = transform_bounds(
                grid_crs(self.grid), self.layer.crs, *array_bounds(*self.grid.shape, self.grid.transform)
            )
        except RasterioError:
            return full
        # Across the antimeridian GDAL returns the right side as a western longitude.
        if not all(map(math.isfinite, (left, bottom, right, top))) or left > right:
            return full
        x, y = ~self.layer.transform * (np.array([left, right]), np.array([top, bottom]))
        margin = 2 + math.ceil(max(np.ptp(x) / self.grid.shape[1], np.ptp(y) / self.grid.shape[0]))
        (first_row, last_row), (first_column, last_column) = (
            (max(0, math.floor(places.min()) - margin), min(side, math.ceil(places.max()) + margin))
            for places, side in ((y, rows), (x, columns))
        )
        return Window(first_column, first_row, max(0, last_column - first_column), max(0, last_row - first_row))

    def read(self, window: Window) -> Values:
        """Return the numbers in the file for a window of the grid.

        Args:
            window: window within the grid.

        Returns:
            float32 (rows, columns), NaN where the file has no data.

        Raises:
            DataError: if the file is truncated in the window.
        """
        if self._shift is not None:
            return self._read_as_is(window, self._shift)
        with readable(self.layer.path):
            warped: Values = self._warped.read(self._index, window=window)
        return warped

    def _read_as_is(self, window: Window, shift: tuple[int, int]) -> Values:
        rows, columns = self.layer.shape
        top, left = window.row_off + shift[0], window.col_off + shift[1]
        first = (max(top, 0), max(left, 0))
        last = (min(top + window.height, rows), min(left + window.width, columns))
        values = np.full((window.height, window.width), np.nan, dtype=np.float32)
        if first[0] >= last[0] or first[1] >= last[1]:
            return values
        part = Window(first[1], first[0], last[1] - first[1], last[0] - first[0])
        numbers = self._reader.numbers(part, [self._position])[0]
        nodata = self.layer.nodata
        if nodata is not None and nodata != self._reader.bands[self._position].nodata and not math.isnan(nodata):
            numbers[numbers == np.float32(nodata)] = np.nan
        values[first[0] - top : last[0] - top, first[1] - left : last[1] - left] = numbers
        return values

    @property
    def reach(self) -> int:
        """Distance in grid pixels around missing pixels within which values are repeated: half a layer pixel."""
        if self.resampling != "bilinear":
            return 0
        width, height = self.layer.pixel_size_in(grid_crs(self.grid), _centre(self.grid))
        grid_pixel = min(abs(self.grid.transform.a), abs(self.grid.transform.e))
        return math.ceil(max(width, height) / grid_pixel / 2 - 1e-6)

    def extrapolated(self, window: Window, values: Values) -> NDArray[np.bool_]:
        """Return the mask of values in a window that were not interpolated between known pixels.

        Outside the centres of the outermost known pixels, at the edge of the layer and around holes, the warper repeats
        the nearest value. Gradients are wrong there.

        Args:
            window: window within the grid.
            values: result of :meth:`read` for the window, float32 (rows, columns).

        Returns:
            bool (rows, columns).
        """
        if not self.reach:
            return np.zeros(values.shape, bool)
        # Distances are measured along rows and columns, so a diagonal neighbour is one step away.
        square = np.ones((3, 3), bool)
        outside = ndimage.binary_dilation(np.isnan(values), square, iterations=self.reach)
        return outside | ~self._inside_layer(window, 0.5)

    def covers(self, window: Window) -> NDArray[np.bool_]:
        """Return the mask of pixel centres of a window that are inside the layer, bool (rows, columns)."""
        return self._inside_layer(window, MARGIN)

    def _inside_layer(self, window: Window, margin: float) -> NDArray[np.bool_]:
        """Return the mask of pixels of a window at least ``margin`` layer pixels inside the edges of the layer."""
        rows, columns = np.arange(window.height) + 0.5, np.arange(window.width) + 0.5
        place = self.grid.transform * Affine.translation(window.col_off, window.row_off)
        height, width = self.layer.shape
        slack = 1e-6 * max(height, width)
        if self.layer.crs == grid_crs(self.grid):
            between = ~self.layer.transform * place
            x, y = between.a * columns + between.c, between.e * rows + between.f
            across = (x >= margin - slack) & (x <= width - margin + slack)
            down = (y >= margin - slack) & (y <= height - margin + slack)
            inside: NDArray[np.bool_] = down[:, None] & across[None, :]
            return inside
        xs, ys = place.a * columns + place.c, place.e * rows + place.f
        edge_x = np.concatenate([xs, xs, np.full(len(ys), xs[0]), np.full(len(ys), xs[-1])])
        edge_y = np.concatenate([np.full(len(xs), ys[0]), np.full(len(xs), ys[-1]), ys, ys])
        if self._points_inside_layer(edge_x, edge_y, margin - slack).all():
            return np.ones((len(rows), len(columns)), bool)
        grid_x, grid_y = np.meshgrid(xs, ys)
        return self._points_inside_layer(grid_x.ravel(), grid_y.ravel(), margin - slack).reshape(grid_x.shape)

    def _points_inside_layer(self, x: NDArray[np.float64], y: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
        longitude, latitude = transform_points(grid_crs(self.grid), self.layer.crs, x, y)
        to_pixels = ~self.layer.transform
        column = to_pixels.a * np.asarray(longitude) + to_pixels.c
        row = to_pixels.e * np.asarray(latitude) + to_pixels.f
        height, width = self.layer.shape
        inside: NDArray[np.bool_] = (column >= margin) & (column <= width - margin)
        inside &= (row >= margin) & (row <= height - margin)
        return inside

    def close(self) -> None:
        """Close the file."""
        self._exits.close()


def physical(band: AlignedBand, window: Window) -> Values:
    """Return the values of a non-optical band in the unit of its file, NaN where it has no data."""
    return in_unit(band.layer, band.read(window))


def in_unit(layer: Layer, numbers: Values) -> Values:
    """Convert the numbers of a file to its unit, with the offset and scale of ``layer.file`` or else its tags.

    Use :mod:`zoo.rasters.optical` for reflectances.
    """
    file, (scale, offset) = layer.file, layer.tagged
    if file.scale not in (None, 1.0) or file.offset not in (None, 0.0):
        return (numbers + np.float32(file.offset or 0.0)) * np.float32(1.0 if file.scale is None else file.scale)
    return numbers if (scale, offset) == (1, 0) else numbers * np.float32(scale) + np.float32(offset)


def _shift(layer: Layer, grid: GeoBox) -> tuple[int, int] | None:
    """Return the rows and columns from the grid's pixels to the layer's; ``None`` if the lattices differ."""
    if layer.crs != grid_crs(grid):
        return None
    between = ~layer.transform * grid.transform
    rows, columns = grid.shape
    drift = max(abs(between.a - 1) * columns, abs(between.e - 1) * rows)
    row, column = round(between.f), round(between.c)
    if max(drift, abs(between.f - row), abs(between.c - column)) > SAME_LATTICE:
        return None
    return row, column


def _method(layer: Layer, grid: GeoBox) -> str:
    if layer.role in CLASS_ROLES:
        return "nearest"
    width, height = layer.pixel_size_in(grid_crs(grid), _centre(grid))
    # A difference of a few per cent comes from the projection, not from the pixel size.
    return "average" if abs(grid.transform.determinant) > width * height * 1.1 else "bilinear"


def _centre(grid: GeoBox) -> tuple[float, float]:
    box = grid.boundingbox
    return (box.left + box.right) / 2, (box.bottom + box.top) / 2


class RainLayers(Closable):
    """Rain intensity and duration on a stack's grid, read window by window; a context manager.

    Coarser rain is interpolated, finer rain is averaged.

    Args:
        path: a file with the bands intensity (mm/h) and duration (days), in this order or with these names; or with
            intensity only.
        like: the stack.
        duration: duration in days, for a file with one band.

    Raises:
        DataError: if the file is missing or damaged, covers another area, has no georeference, or is in another unit.
        ConfigError: if a file with one band has no duration, a file with two bands has one, or the duration is
            negative or infinite.
    """

    def __init__(self, path: str | os.PathLike[str], like: Stack, duration: float | None = None) -> None:
        self.path = os.fspath(path)
        if duration is not None and not 0 <= duration < math.inf:
            raise ConfigError(
                f"{duration:g} days of rain are not possible",
                where="option duration",
                hint="Give a finite number of days, at least 0",
            )
        with RasterReader(self.path) as reader:
            names = [band.name.lower() for band in reader.bands]
        count = len(names)
        if count == 1 and duration is None:
            raise ConfigError(
                "holds one band, the intensity", where=self.path, hint="Give the days that it rained: --duration 2"
            )
        if count >= 2 and duration is not None:
            raise ConfigError("already holds a duration", where=self.path, hint="Leave --duration out")
        if count > 2 and not {"intensity", "duration"} <= set(names):
            raise DataError(
                f"has {count} bands, and it is unknown which of them is the rain",
                where=self.path,
                hint="Name two bands intensity and duration",
            )
        self._duration = duration
        bands = {"rain_intensity": _band(names, "intensity", 1)}
        if count >= 2:
            bands["rain_duration"] = _band(names, "duration", 2)
        grid = grid_box(like)
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
        """The quantities that the file holds: "intensity", or "intensity" and "duration"."""
        return ("intensity", "duration")[: len(self._bands)]

    def intensity(self, window: Window) -> Values:
        """Return mm/h in a window, float32, NaN where unknown."""
        return physical(self._bands["rain_intensity"], window)

    def duration(self, window: Window) -> Values:
        """Return days in a window, float32, NaN where unknown."""
        if self._duration is not None:
            return np.full((int(window.height), int(window.width)), self._duration, dtype=np.float32)
        return physical(self._bands["rain_duration"], window)

    def close(self) -> None:
        """Close the file."""
        self._exits.close()


def _band(names: list[str], name: str, otherwise: int) -> int:
    return names.index(name) + 1 if name in names else otherwise


def check_rain_layers(intensity: Layer, duration: Layer | float | None) -> None:
    """Check the units and values of rain rasters before anything is computed from them.

    Values are read at a low resolution, which is enough to recognise a wrong unit.

    Args:
        intensity: raster in mm/h.
        duration: raster in days, or a number of days.

    Raises:
        DataError: if a file states another unit, or rain is implausible; see :func:`zoo.physics.rain.check_rain`.
    """
    _check_unit(intensity)
    overview = _overview(intensity)
    days = np.zeros(0, np.float32)
    if isinstance(duration, Layer):
        _check_unit(duration)
        days = _overview(duration)
        check_rain(0.0, days, duration.path)
    elif duration is not None:
        days = np.full(1, duration, np.float32)
    if overview.size and days.size:
        # The rasters may have different grids, so compare the largest intensity with the shortest duration, the most
        # permissive pair.
        positive = days[days > 0]
        check_rain(overview, positive.min() if positive.size else 0.0, intensity.path)


def _overview(layer: Layer) -> Values:
    """Return finite values of a band at a low resolution, (N,), in its unit."""
    with RasterReader(layer.path) as reader:
        return in_unit(layer, reader.sample(layer.file.band))


def _check_unit(layer: Layer) -> None:
    intensity = layer.role == "rain_intensity"
    unit = layer.unit.strip().lower()
    factor = (TO_MM_PER_HOUR if intensity else _TO_DAYS).get(unit)
    if unit in _UNKNOWN_UNITS or factor == 1:
        return
    quantity, needed = ("intensity", "mm/h") if intensity else ("duration", "days")
    hint = "Convert it first, for instance with gdal_calc.py"
    if factor is not None:
        hint += f": multiply by {factor:,.0f}" if factor > 1 else f": divide by {1 / factor:,.0f}"
    elif intensity and unit in TO_MM:
        hint = "Divide the depth by its duration in hours, or make the raster with zoo rain"
    raise DataError(
        f"band {layer.file.band} is in {layer.unit!r}, but rain {quantity} is needed in {needed}",
        where=layer.path,
        hint=hint,
    )


def _check_place(layer: Layer, grid: GeoBox, like: Stack) -> None:
    left, bottom, right, top = layer.bounds(grid_crs(grid))
    box = grid.boundingbox
    if left >= box.right or right <= box.left or bottom >= box.top or top <= box.bottom:
        raise DataError(
            f"does not overlap {like.name}",
            where=layer.path,
            hint=f"Is it rain for another area? The stack is in {crs_name(like.crs)}",
        )
