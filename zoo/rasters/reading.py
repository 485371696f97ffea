"""Open raster files safely and determine the value, validity, location and unit of each pixel.

Only :class:`RasterReader` decides this. It reads all scenes, stacks, patches, masks and rain, so the same file gives
the same values everywhere:

- **Value**: number in the file x scale tag + offset tag, in the unit of the band's tag.
- **Validity**: a pixel is missing (NaN) if the nodata tag, an alpha band, or a mask of the file or band marks it, if
  the magnitude of the number is above 1e20, or if a signed or floating number is one of :data:`MISSING_CODES`. A TIFF
  with blocks that were never written must declare missing pixels, because GDAL reads such blocks as 0.
- **Orientation**: north is up. A south-up or mirrored file is flipped; a rotated one is rejected.
- **Unit and name**: those of the file; a band without a name is named after its colour, if the file declares one.
- **Palette**: numbers with a colour table are classes. They are rejected where a quantity is expected.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio._path import _parse_path
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.env import ensure_env_with_credentials
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError, ZooError, first_line
from zoo.files import VRT_DEPTH, Closable
from zoo.rasters.ground import crs_name, lacks_georeference, metres_per_pixel
from zoo.rasters.palettes import Palette, is_grey_ramp

# A scene or layer without coordinates is refused in words; for patches, see ignore_missing_georeference.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"zoo\.rasters\.reading")

CACHE_BYTES = 128 * 2**20
"""Size in bytes of GDAL's cache of decoded blocks. It holds the JPEG 2000 tiles under a row of a map's blocks, so that
each is decoded about once."""

MISSING_CODES: tuple[float, ...] = (-9999.0, -99999.0, -32768.0, -(2.0**31), -(2.0**63))
"""Numbers that mark missing values in signed and floating bands, with or without a nodata tag [O]. The last two are the
least 32-bit and 64-bit integers; rasterio writes the latter as a nodata tag that GDAL reads as -9."""

MAX_QUANTITY = 1e20
"""Limit for quantities; larger numbers are fill values such as -3.4e38 and 9.97e36."""

MAX_BANDS = 2048
"""Maximum number of bands; a file with more is damaged or malicious. Hyperspectral images have a few hundred."""

MAX_COORDINATE = 1e9
"""Maximum coordinate of a raster, in any unit; the Earth's circumference is 4e7 m."""

ALPHA_PROBE, ALPHA_NUMBERS = 64, 16
"""Side in pixels of the central part in which an alpha band is checked, and the number of distinct values at which it
is rejected: transparency is 0 or full nearly everywhere [O]."""

UNIT_TAGS = frozenset({"unit", "units", "unittype", "unit_type"})
"""Names of tags in which some libraries store the unit of a band, instead of GDAL's own field."""

SCAN_ROWS = 256
"""Rows per read when a band is searched."""

MAX_IMAGE_BYTES = 2**31
"""Maximum bytes of an image that is read as a whole."""

IMAGE_FORMATS: tuple[str, ...] = (
    *("GTiff", "PNG", "JPEG", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JPEGXL", "HFA", "netCDF", "HDF5", "HDF5Image"),
    *("GRIB", "AAIGrid", "GRASSASCIIGrid", "SRTMHGT", "DTED", "USGSDEM", "EHdr", "ENVI", "ERS", "GPKG", "SAGA"),
    *("GSAG", "GSBG", "GS7BG", "PCIDSK", "RST", "ILWIS", "PCRaster", "XYZ", "Terragen", "BMP", "GIF", "WEBP", "BT"),
)
"""GDAL drivers of formats that contain their own pixels. Formats that refer to other files or servers (VRT, WMS, MRF,
GTI ...) are not opened under the name of an image."""

JPEG_2000: tuple[str, ...] = ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")

_REMOTE = re.compile(r"/vsi(?!zip/|tar/|gzip/|mem/)|(?<![A-Za-z])(?:https?|ftp|s3|gs|az|oss|swift)://", re.IGNORECASE)
_XML_LIMIT = 64 * 2**20
_WITHOUT_SOURCES = frozenset({"MDI", "SRS", "GCPProjection", "Description", "UnitType"})
_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}

T = TypeVar("T")


