"""Read Sentinel-2 products in SAFE format: a folder or its zip, level 2A or 1C."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from xml.etree import ElementTree

from zoo.errors import DataError
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.reading import JPEG_2000, RasterReader, parse_xml


def element_text(root: ElementTree.Element, tag: str, where: str) -> str:
    """Return the text of the first element with this tag.

    Raises:
        DataError: if there is no such element, or it is empty.
    """
    text = (root.findtext(f".//{tag}") or "").strip()
    if not text:
        raise DataError(f"has no {tag}", where=where, hint="Use the metadata file of a complete Sentinel-2 product")
    return text


BANDS: dict[str, tuple[str, int]] = {
    "blue": ("B02", 10),
    "green": ("B03", 10),
    "red": ("B04", 10),
    "nir": ("B08", 10),
    "swir": ("B11", 20),
    "swir2": ("B12", 20),
    "scl": ("SCL", 20),
}
"""Sentinel-2 band and its pixel size in metres for each role."""

_BAND_IDS = {"B02": 1, "B03": 2, "B04": 3, "B08": 7, "B11": 11, "B12": 12}
"""Band numbers in the metadata of a product: B1 is 0, and B8A comes between B8 and B9 as 8 [S: PSD 14]."""

_METADATA = re.compile(r"(?:^|/)MTD_MSIL(2A|1C)\.xml$")
_XML_LIMIT = 64 * 2**20
_OFFSET_SINCE = (4, 0)


@dataclass(frozen=True)
class _Folder:
    """An unpacked product.

    Attributes:
        path: the product folder.
    """

    path: Path

    def names(self) -> dict[str, int]:
        """Return the size in bytes of each file, by its path in the product."""
        return {
            file.relative_to(self.path).as_posix(): file.stat().st_size
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return (self.path / name).read_bytes()

    def gdal(self, name: str) -> str:
        """Return the path by which GDAL opens a file."""
        return str(self.path / name)


@dataclass(frozen=True)
class _Archive:
    """A zipped product with the methods of :class:`_Folder`. It is read in place and never unpacked."""

    path: Path

    def names(self) -> dict[str, int]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                "is truncated or is not a zip archive", where=self.path, hint=f"Download it again ({error})"
            ) from error
        for name in entries:
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise DataError(
                    f"contains a path that points outside the archive: {name!r}",
                    where=self.path,
                    hint="Download the product from a source that you trust",
                )
        return entries

    def read(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as stream:
                # An entry can be larger than its header states, so the read itself is limited.
                return stream.read(_XML_LIMIT + 1)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(
                f"{name} in the archive cannot be unpacked", where=self.path, hint=f"Download it again ({error})"
            ) from error

    def gdal(self, name: str) -> str:
        # Braces allow any archive name. Without them, GDAL searches the path for ".zip".
        return f"/vsizip/{{{self.path}}}/{name}"


_Product: TypeAlias = _Folder | _Archive


def open_safe(path: Path, *, blue: bool = False) -> Sources:
    """Find the bands that a stack needs in a Sentinel-2 product.

    The band files are those that the product metadata (MTD_MSIL2A.xml) lists. Their sizes are compared with the
    manifest, and each file is opened once, so that an incomplete download is reported before any processing starts.

    Args:
        path: the ``.SAFE`` folder, its parent folder, its ``.zip``, or its ``MTD_MSIL2A.xml``.
        blue: include the blue band, which only the bare soil index of two dates needs.

    Returns:
        Green, red and NIR (10 m), both SWIR bands (20 m), and for level 2A the scene classification (20 m).
        ``offset`` is BOA_ADD_OFFSET of each band (RADIO_ADD_OFFSET for level 1C): 0 before baseline 04.00, None if a
        later product does not state it. ``scale`` is the reciprocal of the quantification value. ``scene`` is the
        MGRS tile.

    Raises:
        DataError: if the product is missing, damaged or incomplete, is not a Sentinel-2 product, or contains several
            granules.
    """
    found = _describe(_open(Path(path)))
    scale, offsets, notes = _radiometry(found.root, found.level, found.baseline, found.where)
    files = {}
    for role, (band, metres) in BANDS.items():
        if (found.level == "1C" and role == "scl") or (role == "blue" and not blue):
            continue
        suffix = f"_{band}_{metres}m" if found.level == "2A" else f"_{band}"
        name = _file_of(found.images, suffix, band, found.names, found.product, found.sizes)
        _check_jpeg2000(found.product.gdal(name), f"{found.product.path}, {name}")
        if role == "scl":
            files[role] = BandFile(found.product.gdal(name), nodata=0.0)
        else:
            files[role] = BandFile(found.product.gdal(name), offset=offsets[band], scale=scale, nodata=0.0)
    if found.level == "1C":
        notes.append(
            "level 1C is reflectance at the top of the atmosphere. It has no scene classification, so clouds are not "
            "masked"
        )
    scene, date = _scene_and_date(found, name)
    return Sources(files, scene=scene, date=date, baseline=found.baseline, notes=tuple(notes))


@dataclass(frozen=True)
class _Description:
    """Metadata of a product.

    Attributes:
        product: the product.
        names: size in bytes of each file.
        root: the metadata.
        base: folder of the metadata in the product.
        where: name of the metadata for errors.
        level: "2A" or "1C".
        baseline: processing baseline.
        images: image files without ``.jp2``.
        sizes: size in bytes that the manifest states for each file.
    """

    product: _Product
    names: dict[str, int]
    root: ElementTree.Element
    base: str
    where: str
    level: str
    baseline: str
    images: list[str]
    sizes: dict[str, int]


def _describe(product: _Product) -> _Description:
    names = product.names()
    found = [name for name in names if _METADATA.search(name)]
    if len(found) != 1:
        raise DataError(
            f"contains {len(found)} Sentinel-2 products"
            if found
            else "contains no MTD_MSIL2A.xml and no MTD_MSIL1C.xml",
            where=product.path,
            hint="Name one .SAFE folder" if found else "Name a complete Sentinel-2 product in SAFE format",
        )
    where = f"{product.path}, {found[0]}"
    root = _parse(product, found[0], names[found[0]])
    level = element_text(root, "PROCESSING_LEVEL", where)
    kind = {"2": "2A", "1": "1C"}.get(level.removeprefix("Level-")[:1], "")
    if kind not in ("2A", "1C") or not level.startswith(f"Level-{kind}"):
        raise DataError(f"has the processing level {level!r}", where=where, hint="Use a product of level 2A or 1C")
    base = found[0].rpartition("/")[0]
    images = _images(root, names, base, where)
    sizes = _manifest_sizes(product, names, base)
    baseline = element_text(root, "PROCESSING_BASELINE", where)
    return _Description(product, names, root, base, where, kind, baseline, images, sizes)


def _scene_and_date(found: _Description, image: str) -> tuple[str, str]:
    """Return the MGRS tile, by the name of an image, and the date of a product."""
    start = element_text(found.root, "PRODUCT_START_TIME", found.where)
    if not re.match(r"\d{4}-\d\d-\d\dT", start):
        raise DataError(
            f"PRODUCT_START_TIME is {start!r}", where=found.where, hint="Expected a time such as 2024-06-01T..."
        )
    tile = re.search(r"(?:^|_)(T\d{2}[A-Z]{3})(?:_|$)", Path(image).name.removesuffix(".jp2"))
    name = PurePosixPath(found.base or found.product.path.name).name.removesuffix(".SAFE")
    return tile[1] if tile else name, start[:10]


@dataclass(frozen=True)
class TrueColour:
    """The true-colour image of a Sentinel-2 product.

    Attributes:
        path: the product.
        image: address of the image, 10 m, by which GDAL opens it.
        classes: address of the scene classification (SCL), 20 m; ``None`` for level 1C, which has none.
        scene: MGRS tile.
        date: date of the image, YYYY-MM-DD.
    """

    path: Path
    image: str
    classes: str | None
    scene: str
    date: str


def is_product(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names a Sentinel-2 product: a folder, its zip or its metadata file."""
    place = Path(path)
    if place.is_dir():
        inside = [*place.glob("MTD_MSIL*.xml"), *place.glob("*.SAFE/MTD_MSIL*.xml")]
        return place.suffix.upper() == ".SAFE" or any(_METADATA.search(file.name) for file in inside)
    return place.is_file() and (place.suffix.lower() == ".zip" or bool(_METADATA.search(place.name)))


