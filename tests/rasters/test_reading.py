"""One reader decides the value, the validity, the place and the unit of a pixel."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio._env import get_gdal_config
from rasterio.control import GroundControlPoint
from rasterio.dtypes import _gdal_typename
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

from tests.rasters.geotiffs import write_geotiff
from zoo.errors import DataError
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.layers import BandFile, open_layer
from zoo.rasters.reading import CACHE_BYTES, RasterReader, gdal_threads, read_raster, small_cache
from zoo.rasters.stacks import Mosaic, Stack

NORTH_UP = from_origin(500_000, 3_800_000, 10, 10)


def write(path: Path, values: np.ndarray, **profile: Any) -> Path:
    return write_geotiff(path, values, **{"transform": NORTH_UP, **profile})


def vrt_source(name: str) -> str:
    file = f"<SourceFilename relativeToVRT='1'>{name}.tif</SourceFilename>"
    return f"<SimpleSource>{file}<SourceBand>1</SourceBand></SimpleSource>"


def write_vrt(path: Path, bands: list[tuple[str, str, str, str]], shape: tuple[int, int] = (20, 30)) -> None:
    """Write a VRT; each band has the name and dtype of its source, and XML before and after it."""
    inner = "".join(
        f"<VRTRasterBand dataType='{_gdal_typename(dtype)}' band='{band}'>{tag}{vrt_source(name)}{mask}</VRTRasterBand>"
        for band, (name, dtype, tag, mask) in enumerate(bands, 1)
    )
    place = ",".join(map(str, NORTH_UP.to_gdal()))
    path.write_text(
        f"<VRTDataset rasterXSize='{shape[1]}' rasterYSize='{shape[0]}'><SRS>EPSG:32643</SRS>"
        f"<GeoTransform>{place}</GeoTransform>{inner}</VRTDataset>"
    )


def ramp(rows: int = 20, columns: int = 30) -> np.ndarray:
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


@pytest.mark.parametrize("flip", ["rows", "columns", "both"])
def test_a_turned_file_gives_the_same_pixels_at_the_same_place(tmp_path: Path, flip: str) -> None:
    values = ramp()
    north = write(tmp_path / "north.tif", values)
    rows, columns = flip in ("rows", "both"), flip in ("columns", "both")
    turned = NORTH_UP * Affine.translation(30 if columns else 0, 20 if rows else 0)
    turned = turned * Affine.scale(-1 if columns else 1, -1 if rows else 1)
    other = write(
        tmp_path / "turned.tif", values[:: -1 if rows else 1, :: -1 if columns else 1].copy(), transform=turned
    )
    with Stack(north) as one, Stack(other) as two:
        assert two.transform.almost_equals(one.transform)
        np.testing.assert_array_equal(two.read(), one.read())
        for window in (Window(0, 0, 7, 5), Window(11, 3, 19, 17), Window(29, 19, 1, 1)):
            np.testing.assert_array_equal(two.read(window), one.read(window))
    with Mosaic([north, other]) as both:
        assert both.shape == (20, 30)
    np.testing.assert_array_equal(read_raster(other).image, read_raster(north).image)


def test_a_rotated_or_transposed_file_is_refused(tmp_path: Path) -> None:
    for name, transform in (
        ("rotated", NORTH_UP * Affine.rotation(10)),
        ("transposed", Affine(0, 10, 500_000, -10, 0, 3_800_000)),
    ):
        path = write(tmp_path / f"{name}.tif", ramp(), transform=transform)
        with pytest.raises(DataError, match="rotated") as caught:
            RasterReader(path)
        assert "gdalwarp" in str(caught.value)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
@pytest.mark.parametrize("code", [-9999, -32768])
def test_missing_codes_without_a_tag_are_missing_and_noted(tmp_path: Path, dtype: str, code: int) -> None:
    values = ramp().astype(dtype)
    values[:, :10] = code
    with Stack(write(tmp_path / "coded.tif", values)) as stack:
        image = stack.read()[0]
        assert np.isnan(image[:, :10]).all()
        np.testing.assert_array_equal(image[:, 10:], ramp()[:, 10:])
        assert f"{code} without a nodata tag" in stack.code_notes[0]
    raster = read_raster(tmp_path / "coded.tif")
    assert np.isnan(raster.image[0, :, :10]).all()
    assert np.isnan(raster.nodata)
    assert raster.codes == {"band_1": frozenset({float(code)})}


@pytest.mark.parametrize("fill", [np.finfo(np.float32).min, np.finfo(np.float32).max, 9.96921e36])
@pytest.mark.parametrize("tagged", [False, True])
def test_fill_values_are_missing_with_and_without_a_tag(tmp_path: Path, fill: float, tagged: bool) -> None:
    values = ramp()
    values[3:7] = fill
    path = write(tmp_path / "filled.tif", values, nodata=float(np.float32(fill)) if tagged else None)
    with Stack(path) as stack:
        assert np.isnan(stack.read()[0, 3:7]).all()
        assert np.isfinite(stack.read()[0, 7:]).all()
        assert bool(stack.code_notes) != tagged


@pytest.mark.parametrize(
    ("dtype", "nodata", "neighbour"),
    [
        ("int64", -(2**63), -(2**53)),
        ("int64", 2**63 - 1, 2**63 - 2),
        ("uint64", 2**64 - 1, 2**64 - 2),
        ("int32", 2**31 - 1, 2**31 - 2),
        ("uint32", 2**24 + 1, 2**24),
    ],
)
def test_large_integers_are_compared_with_nodata_exactly(
    tmp_path: Path, dtype: str, nodata: int, neighbour: int
) -> None:
    values = ramp().astype(dtype) + 1
    values[3, 4], values[5, 6] = nodata, neighbour
    write(tmp_path / "plain.tif", values)
    # rasterio writes the least and greatest integers as tags that GDAL does not read back.
    write_vrt(tmp_path / "tagged.vrt", [("plain", dtype, f"<NoDataValue>{nodata}</NoDataValue>", "")])
    rasterio.shutil.copy(tmp_path / "tagged.vrt", tmp_path / "tagged.tif", driver="GTiff")
    with Stack(tmp_path / "tagged.tif") as stack:
        assert np.argwhere(np.isnan(stack.read()[0])).tolist() == [[3, 4]]
        assert stack.declares_missing
    raster = read_raster(tmp_path / "tagged.tif")
    assert raster.nodata is not None
    missing = np.isnan(raster.image) if np.isnan(raster.nodata) else raster.image == raster.nodata
    assert np.argwhere(missing[0]).tolist() == [[3, 4]]


def test_bands_of_several_dtypes_are_read_together(tmp_path: Path) -> None:
    kinds = ("float32", "uint8", "float64")
    for kind in kinds:
        write(tmp_path / f"{kind}.tif", (ramp() % 200).astype(kind))
    tag = "<NoDataValue>7</NoDataValue>"
    write_vrt(tmp_path / "mixed.vrt", [(kind, kind, tag if kind == "uint8" else "", "") for kind in kinds])
    expected = np.stack([ramp() % 200] * 3)
    expected[1][expected[1] == 7] = np.nan
    with Stack(tmp_path / "mixed.vrt") as stack:
        np.testing.assert_array_equal(stack.read(), expected)
        np.testing.assert_array_equal(stack.read(Window(3, 2, 9, 8), [1, 0]), expected[[1, 0], 2:10, 3:12])
    raster = read_raster(tmp_path / "mixed.vrt")
    np.testing.assert_array_equal(raster.image, expected)
    assert np.isnan(raster.nodata or 0)


def write_sparse(path: Path, **profile: Any) -> Path:
    """Write one of the four blocks of a TIFF."""
    about = {"count": 1, "dtype": "float32", "width": 32, "height": 32, "crs": "EPSG:32643", "transform": NORTH_UP}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", **about, **tiles, **profile) as file:
        file.write(np.full((1, 16, 16), 3, np.float32), window=Window(16, 0, 16, 16))
    return path


def test_unwritten_blocks_are_not_zeros(tmp_path: Path) -> None:
    sparse = write_sparse(tmp_path / "sparse.tif")
    write_vrt(tmp_path / "over.vrt", [("sparse", "float32", "", "")], (32, 32))
    for path in (sparse, tmp_path / "over.vrt"):
        with pytest.raises(DataError, match="3 of its 4 blocks were never written") as caught:
            RasterReader(path)
        assert "gdal_edit.py -a_nodata NUMBER" in str(caught.value)
    # In a mask, they are background.
    with RasterReader(sparse, classes=True) as reader:
        assert (reader.read() == 0).sum() == 3 * 256
    write_vrt(tmp_path / "zero.vrt", [("sparse", "float32", "<NoDataValue>0</NoDataValue>", "")], (32, 32))
    for path in (write_sparse(tmp_path / "tagged.tif", nodata=-1), tmp_path / "zero.vrt"):
        with RasterReader(path) as reader:
            assert np.isnan(reader.read()).sum() == 3 * 256


def test_infinity_is_left_for_the_caller_to_report(tmp_path: Path) -> None:
    values = ramp()
    values[0, 0] = np.inf
    with Stack(write(tmp_path / "inf.tif", values)) as stack:
        assert np.isposinf(stack.read()[0, 0, 0])


@pytest.mark.parametrize(("dtype", "bands", "nodata"), [("float32", 3, None), ("int16", 3, None), ("uint8", 3, 0)])
def test_an_alpha_band_hides_pixels_in_every_dtype(
    tmp_path: Path, dtype: str, bands: int, nodata: float | None
) -> None:
    values = np.random.default_rng(0).integers(1, 100, (bands + 1, 16, 16)).astype(dtype)
    values[-1] = 255
    values[-1, :4] = 0
    path = write(tmp_path / "alpha.tif", values, nodata=nodata, photometric="MINISBLACK", alpha="UNSPECIFIED")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (bands - 1) + [ColorInterp.alpha]
    with Stack(path) as stack:
        assert len(stack.bands) == bands
        image = stack.read()
    assert np.isnan(image[:, :4]).all()
    assert np.isfinite(image[:, 4:]).all()
    raster = read_raster(path)
    assert raster.missing is not None
    assert raster.missing[:4].all()
    assert not raster.missing[4:].any()


def test_scale_and_offset_give_values_in_both_readers(tmp_path: Path) -> None:
    numbers = np.full((8, 8), 2500, np.uint16)
    numbers[0] = 0
    path = write(tmp_path / "scaled.tif", numbers, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4,), (-0.1,)
    raster = read_raster(path)
    with Stack(path) as stack:
        np.testing.assert_array_equal(stack.read(), raster.image)
    assert raster.image.dtype == np.float32
    assert np.isnan(raster.image[0, 0]).all()
    assert raster.image[0, 1, 0] == pytest.approx(0.15)


def test_plain_integers_keep_their_dtype(tmp_path: Path) -> None:
    raster = read_raster(write(tmp_path / "mask.tif", np.eye(8, dtype=np.uint8), nodata=255))
    assert (raster.image.dtype, raster.nodata, raster.transform) == (np.uint8, 255, NORTH_UP)


def test_pages_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    for number in range(3):
        more = {"APPEND_SUBDATASET": "YES"} if number else {}
        write(path, ramp(), **more)
    with pytest.raises(DataError, match="holds 3 pages"):
        read_raster(path)


@pytest.mark.parametrize("name", ["patch.tif", "tile.jp2", "scene.png"])
def test_a_vrt_under_another_name_is_not_opened(tmp_path: Path, name: str) -> None:
    target = write(tmp_path / "secret.tif", ramp())
    text = f"""<VRTDataset rasterXSize="30" rasterYSize="20"><VRTRasterBand dataType="Float32" band="1">