@dataclass(frozen=True)
class RasterBand:
    """Metadata of a band in a file.

    Attributes:
        index: number of the band in the file, from 1.
        name: description, or "red", "green" or "blue" for colours; "" without either.
        unit: unit of the scaled values, "" if the file has none.
        dtype: dtype of the numbers in the file.
        nodata: number that marks missing values; ``None`` without one.
        scale, offset: value = number x scale + offset.
        palette: whether the numbers are indices into a colour table that is not a grey ramp.
        own_mask: whether the band has its own mask, as is possible in a VRT, or a nodata value that only GDAL's mask
            shows, such as 2^63 - 1.
    """

    index: int
    name: str
    unit: str
    dtype: np.dtype[Any]
    nodata: float | None
    scale: float
    offset: float
    palette: bool
    own_mask: bool

    @property
    def scaled(self) -> bool:
        """Whether values differ from the numbers in the file."""
        return (self.scale, self.offset) != (1.0, 0.0)


class RasterReader(Closable):
    """One raster file, read window by window with north up; a context manager.

    Args:
        path: path or URL of a file in :data:`IMAGE_FORMATS`, or of a VRT whose name ends in ``.vrt``.
        formats: GDAL drivers to try; ``None`` for :data:`IMAGE_FORMATS`.
        classes: whether the numbers are classes, which may have a palette.

    Raises:
        DataError: if the file is missing, damaged or not an image, has several pages or too many bands, is rotated,
            holds complex numbers, or has a palette and is not read for classes.

    Attributes:
        path: path as given.
        bands: one entry per band, without the alpha band.
        shape: (rows, columns).
        crs: coordinate system; ``None`` without one.
        transform: transform from (column, row) to coordinates, with north up.
        placed: whether the file has a coordinate system and a transform.
        pixel_size: side of a pixel on the ground in metres; ``None`` in degrees, without georeference, or if not
            square.
        tags: tags of the file.
        codes: missing codes found so far, by band name; filled by reading.
        source: the open rasterio dataset, in the file's own orientation.
        alpha: number of the alpha band, 0 without one.
        masked: whether the file has an internal mask.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, formats: Sequence[str] | None = None, classes: bool = False
    ) -> None:
        self.path = os.fspath(path)
        self.source: Any = _open(self.path, formats)
        try:
            with readable(self.path):
                self._describe()
                if not classes:
                    self._check_written()
            if not classes and any(band.palette for band in self.bands):
                raise DataError(
                    "is a picture with a palette: its numbers are indices of colours, not a quantity",
                    where=self.path,
                    hint="Name the file of the measurement, or turn it into colours: gdal_translate -expand rgb IN OUT",
                )
        except BaseException:
            self.source.close()
            raise

    def _describe(self) -> None:
        source = self.source
        _check_pages(source, self.path)
        meanings = source.colorinterp
        self.alpha: int = meanings.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in meanings else 0
        colours = set(_COLOURS) <= set(meanings)
        self.bands: tuple[RasterBand, ...] = tuple(
            self._band(index, _COLOURS.get(meaning, "") if colours else "", _is_palette(source, index))
            for index, meaning in zip(source.indexes, meanings, strict=True)
            if meaning != ColorInterp.alpha
        )
        if not self.bands:
            raise DataError("holds only an alpha band", where=self.path)
        if self.alpha:
            self._check_alpha()
        flags = source.mask_flag_enums[self.bands[0].index - 1]
        self.masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.shape: tuple[int, int] = (source.height, source.width)
        self.crs: CRS | None = source.crs
        self.tags: Mapping[str, str] = source.tags()
        self.transform, self._flipped = _north_up(source.transform, self.shape, self.path)
        self.placed = self.crs is not None and not lacks_georeference(source.transform)
        self.pixel_size = metres_per_pixel(self.crs, self.transform, self.shape) if self.placed else None
        self.codes: dict[str, set[float]] = {}
        # zoo stack writes NaN for missing values, so every number in its files is a measurement.
        self._trusted = "ZOO_STACK" in self.tags

    def _check_alpha(self) -> None:
        """Reject an alpha band that holds measurements: by default, GDAL labels a fourth 8-bit band as alpha."""
        (rows, columns), side = self.source.shape, ALPHA_PROBE
        part = Window(max(0, (columns - side) // 2), max(0, (rows - side) // 2), min(side, columns), min(side, rows))
        numbers, counts = np.unique(self.source.read(self.alpha, window=part), return_counts=True)
        between = counts[(numbers != 0) & (numbers != numbers[-1])]
        if between.sum() > counts.sum() / 2 and len(between) >= ALPHA_NUMBERS:
            raise DataError(
                f"band {self.alpha} is declared as transparency (alpha), but holds {len(numbers)} different numbers",
                where=self.path,
                hint=f"If it is a measurement such as NIR: gdal_edit.py -colorinterp_{self.alpha} undefined FILE; "
                "if it is transparency, remove it: gdal_translate -b 1 -b 2 -b 3 IN OUT",
            )

    def _check_written(self) -> None:
        """Reject a TIFF, or a VRT over one, with blocks that were never written and may be missing or 0."""
        if self.alpha or self.masked:
            return
        if self.source.driver == "GTiff":
            _check_blocks(self.source, self.path)
        elif self.source.driver == "VRT" and {band.nodata for band in self.bands} != {0.0}:
            for name in self.source.files[1:]:
                if name.lower().endswith((".tif", ".tiff")):
                    with _open_with(name, ("GTiff",)) as source:
                        _check_blocks(source, name)

    def _band(self, index: int, colour: str, palette: bool) -> RasterBand:
        source, place = self.source, index - 1
        stored = source.dtypes[place]
        # numpy has no complex integers.
        dtype = np.dtype(np.complex64 if stored.startswith("complex") else stored)
        if dtype.kind not in "uif":
            raise DataError(f"band {index} holds numbers of type {stored}, not real ones", where=self.path)
        scale, offset = float(source.scales[place]), float(source.offsets[place])
        if not (math.isfinite(scale) and math.isfinite(offset) and scale != 0):
            raise DataError(
                f"band {index} has the scale tag {scale:g} and the offset tag {offset:g}",
                where=self.path,
                hint="Correct its tags: gdal_edit.py -scale 1 -offset 0 FILE",
            )
        nodata, flags = source.nodatavals[place], source.mask_flag_enums[place]
        return RasterBand(
            index=index,
            name=source.descriptions[place] or colour,
            unit=source.units[place] or self._tagged_unit(index),
            dtype=dtype,
            nodata=None if nodata is None else float(nodata),
            scale=scale,
            offset=offset,
            # A scaled number is a quantity; its colours are only for display, as in a probability map.
            palette=palette and (scale, offset) == (1, 0),
            own_mask=not flags or (nodata is None and MaskFlags.nodata in flags),
        )

    def _tagged_unit(self, index: int) -> str:
        """Return the unit in the tags of a band, or of a file with one band; "" without one."""
        tags = {**(self.source.tags() if self.source.count == 1 else {}), **self.source.tags(index)}
        return next((text.strip() for name, text in tags.items() if name.casefold() in UNIT_TAGS), "")

    @property
    def palette(self) -> Palette:
        """Palette of the first band; empty without one, or for a grey ramp in which 0 is white."""
        return _palette(self.source, self.bands[0].index)

    @property
    def turned(self) -> bool:
        """Whether the file is south-up or mirrored, and is flipped when it is read."""
        return any(self._flipped)

    def require_place(self) -> CRS:
        """Return the coordinate system of a georeferenced file.

        Raises:
            DataError: if the file has no georeference, or the system has no coordinates on the ground, such as a local
                or vertical one.
        """
        if self.crs is not None and not (self.crs.is_geographic or self.crs.is_projected):
            raise DataError(
                f"its coordinate system {crs_name(self.crs)} is neither projected nor in longitude and latitude",
                where=self.path,
                hint="Set the right one (gdal_edit.py -a_srs EPSG:CODE FILE), or warp it (gdalwarp -t_srs EPSG:CODE)",
            )
        if self.crs is not None and self.placed:
            return self.crs
        if self.source.gcps[0]:
            hint = "Warp it with its ground control points: gdalwarp IN.tif OUT.tif"
        elif self.source.rpcs is not None:
            hint = "Warp it with its rational polynomials and a DEM: gdalwarp -rpc -to RPC_DEM=DEM.tif IN.tif OUT.tif"
        elif self.crs is None:
            hint = "Set one with: gdal_edit.py -a_srs EPSG:CODE FILE"
        else:
            hint = "Set its corners: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE"
        raise DataError(
            "has no coordinate reference system, so it cannot be aligned with other layers"
            if self.crs is None
            else "has no georeference, so the location of its pixels is unknown",
            where=self.path,
            hint=hint,
        )

    def band_tags(self, band: int) -> Mapping[str, str]:
        """Return the tags of one band of :attr:`bands`, counted from 0."""
        tags: Mapping[str, str] = self.source.tags(self.bands[band].index)
        return tags

    def numbers(
        self, window: Window | None = None, bands: Sequence[int] | None = None, shape: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Return the numbers in the file for a window, before scale and offset.

        Args:
            window: within the raster; ``None`` for all of it.
            bands: indices in :attr:`bands`, in the requested order; ``None`` for all.
            shape: (rows, columns) of the result, to read fewer pixels than the window has, from overviews if the file
                has them, else the nearest pixels. ``None`` for every pixel.

        Returns:
            float32 (C, rows, columns), NaN where a pixel is missing.

        Raises:
            DataError: if the file is truncated there.
        """
        wanted = self.bands if bands is None else tuple(self.bands[band] for band in bands)
        part = self._file_window(window)
        with readable(self.path):
            stored = self._stored(wanted, part, shape)
            with np.errstate(over="ignore"):
                image = np.stack([numbers.astype(np.float32, copy=False) for numbers in stored])
            for band, numbers, values in zip(wanted, stored, image, strict=True):
                # float32 rounds large integers to the nodata value.
                large = band.dtype.kind in "ui" and band.dtype.itemsize > 2
                hidden = self._missing_mask(band, numbers if large else values)
                if hidden is not None:
                    values[hidden] = np.nan
                if band.own_mask:
                    values[self.source.read_masks(band.index, window=part, out_shape=shape) == 0] = np.nan
            masked = self._alpha_mask(part, shape)
        if masked is not None:
            image[:, masked] = np.nan
        return self._flip(image)

    @property
    def mixed(self) -> bool:
        """Whether the bands differ in dtype, as is possible in a VRT."""
        return len({band.dtype for band in self.bands}) > 1

    def _stored(
        self, bands: Sequence[RasterBand], part: Window | None = None, shape: tuple[int, int] | None = None
    ) -> Sequence[NDArray[Any]]:
        """Return the numbers of each band in the dtype of the file."""
        if len({band.dtype for band in bands}) > 1:  # rasterio does not read such bands together
            return [self.source.read(band.index, window=part, out_shape=shape) for band in bands]
        numbers: NDArray[Any] = self.source.read([band.index for band in bands], window=part, out_shape=shape)
        return list(numbers)

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None, shape: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Return the values of a window in the units of the bands; see :meth:`numbers` for arguments and result."""
        image = self.numbers(window, bands, shape)
        wanted = self.bands if bands is None else tuple(self.bands[band] for band in bands)
        for band, values in zip(wanted, image, strict=True):
            if band.scaled:
                values *= np.float32(band.scale)
                values += np.float32(band.offset)
        return image

    def read_native(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read the whole raster, in the dtype of its file if possible.

        Returns:
            Values (C, H, W), float32 with NaN if a band is scaled or has a missing code or bands differ in dtype; and a
            mask of the pixels that the alpha band or mask hides, bool (H, W), or ``None`` if nothing is hidden.
        """
        with readable(self.path):
            stored = self._stored(self.bands)
            pairs = zip(self.bands, stored, strict=True)
            coded = [self._missing_mask(band, values, tagged=False) is not None for band, values in pairs]
            masked = self._alpha_mask(None)
        if any(coded) or self.mixed or any(band.scaled or band.own_mask for band in self.bands):
            image: NDArray[Any] = self.read()
        else:
            image = self._flip(np.stack(stored))
        missing = None if masked is None or not masked.any() else self._flip(masked[None])[0]
        return image, missing

    def sample(self, index: int, side: int = 512) -> NDArray[np.float32]:
        """Return finite numbers of one band at a low resolution, before scale and offset, float32 (N,).

        Args:
            index: number of the band in the file, from 1.
            side: maximum number of pixels along each side.
        """
        position = [band.index for band in self.bands].index(index)
        values = self.numbers(None, [position], (min(side, self.shape[0]), min(side, self.shape[1])))
        found: NDArray[np.float32] = values[np.isfinite(values)]
        return found

    def probe(self, index: int) -> float | None:
        """Return a missing code without a nodata tag in a sample of one band; ``None`` if there is none."""
        self.sample(index)
        band = next(band for band in self.bands if band.index == index)
        return min(self.codes.get(band.name or f"band_{index}", ()), default=None)

    def find_codes(self, band: int, window: Window) -> tuple[float, ...]:
        """Return all missing codes without a nodata tag in a window of one band of :attr:`bands`; all of it is read."""
        found = self.bands[band]
        if found.dtype.kind == "u" or self._trusted:
            return ()
        for top in range(0, window.height, SCAN_ROWS):
            rows = min(SCAN_ROWS, window.height - top)
            self.numbers(Window(window.col_off, window.row_off + top, window.width, rows), [band])
        return tuple(sorted(self.codes.get(found.name or f"band_{found.index}", ())))

    def _missing_mask(self, band: RasterBand, values: NDArray[Any], *, tagged: bool = True) -> NDArray[np.bool_] | None:
        """Return the mask of missing numbers of a band, without alpha band and masks; ``None`` if there are none.

        Args:
            band: band of the file.
            values: numbers of the band, in the file's dtype or float32.
            tagged: include the nodata value of the tag.
        """
        by_tag: NDArray[np.bool_] | None = None
        nodata = band.nodata
        if nodata is not None and not math.isnan(nodata):
            # A later comparison with the tag finds only this number and no other fill value.
            if abs(nodata) >= MAX_QUANTITY and tagged:
                by_tag = values <= -MAX_QUANTITY if nodata < 0 else values >= MAX_QUANTITY
            else:
                with np.errstate(over="ignore"):
                    by_tag = values == (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)
        hidden = by_tag if tagged else None
        if self._trusted or band.dtype.kind == "u":
            return hidden
        coded = missing_codes(values, band.dtype, by_tag)
        if coded is None:
            return hidden
        found = self.codes.setdefault(band.name or f"band_{band.index}", set())
        found.update(float(code) for code in np.unique(values[coded])[:3])
        return coded if hidden is None else hidden | coded

    def _alpha_mask(self, part: Window | None, shape: tuple[int, int] | None = None) -> NDArray[np.bool_] | None:
        """Return the mask of pixels that the alpha band or internal mask hides; ``None`` without either."""
        shown: NDArray[Any] | None = None
        if self.alpha:
            shown = self.source.read(self.alpha, window=part, out_shape=shape)
        elif self.masked:
            shown = self.source.read_masks(self.bands[0].index, window=part, out_shape=shape)
        return None if shown is None else shown == 0

    def _file_window(self, window: Window | None) -> Window | None:
        """Return a window in the file's own orientation."""
        rows, columns = self._flipped
        if window is None or not (rows or columns):
            return window
        top = self.shape[0] - window.row_off - window.height if rows else window.row_off
        left = self.shape[1] - window.col_off - window.width if columns else window.col_off
        return Window(left, top, window.width, window.height)

    def _flip(self, image: NDArray[Any]) -> NDArray[Any]:
        rows, columns = self._flipped
        if not (rows or columns):
            return image
        return np.ascontiguousarray(image[:, :: -1 if rows else 1, :: -1 if columns else 1])

    def close(self) -> None:
        """Close the file."""
        self.source.close()


