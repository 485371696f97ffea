"""Small rasters read whole: the pixels and what the file says about them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from zoo.errors import DataError

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


def metres_per_pixel(source: Any) -> float | None:
    """Side of a pixel of an open raster in metres; None unless it is projected, with square pixels."""
    transform = source.transform
    if source.crs is None or not source.crs.is_projected or transform.is_identity:
        return None
    _, metres = source.crs.linear_units_factor
    across, down = math.hypot(transform.a, transform.d) * metres, math.hypot(transform.b, transform.e) * metres
    return across if math.isclose(across, down, rel_tol=1e-3) else None


def first_line(error: Exception) -> str:
    """The first line of what GDAL said."""
    # rasterio keeps GDAL's own words in the cause and says only "Read failed" itself.
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def window_of(rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    """The window from the first row and column to before the last, for rooms that do not know rasterio."""
    return Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
