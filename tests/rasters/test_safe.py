"""Sentinel-2 products in SAFE format: small ones, of ESA's layout, XML and JPEG 2000."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from zoo.errors import DataError
from zoo.rasters.safe import is_product, open_safe, true_colour

PRODUCT = "S2B_MSIL2A_20240830T100559_N0511_R022_T32TPS_20240830T134009.SAFE"
GRANULE = "L2A_T32TPS_A038765_20240830T100558"
STEM = "T32TPS_20240830T100559"
FINE, COARSE = ("B02", "B03", "B04", "B08", "TCI"), ("B05", "B11", "B12", "SCL")

HEAD = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2024-08-30T10:05:59.024Z</PRODUCT_START_TIME>
      <PRODUCT_URI>{product}</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Datatake datatakeIdentifier="GS2B_20240830T100559_038765_N05.11">
        <DATATAKE_SENSING_START>2024-08-30T10:05:59.024Z</DATATAKE_SENSING_START>
      </Datatake>
      <Product_Organisation><Granule_List><Granule granuleIdentifier="{granule}" imageFormat="JPEG2000">
        {images}
      </Granule></Granule_List></Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      {radiometry}
      <Spectral_Information_List>{spectral}</Spectral_Information_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{level}_User_Product>
"""
BAND_NAMES = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def write_jp2(path: Path, band: str, metres: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 1200 // metres
    kind = np.uint8 if band in ("SCL", "TCI") else np.uint16
    steps, first = {"SCL": (12, 0), "TCI": (100, 1)}.get(band, (200, 1000))
    values = (np.arange(side * side).reshape(side, side) % steps + first).astype(kind)
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        count=3 if band == "TCI" else 1,
        height=side,
        width=side,
        dtype=kind,
        crs="EPSG:32632",
        transform=from_origin(600000, 5100000, metres, metres),
        QUALITY="100",
        REVERSIBLE="YES",
    ) as target:
        for number in target.indexes:
            target.write(values, number)


def write_safe(
    parent: Path,
    *,
    level: str = "2A",
    baseline: str = "05.11",
    offsets: bool = True,
    leave_out: tuple[str, ...] = (),
    spectral: bool = True,
    manifest: bool = True,
) -> Path:
    """A product with one granule of 1.2 km, its metadata and its manifest."""
    root = parent / PRODUCT.replace("L2A", f"L{level}")
    granule = GRANULE.replace("L2A", f"L{level}")
    names = []
    for metres, bands in ((10, FINE), (20, COARSE)):
        for band in bands:
            if level == "1C" and band == "SCL":
                continue
            inside = f"R{metres}m/{STEM}_{band}_{metres}m" if level == "2A" else f"{STEM}_{band}"
            names.append((band, metres, f"GRANULE/{granule}/IMG_DATA/{inside}"))
    names = [entry for entry in names if entry[0] not in leave_out]
    for band, metres, name in names:
        write_jp2(root / f"{name}.jp2", band, metres)
    quantity, offset = (
        ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET")
        if level == "2A"
        else (
            "QUANTIFICATION_VALUE",
            "RADIO_ADD_OFFSET",
        )
    )
    radiometry = f'<{quantity} unit="none">10000</{quantity}>'
    if offsets:
        # A different number for each band, so that a mixed-up band shows.
        radiometry += "".join(f'<{offset} band_id="{i}">{-1000 - i}</{offset}>' for i in range(13))
    text = HEAD.format(
        level=level,
        product=root.name,
        baseline=baseline,
        granule=granule,
        images="".join(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for _, _, name in names),
        radiometry=radiometry,
        spectral="".join(
            f'<Spectral_Information bandId="{i}" physicalBand="{name}"/>' for i, name in enumerate(BAND_NAMES)
        )
        if spectral
        else "",
    )
    (root / f"MTD_MSIL{level}.xml").write_text(text, encoding="utf-8")
    if manifest:
        entries = "".join(
            f'<dataObject ID="x{i}"><byteStream mimeType="application/octet-stream" '
            f'size="{(root / (name + ".jp2")).stat().st_size}">'
            f'<fileLocation locatorType="URL" href="./{name}.jp2"/></byteStream></dataObject>'
            for i, (_, _, name) in enumerate(names)
        )
        (root / "manifest.safe").write_text(
            '<?xml version="1.0"?><xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1">'
            f"<dataObjectSection>{entries}</dataObjectSection></xfdu:XFDU>"
        )
    return root


