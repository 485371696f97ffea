"""Write rasters window by window and publish them as cloud-optimised GeoTIFFs."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.files import atomic_path, check_could_write, move_into_place, unwritable
from zoo.physics.bands import Band
from zoo.rasters.grid import Grid, grid_crs
from zoo.rasters.reading import first_line, small_cache
from zoo.rasters.stacks import Stack


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what GDAL and the system raise inside into a ``ZooError`` about ``path``.

    Raises:
        ZooError: with GDAL's reason and the free space beside ``path``.
    """
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise unwritable(path, f"{reason}; {as_bytes(free_space(path.parent))} are free") from error


def working_folder(path: Path, within: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder on the disk of ``path``, so that what is made in it can be renamed into place.

    Args:
        path: of the file to come.
        within: a folder on the same disk to make it in; None for beside ``path``.

    Raises:
        ZooError: if it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=within or path.parent, prefix=f".{path.stem}-")
    except OSError as error:
        raise unwritable(path, error) from error


def check_room(path: Path, needed: float, folder: Path) -> None:
    """Refuse to begin what will not fit.

    Args:
        path: of the file to come, for the error.
        needed: bytes while it is made.
        folder: where it is made.

    Raises:
        ZooError: if fewer bytes are free there.
    """
    free = free_space(folder)
    if free < needed:
        raise unwritable(path, f"it needs about {as_bytes(needed)} while it is made, {as_bytes(free)} are free")


def free_space(folder: Path) -> int:
    """Bytes that are free where ``folder`` lies."""
    return shutil.disk_usage(folder).free


def as_bytes(count: float) -> str:
    """Bytes for people: ``1.2 GB``, ``34 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


TILE = 512

ROOM = 2.5
"""Times the bytes of the working file: its overviews are a third more, the finished file at most as much again."""

CREATION = {
    # Deflate with the floating-point predictor is what every GDAL build since 2008 reads; ZSTD is not in all of them.
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "FLOATING_POINT",
    "LEVEL": "1",  # one or two per cent larger than level 6, in half the time: noise does not compress
    "BLOCKSIZE": str(TILE),
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}


class StackWriter:
    """Bands of float32 on one grid, written and read again by windows; a context manager.

    The working file lies in a hidden folder beside ``path``, which goes when the block ends, Ctrl-C included. ``path``
    appears only with :meth:`publish`.

    Args:
        path: of the finished file.
        grid: of all bands.
        bands: names, units and valid ranges, in the order of the file.

    Raises:
        ZooError: if the folder cannot be written to, or its disk has less room than the working file needs.
    """

    def __init__(self, path: Path, grid: GeoBox, bands: Sequence[Band]) -> None:
        self.path, self.grid, self.bands = path, grid, tuple(bands)
        self._exits = ExitStack()
        self._file: Any = None
        try:
            self._open()
        except BaseException:
            self._exits.close()
            raise

    def _open(self) -> None:
        self._folder = Path(self._exits.enter_context(working_folder(self.path)))
        rows, columns = self.grid.shape
        self._bytes = len(self.bands) * -(-rows // TILE) * -(-columns // TILE) * TILE * TILE * 4
        check_room(self.path, ROOM * self._bytes, self._folder)
        self._work = self._folder / "work.tif"
        self._exits.enter_context(small_cache())
        with writing(self.path):
            self._file = rasterio.open(
                self._work,
                "w+",
                driver="GTiff",
                width=columns,
                height=rows,
                count=len(self.bands),
                dtype="float32",
                crs=grid_crs(self.grid),
                transform=self.grid.transform,
                nodata=np.nan,
                tiled=True,
                blockxsize=TILE,
                blockysize=TILE,
                interleave="band",
                bigtiff="IF_SAFER",
            )

    def write(self, name: str, values: NDArray[np.float32], window: Window) -> None:
        """Write a window of the band ``name``; NaN is nodata.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.write(values, self._index(name), window=window)

    def read(self, name: str, window: Window) -> NDArray[np.float32]:
        """Read a window of the band ``name`` again."""
        with writing(self.path):
            values: NDArray[np.float32] = self._file.read(self._index(name), window=window)
        return values

    def publish(self, tags: Mapping[str, str], band_tags: Mapping[str, Mapping[str, str]]) -> None:
        """Turn what was written into a cloud-optimised GeoTIFF under the final name.

        Args:
            tags: of the file.
            band_tags: by band name.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.update_tags(**tags)
            for band in self.bands:
                index = self._index(band.name)
                self._file.set_band_description(index, band.name)
                self._file.set_band_unit(index, band.unit)
                self._file.update_tags(index, **band_tags[band.name])
            rows, columns = self.grid.shape
            # Made here, where a tile is changed in place: the COG driver's own are compressed, and each tile that falls
            # out of the small cache before it is full is compressed and appended once more.
            self._file.build_overviews(overview_factors((rows, columns)), Resampling.average)
            self._file.close()
            # GDAL flushes its cache as it closes and reports no error of that: count what has arrived.
            if self._work.stat().st_size < self._bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finished = self._folder / "finished.tif"
            rasterio.shutil.copy(self._work, finished, driver="COG", **CREATION)
        with atomic_path(self.path) as temporary:
            finished.replace(temporary)

    def _index(self, name: str) -> int:
        return [band.name for band in self.bands].index(name) + 1

    def close(self) -> None:
        """Remove the working files."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._exits.close()

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """Powers of two until the whole fits into one tile, as the COG driver has them."""
    factors = []
    factor = 2
    while max(shape) > TILE * factor // 2:
        factors.append(factor)
        factor *= 2
    return factors