@dataclass(frozen=True)
class Raster:
    """A small raster in memory.

    Attributes:
        image: (C, H, W), north up, without the alpha band. In the dtype of the file; float32 with NaN if a band has a
            scale or offset tag or a missing code.
        names: name of each band, "" if the file has none.
        units: unit of each band, "" if the file has none.
        nodata: number that marks missing pixels in ``image``: the nodata tag, or NaN if this reader replaced it with
            NaN; ``None`` without one.
        missing: mask of pixels that an alpha band or internal mask hides, bool (H, W); ``None`` if none is hidden.
        pixel_size: side of a pixel on the ground in metres; ``None`` if it is unknown.
        crs: coordinate system; ``None`` without one.
        transform: transform from (column, row) to coordinates; ``None`` for a file without one.
        codes: missing codes found, by band name; their pixels are NaN in ``image``.
        palette: palette of the first band; see :attr:`RasterReader.palette`.
        turned: whether the file was stored with south up or mirrored, and was reoriented.
    """

    image: NDArray[Any]
    names: tuple[str, ...]
    units: tuple[str, ...]
    nodata: float | None
    missing: NDArray[np.bool_] | None
    pixel_size: float | None
    crs: CRS | None
    transform: Affine | None
    codes: Mapping[str, frozenset[float]]
    palette: Palette
    turned: bool = False


