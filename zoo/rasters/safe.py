"""Read Sentinel-2 products in SAFE format: a folder or its zip, level 2A or 1C."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from xml.etree import ElementTree
from xml.parsers import expat

from zoo.errors import DataError
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.reading import JPEG_2000, RasterReader


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """Parse a document that declares no document type.

    Entities, the stuff of "billion laughs" and of files smuggled in, can be declared in a document type alone, and
    no Sentinel-2 product has one.

    Args:
        data: the whole document.
        where: for the error.

    Raises:
        DataError: if it is no XML, truncated, or declares a document type.
    """
    guard = expat.ParserCreate()

    def refuse(*declared: object) -> None:
        raise DataError(
            "declares a document type, which no Sentinel-2 product does and which can be an attack", where=where
        )

    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        raise DataError(
            "is truncated or no XML", where=where, hint=f"Download or unpack the product again ({error})"
        ) from error


def text_of(root: ElementTree.Element, tag: str, where: str) -> str:
    """The text of the first element of a name.

    Raises:
        DataError: if there is none, or it is empty.
    """
    text = (root.findtext(f".//{tag}") or "").strip()
    if not text:
        raise DataError(f"says no {tag}", where=where, hint="Is it the metadata of a whole Sentinel-2 product?")
    return text


BANDS: dict[str, tuple[str, int]] = {
    "green": ("B03", 10),
    "red": ("B04", 10),
    "nir": ("B08", 10),
    "swir": ("B11", 20),
    "swir2": ("B12", 20),
    "scl": ("SCL", 20),
}
"""Band of Sentinel-2 and its pixel in metres, by role."""

_BAND_IDS = {"B03": 2, "B04": 3, "B08": 7, "B11": 11, "B12": 12}
"""Numbers of the bands in a product's metadata: B1 is 0, and B8A, between B8 and B9, is 8 [S: PSD 14]."""

_METADATA = re.compile(r"(?:^|/)MTD_MSIL(2A|1C)\.xml$")
_XML_LIMIT = 64 * 2**20
_OFFSET_SINCE = (4, 0)


@dataclass(frozen=True)
class _Folder:
    """An unpacked product: its files and their sizes, their bytes, and how GDAL calls them."""

    path: Path

    def names(self) -> dict[str, int]:
        return {
            file.relative_to(self.path).as_posix(): file.stat().st_size
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
        }

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def gdal(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class _Archive:
    """The same of a zip archive, which is never unpacked."""

    path: Path

    def names(self) -> dict[str, int]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                "is truncated or no zip archive", where=self.path, hint=f"Download it again ({error})"
            ) from error
        for name in entries:
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise DataError(f"holds a file that would leave the archive: {name!r}", where=self.path)
        return entries

    def read(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as stream:
                # An entry may be larger than its header says; the limit is what is read.
                return stream.read(_XML_LIMIT + 1)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(
                f"its {name} cannot be unpacked", where=self.path, hint=f"Download it again ({error})"
            ) from error

    def gdal(self, name: str) -> str:
        # Braces let the archive have any name; without them GDAL looks for a ".zip" in the path.
        return f"/vsizip/{{{self.path}}}/{name}"


_Product: TypeAlias = _Folder | _Archive


def open_safe(path: Path) -> Sources:
    """Find the bands that a stack needs in a Sentinel-2 product.

    Bands come from the product's own list (MTD_MSIL2A.xml), sizes are compared with its manifest, and each file is
    opened once, so that an incomplete download is told here and not an hour later.

    Args:
        path: the ``.SAFE`` folder, the folder around it, its ``.zip``, or its ``MTD_MSIL2A.xml``.

    Returns:
        Green, red and NIR (10 m), both SWIR bands (20 m), and for level 2A the scene classification (20 m);
        ``offset`` is BOA_ADD_OFFSET of each band (RADIO_ADD_OFFSET for level 1C), 0 before baseline 04.00, and None
        where a later product does not say; ``scale`` is one over the quantification value; ``scene`` the MGRS tile.

    Raises:
        DataError: if the product is missing, damaged or incomplete, no Sentinel-2, or holds several granules.
    """
    product = _open(Path(path))
    names = product.names()
    found = [name for name in names if _METADATA.search(name)]
    if len(found) != 1:
        raise DataError(
            f"holds {len(found)} Sentinel-2 products" if found else "holds no MTD_MSIL2A.xml and no MTD_MSIL1C.xml",
            where=product.path,
            hint="Name one .SAFE folder" if found else "Is it a Sentinel-2 product in SAFE format, whole?",
        )
    where = f"{product.path}, {found[0]}"
    root = _parse(product, found[0], names[found[0]])
    level = text_of(root, "PROCESSING_LEVEL", where)
    kind = {"2": "2A", "1": "1C"}.get(level.removeprefix("Level-")[:1], "")
    if kind not in ("2A", "1C") or not level.startswith(f"Level-{kind}"):
        raise DataError(f"is of processing level {level!r}", where=where, hint="Levels 2A and 1C are read")
    base = found[0].rpartition("/")[0]
    images = _images(root, names, base, where)
    sizes = _manifest_sizes(product, names, base)
    baseline = text_of(root, "PROCESSING_BASELINE", where)
    scale, offsets, notes = _radiometry(root, kind, baseline, where)
    files = {}
    for role, (band, metres) in BANDS.items():
        if kind == "1C" and role == "scl":
            continue
        suffix = f"_{band}_{metres}m" if kind == "2A" else f"_{band}"
        name = _file_of(images, suffix, band, names, product, sizes)
        _check_opens(product.gdal(name), f"{product.path}, {name}")
        if role == "scl":
            files[role] = BandFile(product.gdal(name), nodata=0.0)
        else:
            files[role] = BandFile(product.gdal(name), offset=offsets[band], scale=scale, nodata=0.0)
    if kind == "1C":
        notes.append(
            "level 1C is reflectance at the top of the atmosphere, and has no scene classification: clouds stay"
        )
    start = text_of(root, "PRODUCT_START_TIME", where)
    if not re.match(r"\d{4}-\d\d-\d\dT", start):
        raise DataError(f"PRODUCT_START_TIME is {start!r}", where=where)
    tile = re.search(r"(?:^|_)(T\d{2}[A-Z]{3})(?:_|$)", Path(name).name.removesuffix(".jp2"))
    scene = tile[1] if tile else PurePosixPath(base or product.path.name).name.removesuffix(".SAFE")
    return Sources(files, scene=scene, date=start[:10], baseline=baseline, notes=tuple(notes))


def _open(path: Path) -> _Product:
    if not path.exists():
        raise DataError("there is no such product", where=path)
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
        raise DataError(f"is {size / 2**20:,.0f} MiB of XML, which no product has", where=f"{product.path}, {name}")
    return parse_xml(product.read(name)[: _XML_LIMIT + 1], f"{product.path}, {name}")


def _images(root: ElementTree.Element, names: dict[str, int], base: str, where: str) -> list[str]:
    """Files of the product's list, as they are called in the folder; those of the folder where there is no list."""
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
            f"holds {len(granules)} granules, as products before December 2016 do",
            where=where,
            hint="Give the bands of one granule by --green, --red, --nir, --swir",
        )
    for name in listed:
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise DataError(f"lists a file outside the product: {name!r}", where=where)
    return [f"{base}/{name}" if base else name for name in listed]