def true_colour(path: Path) -> TrueColour:
    """Find the true-colour image and the scene classification of a product.

    Args:
        path: see :func:`open_safe`.

    Raises:
        DataError: as in :func:`open_safe`.
    """
    found = _describe(_open(path))
    suffix = "_TCI_10m" if found.level == "2A" else "_TCI"
    files = [(suffix, "TCI"), *([("_SCL_20m", "SCL")] if found.level == "2A" else [])]
    names = [_file_of(found.images, end, band, found.names, found.product, found.sizes) for end, band in files]
    for name in names:
        _check_jpeg2000(found.product.gdal(name), f"{found.product.path}, {name}")
    opened = [found.product.gdal(name) for name in names]
    scene, date = _scene_and_date(found, names[0])
    return TrueColour(path, opened[0], opened[1] if len(opened) > 1 else None, scene, date)


def _open(path: Path) -> _Product:
    if not path.exists():
        raise DataError("does not exist", where=path, hint="Check the path of the product")
    path = path.resolve()
    if path.is_dir():
        return _Folder(path)
    if _METADATA.search(path.name):
        return _Folder(path.parent)
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return _Archive(path)
    raise DataError("is not a Sentinel-2 SAFE product", where=path, hint="Name its bands: --red FILE:1 --nir FILE:4")