def zipped(root: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent).as_posix())
    return target


def metadata(root: Path) -> Path:
    return next(root.glob("MTD_MSIL*.xml"))


def edit(root: Path, old: str, new: str) -> Path:
    text = metadata(root).read_text(encoding="utf-8")
    assert old in text
    metadata(root).write_text(text.replace(old, new), encoding="utf-8")
    return root


def test_level_2a_with_its_bands_offsets_and_names(tmp_path: Path) -> None:
    sources = open_safe(write_safe(tmp_path))
    assert (sources.scene, sources.date, sources.baseline) == ("T32TPS", "2024-08-30", "05.11")
    assert {role: file.offset for role, file in sources.files.items()} == {
        "green": -1002.0,
        "red": -1003.0,
        "nir": -1007.0,
        "swir": -1011.0,
        "swir2": -1012.0,
        "scl": 0.0,
    }
    assert {file.scale for role, file in sources.files.items() if role != "scl"} == {1e-4}
    assert sources.files["scl"].scale == 1
    for role, band, metres in (("green", "B03", 10), ("nir", "B08", 10), ("swir", "B11", 20), ("scl", "SCL", 20)):
        file = sources.files[role]
        assert f"_{band}_{metres}m.jp2" in file.path
        with rasterio.open(file.path) as source:
            assert source.transform.a == metres
            assert source.read(1)[0, 5] == (5 if role == "scl" else 1005)
    assert sources.notes == ()


@pytest.mark.parametrize("name", ["product.zip", "mit ümlaut {1}.zip"])
def test_a_zip_is_read_in_place(tmp_path: Path, name: str) -> None:
    root = write_safe(tmp_path / "unpacked")
    archive = zipped(root, tmp_path / name)
    shutil.rmtree(root)
    sources = open_safe(archive)
    assert sources.scene == "T32TPS"
    with rasterio.open(sources.files["swir"].path) as source:
        assert source.shape == (60, 60)
        assert source.read(1)[0, 5] == 1005


def test_the_parent_folder_or_the_metadata_file_opens_a_product(tmp_path: Path) -> None:
    root = write_safe(tmp_path)
    for path in (tmp_path, metadata(root)):
        assert open_safe(path).files["red"].path == open_safe(root).files["red"].path
    other = tmp_path / "other.SAFE"
    shutil.copytree(root, other)
    with pytest.raises(DataError, match="contains 2 Sentinel-2 products"):
        open_safe(tmp_path)


def test_level_1c_has_no_scene_classification_and_a_note(tmp_path: Path) -> None:
    sources = open_safe(write_safe(tmp_path, level="1C"))
    assert "scl" not in sources.files
    assert sources.files["nir"].offset == -1007
    assert sources.files["nir"].path.endswith("IMG_DATA/T32TPS_20240830T100559_B08.jp2")
    assert "top of the atmosphere" in sources.notes[0]


@pytest.mark.parametrize(
    ("baseline", "offset", "said"), [("02.14", 0.0, False), ("03.01", 0.0, False), ("04.00", None, True)]
)
def test_a_product_without_offsets(tmp_path: Path, baseline: str, offset: float | None, said: bool) -> None:
    sources = open_safe(write_safe(tmp_path, baseline=baseline, offsets=False))
    assert sources.files["red"].offset == offset
    assert bool(sources.notes) == said


def test_bands_are_found_without_lists(tmp_path: Path) -> None:
    root = write_safe(tmp_path, spectral=False, manifest=False)
    edit(root, "IMAGE_FILE", "SOMETHING_ELSE")
    files = open_safe(root).files
    assert [files[role].offset for role in ("green", "red", "nir", "swir", "swir2")] == [
        -1002,
        -1003,
        -1007,
        -1011,
        -1012,
    ]


