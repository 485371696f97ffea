"""Input bands of a stack: the file of each quantity, and its header."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from zoo.errors import ConfigError, DataError
from zoo.rasters.ground import METRES_PER_DEGREE, Bounds, crs_name, true_scale
from zoo.rasters.reading import RasterReader, file_label, gdal_message

OPTICAL: tuple[str, ...] = ("blue", "green", "red", "nir", "swir", "swir2")
"""Reflectances; Sentinel-2: B02, B03, B04, B08, B11, B12."""

RADAR: tuple[str, ...] = ("vv", "vh", "vv_asc", "vh_asc", "vv_desc", "vh_desc")
"""Backscatter of Sentinel-1, by orbit direction if it is known."""

ROLES: tuple[str, ...] = (*OPTICAL, "scl", "dem", "moisture", "rain_intensity", "rain_duration", *RADAR)
"""``scl`` is the scene classification of Sentinel-2 level 2A; ``moisture`` a coarse soil-moisture product in m3/m3 or
0-1; rain in mm/h and days."""


CLASS_ROLES = frozenset({"scl"})
"""Roles whose numbers are classes: they may have a palette, and are not interpolated."""


@dataclass(frozen=True)
class BandFile:
    """One band of one file.

    Physical value = (number in the file + ``offset``) * ``scale``. This is the order of Sentinel-2: BOA_ADD_OFFSET is
    added to the digital number before it is divided by the quantification value.

    Attributes:
        path: any path that GDAL opens, including ``/vsizip/`` and ``/vsicurl/``.
        band: number of the band in the file, from 1.
        offset: value to add to the numbers, -1000 for Sentinel-2 since processing baseline 04.00; ``None`` if it is
            unknown and must be estimated from dark pixels.
        scale: factor to apply afterwards, 1e-4 for Sentinel-2 reflectance; ``None`` if it is unknown and must be
            inferred from the dtype and size of the numbers.
        nodata: number that marks missing values; ``None`` for the file's own tag.
        chosen: whether somebody chose the band; if not, the file must have a single one.
    """

    path: str
    band: int = 1
    offset: float | None = 0.0
    scale: float | None = 1.0
    nodata: float | None = None
    chosen: bool = True


@dataclass(frozen=True)
class Sources:
    """Input files of a stack, by quantity.

    Attributes:
        files: file by role, one of :data:`ROLES`.
        scene: name of the scene or tile, "" when unknown.
        date: ISO date of the optical image, "" when unknown.
        baseline: processing baseline of Sentinel-2, such as "05.09", "" when unknown.
        notes: sentences about findings and decisions; printed and stored in the stack's tags.

    Raises:
        ConfigError: if a role is unknown.
    """

    files: dict[str, BandFile]
    scene: str = ""
    date: str = ""
    baseline: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        unknown = sorted(set(self.files) - set(ROLES))
        if unknown:
            raise ConfigError(f"unknown role {unknown[0]!r} of a raster", hint=f"Known: {', '.join(ROLES)}")

    def merged(self, other: Sources) -> Sources:
        """Return these files and those of ``other``, which take precedence for common roles."""
        return replace(
            self,
            files={**self.files, **other.files},
            scene=other.scene or self.scene,
            date=other.date or self.date,
            baseline=other.baseline or self.baseline,
            notes=(*self.notes, *other.notes),
        )

    def check_earlier(self, later: Sources, what: str, hint: str) -> None:
        """Check that this image was taken before another one, if both dates are known.

        Args:
            later: the other image.
            what: name of both images, for the error.
            hint: hint of the error.

        Raises:
            ConfigError: if this image is not the earlier one.
        """
        if self.date and later.date and self.date >= later.date:
            raise ConfigError(
                f"{what} before the landslides is from {self.date}, the one after them from {later.date}", hint=hint
            )


@dataclass(frozen=True)
class Layer:
    """Header of one input band.

    Attributes:
        role: one of :data:`ROLES`.
        file: the file and band.
        crs: coordinate reference system.
        transform: transform from (column, row) to coordinates, with north up.
        shape: (rows, columns).
        dtype: dtype of the numbers in the file.
        nodata: number that marks missing values: from ``file``, else from the nodata tag, else 0 for optical integers
            without a mask, else ``None``.
        unit: unit of the scaled values; "" if the file has none.
        tagged: (scale, offset) tags with value = number * scale + offset; (1, 0) without them.
        untagged: a missing code in the band without a nodata tag, such as -9999; ``None`` if none was found.
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
    untagged: float | None = None

    @property
    def path(self) -> str:
        """Path as given by the user."""
        return self.file.path

    @property
    def label(self) -> str:
        """Name of the file without folders or signed URLs, which must not be published."""
        return file_label(self.file.path)

    @property
    def states_offset(self) -> bool:
        """Whether the file has a scale tag, so that its offset tag is meaningful even if it is 0."""
        return self.tagged[0] != 1

    @property
    def pixel_metres(self) -> float:
        """Side of a pixel on the ground in metres, in the middle of the layer."""
        x, y = self.transform * (self.shape[1] / 2, self.shape[0] / 2)
        across, along = true_scale(self.crs, x, y)
        return math.sqrt(abs(self.transform.determinant) * across * along)

    def bounds(self, crs: CRS | None = None) -> Bounds:
        """Return the bounds in ``crs``, in the layer's own system by default.

        Raises:
            DataError: if they cannot be projected to ``crs``.
        """
        own = array_bounds(*self.shape, self.transform)
        if crs is None or crs == self.crs:
            return own[0], own[1], own[2], own[3]
        try:
            found = transform_bounds(self.crs, crs, *own)
        except RasterioError as error:
            found = (math.nan,) * 4
            reason = gdal_message(error)
        else:
            reason = "its corners have no coordinates there"
        if not all(math.isfinite(value) for value in found):
            raise DataError(f"cannot be projected to {crs_name(crs)} ({reason})", where=self.path)
        left, bottom, right, top = found
        if left > right and crs.is_geographic:
            # Across the antimeridian GDAL returns the right side as a western longitude.
            right += 360
        return left, bottom, right, top

    def pixel_size_in(self, crs: CRS, centre: tuple[float, float]) -> tuple[float, float]:
        """Return the width and height of a pixel near ``centre``, all in units of ``crs``."""
        if crs == self.crs:
            return abs(self.transform.a), abs(self.transform.e)
        xs, ys = transform_points(crs, self.crs, [centre[0]], [centre[1]])
        column, row = ~self.transform * (xs[0], ys[0])
        corners = [self.transform * (column + i, row + j) for i, j in ((0, 0), (1, 0), (0, 1))]
        x, y = transform_points(self.crs, crs, [p[0] for p in corners], [p[1] for p in corners])
        return math.hypot(x[1] - x[0], y[1] - y[0]), math.hypot(x[2] - x[0], y[2] - y[0])

    def pixel_degrees(self) -> float:
        """Return the approximate height of a pixel in degrees of latitude."""
        return self.pixel_metres / METRES_PER_DEGREE