COMPRESSIONS: tuple[str, ...] = ("deflate", "zstd", "lzw", "none")
"""Deflate is what every GDAL reads; the others are for speed."""

Rgb = tuple[int, int, int]


def stack_writer(path: Path, like: Stack, bands: Sequence[Band]) -> StackWriter:
    """A writer of several float32 bands on the grid of ``like``."""
    return StackWriter(path, GeoBox(like.shape, like.transform, like.crs.to_wkt()), bands)


def check_output(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        ConfigError: if it is a folder, one of the inputs, or there already and not to be replaced.
        ZooError: if its folder cannot be made or written to.
    """
    if path.is_dir():
        raise ConfigError("is a folder", where=path, hint="Name a file in it")
    if path.exists():
        if any(one.exists() and path.samefile(one) for one in inputs):
            raise ConfigError("is one of the inputs", where=path, hint="Name another file for the result")
        if not overwrite:
            raise ConfigError("is there already", where=path, hint="Name another file, or replace it with --overwrite")
    check_could_write(path.parent)


class MapWriter:
    """One band of a map; a context manager.

    The working file lies in a hidden folder beside ``path``, which goes when the block ends, Ctrl-C included. ``path``
    appears only with :meth:`publish`.

    Args:
        path: of the finished file.
        like: the raster whose grid is taken.
        dtype: "float32", where NaN is nodata, or "uint8".
        compress: one of :data:`COMPRESSIONS`.
        nodata: of uint8.
        average: make overviews of means, as quantities allow; those of classes and risks take the nearest pixel.
        within: folder on the same disk for the working file; None for beside ``path``.

    Raises:
        ConfigError: for an unknown compression.
        ZooError: if the folder cannot be written to, or its disk has less room than the working file needs.
    """

    def __init__(
        self,
        path: Path,
        like: Grid,
        dtype: Literal["float32", "uint8"],
        compress: str = "deflate",
        *,
        nodata: int = 0,
        average: bool = False,
        within: Path | None = None,
    ) -> None:
        if compress not in COMPRESSIONS:
            raise ConfigError(f"compression {compress!r}", hint=f"One of: {', '.join(COMPRESSIONS)}")
        self.path = path
        self._dtype, self._compress = np.dtype(dtype), compress
        self._nodata: float = nodata if dtype == "uint8" else np.nan
        self._average, self._shape, self._within = average, like.shape, within
        self._exits = ExitStack()
        self._file: Any = None
        try:
            self._open(like)
        except BaseException:
            self._exits.close()
            raise

    def _open(self, like: Grid) -> None:
        folder = Path(self._exits.enter_context(working_folder(self.path, self._within)))
        rows, columns = like.shape
        self._bytes = math.ceil(rows / TILE) * math.ceil(columns / TILE) * TILE * TILE * self._dtype.itemsize
        # Beside the working file lie the overviews, a third of it, and at worst a finished file of both.
        check_room(self.path, 2.7 * self._bytes, folder)
        self._work, self._finished = folder / "work.tif", folder / "finished.tif"
        self._exits.enter_context(small_cache())
        with writing(self.path):
            self._file = rasterio.open(
                self._work,
                "w+",
                driver="GTiff",
                width=columns,
                height=rows,
                count=1,
                dtype=self._dtype.name,
                crs=like.crs,
                transform=like.transform,
                nodata=self._nodata,
                tiled=True,
                blockxsize=TILE,
                blockysize=TILE,
                bigtiff="IF_SAFER",
            )

    def write(self, values: NDArray[Any], window: Window) -> None:
        """Write a window, (rows, columns) of the writer's dtype.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.write(values, 1, window=window)

    def publish(
        self,
        band: Band,
        tags: Mapping[str, str],
        band_tags: Mapping[str, str],
        colours: Mapping[int, Rgb] | None = None,
    ) -> None:
        """Turn what was written into a cloud-optimised GeoTIFF under the final name; see :meth:`finish`."""
        self.finish(band, tags, band_tags, colours)
        self.place()

    def place(self) -> None:
        """Give what :meth:`finish` made its final name.

        Raises:
            ZooError: if it cannot be written there.
        """
        move_into_place(self._finished, self.path)

    def finish(
        self,
        band: Band,
        tags: Mapping[str, str],
        band_tags: Mapping[str, str],
        colours: Mapping[int, Rgb] | None = None,
        *,
        scale: float | None = None,
    ) -> None:
        """Turn what was written into a cloud-optimised GeoTIFF that has no name yet.

        Args:
            band: name and unit of the values.
            tags: of the file.
            band_tags: of the band.
            colours: by value, for uint8.
            scale: what the numbers in the file are multiplied with to be in the band's unit; None for 1.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.update_tags(**tags)
            self._file.set_band_description(1, band.name)
            self._file.set_band_unit(1, band.unit)
            self._file.update_tags(1, **band_tags)
            if scale is not None:
                self._file.scales = (scale,)
            if self._average:
                # Before the colours: GDAL would take the means of colours, and not of numbers.
                self._file.build_overviews(overview_factors(self._shape), Resampling.average)
            if colours is not None:
                shown = {key: (*rgb, 255) for key, rgb in colours.items()}
                self._file.write_colormap(1, {int(self._nodata): (0, 0, 0, 0), **shown})
            self._file.close()
            # GDAL flushes its cache as it closes and reports no error of that: count what has arrived.
            if self._work.stat().st_size < self._bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # GDAL compresses overviews that it deletes a second later, which takes longer than all the rest.
            with rasterio.Env(COG_TMP_COMPRESSION="NONE"):
                rasterio.shutil.copy(self._work, self._finished, driver="COG", **self._creation())

    def _creation(self) -> dict[str, str]:
        classes = self._dtype.kind == "u"
        options = {
            "COMPRESS": self._compress.upper(),
            "BLOCKSIZE": str(TILE),
            # A mean of classes is no class, and a mean of risks is not in the class drawn beside it.
            "OVERVIEW_RESAMPLING": "NEAREST",
            "BIGTIFF": "IF_SAFER",
            "NUM_THREADS": "ALL_CPUS",
        }
        if self._compress != "none" and self._average:
            # Of probabilities, level 6 saves little over 1 and takes several times longer.
            options |= {"PREDICTOR": "STANDARD" if classes else "FLOATING_POINT"}
            options |= {"LEVEL": "1"} if self._compress in ("deflate", "zstd") else {}
        elif self._compress != "none" and not classes:
            options["PREDICTOR"] = "FLOATING_POINT"
        return options

    def close(self) -> None:
        """Remove the working files."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._exits.close()

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