def read_raster(path: str | os.PathLike[str], *, classes: bool = False) -> Raster:
    """Read a whole file: TIFF of any compression, band count and dtype, or 16-bit PNG.

    Args:
        path: the file.
        classes: as in :class:`RasterReader`.

    Raises:
        DataError: as in :class:`RasterReader`, or if the image is too large for a patch.
    """
    with RasterReader(path, classes=classes) as reader:
        pixels = math.prod(reader.shape) * len(reader.bands)
        if pixels * max(band.dtype.itemsize for band in reader.bands) > MAX_IMAGE_BYTES:
            size = f"{reader.shape[1]} x {reader.shape[0]} px, {len(reader.bands)} bands"
            raise DataError(f"is far too large for a patch ({size})", where=path)
        image, missing = reader.read_native()
        tags = {str(band.nodata): band.nodata for band in reader.bands}
        nodata = next(iter(tags.values())) if len(tags) == 1 else None
        if reader.codes or reader.mixed or any(band.scaled or band.own_mask for band in reader.bands):
            nodata = math.nan
        return Raster(
            image=image,
            names=tuple(band.name for band in reader.bands),
            units=tuple(band.unit for band in reader.bands),
            nodata=nodata,
            missing=missing,
            pixel_size=reader.pixel_size,
            crs=reader.crs,
            transform=None if lacks_georeference(reader.source.transform) else reader.transform,
            codes={name: frozenset(codes) for name, codes in reader.codes.items()},
            palette=reader.palette,
            turned=reader.turned,
        )


