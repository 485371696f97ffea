"""Rasters of several bands read by windows: one file (:class:`Stack`) or several (:class:`Mosaic`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics.bands import Band
from zoo.rasters.ground import crs_name, metres_per_pixel
from zoo.rasters.reading import first_line, small_cache

TAG_FORMAT = "ZOO_STACK"
TAG_SCENE = "SCENE"
TAG_DATE = "DATE"
TAG_PHASE = "PHASE"
TAG_RAIN = "RAIN"
TAG_SOURCE = "SOURCE"
TAG_VALID = ("VALID_MIN", "VALID_MAX")
FORMAT_VERSION = "1"


class Stack:
    """Bands of one grid in one file, read window by window; a context manager.

    Band names, units and valid ranges come from descriptions, units and tags; a band without them is ``band_3`` in
    "unknown". In what :meth:`read` gives, nodata (tag, internal mask, alpha) is NaN, and the file's scales and offsets
    are applied: a unit is that of the scaled values.

    Args:
        path: anything GDAL opens, with a CRS and more than nothing in it.

    Raises:
        DataError: if the file is missing, damaged, has no CRS, or its grid is rotated.

    Attributes:
        bands: one entry a band, alpha left out.
        crs: coordinate reference system.
        transform: from (column, row) to coordinates.
        shape: (rows, columns).
        pixel_size: side of a pixel in metres; None for degrees, or when pixels are not square.
        tags: everything the file says of itself, such as ``SCENE``, ``DATE``, ``PHASE`` and ``RAIN``.
        made_by_zoo: whether ``zoo stack`` wrote it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # An address such as s3://bucket/scene.tif would lose a slash as a path.
        self.name = os.fspath(path)
        self.path = Path(path)
        try:
            self._source: Any = rasterio.open(path)
        except (RasterioError, OSError) as error:
            raise self._unreadable(error) from error
        try:
            self._describe()
        except BaseException:
            self._source.close()
            raise

    def _describe(self) -> None:
        source = self._source
        meanings = zip(source.indexes, source.colorinterp, strict=True)
        self._indexes = [band for band, meaning in meanings if meaning != ColorInterp.alpha]
        if source.crs is None:
            raise DataError(
                "has no coordinate reference system, so nothing can be laid over it",
                where=self.path,
                hint="Set one with: gdal_edit.py -a_srs EPSG:CODE FILE",
            )
        self.crs: CRS = source.crs
        self.transform: Affine = source.transform
        if self.transform.b or self.transform.d:
            raise DataError(
                "its grid is rotated", where=self.path, hint="Warp it to a north-up grid first: gdalwarp IN OUT"
            )
        self.shape: tuple[int, int] = (source.height, source.width)
        self.pixel_size = metres_per_pixel(source)
        self.tags: Mapping[str, str] = source.tags()
        self.made_by_zoo = TAG_FORMAT in self.tags
        self.bands: tuple[Band, ...] = tuple(self._band(index) for index in self._indexes)
        self._masked = MaskFlags.per_dataset in source.mask_flag_enums[0]

    def _band(self, index: int) -> Band:
        tags = self._source.tags(index)
        low, high = (float(tags[name]) if name in tags else None for name in TAG_VALID)
        nodata = self._source.nodatavals[index - 1]
        return Band(
            name=self._source.descriptions[index - 1] or f"band_{index}",
            unit=self._source.units[index - 1] or "unknown",
            valid_min=low,
            valid_max=high,
            nodata=None if nodata is None else float(nodata),
            description=tags.get(TAG_SOURCE, ""),
        )

    def band_tags(self, band: int) -> Mapping[str, str]:
        """What the file says of one band: source, statistics.

        Args:
            band: position in ``bands``, from 0.
        """
        tags: Mapping[str, str] = self._source.tags(self._indexes[band])
        return tags

    def read(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Give the pixels of a window.

        Args:
            window: within the raster; None for all of it.
            bands: positions in ``bands``, in the order wanted; None for all.

        Returns:
            float32 (C, rows, columns), in the units of ``bands``, NaN where there is nothing.

        Raises:
            DataError: if the file is truncated there.
        """
        indexes = self._indexes if bands is None else [self._indexes[band] for band in bands]
        try:
            image: NDArray[np.float32] = self._source.read(indexes, window=window, out_dtype=np.float32)
            for values, index in zip(image, indexes, strict=True):
                nodata = self._source.nodatavals[index - 1]
                if nodata is not None and not math.isnan(nodata):
                    values[values == np.float32(nodata)] = np.nan
                scale, offset = self._source.scales[index - 1], self._source.offsets[index - 1]
                if (scale, offset) != (1, 0):
                    values *= np.float32(scale)
                    values += np.float32(offset)
            if self._masked:
                image[:, self._source.dataset_mask(window=window) == 0] = np.nan
        except (RasterioError, OSError) as error:
            raise self._unreadable(error) from error
        return image

    @property
    def files(self) -> tuple[str, ...]:
        """The file and those that it refers to, such as the sources of a VRT, as GDAL names them."""
        return tuple(self._source.files)

    @property
    def scaled(self) -> bool:
        """Whether the numbers in the file are others than :meth:`read` gives: scaled, or with an offset."""
        return any(self._source.scales[index - 1] != 1 or self._source.offsets[index - 1] for index in self._indexes)

    def windows(self, size: int = 1024) -> Iterator[Window]:
        """Give windows of at most ``size`` x ``size`` pixels that cover each pixel once, line by line."""
        rows, columns = self.shape
        for row in range(0, rows, size):
            for column in range(0, columns, size):
                yield Window(column, row, min(size, columns - column), min(size, rows - row))

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unreadable(self, error: Exception) -> DataError:
        if not self.name.startswith("/vsi") and "://" not in self.name and not self.path.exists():
            return DataError("there is no such file", where=self.name)
        return DataError(
            "cannot be read as a raster: it is truncated or not what its name says",
            where=self.name,
            hint=f"Copy it again ({first_line(error)})",
        )


MOST_FILES = 500
"""Files that are held open at a time; systems allow 1024 as a rule."""

_SAME_LATTICE = 0.01
"""Pixels by which two rasters may be off each other's lattice and still count as on it."""


@dataclass(frozen=True)
class _Place:
    """Where a file lies in the mosaic, and which of the mosaic's bands its own are."""

    stack: Stack
    row: int
    column: int
    bands: Mapping[int, int]


class Mosaic:
    """Rasters of one lattice, read window by window; a context manager. Each file is opened once.

    A band is known by its name. Files may lie side by side, hold different bands of one place, or both; where two have
    the same band of the same pixel, the first one given that has a value counts. What no file has is NaN.

    Args:
        paths: one file or more, anything that GDAL opens, VRT and its virtual file systems included.

    Raises:
        DataError: if a file is missing or damaged, has no CRS, a rotated grid or two bands of one name;
            or if the files differ in CRS, pixel size, lattice or the unit of a band.
        ConfigError: for no files, or too many.

    Attributes:
        bands: one entry a band.
        crs, transform, shape: of the grid that covers all files.
        pixel_size: side of a pixel in metres; None for degrees, or when pixels are not square.
        tags: what the first file says of itself.
        paths: as they were given.
    """

    def __init__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        if isinstance(paths, (str, os.PathLike)):
            paths = [paths]
        if not paths:
            raise ConfigError("no raster is given", hint="Name one file or more")
        if len(paths) > MOST_FILES:
            raise ConfigError(
                f"{len(paths)} rasters are more than the {MOST_FILES} that are held open",
                hint="Make one of them first: gdalbuildvrt scene.vrt FILES",
            )
        self.paths = tuple(os.fspath(path) for path in paths)
        self._exits = ExitStack()
        try:
            self._exits.enter_context(small_cache())
            self._stacks = [self._exits.enter_context(Stack(path)) for path in self.paths]
            self._describe()
        except BaseException:
            self._exits.close()
            raise

    def _describe(self) -> None:
        first = self._stacks[0]
        self.crs: CRS = first.crs
        self.pixel_size, self.tags = first.pixel_size, first.tags
        offsets = [_offset(first, stack) for stack in self._stacks]
        top, left = min(row for row, _ in offsets), min(column for _, column in offsets)
        shapes = [stack.shape for stack in self._stacks]
        ends = [(row + rows, column + columns) for (row, column), (rows, columns) in zip(offsets, shapes, strict=True)]
        self.shape: tuple[int, int] = (max(row for row, _ in ends) - top, max(column for _, column in ends) - left)
        self.transform: Affine = first.transform * Affine.translation(left, top)
        bands: list[Band] = []
        self._places: list[_Place] = []
        for stack, (row, column) in zip(self._stacks, offsets, strict=True):
            own = {_register(bands, band, stack): number for number, band in enumerate(stack.bands)}
            if len(own) < len(stack.bands):
                names = [band.name for band in stack.bands]
                twice = next(name for name in names if names.count(name) > 1)
                raise DataError(f"has two bands called {twice!r}", where=stack.name, hint="Name each otherwise")
            self._places.append(_Place(stack, row - top, column - left, own))
        self.bands: tuple[Band, ...] = tuple(bands)

    def rename(self, names: Sequence[str], units: Mapping[str, str]) -> None:
        """Take the user's word for what the bands are.

        Args:
            names: of all bands, in the order of ``bands``.
            units: of those whose unit is known from elsewhere, by name.

        Raises:
            ConfigError: if their number is another, or a name comes twice.
        """
        if len(names) != len(self.bands) or len(set(names)) < len(names):
            raise ConfigError(
                f"{len(set(names))} different names for {len(self.bands)} bands",
                where=self.paths[0],
                hint=f"The bands are: {', '.join(band.name for band in self.bands)}",
            )
        renamed = zip(self.bands, names, strict=True)
        self.bands = tuple(replace(band, name=name, unit=units.get(name, band.unit)) for band, name in renamed)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that pixels come from, those in a VRT included."""
        return tuple(dict.fromkeys(file for stack in self._stacks for file in stack.files))

    def read(self, window: Window, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Give the pixels of a window.

        Args:
            window: within the grid.
            bands: positions in ``bands``, in the order wanted; None for all.

        Returns:
            float32 (C, rows, columns), in the units of ``bands``, NaN where there is nothing.

        Raises:
            DataError: if a file is truncated there.
        """
        wanted = list(range(len(self.bands)) if bands is None else bands)
        if len(self._places) == 1:
            return self._stacks[0].read(window, [self._places[0].bands[band] for band in wanted])
        image = np.full((len(wanted), window.height, window.width), np.nan, dtype=np.float32)
        for place in self._places:
            held = [position for position, band in enumerate(wanted) if band in place.bands]
            rows, columns = place.stack.shape
            top, left = max(window.row_off, place.row), max(window.col_off, place.column)
            bottom = min(window.row_off + window.height, place.row + rows)
            right = min(window.col_off + window.width, place.column + columns)
            if not held or top >= bottom or left >= right:
                continue
            part = Window(left - place.column, top - place.row, right - left, bottom - top)
            found = place.stack.read(part, [place.bands[wanted[position]] for position in held])
            inside = (
                slice(top - window.row_off, bottom - window.row_off),
                slice(left - window.col_off, right - window.col_off),
            )
            for position, values in zip(held, found, strict=True):
                before = image[position][inside]
                np.copyto(before, values, where=np.isnan(before))
        return image

    def close(self) -> None:
        """Close the files."""
        self._exits.close()

    def __enter__(self) -> Mosaic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _offset(first: Stack, stack: Stack) -> tuple[int, int]:
    """Rows and columns from the first file's corner to another's."""
    if stack.crs != first.crs:
        raise DataError(
            f"is in {crs_name(stack.crs)}, and {first.name} in {crs_name(first.crs)}",
            where=stack.name,
            hint="Warp it first: gdalwarp -t_srs, or stack all inputs with zoo stack",
        )
    between = ~first.transform * stack.transform
    rows, columns = stack.shape
    drift = max(abs(between.a - 1) * columns, abs(between.e - 1) * rows)
    row, column = round(between.f), round(between.c)
    if max(drift, abs(between.f - row), abs(between.c - column)) > _SAME_LATTICE:
        raise DataError(
            f"its pixels do not lie on those of {first.name}",
            where=stack.name,
            hint="Warp it to the same pixels first (gdalwarp -tap -tr), or stack all inputs with zoo stack",
        )
    return row, column


def _register(bands: list[Band], band: Band, stack: Stack) -> int:
    """The place of a band among all, a new one if need be."""
    for number, known in enumerate(bands):
        if known.name == band.name:
            if known.unit != band.unit:
                raise DataError(
                    f"band {band.name} is in {band.unit}, and in an earlier file in {known.unit}", where=stack.name
                )
            return number
    bands.append(band)
    return len(bands) - 1