def open_layer(role: str, file: BandFile) -> Layer:
    """Read the header of a file.

    Raises:
        DataError: if the file is missing, damaged or rotated, lacks the band or a georeference, or its numbers are
            colours.
    """
    with RasterReader(file.path, classes=role in CLASS_ROLES) as reader:
        band = next((band for band in reader.bands if band.index == file.band), None)
        if band is None:
            raise DataError(f"has {len(reader.bands)} band(s), so there is no band {file.band}", where=file.path)
        if not file.chosen and len(reader.bands) > 1:
            named = ", ".join(f"{band.index} {band.name}".strip() for band in reader.bands[:12])
            raise DataError(
                f"has {len(reader.bands)} bands, and it is unknown which of them is {role}",
                where=file.path,
                hint=f"Name one as FILE:BAND, such as {file_label(file.path)}:1. The bands are {named}",
            )
        crs = reader.require_place()
        nodata = file.nodata if file.nodata is not None else band.nodata
        if nodata is None and role in OPTICAL and band.dtype.kind in "ui" and not (reader.alpha or reader.masked):
            nodata = 0.0  # Sentinel-2 files use 0 for nodata without a tag
        return Layer(
            role=role,
            file=file,
            crs=crs,
            transform=reader.transform,
            shape=reader.shape,
            dtype=band.dtype,
            nodata=nodata,
            unit=band.unit,
            tagged=(band.scale, band.offset),
            untagged=reader.probe(band.index) if nodata is None else None,
        )
