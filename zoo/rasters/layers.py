"""One band of one file before it is put on any grid: where it lies and what its numbers are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from zoo.errors import DataError
from zoo.rasters.reading import first_line
from zoo.rasters.sources import OPTICAL, BandFile

Bounds = tuple[float, float, float, float]
METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class Layer:
    """What a band's file says about itself, read without its pixels.

    Attributes:
        role: one of :data:`zoo.rasters.sources.ROLES`.
        file: the file and band.
        crs: coordinate reference system.
        transform: from (column, row) to coordinates.
        shape: (rows, columns).
        dtype: of the numbers in the file.
        nodata: number that means nothing, of ``file`` or the file itself; 0 for whole optical numbers that name none
            and have no mask; else None.
        unit: as the file says, "" when it does not.
        tagged: (scale, offset) of GDAL, with value = number * scale + offset; (1, 0) when the file says nothing.
    """

    role: str
    file: BandFile
    crs: CRS
    transform: Affine
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    nodata: float | None
    unit: str
    tagged: tuple[float, float]

    @property
    def path(self) -> str:
        """As the user gave it."""
        return self.file.path

    @property
    def label(self) -> str:
        """Name of the file alone: folders and signed addresses do not belong into what is shared."""
        return file_label(self.file.path)

    @property
    def pixel_metres(self) -> float:
        """Side of a pixel in metres, roughly where the grid is in degrees."""
        a, b, _, d, e, _ = self.transform[:6]
        side = math.sqrt(abs(a * e - b * d))
        return side * (METRES_PER_DEGREE if self.crs.is_geographic else linear_metres(self.crs))

    def bounds(self, crs: CRS | None = None) -> Bounds:
        """(left, bottom, right, top) in ``crs``, its own by default.

        Raises:
            DataError: if it cannot be put into ``crs``.
        """
        left, bottom, right, top = array_bounds(*self.shape, self.transform)
        own = (min(left, right), min(bottom, top), max(left, right), max(bottom, top))
        if crs is None or crs == self.crs:
            return own
        try:
            found = transform_bounds(self.crs, crs, *own)
        except RasterioError as error:
            found = (math.nan,) * 4
            reason = first_line(error)
        else:
            reason = "its corners have no coordinates there"
        if not all(math.isfinite(value) for value in found):
            raise DataError(f"cannot be projected to {crs_name(crs)} ({reason})", where=self.path)
        return found[0], found[1], found[2], found[3]

    def pixel_size_in(self, crs: CRS, centre: tuple[float, float]) -> tuple[float, float]:
        """(width, height) of one of its pixels near ``centre``, all in units of ``crs``."""
        if crs == self.crs:
            return math.hypot(self.transform.a, self.transform.d), math.hypot(self.transform.b, self.transform.e)
        xs, ys = transform_points(crs, self.crs, [centre[0]], [centre[1]])
        column, row = ~self.transform * (xs[0], ys[0])
        corners = [self.transform * (column + i, row + j) for i, j in ((0, 0), (1, 0), (0, 1))]
        x, y = transform_points(self.crs, crs, [p[0] for p in corners], [p[1] for p in corners])
        return math.hypot(x[1] - x[0], y[1] - y[0]), math.hypot(x[2] - x[0], y[2] - y[0])


def open_layer(role: str, file: BandFile) -> Layer:
    """Read the header of a file.

    Raises:
        DataError: if the file is missing, no raster, has no such band or no coordinate reference system.
    """
    with opened(file.path) as source:
        if not 1 <= file.band <= source.count:
            raise DataError(f"has {source.count} band(s), there is no band {file.band}", where=file.path)
        if source.crs is None:
            raise DataError(
                "has no coordinate reference system, so it cannot be laid over the others",
                where=file.path,
                hint="Set one with: gdal_edit.py -a_srs EPSG:CODE FILE",
            )
        if source.transform.is_identity:
            raise DataError("has no georeference: nobody can tell where its pixels lie", where=file.path)
        dtype = np.dtype(source.dtypes[file.band - 1])
        if dtype.kind not in "uif":
            raise DataError(f"holds numbers of type {dtype}, not real ones", where=file.path)
        index = file.band - 1
        nodata = file.nodata if file.nodata is not None else source.nodatavals[index]
        masked = ColorInterp.alpha in source.colorinterp or MaskFlags.per_dataset in source.mask_flag_enums[index]
        if nodata is None and role in OPTICAL and dtype.kind in "ui" and not masked:
            nodata = 0.0  # Sentinel-2 writes 0 where it has nothing, and its files do not say so
        return Layer(
            role=role,
            file=file,
            crs=source.crs,
            transform=source.transform,
            shape=(source.height, source.width),
            dtype=dtype,
            nodata=None if nodata is None else float(nodata),
            unit=source.units[index] or "",
            tagged=(float(source.scales[index]), float(source.offsets[index])),
        )


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


def crs_name(crs: CRS) -> str:
    """``EPSG:32643``, or the name that the definition gives itself."""
    code = crs.to_epsg()
    if code is not None:
        return f"EPSG:{code}"
    text = crs.to_wkt()
    return text.split('"')[1] if '"' in text else str(crs.to_string())


def crs_unit(crs: CRS) -> str:
    """ "m", "degree", or what the system calls its unit."""
    if crs.is_geographic:
        return "degree"
    return "m" if linear_metres(crs) == 1 else str(crs.linear_units)


def linear_metres(crs: CRS) -> float:
    """Metres in a unit of a projected system."""
    return float(crs.linear_units_factor[1])


def metres_on_ground(crs: CRS, centre: tuple[float, float]) -> float:
    """Metres on the ground of a metre of a projected system, near ``centre``; 1 for a true scale."""
    step = 1000.0 / linear_metres(crs)
    x, y = centre
    east, north = transform_points(crs, CRS.from_epsg(4326), [x, x + step, x], [y, y, y + step])
    metres = [
        math.hypot((east[i] - east[0]) * math.cos(math.radians(north[0])), north[i] - north[0]) * METRES_PER_DEGREE
        for i in (1, 2)
    ]
    return math.sqrt(metres[0] * metres[1]) / 1000.0


def utm_code(bounds: Bounds, crs: CRS) -> str:
    """``EPSG:32643``: the UTM zone in whose middle strip the centre of ``bounds`` lies."""
    west, south, east, north = transform_bounds(crs, CRS.from_epsg(4326), *bounds)
    zone = min(int(((west + east) / 2 + 180) // 6) + 1, 60)
    return f"EPSG:{32600 + zone if south + north >= 0 else 32700 + zone}"