<SimpleSource><SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>
</VRTDataset>"""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="VRT with the name of an image"):
        read_raster(tmp_path / name)


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("<SourceFilename>/vsicurl/http://127.0.0.1:9/a.tif</SourceFilename>", "from a URL"),
        ("<SourceFilename>http://127.0.0.1:9/a.tif</SourceFilename>", "from a URL"),
        ("<SourceFilename>&lt;VRTDataset/&gt;</SourceFilename>", "another VRT inside"),
    ],
)
def test_a_vrt_reaches_only_images_of_this_machine(tmp_path: Path, inner: str, words: str) -> None:
    path = tmp_path / "scene.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>{inner}'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    with pytest.raises(DataError, match=words):
        Stack(path)


def test_a_vrt_that_reads_raw_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("0123456789abcdef" * 4, encoding="utf-8")
    path = tmp_path / "scene.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="1">secret.txt</SourceFilename>'
        "</VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    with pytest.raises(DataError, match="raw bytes"):
        Stack(path)


def test_a_vrt_over_local_images_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp())
    path = tmp_path / "scene.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="20"><SRS>EPSG:32643</SRS>'
        "<GeoTransform>500000,10,0,3800000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    with Stack(path) as stack:
        np.testing.assert_array_equal(stack.read()[0], ramp())


def test_what_cannot_be_a_raster_is_refused(tmp_path: Path) -> None:
    far = write(tmp_path / "far.tif", ramp(), transform=from_origin(1e300, 0, 10, 10))
    with pytest.raises(DataError, match="outside the Earth"):
        RasterReader(far)
    scaled = write(tmp_path / "scaled.tif", ramp())
    with rasterio.open(scaled, "r+") as file:
        file.scales = (float("nan"),)
    with pytest.raises(DataError, match="scale tag"):
        RasterReader(scaled)
    many = write(tmp_path / "many.tif", np.zeros((2049, 1, 1), np.uint8))
    with pytest.raises(DataError, match="2,049 bands"):
        RasterReader(many)
    unplaced = write(tmp_path / "unplaced.tif", ramp(), transform=None)
    with pytest.raises(DataError, match="no georeference"):
        Stack(unplaced)


def test_colours_name_bands(tmp_path: Path) -> None:
    path = write(tmp_path / "rgb.tif", np.zeros((3, 8, 8), np.uint8), photometric="RGB")
    with Stack(path) as stack:
        assert [band.name for band in stack.bands] == ["red", "green", "blue"]


def test_the_mask_of_a_single_band_hides_its_pixels(tmp_path: Path) -> None:
    values = np.stack([ramp(), ramp() + 1])
    write(tmp_path / "first.tif", values[0])
    write(tmp_path / "second.tif", values[1])
    write(tmp_path / "shown.tif", np.uint8(ramp() >= 100) * 255)
    mask = f"<MaskBand><VRTRasterBand dataType='Byte'>{vrt_source('shown')}</VRTRasterBand></MaskBand>"
    write_vrt(tmp_path / "one.vrt", [("first", "float32", "", ""), ("second", "float32", "", mask)])
    expected = values.copy()
    expected[1, ramp() < 100] = np.nan
    with RasterReader(tmp_path / "one.vrt") as reader, Stack(tmp_path / "one.vrt") as stack:
        np.testing.assert_array_equal(reader.read(), expected)
        np.testing.assert_array_equal(reader.read(Window(3, 2, 9, 8)), expected[:, 2:10, 3:12])
        np.testing.assert_array_equal(reader.read_native()[0], expected)
        assert reader.sample(2).min() >= 101
        assert stack.declares_missing
    layer = open_layer("dem", BandFile(str(tmp_path / "one.vrt"), 2))
    with pytest.raises(DataError, match="band 2 has its own mask, which cannot be resampled"):
        AlignedBand(layer, GeoBox((9, 9), NORTH_UP * Affine.translation(0.5, 0.5), "EPSG:32643"))


@pytest.mark.parametrize("crs", ["EPSG:4978", "EPSG:5773", 'LOCAL_CS["hall",UNIT["metre",1]]'])
def test_systems_without_places_on_the_ground_are_refused(tmp_path: Path, crs: str) -> None:
    path = write(tmp_path / "hall.tif", ramp(), crs=crs)
    for opened in (Stack, lambda name: open_layer("dem", BandFile(str(name)))):
        with pytest.raises(DataError, match=r"hall\.tif: its coordinate system .* is neither projected nor"):
            opened(path)


def test_complex_integers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "slc.tif"
    with rasterio.open(path, "w", driver="GTiff", width=4, height=4, count=1, dtype="complex_int16"):
        pass
    with pytest.raises(DataError, match="band 1 holds numbers of type complex_int16, not real ones"):
        RasterReader(path)


def test_the_error_for_control_points_states_how_to_warp_the_file(tmp_path: Path) -> None:
    path = tmp_path / "points.tif"
    points = [GroundControlPoint(row, column, 5e5 + column, 4e6 - row) for row in (0, 4) for column in (0, 4)]
    with rasterio.open(path, "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8") as file:
        file.gcps = points, "EPSG:32643"
    for opened in (Stack, lambda name: open_layer("dem", BandFile(str(name)))):
        with pytest.raises(DataError, match=r"Warp it with its ground control points: gdalwarp"):
            opened(path)


def test_numbers_with_a_palette_are_read_as_classes_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "classes.tif", np.uint8([[0, 1], [2, 1]]))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 0, 255)})
    for opened in (RasterReader, Stack, Mosaic, read_raster):
        with pytest.raises(DataError, match=r"classes\.tif: is a picture with a palette: its numbers are indices"):
            opened(path)
    with RasterReader(path, classes=True) as reader, Stack(path, classes=True) as stack:
        np.testing.assert_array_equal(reader.read(), stack.read())
        assert reader.palette[1] == (255, 0, 0, 255)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.25,)
    with Stack(path) as stack:
        np.testing.assert_array_equal(stack.read()[0], [[0, 0.25], [0.5, 0.25]])


@pytest.mark.parametrize(("photometric", "refused"), [("MINISBLACK", False), ("MINISWHITE", True)])
def test_a_palette_of_greys_counts_where_it_turns_them_round(tmp_path: Path, photometric: str, refused: bool) -> None:
    path = write(tmp_path / "bits.tif", np.uint8([[0, 1], [1, 1]]), nbits=1, photometric=photometric)
    with pytest.raises(DataError, match="palette") if refused else nullcontext(), RasterReader(path) as reader:
        np.testing.assert_array_equal(reader.read()[0], [[0, 1], [1, 1]])


def test_the_cache_holds_a_row_of_jpeg_2000_tiles(tmp_path: Path) -> None:
    """GDAL decodes a tile of 1024 x 1024 again for every window if its cache is too small."""
    path = write(tmp_path / "a.tif", np.ones((8, 8), np.uint8), compress="deflate")
    eleven_by_three = 11 * 3 * 3 * 1024**2
    for cache in (small_cache(), gdal_threads(path)):
        with cache, rasterio.open(path) as file:
            file.read()
            assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES >= eleven_by_three


@pytest.mark.nightly
def test_a_picture_without_coordinates_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    code = f"from zoo.rasters.reading import read_raster; read_raster({str(tmp_path / 'a.png')!r})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == ""
