"""The input bands of a stack: which file holds which quantity, and what its header says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from zoo.errors import ConfigError, DataError
from zoo.rasters.ground import METRES_PER_DEGREE, Bounds, crs_name, linear_metres
from zoo.rasters.reading import file_label, first_line, opened

OPTICAL: tuple[str, ...] = ("green", "red", "nir", "swir", "swir2")
"""Reflectances; Sentinel-2: B03, B04, B08, B11, B12."""

ROLES: tuple[str, ...] = (*OPTICAL, "scl", "dem", "moisture", "rain_intensity", "rain_duration")
"""``scl`` is the scene classification of Sentinel-2 level 2A; ``moisture`` a coarse soil-moisture product in m3/m3 or
0-1; rain in mm/h and days."""


@dataclass(frozen=True)
class BandFile:
    """One band of one file.

    Physical value = (number in the file + ``offset``) * ``scale``, Sentinel-2's order: BOA_ADD_OFFSET is added to the
    digital number before it is divided by the quantification value.

    Attributes:
        path: anything GDAL opens, ``/vsizip/`` and ``/vsicurl/`` too.
        band: number of the band in the file, from 1.
        offset: added to the numbers, -1000 for Sentinel-2 since processing baseline 04.00; None when it is not known
            and has to be told by a look at dark pixels.
        scale: multiplied afterwards, 1e-4 for Sentinel-2 reflectance; None when it is not known and has to be told by
            the kind and size of the numbers.
        nodata: number that means nothing; None for what the file says.
    """

    path: str
    band: int = 1
    offset: float | None = 0.0
    scale: float | None = 1.0
    nodata: float | None = None


@dataclass(frozen=True)
class Sources:
    """Files by the quantity they hold.

    Attributes:
        files: by role, one of :data:`ROLES`.
        scene: name of the scene or tile, "" when unknown.
        date: ISO date of the optical image, "" when unknown.
        baseline: processing baseline of Sentinel-2, such as "05.09", "" when unknown.
        notes: what was found and decided on the way, in words; printed and kept in the stack's tags.

    Raises:
        ConfigError: for a role that does not exist.
    """

    files: dict[str, BandFile]
    scene: str = ""
    date: str = ""
    baseline: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        unknown = sorted(set(self.files) - set(ROLES))
        if unknown:
            raise ConfigError(f"unknown role {unknown[0]!r} of a raster", hint=f"There are: {', '.join(ROLES)}")

    def merged(self, other: Sources) -> Sources:
        """These files and those of ``other``, which win where both have a role."""
        return replace(
            self,
            files={**self.files, **other.files},
            scene=other.scene or self.scene,
            date=other.date or self.date,
            baseline=other.baseline or self.baseline,
            notes=(*self.notes, *other.notes),
        )


@dataclass(frozen=True)
class Layer:
    """What a band's file says about itself, read without its pixels.

    Attributes:
        role: one of :data:`zoo.rasters.layers.ROLES`.
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