def missing_codes(
    values: NDArray[Any], dtype: np.dtype[Any], known: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    """Return the mask of :data:`MISSING_CODES` and of magnitudes above 1e20; ``None`` if there are none.

    Args:
        values: numbers of any shape.
        dtype: dtype of the file; unsigned numbers have no codes.
        known: numbers that are already known to be missing.
    """
    if dtype.kind not in "if":
        return None
    suspects = values <= max(MISSING_CODES)
    if dtype.kind == "f":
        suspects |= values >= MAX_QUANTITY
    if known is not None:
        suspects &= ~known
    if not suspects.any():
        return None
    coded = np.isin(values, MISSING_CODES) & suspects
    if dtype.kind == "f":
        coded |= (np.abs(values) >= MAX_QUANTITY) & np.isfinite(values) & suspects
    return coded if coded.any() else None


def _check_blocks(source: Any, path: str) -> None:
    """Reject a TIFF without a nodata tag if some of its blocks were never written."""
    if all(MaskFlags.all_valid not in flags for flags in source.mask_flag_enums):
        return
    # Bands that are interleaved by pixel share their blocks.
    bands = source.indexes[:1] if source.interleaving is Interleaving.pixel else source.indexes
    rows, columns = source.block_shapes[0]
    blocks = [
        f"BLOCK_OFFSET_{column}_{row}"
        for row in range(-(-source.height // rows))
        for column in range(-(-source.width // columns))
    ]
    absent = sum(source.get_tag_item(block, "TIFF", bidx=band) is None for band in bands for block in blocks)
    if absent:
        raise DataError(
            f"{absent:,} of its {len(bands) * len(blocks):,} blocks were never written, and no nodata tag says whether "
            "they are missing or 0",
            where=path,
            hint="If they are missing: gdal_edit.py -a_nodata NUMBER FILE, with a NUMBER that no pixel has. "
            "If they are 0: gdal_translate FILE OUT.tif",
        )


def _open(path: str, formats: Sequence[str] | None) -> Any:
    """Open a file with the drivers for its suffix."""
    plain = path
    if path.startswith("vrt://"):  # one band of a file, as AlignedBand asks for it
        plain, formats = path.removeprefix("vrt://").partition("?")[0], ("VRT",)
    elif formats is None:
        formats = IMAGE_FORMATS
        if urlsplit(path).path.lower().endswith(".vrt") if "://" in path else path.lower().endswith(".vrt"):
            formats = (*IMAGE_FORMATS, "VRT")
            if not is_remote(path) and Path(path).exists():
                _check_vrt(Path(path))
    if not is_remote(plain) and not Path(plain).exists() and ":" not in plain:
        raise DataError("there is no such file", where=plain)
    with readable(path):
        return _open_with(path, formats)


@ensure_env_with_credentials  # type: ignore[untyped-decorator]  # rasterio has no types
def _open_with(path: str, formats: Sequence[str]) -> Any:
    """Open a file like ``rasterio.open``, but with several drivers."""
    dataset = DatasetReader(_parse_path(path), driver=list(formats), sharing=False)
    dataset._env = ExitStack()
    return dataset


def check_image(address: str) -> None:
    """Open and close a file to reject one without its own pixels, such as a VRT that reads other files.

    Raises:
        RasterioError: if its format is not in :data:`IMAGE_FORMATS`.
    """
    _open_with(address, IMAGE_FORMATS).close()


def _palette(source: Any, index: int) -> Palette:
    """Return the palette of a band, also if the file declares that 0 is white; empty without one."""
    white_zero = source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    if source.colorinterp[index - 1] != ColorInterp.palette and not white_zero:
        return {}
    try:
        colours: Palette = source.colormap(index)
    except ValueError:  # it has none
        return {}
    return colours


def _is_palette(source: Any, index: int) -> bool:
    colours = _palette(source, index) if source.colorinterp[index - 1] == ColorInterp.palette else {}
    return bool(colours) and not is_grey_ramp(colours)


def _check_pages(source: Any, path: str) -> None:
    count = len(source.subdatasets)
    if source.driver == "GTiff" and count > 1:
        raise DataError(
            f"holds {count} pages, and only the first would be read",
            where=path,
            hint="Save the bands of one image in one page, as (bands, height, width): rasterio and gdal_merge.py do",
        )
    if source.count == 0:
        raise DataError(
            f"holds {count} subdatasets but no raster of its own" if count else "holds no band",
            where=path,
            hint=f"Name one, such as {source.subdatasets[0]}" if count else None,
        )
    if source.count > MAX_BANDS:
        raise DataError(f"claims to have {source.count:,} bands; at most {MAX_BANDS:,} are read", where=path)
    if not all(math.isfinite(number) for number in source.transform[:6]) or source.transform.determinant == 0:
        raise DataError("has an invalid transform", where=path, hint="Georeference it again")
    corners = [source.transform * corner for corner in ((0, 0), (source.width, source.height))]
    if max(abs(number) for corner in corners for number in corner) > MAX_COORDINATE:
        raise DataError("has a transform that puts its pixels far outside the Earth", where=path)


def _north_up(transform: Affine, shape: tuple[int, int], path: str) -> tuple[Affine, tuple[bool, bool]]:
    """Return the transform with north up and west on the left, and whether rows and columns must be flipped."""
    if lacks_georeference(transform):
        return transform, (False, False)
    if transform.b or transform.d:
        raise DataError(
            "its grid is rotated", where=path, hint="Warp it to a north-up grid first: gdalwarp IN.tif OUT.tif"
        )
    rows, columns = transform.e > 0, transform.a < 0
    corner = transform * Affine.translation(shape[1] if columns else 0, shape[0] if rows else 0)
    turned = corner * Affine.scale(-1 if columns else 1, -1 if rows else 1)
    return turned if rows or columns else transform, (rows, columns)


def _check_vrt(path: Path, depth: int = 0) -> None:
    """Reject a VRT that uses anything other than images on this machine.

    Raises:
        DataError: if it reads raw bytes or a URL, runs code, or is nested too deeply. ``ZOO_ALLOW_REMOTE_VRT=1``
            allows URLs.
    """
    if depth > VRT_DEPTH:
        raise DataError(f"VRTs are nested more than {VRT_DEPTH} deep", where=path)
    content = _first_bytes(path, _XML_LIMIT + 1)
    if len(content) > _XML_LIMIT:
        raise DataError("is too large for a VRT", where=path)
    for element in parse_xml(content, str(path)).iter():
        if "VRTRawRasterBand" in (element.get("subClass") or "") or element.tag == "PixelFunctionCode":
            raise DataError("is a VRT that reads raw bytes or runs code, which is not opened", where=path)
        name = (element.text or "").strip()
        if element.tag in _WITHOUT_SOURCES or not name:
            continue
        if _REMOTE.search(name) and os.environ.get("ZOO_ALLOW_REMOTE_VRT") != "1":
            raise DataError(
                f"is a VRT that reads from a URL: {name[:80]}",
                where=path,
                hint="Download its sources, or allow it with the environment variable ZOO_ALLOW_REMOTE_VRT=1",
            )
        if element.tag not in ("SourceFilename", "SourceDataset"):
            continue
        source = path.parent / name if element.get("relativeToVRT") == "1" else Path(name)
        if name.lstrip().startswith("<") or "vrt://" in name:
            raise DataError("is a VRT with another VRT inside", where=path, hint="Save the inner one as a file")
        if source.is_file():
            start = _first_bytes(source, 2048)
            if b"<VRTDataset" in start:
                _check_vrt(source, depth + 1)
            elif start.lstrip().startswith(b"<"):
                raise DataError(f"is a VRT whose source is not an image: {name}", where=path)


def check_vector_content(path: Path) -> None:
    """Reject a vector file that refers to other files or servers instead of containing features.

    Raises:
        DataError: if it does, or if a VRT has another suffix.
    """
    if not path.is_file():
        return
    start = _first_bytes(path, 4096)
    if b"<OGRVRT" in start or b'"gdal_streamed_alg"' in start or b"<OGRWFS" in start:
        content = _first_bytes(path, _XML_LIMIT)
        if path.suffix.lower() != ".vrt" or _REMOTE.search(content.decode("utf-8", "replace")):
            raise DataError(
                "points to other files or servers instead of holding features, so it is not opened",
                where=path,
                hint="Save its features as a GeoPackage",
            )


def _first_bytes(path: Path, count: int) -> bytes:
    with readable(str(path)), path.open("rb") as stream:
        return stream.read(count)


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """Parse an XML document without a document type declaration.

    Only a document type can declare entities, with which a document can grow without bound or include other files.
    Neither a Sentinel-2 product nor a VRT has one.

    Raises:
        DataError: if the document is damaged or declares a document type.
    """
    guard = expat.ParserCreate()

    def refuse(*declared: object) -> None:
        raise DataError("declares a document type, which can be an attack", where=where)

    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError("is truncated or not XML", where=where, hint=f"Copy or download it again ({error})") from error


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Convert GDAL's errors about ``path`` in the block to a :class:`DataError`."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: Exception) -> DataError:
    """Return the error for a raster that GDAL cannot read."""
    if not is_remote(path):
        try:
            with Path(path).open("rb") as stream:
                start = stream.read(2048)
        except OSError:
            start = b""
        if b"<VRTDataset" in start and not path.lower().endswith(".vrt"):
            return DataError(
                "is a VRT with the name of an image, so it is not opened",
                where=path,
                hint="If you trust it, name it .vrt",
            )
    return DataError(
        "cannot be read as a raster: it is truncated or its format does not match its name",
        where=path,
        hint=f"Copy it again ({gdal_message(error)})",
    )


def gdal_message(error: Exception) -> str:
    """Return the first line of GDAL's message, which rasterio keeps only in the cause of "Read failed"."""
    return first_line(error.__cause__ or error)


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a raster with rasterio, in the file's own orientation; see :class:`RasterReader`.

    Raises:
        DataError: if the file is missing, truncated, or not an image.
    """
    with readable(path), _open(path, None) as source:
        yield source


@contextmanager
def ignore_missing_georeference() -> Iterator[None]:
    """Suppress rasterio's warning about patches without georeference.

    Python's warning filters are global to the process, so enter this once around a thread pool, not in each thread.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def small_cache() -> AbstractContextManager[object]:
    """Limit the cache shared by files opened inside the block; by default GDAL uses 5 % of the memory."""
    env: AbstractContextManager[object] = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)
    return env


def gdal_threads(path: str | os.PathLike[str]) -> AbstractContextManager[object]:
    """Let GDAL decompress ``path`` on all cores, or read an uncompressed file on one; with a small cache.

    For uncompressed tiles, threads make reading 50 % slower.
    """
    try:
        with _open_with(os.fspath(path), (*IMAGE_FORMATS, "VRT")) as source:
            packed = source.compression is not None
    except (RasterioError, OSError):
        # A Sentinel-2 product contains JPEG 2000; for any other file, the next reader reports the error.
        packed = Path(path).is_dir() or Path(path).suffix.lower() == ".zip"
    options = {"GDAL_NUM_THREADS": "ALL_CPUS"} if packed else {}
    env: AbstractContextManager[object] = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **options)
    return env


def window_of(rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    """Return the window of half-open ranges of rows and columns, for rooms that do not import rasterio."""
    return Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])


def is_remote(path: str) -> bool:
    """Return whether only GDAL can open ``path``: ``/vsis3/bucket/a.tif``, ``s3://bucket/a.tif``."""
    return path.startswith("/vsi") or "://" in path


def file_label(path: str) -> str:
    """Return the last part of a path or URL, without the query, which may contain a token."""
    plain = urlsplit(path).path if "://" in path else path
    return plain.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def check_remote_output(path: str, *, overwrite: bool) -> None:
    """Check that no remote raster is replaced by accident.

    Raises:
        ConfigError: if it exists and must not be replaced.
    """
    if overwrite:
        return
    try:
        _open_with(path, IMAGE_FORMATS).close()
    except (RasterioError, OSError):
        return
    raise ConfigError("already exists", where=path, hint="Name another file, or replace it with --overwrite")


def upload(local: Path, path: str) -> None:
    """Copy a finished raster byte by byte to a remote path, and remove the local file.

    Raises:
        ZooError: if it cannot be copied; the local file is then kept.
    """
    try:
        rasterio.shutil.copyfiles(str(local), path)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise ZooError(
            f"cannot be written ({gdal_message(error)})",
            where=path,
            hint=f"The complete file is {local}: copy it yourself, or see GDAL's page on this file system for "
            f"credentials",
        ) from error
    local.unlink()
