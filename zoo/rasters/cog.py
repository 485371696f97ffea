"""Write rasters window by window and publish them atomically as cloud-optimised GeoTIFFs."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.files import Closable, move_into_place, unwritable, working_folder
from zoo.physics.bands import Band
from zoo.rasters.grid import Grid
from zoo.rasters.reading import gdal_message, small_cache
from zoo.rasters.stacks import TAG_VALID

COMPRESSIONS: tuple[str, ...] = ("deflate", "zstd", "lzw", "none")
"""Supported compressions. GDAL has read deflate with the floating-point predictor since 2008; the others are faster."""

GEOTIFF_SUFFIXES: tuple[str, ...] = (".tif", ".tiff", ".gtif", ".gtiff")

TILE = 512

DISK_FACTOR = 2.7
"""Disk space needed per byte of the working file: overviews add a third, and the finished file is at most as large as
both together."""

Rgb = tuple[int, int, int]


class CogWriter(Closable):
    """One or several bands on one grid, written window by window; a context manager.

    The working file is in a hidden folder next to ``path``, which is removed when the block ends, even on Ctrl-C.
    ``path`` is created only by :meth:`publish`.

    Args:
        path: path of the finished GeoTIFF.
        grid: grid of the pixels.
        bands: names, units, descriptions and valid ranges, in file order; written to the tags.
        dtype: "float32" (NaN is nodata), "uint8" or "uint16".
        compress: one of :data:`COMPRESSIONS`.
        nodata: nodata value of integers.
        average: average pixels in overviews, for quantities; overviews of classes and risks use the nearest pixel.
        within: folder on the same disk for the working file; ``None`` for the folder of ``path``.

    Raises:
        ConfigError: if the compression is unknown, or the name has no GeoTIFF suffix.
        ZooError: if the folder cannot be written to, or the disk has too little space for the working file.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        bands: Sequence[Band],
        dtype: Literal["float32", "uint8", "uint16"] = "float32",
        compress: str = "deflate",
        *,
        nodata: int = 0,
        average: bool = False,
        within: Path | None = None,
    ) -> None:
        if compress not in COMPRESSIONS:
            raise ConfigError(f"unknown compression {compress!r}", hint=f"Choose from {', '.join(COMPRESSIONS)}")
        check_geotiff_name(path)
        self.path, self.bands = path, tuple(bands)
        self.shape: tuple[int, int] = grid.shape
        self._dtype, self._compress, self._average = np.dtype(dtype), compress, average
        self._nodata: float = np.nan if dtype == "float32" else nodata
        self._exits = ExitStack()
        self._file: Any = None
        try:
            self._open(grid, within)
        except BaseException:
            self._exits.close()
            raise

    def _open(self, grid: Grid, within: Path | None) -> None:
        folder = self._exits.enter_context(working_folder(self.path, within))
        rows, columns = grid.shape
        pixels = math.ceil(rows / TILE) * math.ceil(columns / TILE) * TILE * TILE
        self._bytes = len(self.bands) * pixels * self._dtype.itemsize
        check_disk_space(self.path, DISK_FACTOR * self._bytes, folder)
        self._work, self._finished = folder / "work.tif", folder / "finished.tif"
        self._exits.enter_context(small_cache())
        with writing(self.path):
            self._file = rasterio.open(
                self._work,
                "w+",
                driver="GTiff",
                width=columns,
                height=rows,
                count=len(self.bands),
                dtype=self._dtype.name,
                crs=grid.crs,
                transform=grid.transform,
                nodata=self._nodata,
                tiled=True,
                blockxsize=TILE,
                blockysize=TILE,
                interleave="band",
                bigtiff="IF_SAFER",
            )

    def write(self, values: NDArray[Any], window: Window, band: str = "") -> None:
        """Write a window of one band, (rows, columns) of the writer's dtype.

        Args:
            values: the pixels.
            window: window within the grid.
            band: name of the band; empty for the first one.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.write(values, self._index(band), window=window)

    def read(self, window: Window, band: str = "") -> NDArray[Any]:
        """Return a window of one band that was written before, (rows, columns)."""
        with writing(self.path):
            values: NDArray[Any] = self._file.read(self._index(band), window=window)
        return values

    def publish(
        self,
        tags: Mapping[str, str],
        band_tags: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        colours: Mapping[int, Rgb] | None = None,
    ) -> None:
        """Convert the working file to a cloud-optimised GeoTIFF under the final name; see :meth:`finish`."""
        self.finish(tags, band_tags, colours)
        self.place()

    def finish(
        self,
        tags: Mapping[str, str],
        band_tags: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        colours: Mapping[int, Rgb] | None = None,
        *,
        scale: float | None = None,
    ) -> None:
        """Convert the working file to a cloud-optimised GeoTIFF without giving it the final name.

        Args:
            tags: tags of the file.
            band_tags: additional tags by band name; they override the description and valid range.
            colours: colours by value, for uint8.
            scale: factor from the numbers in the file to the unit of the band; ``None`` for 1.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.update_tags(**tags)
            for index, band in enumerate(self.bands, 1):
                self._file.set_band_description(index, band.name)
                self._file.set_band_unit(index, band.unit)
                self._file.update_tags(index, **{**_description_tags(band), **band_tags.get(band.name, {})})
            if scale is not None:
                self._file.scales = (scale,) * len(self.bands)
            if self._average:
                # Build overviews here, where tiles are updated in place. The COG driver compresses its own, and
                # compresses and appends a tile again whenever the small cache evicts it before it is full. Colours
                # must be set later, or GDAL would average colours instead of numbers.
                self._file.build_overviews(_overview_factors(self.shape), Resampling.average)
            if colours is not None:
                shown = {key: (*rgb, 255) for key, rgb in colours.items()}
                self._file.write_colormap(1, {int(self._nodata): (0, 0, 0, 0), **shown})
            self._file.close()
            # GDAL flushes its cache when it closes a file and reports no error, so check the size of the file.
            if self._work.stat().st_size < self._bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # By default GDAL compresses temporary overviews, which takes longer than everything else.
            with rasterio.Env(COG_TMP_COMPRESSION="NONE"):
                rasterio.shutil.copy(self._work, self._finished, driver="COG", **self._creation())

    def place(self) -> None:
        """Move the result of :meth:`finish` to its final name.

        Raises:
            ZooError: if the file cannot be written there.
        """
        move_into_place(self._finished, self.path)

    def _creation(self) -> dict[str, str]:
        classes = self._dtype.kind == "u"
        options = {
            "COMPRESS": self._compress.upper(),
            "BLOCKSIZE": str(TILE),
            # The mean of two classes is another class, and a mean of risks contradicts the class map.
            "OVERVIEW_RESAMPLING": "NEAREST",
            "BIGTIFF": "IF_SAFER",
            "NUM_THREADS": "ALL_CPUS",
        }
        if self._compress != "none" and self._average:
            # Noise hardly compresses: level 6 saves 1-2 % compared with level 1 and takes several times longer.
            options |= {"PREDICTOR": "STANDARD" if classes else "FLOATING_POINT"}
            options |= {"LEVEL": "1"} if self._compress in ("deflate", "zstd") else {}
        elif self._compress != "none" and not classes:
            options["PREDICTOR"] = "FLOATING_POINT"
        return options

    def _index(self, band: str) -> int:
        return [band.name for band in self.bands].index(band) + 1 if band else 1

    def close(self) -> None:
        """Remove the working files."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._exits.close()


def _description_tags(band: Band) -> dict[str, str]:
    """Return the tags of the description and the valid range of a band."""
    texts = {"LONG_NAME": band.description}
    for name, bound in zip(TAG_VALID, (band.valid_min, band.valid_max), strict=True):
        texts[name] = "" if bound is None else f"{bound:g}"
    return {name: text for name, text in texts.items() if text}


def _overview_factors(shape: tuple[int, int]) -> list[int]:
    """Return powers of two until the whole raster fits into one tile, as in the COG driver."""
    factors = []
    factor = 2
    while max(shape) > TILE * factor // 2:
        factors.append(factor)
        factor *= 2
    return factors


def check_geotiff_name(path: str | os.PathLike[str]) -> None:
    """Check that a file name has a GeoTIFF suffix.

    Raises:
        ConfigError: if the name does not end in .tif or .tiff.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in GEOTIFF_SUFFIXES:
        raise ConfigError(
            "the output is a GeoTIFF, but the name " + (f"ends in {suffix!r}" if suffix else "has no suffix"),
            where=path,
            hint=f"Name it {Path(path).stem or 'NAME'}.tif",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert errors of GDAL and the operating system in the block to a ``ZooError`` about ``path``.

    Raises:
        ZooError: with GDAL's reason and the free space on the disk of ``path``.
    """
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or gdal_message(error)
        raise unwritable(path, f"{reason}; {as_bytes(free_space(path.parent))} are free") from error


def check_disk_space(path: Path, needed: float, folder: Path) -> None:
    """Check that the disk has enough space for a file.

    Args:
        path: path of the file, for the error.
        needed: bytes needed while the file is written.
        folder: folder in which the file is written.

    Raises:
        ZooError: if the disk has fewer free bytes.
    """
    free = free_space(folder)
    if free < needed:
        raise unwritable(path, f"about {as_bytes(needed)} are needed while it is written, {as_bytes(free)} are free")


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of ``folder``."""
    return shutil.disk_usage(folder).free


def as_bytes(count: float) -> str:
    """Return a number of bytes as text: ``1.2 GB``, ``34 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
