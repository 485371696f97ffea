"""One band on the grid of a raster, written window by window, then published as a cloud-optimised GeoTIFF."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.files import check_could_write, move_into_place
from zoo.physics.bands import Band
from zoo.rasters.cog import TILE, StackWriter, overview_factors
from zoo.rasters.reading import CACHE_MEGABYTES, small_cache
from zoo.rasters.stacks import Stack
from zoo.rasters.writing import check_room, working_folder, writing

COMPRESSIONS: tuple[str, ...] = ("deflate", "zstd", "lzw", "none")
"""Deflate is what every GDAL reads; the others are for speed."""

Rgb = tuple[int, int, int]


class Grid(Protocol):
    """Where pixels lie, as every open raster has it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        ...

    @property
    def crs(self) -> CRS:
        """Coordinate reference system."""
        ...

    @property
    def transform(self) -> Affine:
        """From (column, row) to coordinates."""
        ...


def gdal_threads(path: str | os.PathLike[str]) -> AbstractContextManager[object]:
    """How GDAL best reads ``path``: compressed tiles on all cores, others on one, with a small cache of tiles.

    Handing tiles that need no work to threads costs half as much again as reading them.
    """
    try:
        with rasterio.open(path) as source:
            packed = source.compression is not None
    except (RasterioError, OSError):
        # Whoever opens the file next says what is wrong with it.
        packed = False
    options = {"GDAL_NUM_THREADS": "ALL_CPUS"} if packed else {}
    env: AbstractContextManager[object] = rasterio.Env(GDAL_CACHEMAX=CACHE_MEGABYTES, **options)
    return env


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