def test_incomplete_products_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_safe(tmp_path / "none.SAFE")
    with pytest.raises(DataError, match="has no band B11"):
        open_safe(write_safe(tmp_path / "a", leave_out=("B11",)))
    root = write_safe(tmp_path / "b")
    next(root.rglob("*B08_10m.jp2")).unlink()
    with pytest.raises(DataError, match="the file of band B08 is missing"):
        open_safe(root)
    root = write_safe(tmp_path / "c")
    file = next(root.rglob("*B04_10m.jp2"))
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match="has 300 bytes, but the manifest states"):
        open_safe(root)
    (root / "manifest.safe").unlink()
    file.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as an image"):
        open_safe(root)


def test_a_folder_or_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"contains no MTD_MSIL2A\.xml"):
        open_safe(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="not a Sentinel-2 SAFE product"):
        open_safe(tmp_path / "notes.txt")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="truncated or is not a zip archive"):
        open_safe(tmp_path / "broken.zip")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Level-2A</PROC", "Level-3A</PROC", "processing level 'Level-3A'"),
        ("<PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>", "", "has no PROCESSING_LEVEL"),
        ("<PRODUCT_START_TIME>2024-08-30T", "<PRODUCT_START_TIME>30 August ", "PRODUCT_START_TIME"),
        ("10000</BOA_Q", "0</BOA_Q", "BOA_QUANTIFICATION_VALUE"),
        ("BOA_QUANTIFICATION_VALUE", "NOTHING", "BOA_QUANTIFICATION_VALUE is missing"),
        (">-1003<", ">many<", "BOA_ADD_OFFSET is 'many'"),
        (">05.11<", ">new<", "PROCESSING_BASELINE is 'new'"),
        ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>../../GRANULE/", "outside the product"),
        ("</n1:General_Info>", "", "truncated or not XML"),
    ],
)
def test_invalid_metadata_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_safe(edit(write_safe(tmp_path), old, new))


def test_several_granules_are_refused(tmp_path: Path) -> None:
    root = edit(
        write_safe(tmp_path), "</Granule>", "<IMAGE_FILE>GRANULE/other/IMG_DATA/x_B03_10m</IMAGE_FILE></Granule>"
    )
    with pytest.raises(DataError, match="contains 2 granules"):
        open_safe(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_expanded(tmp_path: Path, encoding: str) -> None:
    root = write_safe(tmp_path)
    bomb = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]>'
        "<a><PROCESSING_LEVEL>&c;</PROCESSING_LEVEL></a>"
    )
    metadata(root).write_bytes(bomb.encode(encoding))
    with pytest.raises(DataError, match="declares a document type"):
        open_safe(root)


def test_a_zip_with_a_path_outside_it_is_refused(tmp_path: Path) -> None:
    archive = zipped(write_safe(tmp_path), tmp_path / "x.zip")
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr("../../evil.xml", "x")
    with pytest.raises(DataError, match="points outside the archive"):
        open_safe(archive)


def test_a_zip_with_gigabytes_of_xml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.rasters.safe._XML_LIMIT", 100)
    with pytest.raises(DataError, match="more than the limit of"):
        open_safe(zipped(write_safe(tmp_path), tmp_path / "x.zip"))


@pytest.mark.parametrize("level", ["2A", "1C"])
def test_the_true_colour_image_of_a_product(tmp_path: Path, level: str) -> None:
    product = write_safe(tmp_path, level=level)
    found = true_colour(product)
    assert (found.scene, found.date) == ("T32TPS", "2024-08-30")
    assert found.image.endswith("TCI_10m.jp2" if level == "2A" else "TCI.jp2")
    assert (found.classes is None) == (level == "1C")
    assert is_product(product)
    assert is_product(product / f"MTD_MSIL{level}.xml")
    assert not is_product(found.image)
    with rasterio.open(found.image) as image:
        assert image.count == 3


def test_a_folder_of_something_else_is_no_product(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert not is_product(tmp_path)
    assert is_product(write_safe(tmp_path).parent)


def test_a_product_without_its_true_colour_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no band TCI"):
        true_colour(write_safe(tmp_path, leave_out=("TCI",)))