def _file_of(
    images: list[str], suffix: str, band: str, names: dict[str, int], product: _Product, sizes: dict[str, int]
) -> str:
    listed = [name for name in images if name.endswith(suffix)]
    if not listed:
        raise DataError(
            f"has no band {band} (no image ends in {suffix}.jp2)",
            where=product.path,
            hint="Download the whole product, not a part of it",
        )
    name = f"{listed[0]}.jp2"
    if name not in names:
        raise DataError(
            f"band {band} is in the product's list, but its file is missing: {name}",
            where=product.path,
            hint="The download or the unpacking was not finished; do it again",
        )
    if names[name] != sizes.get(name, names[name]):
        raise DataError(
            f"{name} has {names[name]:,} bytes, and the manifest says {sizes[name]:,}",
            where=product.path,
            hint="The download or the unpacking was not finished; do it again",
        )
    return name


def _manifest_sizes(product: _Product, names: dict[str, int], base: str) -> dict[str, int]:
    """Bytes that each file should have; none without a manifest."""
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
    tag = "BOA_QUANTIFICATION_VALUE" if kind == "2A" else "QUANTIFICATION_VALUE"
    # Sen2Cor before 2.8 wrote the name with a prefix.
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
        raise DataError(f"PROCESSING_BASELINE is {baseline!r}", where=where, hint="Expected a text such as 05.09")
    early = (int(match[1]), int(match[2])) < _OFFSET_SINCE
    offsets: dict[str, float | None] = {}
    for band, number in _BAND_IDS.items():
        offsets[band] = written.get(ids.get(band) or str(number), 0.0 if early else None)
    notes = []
    unknown = [band for band, offset in offsets.items() if offset is None]
    if unknown:
        notes.append(
            f"baseline {baseline} adds an offset to its numbers, and the product does not say which for "
            f"{', '.join(unknown)}"
        )
    return scale, offsets, notes


def _number(text: str | None, tag: str, where: str, *, positive: bool = True) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e6 or (positive and number <= 0):
        raise DataError(f"{tag} is {'missing' if text is None else repr(text)}", where=where)
    return number


def _check_opens(path: str, where: str) -> None:
    """Check that a file of the product is a JPEG 2000 image, so that no other file is read under its name."""
    try:
        with RasterReader(path, formats=JPEG_2000) as reader:
            if reader.crs is None:
                raise DataError("has no coordinate reference system", where=where)
    except DataError as error:
        if "coordinate" in error.problem:
            raise
        raise DataError(
            "cannot be read as an image: it is truncated, damaged, or not JPEG 2000",
            where=where,
            hint="Download the product again",
        ) from error
