"""Maps that are written and opened again: what is in them, and that nothing but options and input changes a byte."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import fields
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from tests.mapping.conftest import BANDS, CORNER, PIXEL, WriteScene, make_image, read
from tests.mapping.test_exactness import whole_image
from zoo.errors import ConfigError, DataError
from zoo.mapping import MapOptions, MapReport, ProbabilityClasses, Scene, map_scene
from zoo.physics.bands import Band
from zoo.rasters.vectors import Area
from zoo.training.predictor import Predictor

SMALL = {"tile": 128, "overlap": 32}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a scene of a few hundred pixels."""
    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 200)


def make(predictor: Predictor, path: Path | list[Path], out: Path, bands=BANDS, names=None, **given) -> MapReport:
    chosen = {one.name: given.pop(one.name) for one in fields(MapOptions) if one.name in given}
    options = MapOptions(**{**SMALL, **chosen})
    mask = given.pop("mask", None)
    with Scene(path if isinstance(path, list) else [path], bands, names=names) as scene:
        area = None if mask is None else Area(mask, scene.mosaic)
        return map_scene(predictor, scene, out, options, mask=area, **given)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_float32_is_whole_image_inference_with_nodata(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(420, 390)
    image[0, 30:60, 100:170] = np.nan
    image[1, 200, 200] = np.inf
    report = make(predictor, write_scene(image), tmp_path / "prob.tif", dtype="float32")
    found = read(tmp_path / "prob.tif")
    image[1, 200, 200] = np.nan
    expected = whole_image(predictor, image)
    missing = np.isnan(image).any(0)
    np.testing.assert_array_equal(np.isnan(found), missing)
    np.testing.assert_allclose(found[~missing], expected[~missing], atol=1e-5, rtol=0)
    assert report.missing == missing.sum()
    assert report.above == (found >= np.float32(0.5)).sum()
    assert report.area(100) == pytest.approx(0.01, rel=2e-3)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["prob.tif", "szène.tif"]


def test_a_byte_is_a_probability_that_gis_can_read(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(600, 700)
    image[:, :50] = np.nan
    classes = ProbabilityClasses(("low", "medium", "high"), (0.25, 0.5))
    report = make(
        predictor, write_scene(image), tmp_path / "prob.tif", classes=classes, classes_out=tmp_path / "classes.tif",
        tags={"MODEL": "small"}, threshold=0.5,
    )  # fmt: skip
    expected = whole_image(predictor, image)
    with rasterio.open(tmp_path / "prob.tif") as file:
        values = file.read(1)
        known = values != 255
        assert (file.nodata, file.scales, file.offsets, file.units) == (255, (0.004,), (0.0,), ("1",))
        np.testing.assert_array_equal(~known, np.isnan(image).any(0))
        np.testing.assert_allclose(values[known] * 0.004, expected[known], atol=0.00201)
        assert file.colormap(1)[255][3] == 0
        assert file.colormap(1)[0][0] > file.colormap(1)[250][0]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        tags = file.tags()
        assert {"MODEL": "small", "TILE": "128", "OVERLAP": "32", "THRESHOLD": "0.5"}.items() <= tags.items()
        assert tags["BANDS"] == "NDVI [1], slope [degree]"
        half = file.read(1, out_shape=(300, 350)).astype(float)
        assert file.overviews(1) == [2]
        means = values.reshape(300, 2, 350, 2).mean((1, 3))
        inner = known.reshape(300, 2, 350, 2).all((1, 3))
        np.testing.assert_allclose(half[inner], means[inner], atol=0.51)
    with rasterio.open(tmp_path / "classes.tif") as file:
        found = file.read(1)
        np.testing.assert_array_equal(found, np.where(known, 1 + (values * 0.004 >= 0.25) + (values >= 125), 0))
        assert file.tags(1)["CLASS_3"] == "high"
        assert file.tags()["CLASS_BREAKS"] == "0.252,0.5"
        assert file.colormap(1)[3][3] == 255
    assert report.class_pixels == {name: (found == n).sum() for n, name in enumerate(classes.names, 1)}
    assert report.above == report.class_pixels["high"]


def test_batch_and_threads_change_no_byte(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(make_image(430, 520))
    for number, chosen in enumerate(({"threads": 1, "batch": 1}, {"threads": 3, "batch": 7}, {"threads": 2})):
        make(predictor, path, tmp_path / f"{number}.tif", dtype="float32", **chosen)
    assert len({digest(tmp_path / f"{number}.tif") for number in range(3)}) == 1
    make(predictor, path, tmp_path / "other.tif", dtype="float32", tta=True)
    assert digest(tmp_path / "other.tif") != digest(tmp_path / "0.tif")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(40, 260), st.integers(40, 260)),
    tilings=st.permutations([(64, 32), (96, 32), (128, 64), (160, 64)]),
    block=st.integers(64, 300),
    threads=st.integers(1, 3),
    move=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
)
def test_tiles_blocks_threads_and_place_do_not_change_a_map(
    predictor: Predictor, write_scene: WriteScene, tmp_path, monkeypatch, seed, shape, tilings, block, threads, move
) -> None:
    image = make_image(*shape, seed=seed)
    image[0, 5:20, 10:30] = np.nan
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    (tile, overlap), (other, shared) = tilings[:2]

    def mapped(name: str, tile: int, overlap: int, block: int, threads: int, **place: object) -> np.ndarray:
        monkeypatch.setattr("zoo.mapping.tiling.BLOCK", block)
        given = {"tile": tile, "overlap": overlap, "threads": threads, "batch": threads, "dtype": "float32"}
        make(predictor, write_scene(image, f"{folder.name}/scene.tif", **place), folder / name, **given)
        return read(folder / name)

    found = mapped("one.tif", tile, overlap, 4096, 1)
    np.testing.assert_array_equal(mapped("blocks.tif", tile, overlap, block, threads), found)
    np.testing.assert_allclose(mapped("tiles.tif", other, shared, block, threads), found, atol=1e-5, rtol=0)
    moved = from_origin(CORNER[0] + PIXEL * move[0], CORNER[1] - PIXEL * move[1], PIXEL, PIXEL)
    np.testing.assert_array_equal(mapped("moved.tif", tile, overlap, block, threads, transform=moved), found)


def test_rasters_side_by_side_and_band_by_band(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    """Four files, of which each holds one band of one half, in any order, make the bytes of one."""
    image = make_image(300, 400)
    write_scene(image, "whole.tif")
    files = []
    for column in (0, 170):
        part = image[:, 20 * (column > 0) :, column : column + 230]
        place = rasterio.transform.from_origin(
            CORNER[0] + column * PIXEL, CORNER[1] - 20 * (column > 0) * PIXEL, PIXEL, PIXEL
        )
        for number, band in enumerate(BANDS):
            files.append(
                write_scene(part[number : number + 1], f"{column}-{band.name}.tif", bands=(band,), transform=place)
            )
    make(predictor, tmp_path / "whole.tif", tmp_path / "a.tif")
    make(predictor, files[::-1], tmp_path / "b.tif")
    a, b = read(tmp_path / "a.tif"), read(tmp_path / "b.tif")
    # Beside what is missing the model sees means, as far as it reaches.
    np.testing.assert_array_equal(b[24:], a[24:])
    np.testing.assert_array_equal(b[:20, 230:], 255)
    np.testing.assert_array_equal(b[:10, :220], a[:10, :220])


def test_bands_are_found_in_any_order(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(150, 150)
    extra = np.concatenate([image[1:], np.full_like(image[:1], np.nan), image[:1]])
    make(predictor, write_scene(image), tmp_path / "a.tif")
    bands = (BANDS[1], Band("cloud", "1"), BANDS[0])
    make(predictor, write_scene(extra, "extra.tif", bands=bands), tmp_path / "b.tif")
    make(predictor, write_scene(image, "bare.tif", bands=None), tmp_path / "c.tif", names=["NDVI", "slope"])
    for name in ("b.tif", "c.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), read(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("bands", "problem", "hint"),
    [
        ((BANDS[0],), "has no band slope", "The bundle takes NDVI"),
        ((BANDS[0], Band("Slope", "degree")), "has no band slope", "Did you mean 'Slope'"),
        ((BANDS[0], Band("slope", "percent")), "band slope is in percent, but the bundle takes degree", "Convert"),
        ((Band("NDVI", "degree"), Band("slope", "1")), "band NDVI is in degree", "Convert"),
        (None, "has no band NDVI, slope", "--bands NDVI,slope"),
        ((BANDS[0], Band("slope", "unknown")), "does not state its unit", "--bands NDVI,slope"),
    ],
)
def test_other_bands_are_refused(write_scene: WriteScene, bands, problem: str, hint: str) -> None:
    path = write_scene(make_image(20, 20)[: 2 if bands is None else len(bands)], bands=bands)
    with pytest.raises(DataError, match=problem) as caught:
        Scene([path], BANDS)
    assert hint in str(caught.value.hint)


def test_rasters_of_different_grids_are_refused(write_scene: WriteScene) -> None:
    image = make_image(30, 30)
    first = write_scene(image)
    for problem, changes in {
        "is in EPSG:32644": {"crs": "EPSG:32644"},
        "not on the pixel grid": {"transform": rasterio.transform.from_origin(CORNER[0] + 3, CORNER[1], PIXEL, PIXEL)},
        "band slope is in percent": {"bands": (BANDS[0], Band("slope", "percent"))},
        "two bands called 'NDVI'": {"bands": (BANDS[0], BANDS[0])},
        "no coordinate reference system": {"crs": None},
        "its grid is rotated": {"transform": rasterio.Affine(10, 1, CORNER[0], 1, -10, CORNER[1])},
    }.items():  # fmt: skip
        second = write_scene(image, "second.tif", **changes)
        with pytest.raises(DataError, match=problem):
            Scene([first, second], BANDS)


@pytest.mark.parametrize(
    ("dtype", "factor", "other", "other_factor", "problem"),
    [
        ("uint8", 250, "uint16", 10_000, "numbers beyond 255, but in .* 8-bit numbers"),
        ("uint16", 10_000, "uint8", 250, "8-bit numbers from 0 to 255, but in .* numbers beyond 255"),
        ("float32", 1, "uint16", 10_000, "numbers beyond 255, but in .* fractions of 1"),
        ("float32", 1, "float32", 10_000, "numbers beyond 255, but in .* fractions of 1"),
        ("float32", 1, "uint8", 250, "8-bit numbers from 0 to 255, but in .* fractions of 1"),
        ("uint16", 10_000, "float32", 9_000, None),
        ("uint8", 250, "uint8", 250, None),
        ("float64", 1, "float32", 0.5, None),
    ],
)
def test_files_of_different_scales_without_a_unit_are_refused(
    write_scene: WriteScene, dtype: str, factor: float, other: str, other_factor: float, problem: str | None
) -> None:
    image = np.random.default_rng(0).random((2, 30, 30))
    east = rasterio.transform.from_origin(CORNER[0] + 30 * PIXEL, CORNER[1], PIXEL, PIXEL)
    files = [
        write_scene((image * factor).astype(dtype), "west.tif", bands=None, nodata=None),
        write_scene((image * other_factor).astype(other), "east.tif", bands=None, nodata=None, transform=east),
    ]
    if problem is None:
        Scene(files, BANDS, names=["NDVI", "slope"]).close()
        return
    with pytest.raises(DataError, match=problem) as caught:
        Scene(files, BANDS, names=["NDVI", "slope"])
    assert str(caught.value.where).endswith("east.tif")


def test_an_area_in_another_system_limits_the_map(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(400, 400)
    path = write_scene(image)
    left, top = CORNER
    triangle = shapely.Polygon([(left + 803, top - 807), (left + 3001, top - 1013), (left + 1511, top - 3533)])
    area = geopandas.GeoDataFrame(geometry=[triangle], crs="EPSG:32643").to_crs("EPSG:4326")
    area.to_file(tmp_path / "aoi.gpkg")
    make(predictor, path, tmp_path / "all.tif")
    make(predictor, path, tmp_path / "part.tif", mask=tmp_path / "aoi.gpkg")
    everywhere, found = read(tmp_path / "all.tif"), read(tmp_path / "part.tif")
    y, x = np.mgrid[:400, :400]
    inside = shapely.contains_xy(triangle, left + (x + 0.5) * PIXEL, top - (y + 0.5) * PIXEL)
    # No edge runs through the centres of pixels, which may go either way.
    np.testing.assert_array_equal(found != 255, inside)
    np.testing.assert_array_equal(found[found != 255], everywhere[found != 255])
    area.geometry = area.geometry.translate(5)
    area.to_file(tmp_path / "elsewhere.gpkg")
    with pytest.raises(DataError, match="no polygon of the area touches the scene"):
        make(predictor, path, tmp_path / "none.tif", mask=tmp_path / "elsewhere.gpkg")
    assert not (tmp_path / "none.tif").exists()


def test_tiles_without_data_are_not_computed(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(512, 512)
    image[:, :, 200:] = np.nan
    calls = []
    predictor.model.register_forward_hook(lambda *_: calls.append(1))
    report = make(predictor, write_scene(image), tmp_path / "prob.tif")
    assert report.tiles == 25
    assert len(calls) == 15


def test_a_scene_of_nodata_writes_no_file(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(np.full((2, 300, 300), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="no pixel has a value in each band"):
        make(predictor, path, tmp_path / "out" / "prob.tif")
    assert list((tmp_path / "out").iterdir()) == []


def test_scenes_inside_archives_and_in_memory(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    import zipfile

    path = write_scene(make_image(200, 210))
    make(predictor, path, tmp_path / "a.tif")
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(path, "in.tif")
    make(predictor, [f"/vsizip/{tmp_path / 'scene.zip'}/in.tif"], tmp_path / "b.tif")
    with rasterio.MemoryFile(path.read_bytes()) as memory:
        make(predictor, [memory.name], tmp_path / "c.tif")
    for name in ("b.tif", "c.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), read(tmp_path / "a.tif"))


def test_a_model_that_needs_more_pixels_than_the_scene_has(write_scene: WriteScene, tmp_path) -> None:
    from zoo.registry import create_model

    torch.manual_seed(0)
    predictor = Predictor(create_model("unet", 2, 2, widths=[4, 4, 4, 4, 4]), [0.2, 25.0], [0.3, 12.0]).eval()
    report = make(predictor, write_scene(make_image(5, 3)), tmp_path / "prob.tif")
    assert (report.mapped, read(tmp_path / "prob.tif").shape) == (15, (5, 3))


def test_outputs_and_options_are_checked_first(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(make_image(70, 70))
    (tmp_path / "there.tif").write_bytes(b"before")
    with pytest.raises(ConfigError, match="already exists"):
        make(predictor, path, tmp_path / "there.tif")
    with pytest.raises(ConfigError, match="one of the inputs"):
        make(predictor, path, path, overwrite=True)
    assert (tmp_path / "there.tif").read_bytes() == b"before"
    make(predictor, path, tmp_path / "there.tif", overwrite=True)
    assert read(tmp_path / "there.tif").shape == (70, 70)
    for wrong in ({"tile": 100}, {"overlap": 96}, {"dtype": "int8"}, {"compress": "zip"}, {"threads": 0}):
        with pytest.raises(ConfigError):
            MapOptions(**{**SMALL, **wrong})
    for names, breaks in ((("a",), ()), (("a", "b"), (1.5,)), (("a", "b", "c"), (0.5, 0.4)), (("a", "a"), (0.5,))):
        with pytest.raises(ConfigError):
            ProbabilityClasses(names, breaks)
    assert ProbabilityClasses.from_threshold(("low", "medium", "high"), 0.4).breaks == (0.2, 0.4)