def _parse(product: _Product, name: str, size: int) -> ElementTree.Element:
    if size > _XML_LIMIT:
        raise DataError(
            f"has {size / 2**20:,.0f} MiB, more than the limit of {_XML_LIMIT // 2**20} MiB for metadata",
            where=f"{product.path}, {name}",
            hint="Download the product again",
        )
    return parse_xml(product.read(name)[: _XML_LIMIT + 1], f"{product.path}, {name}")


def _images(root: ElementTree.Element, names: dict[str, int], base: str, where: str) -> list[str]:
    """Return the image files that the metadata lists, or those in the folder if there is no list, without ``.jp2``."""
    listed = [(element.text or "").strip() for element in root.iter("IMAGE_FILE")]
    granules = {name.split("/")[1] for name in listed if name.count("/") > 1}
    if not listed:
        inside = f"{base}/" if base else ""
        listed = [
            name.removeprefix(inside).removesuffix(".jp2")
            for name in names
            if name.startswith(f"{inside}GRANULE/") and "/IMG_DATA/" in name and name.endswith(".jp2")
        ]
        granules = {name.split("/")[1] for name in listed}
    if len(granules) > 1:
        raise DataError(
            f"contains {len(granules)} granules, as products from before December 2016 do",
            where=where,
            hint="Name the bands of one granule with --green, --red, --nir, --swir",
        )
    for name in listed:
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise DataError(
                f"lists a file outside the product: {name!r}",
                where=where,
                hint="Download the product from a source that you trust",
            )
    return [f"{base}/{name}" if base else name for name in listed]


