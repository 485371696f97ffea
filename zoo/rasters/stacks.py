"""Georeferenced multi-band rasters, read window by window: one file, or several on one lattice."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo import __version__
from zoo.errors import ConfigError, DataError
from zoo.files import Closable
from zoo.physics.bands import Band
from zoo.rasters.grid import Grid, windows
from zoo.rasters.ground import crs_name
from zoo.rasters.palettes import Palette
from zoo.rasters.reading import RasterBand, RasterReader, small_cache

TAG_FORMAT = "ZOO_STACK"
TAG_SCENE = "SCENE"
TAG_DATE = "DATE"
TAG_DATE_BEFORE = "DATE_BEFORE"
TAG_PHASE = "PHASE"
TAG_RAIN = "RAIN"
TAG_SOURCE = "SOURCE"
TAG_VALID = ("VALID_MIN", "VALID_MAX")
SOFTWARE = {"TIFFTAG_SOFTWARE": f"landslide-zoo {__version__}"}
"""Tag of the software that wrote a raster."""
FORMAT_VERSION = "1"

WINDOW = 1024
"""Side of a window in pixels."""

MAX_OPEN_FILES = 500
"""Maximum number of open files; most systems allow 1024."""

SAMPLE = 256
"""Side in pixels of the sample in which the scale of a band without a unit is recognised [O]."""

SAME_LATTICE = 0.01
"""Tolerance in pixels for two rasters to be on the same lattice."""

Pixels: TypeAlias = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Stack(Closable):
    """A multi-band raster on one grid, read window by window; a context manager.

    Names, units and valid ranges come from the file's descriptions, units and tags; a band without them is ``band_3``
    in "unknown". Values and missing pixels are those of :class:`zoo.rasters.reading.RasterReader`.

    Args:
        path: path of a raster that GDAL opens, with a coordinate system and a transform.
        classes: whether the numbers are classes, which may have a palette.

    Raises:
        DataError: if the file is missing, damaged, without a place, or its grid is rotated; if two bands have one name;
            or if it has a palette and is not read for classes.

    Attributes:
        name: path or URL as given.
        path: the same as a :class:`~pathlib.Path`.
        bands: one entry per band, without alpha.
        crs: coordinate system.
        transform: from (column, row) to coordinates, with north up.
        shape: (rows, columns).
        pixel_size: side of a pixel on the ground in metres; ``None`` in degrees, or when pixels are not square.
        tags: tags of the file, such as ``SCENE``, ``DATE``, ``PHASE`` and ``RAIN``.
        made_by_zoo: whether ``zoo stack`` wrote it.
    """

    def __init__(self, path: str | os.PathLike[str], *, classes: bool = False) -> None:
        # A URL such as s3://bucket/scene.tif would lose a slash as a Path.
        self.name = os.fspath(path)
        self.path = Path(path)
        self._reader = RasterReader(self.name, classes=classes)
        try:
            self._describe()
        except BaseException:
            self._reader.close()
            raise

    def _describe(self) -> None:
        reader = self._reader
        self.crs: CRS = reader.require_place()
        self.transform: Affine = reader.transform
        self.shape: tuple[int, int] = reader.shape
        self.pixel_size = reader.pixel_size
        self.tags: Mapping[str, str] = reader.tags
        self.made_by_zoo = TAG_FORMAT in self.tags
        self.bands: tuple[Band, ...] = tuple(self._band(number, band) for number, band in enumerate(reader.bands))
        names = [band.name for band in self.bands]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise DataError(f"has two bands called {duplicate!r}", where=self.name, hint="Give each its own name")

    def _band(self, number: int, band: RasterBand) -> Band:
        tags = self._reader.band_tags(number)
        try:
            low, high = (float(tags[name]) if name in tags else None for name in TAG_VALID)
        except ValueError:
            raise DataError(f"the valid range of band {band.index} is not a number", where=self.name) from None
        return Band(
            name=band.name or f"band_{band.index}",
            unit=band.unit or "unknown",
            valid_min=low,
            valid_max=high,
            nodata=band.nodata,
            description=tags.get(TAG_SOURCE, ""),
        )

    def band_tags(self, band: int) -> Mapping[str, str]:
        """Return the tags of one band of :attr:`bands`, counted from 0: source, statistics."""
        return self._reader.band_tags(band)

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None, shape: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Return the pixels of a window.

        Args:
            window: within the raster; ``None`` for all of it.
            bands: positions in :attr:`bands`, in the order wanted; ``None`` for all.
            shape: see :meth:`zoo.rasters.reading.RasterReader.numbers`.

        Returns:
            float32 (C, rows, columns), in the units of ``bands``, NaN where a pixel is missing.

        Raises:
            DataError: if the file is truncated there.
        """
        return self._reader.read(window, bands, shape)

    @property
    def palette(self) -> Palette:
        """See :attr:`zoo.rasters.reading.RasterReader.palette`."""
        return self._reader.palette

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Dtype of the numbers in the file, by band."""
        return tuple(band.dtype for band in self._reader.bands)

    @property
    def declares_missing(self) -> bool:
        """Whether a nodata tag, an alpha band or a mask declares missing pixels."""
        reader = self._reader
        declared = bool(reader.alpha) or reader.masked
        return declared or any(band.nodata is not None or band.own_mask for band in reader.bands)

    @property
    def files(self) -> tuple[str, ...]:
        """The file and those that it refers to, such as the sources of a VRT, as reported by GDAL."""
        return tuple(self._reader.source.files)

    @property
    def scaled(self) -> bool:
        """Whether :meth:`read` multiplies the numbers in the file or adds an offset."""
        return any(band.scaled for band in self._reader.bands)

    @property
    def code_notes(self) -> tuple[str, ...]:
        """Sentences about numbers that were read as missing so far although no tag declares them."""
        return tuple(
            f"{name} holds {', '.join(f'{code:g}' for code in sorted(codes))} without a nodata tag: such pixels count "
            "as missing"
            for name, codes in sorted(self._reader.codes.items())
        )

    def windows(self, size: int = WINDOW) -> Iterator[Window]:
        """Yield windows of at most ``size`` x ``size`` pixels that cover each pixel once, line by line."""
        return iter(windows(self.shape, size))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


@dataclass(frozen=True)
class _Place:
    """Position of a file in the mosaic, and the mosaic's band for each of its bands."""

    stack: Stack
    row: int
    column: int
    bands: Mapping[int, int]


