"""A raster of several bands on one grid, opened for reading by windows: what ``zoo stack`` writes, and any like it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
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

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.rasters.reading import first_line, metres_per_pixel

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