def _file_of(
    images: list[str], suffix: str, band: str, names: dict[str, int], product: _Product, sizes: dict[str, int]
) -> str:
    """Return the file of a band, after a check of its presence and size."""
    listed = [name for name in images if name.endswith(suffix)]
    if not listed:
        raise DataError(
            f"has no band {band} (no image name ends in {suffix}.jp2)",
            where=product.path,
            hint="Download the complete product",
        )
    name = f"{listed[0]}.jp2"
    if name not in names:
        raise DataError(
            f"the file of band {band} is missing: {name}",
            where=product.path,
            hint="The product is incomplete. Download or unpack it again",
        )
    if names[name] != sizes.get(name, names[name]):
        raise DataError(
            f"{name} has {names[name]:,} bytes, but the manifest states {sizes[name]:,}",
            where=product.path,
            hint="The product is incomplete. Download or unpack it again",
        )
    return name


def _manifest_sizes(product: _Product, names: dict[str, int], base: str) -> dict[str, int]:
    """Return the size in bytes that the manifest states for each file; empty without a manifest."""
    name = f"{base}/manifest.safe" if base else "manifest.safe"
    if name not in names:
        return {}
    sizes = {}
    for stream in _parse(product, name, names[name]).iter("byteStream"):
        location, size = stream.find("fileLocation"), stream.get("size", "")
        if location is not None and size.isdigit():
            href = location.get("href", "").removeprefix("./")
            sizes[f"{base}/{href}" if base else href] = int(size)
    return sizes


def _radiometry(
    root: ElementTree.Element, kind: str, baseline: str, where: str
) -> tuple[float, dict[str, float | None], list[str]]:
    """Return the scale, the offset of each band (None if unknown) and notes for the user."""
    tag = "BOA_QUANTIFICATION_VALUE" if kind == "2A" else "QUANTIFICATION_VALUE"
    # Sen2Cor before version 2.8 writes the tag with a prefix.
    text = root.findtext(f".//{tag}") or root.findtext(f".//L2A_{tag}")
    scale = 1 / _number(text, tag, where)
    ids = {
        "B" + (element.get("physicalBand", "")[1:]).zfill(2): element.get("bandId")
        for element in root.iter("Spectral_Information")
    }
    written = {
        element.get("band_id"): _number(element.text, element.tag, where, positive=False)
        for element in root.iter("BOA_ADD_OFFSET" if kind == "2A" else "RADIO_ADD_OFFSET")
    }
    match = re.match(r"(\d+)\.(\d+)$", baseline)
    if match is None:
        raise DataError(f"PROCESSING_BASELINE is {baseline!r}", where=where, hint="Expected a baseline such as 05.09")
    early = (int(match[1]), int(match[2])) < _OFFSET_SINCE
    offsets: dict[str, float | None] = {}
    for band, number in _BAND_IDS.items():
        offsets[band] = written.get(ids.get(band) or str(number), 0.0 if early else None)
    notes = []
    unknown = [band for band, offset in offsets.items() if offset is None]
    if unknown:
        notes.append(
            f"products of baseline {baseline} contain an offset, but this product does not state it for "
            f"{', '.join(unknown)}"
        )
    return scale, offsets, notes


def _number(text: str | None, tag: str, where: str, *, positive: bool = True) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e6 or (positive and number <= 0):
        raise DataError(
            f"{tag} is {'missing' if text is None else repr(text)}", where=where, hint="Download the product again"
        )
    return number


def _check_jpeg2000(path: str, where: str) -> None:
    """Check that a band file is a JPEG 2000 image, so that GDAL reads no other format under its name.

    Raises:
        DataError: if it is not a readable JPEG 2000 image, or has no coordinate reference system.
    """
    try:
        with RasterReader(path, formats=JPEG_2000) as reader:
            if reader.crs is None:
                raise DataError("has no coordinate reference system", where=where, hint="Download the product again")
    except DataError as error:
        if "coordinate" in error.problem:
            raise
        raise DataError(
            "cannot be read as an image: it is truncated, damaged or not JPEG 2000",
            where=where,
            hint="Download the product again",
        ) from error
