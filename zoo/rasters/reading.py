"""Open rasters with errors that a user understands, and read small ones whole."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError, ZooError
from zoo.rasters.ground import metres_per_pixel

CACHE_MEGABYTES = 128


@dataclass(frozen=True)
class Raster:
    """What one small file holds.

    Attributes:
        image: (C, H, W), dtype as in the file, the alpha band left out.
        names: description of each band, "" where the file gives none.
        units: unit of each band, "" where the file gives none.
        nodata: the file's nodata value, None without one.
        missing: bool (H, W), true where an alpha band or an internal mask says that there is nothing; None if
            the file has neither, or they hide nothing.
        pixel_size: side of a pixel in metres; None unless the file is georeferenced in metres with square pixels.
    """

    image: NDArray[Any]
    names: tuple[str, ...]
    units: tuple[str, ...]
    nodata: float | None
    missing: NDArray[np.bool_] | None
    pixel_size: float | None


@contextmanager
def plain_patches() -> Iterator[None]:
    """Keep rasterio from warning that a patch without georeferencing has none.

    Python's warning filters belong to the whole process, so enter this once around a pool of threads, not in each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def small_cache() -> AbstractContextManager[object]:
    """Files opened inside share a small cache of tiles: GDAL would take a twentieth of the machine's memory for it."""
    env: AbstractContextManager[object] = rasterio.Env(GDAL_CACHEMAX=CACHE_MEGABYTES)
    return env


def read_raster(path: str | os.PathLike[str]) -> Raster:
    """Read a whole file through GDAL: TIFF of any compression, band count and dtype, 16-bit PNG.

    Raises:
        DataError: if the file is missing, truncated or no raster.
    """
    try:
        with rasterio.open(path) as source:
            kept = [
                band
                for band, meaning in zip(source.indexes, source.colorinterp, strict=True)
                if meaning != ColorInterp.alpha
            ]
            image: NDArray[Any] = source.read(kept)
            missing = source.dataset_mask() == 0 if MaskFlags.per_dataset in source.mask_flag_enums[0] else None
            return Raster(
                image=image,
                names=tuple(source.descriptions[band - 1] or "" for band in kept),
                units=tuple(source.units[band - 1] or "" for band in kept),
                nodata=None if source.nodata is None else float(source.nodata),
                missing=missing if missing is not None and missing.any() else None,
                pixel_size=metres_per_pixel(source),
            )
    except (RasterioError, OSError) as error:
        raise DataError(
            "cannot be read as a raster: it is truncated or not what its name says",
            where=path,
            hint=f"Copy it again ({first_line(error)})",
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what GDAL said."""
    # rasterio keeps GDAL's own words in the cause and says only "Read failed" itself.
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def window_of(rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    """The window from the first row and column to before the last, for rooms that do not know rasterio."""
    return Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])


def is_remote(path: str) -> bool:
    """Whether GDAL, and not the system, knows where ``path`` is: ``/vsis3/bucket/a.tif``, ``s3://bucket/a.tif``."""
    return path.startswith("/vsi") or "://" in path


def check_remote_output(path: str, *, overwrite: bool) -> None:
    """Refuse to replace a raster.

    Raises:
        ConfigError: if there is one, and it is not to be replaced.
    """
    if overwrite:
        return
    try:
        rasterio.open(path).close()
    except (RasterioError, OSError):
        return
    raise ConfigError("is there already", where=path, hint="Name another file, or replace it with --overwrite")


def upload(local: Path, path: str) -> None:
    """Copy a finished raster byte by byte to where it belongs, and remove it here.

    Raises:
        ZooError: if it cannot be copied; it stays here then.
    """
    try:
        rasterio.shutil.copyfiles(str(local), path)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise ZooError(
            f"cannot be written ({first_line(error)})",
            where=path,
            hint=f"It is whole in {local}: copy it yourself, or see GDAL's page on this file system for credentials",
        ) from error
    local.unlink()


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """An open rasterio dataset; what goes wrong while it is open is told as a :class:`DataError` with its name.

    Raises:
        DataError: if the file is missing, truncated or no raster.
    """
    with readable(path):
        if not path.startswith("/vsi") and "://" not in path and not Path(path).exists():
            raise DataError("there is no such file", where=path)
        with rasterio.open(path) as source:
            yield source


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what GDAL says about ``path`` in the block into a :class:`DataError`."""
    try:
        yield
    except (RasterioError, OSError) as error:
        raise DataError(
            "cannot be read as a raster: it is truncated or not what its name says",
            where=path,
            hint=f"Copy it again ({first_line(error)})",
        ) from error


def file_label(path: str) -> str:
    """The last part of a path or address, without the query that may hold a token."""
    plain = urlsplit(path).path if "://" in path else path
    return plain.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


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