@dataclass(frozen=True)
class BlackPixels:
    """Area in which black (0 in red, green and blue) means missing.

    Attributes:
        bands: indices of the three colours.
        cells: bool, squares of ``step`` pixels in which black means missing; ``None`` for everywhere.
        step: side of a square in pixels.
    """

    bands: tuple[int, int, int]
    cells: NDArray[np.bool_] | None = None
    step: int = 1

    def hide(self, image: NDArray[np.float32], colours: Sequence[int], rows: Pixels, columns: Pixels) -> None:
        """Replace black pixels with NaN, in place.

        Args:
            image: float32 (C, rows, columns).
            colours: indices of the three colours in the image.
            rows: row numbers in the raster.
            columns: column numbers in the raster.
        """
        black = ~image[list(colours)].any(axis=0)
        if self.cells is not None and black.any():
            black &= cells_at(self.cells, self.step, rows, columns)
        image[:, black] = np.nan


def cells_at(cells: NDArray[np.bool_], step: int, rows: Pixels, columns: Pixels) -> NDArray[np.bool_]:
    """Return the value of each pixel's square, bool (rows, columns).

    Args:
        cells: bool, one entry per square of ``step`` pixels.
        step: side of a square in pixels.
        rows: row numbers.
        columns: column numbers.
    """
    found: NDArray[np.bool_] = cells[np.ix_(rows // step, columns // step)]
    return found


class Mosaic(Closable):
    """Rasters on one lattice, read window by window; a context manager. Each file is opened once.

    Bands are identified by name. Files may be adjacent tiles, hold different bands of one area, or both; where files
    overlap in a band, the first one with a value takes precedence. Pixels without a value in any file are NaN.

    Args:
        paths: one or more files that GDAL opens, including VRTs and virtual file systems.

    Raises:
        DataError: if a file is missing or damaged, has no georeference, a rotated grid or two bands with the same name;
            or if the files differ in coordinate system, pixel size, lattice, or the unit or scale of a band.
        ConfigError: for no files, or too many.

    Attributes:
        bands: one entry per band.
        crs, transform, shape: properties of the grid that covers all files, with north up.
        pixel_size: side of a pixel on the ground in metres; ``None`` in degrees, or when pixels are not square.
        tags: tags of the first file.
        paths: paths as given.
    """

    def __init__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not paths:
            raise ConfigError("no raster is given")
        if len(paths) > MAX_OPEN_FILES:
            raise ConfigError(
                f"{len(paths)} rasters, at most {MAX_OPEN_FILES} are read as one",
                hint="Join them in a file that refers to them: gdalbuildvrt scene.vrt FILES",
            )
        self.paths = tuple(os.fspath(path) for path in paths)
        self._black: BlackPixels | None = None
        self._codes: dict[int, float] = {}
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
            self._places.append(_Place(stack, row - top, column - left, own))
        self.bands: tuple[Band, ...] = tuple(bands)
        self._check_scales()

    def _check_scales(self) -> None:
        """Check that the numbers of a band without a unit have the same scale in all files.

        Raises:
            DataError: if one file holds 8-bit numbers or fractions of 1, and another larger numbers.
        """
        for number, band in enumerate(self.bands):
            files = [(place.stack, place.bands[number]) for place in self._places if number in place.bands]
            types = {stack.dtypes[own] for stack, own in files}
            whole = len(types) == 1 and next(iter(types)).kind in "ui" and not any(stack.scaled for stack, _ in files)
            if band.unit != "unknown" or len(files) == 1 or whole:
                continue
            found: dict[str, str] = {}
            for stack, own in files:
                scale = _describe_scale(stack, own)
                if scale:
                    found.setdefault(scale, stack.name)
            if len(found) > 1:
                (scale, first), (other, name) = list(found.items())[:2]
                raise DataError(
                    f"band {band.name} holds {other}, but in {first} it holds {scale}, and no file states its unit",
                    where=name,
                    hint="Convert all files to one unit first, such as reflectance from 0 to 1",
                )

    def rename(self, names: Sequence[str], units: Mapping[str, str]) -> None:
        """Rename the bands.

        Args:
            names: names of all bands, in the order of ``bands``.
            units: units known from elsewhere, by name.

        Raises:
            ConfigError: if the number of names differs from that of bands, or a name occurs twice.
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
        """All files that provide pixels, including those in a VRT."""
        return tuple(dict.fromkeys(file for stack in self._stacks for file in stack.files))

    @property
    def code_notes(self) -> tuple[str, ...]:
        """Notes of all files; see :attr:`Stack.code_notes`."""
        return tuple(dict.fromkeys(note for stack in self._stacks for note in stack.code_notes))

    def read(self, window: Window, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the pixels of a window.

        Args:
            window: within the grid.
            bands: positions in ``bands``, in the order wanted; ``None`` for all.

        Returns:
            float32 (C, rows, columns), in the units of ``bands``, NaN where no file has a value.

        Raises:
            DataError: if a file is truncated there.
        """
        wanted = list(range(len(self.bands)) if bands is None else bands)
        rows = np.arange(window.row_off, window.row_off + window.height)
        columns = np.arange(window.col_off, window.col_off + window.width)
        return self._read_without_hidden(lambda bands: self._read(window, bands), wanted, rows, columns)

    def overview(self, step: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return every ``step``-th pixel of the whole grid, from the overviews of the files if they exist.

        Args:
            step: side in pixels of the square that one value represents.
            bands: see :meth:`read`.

        Returns:
            float32 (C, rows, columns), with the number of squares along each side rounded up. Files that do not begin
            at a multiple of ``step`` are shifted by up to one square.
        """
        wanted = list(range(len(self.bands)) if bands is None else bands)
        rows, columns = (np.arange(0, side, step) for side in self.shape)
        return self._read_without_hidden(lambda bands: self._overview(step, bands), wanted, rows, columns)

    def hide_black(self, black: BlackPixels) -> None:
        """Treat black pixels as missing from now on; the band numbers are those of :attr:`bands`."""
        self._black = black

    def hide_numbers(self, codes: Mapping[int, float]) -> None:
        """Treat a number as missing from now on, regardless of the tags.

        Args:
            codes: the number of each band, by index in :attr:`bands`.
        """
        self._codes = dict(codes)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Dtype of the numbers by band, from the first file that has the band."""
        found: dict[int, np.dtype[Any]] = {}
        for place in self._places:
            for band, own in place.bands.items():
                found.setdefault(band, place.stack.dtypes[own])
        return tuple(found[band] for band in range(len(self.bands)))

    @property
    def declares_missing(self) -> bool:
        """Whether a nodata tag, an alpha band or a mask of any file declares missing pixels."""
        return any(stack.declares_missing for stack in self._stacks)

    def _read_without_hidden(
        self, read: Callable[[list[int]], NDArray[np.float32]], wanted: list[int], rows: Pixels, columns: Pixels
    ) -> NDArray[np.float32]:
        black = self._black
        bands = [*wanted, *(band for band in (() if black is None else black.bands) if band not in wanted)]
        image = read(bands)
        if black is not None:
            black.hide(image, [bands.index(band) for band in black.bands], rows, columns)
        for values, band in zip(image, wanted, strict=False):
            if band in self._codes:
                hide_number(values, self._codes[band])
        return image[: len(wanted)]

    def _overview(self, step: int, wanted: list[int]) -> NDArray[np.float32]:
        rows, columns = (-(-side // step) for side in self.shape)
        image = np.full((len(wanted), rows, columns), np.nan, dtype=np.float32)
        for place in self._places:
            held = [position for position, band in enumerate(wanted) if band in place.bands]
            if not held:
                continue
            height, width = place.stack.shape
            top, left = place.row // step, place.column // step
            bottom, right = -(-(place.row + height) // step), -(-(place.column + width) // step)
            bands = [place.bands[wanted[position]] for position in held]
            found = place.stack.read(None, bands, (bottom - top, right - left))
            for position, values in zip(held, found, strict=True):
                before = image[position, top:bottom, left:right]
                np.copyto(before, values, where=np.isnan(before))
        return image

    def _read(self, window: Window, wanted: list[int]) -> NDArray[np.float32]:
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


def read_ahead(items: Iterable[Item], read: Callable[[Item], Result]) -> Iterator[Result]:
    """Yield ``read(item)`` for each item, while another thread reads the next one.

    Args:
        items: items to read, such as windows; consumed one by one.
        read: called in another thread, in the order of ``items``. An error is raised when its result is requested.
    """
    with ThreadPoolExecutor(1) as reader:
        coming: Future[Result] | None = None
        for item in items:
            after = reader.submit(read, item)
            if coming is not None:
                yield coming.result()
            coming = after
        if coming is not None:
            yield coming.result()


def hide_number(values: NDArray[np.float32], number: float) -> None:
    """Replace a number with NaN, in place."""
    values[values == np.float32(number)] = np.nan


def same_pixels(one: Grid, other: Grid) -> bool:
    """Return whether two rasters have the same grid, to a hundredth of a pixel at each corner."""
    if one.shape != other.shape or one.crs != other.crs:
        return False
    between = ~one.transform * other.transform
    corners = [(x, y) for x in (0, one.shape[1]) for y in (0, one.shape[0])]
    return all(math.dist(between * corner, corner) <= SAME_LATTICE for corner in corners)


def _offset(first: Stack, stack: Stack) -> tuple[int, int]:
    """Return the offset in rows and columns from the corner of the first file to that of another."""
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
    if max(drift, abs(between.f - row), abs(between.c - column)) > SAME_LATTICE:
        raise DataError(
            f"it is not on the pixel grid of {first.name}",
            where=stack.name,
            hint="Warp it to the same pixels first (gdalwarp -tap -tr), or stack all inputs with zoo stack",
        )
    return row, column


def _describe_scale(stack: Stack, band: int) -> str:
    """Return a description of the scale of a band, from a sample; "" if it is ambiguous."""
    rows, columns = stack.shape
    values = stack.read(None, [band], (min(rows, SAMPLE), min(columns, SAMPLE)))
    known = values[np.isfinite(values)]
    high = float(np.quantile(known, 0.99)) if known.size else 0.0
    dtype = stack.dtypes[band]
    if high > 255:
        return "numbers beyond 255"
    if dtype == np.uint8 and not stack.scaled:
        return "8-bit numbers from 0 to 255" if high > 2 else ""
    return "fractions of 1" if 0 < high <= 2 and (dtype.kind == "f" or stack.scaled) else ""


def _register(bands: list[Band], band: Band, stack: Stack) -> int:
    """Return the index of a band among all, after adding it if it is new."""
    for number, known in enumerate(bands):
        if known.name == band.name:
            if known.unit != band.unit:
                raise DataError(
                    f"band {band.name} is in {band.unit}, and in an earlier file in {known.unit}", where=stack.name
                )
            return number
    bands.append(band)
    return len(bands) - 1
