"""Polygons and picture of a map, from the command line and by themselves."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from scipy import ndimage

import zoo
from tests.mapping.conftest import WriteScene, make_image
from zoo.cli import run
from zoo.errors import ConfigError, DataError
from zoo.mapping.output import ProbabilityMap
from zoo.mapping.pictures import find_peaks, read_ground
from zoo.mapping.scene import Scene
from zoo.physics.bands import Band


def make(bundle: Path, scene: Path, out: Path, *more: object) -> int:
    return run(["map", str(bundle), str(scene), "--out", str(out), "--tile", "64", "--overlap", "32", *map(str, more)])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_polygons_are_those_of_the_written_map(bundle, write_scene: WriteScene, tmp_path, capsys, dtype):
    image = make_image(140, 150)
    image[0, :20, :30] = np.nan
    scene, out, slides = write_scene(image), tmp_path / "prob.tif", tmp_path / "slides.gpkg"
    picture = tmp_path / "map.png"
    more = ("--polygons", slides, "--picture", picture, "--dtype", dtype, "--classes", "low,medium,high")
    assert make(bundle, scene, out, *more) == 0
    told = capsys.readouterr()
    with rasterio.open(out) as file:
        values, scale = file.read(1), file.scales[0]
        tags = file.tags()
    if dtype == "uint8":
        probability = np.where(values == 255, np.nan, values * scale)
        mask = (values >= round(0.4 * 250)) & (values != 255)
    else:
        probability = values
        mask = values >= np.float32(0.4)
    assert 0 < mask.sum() < mask.size
    found = geopandas.read_file(slides)
    labels, count = ndimage.label(mask)
    assert len(found) == count
    assert found["pixels"].sum() == mask.sum()
    assert found["area_m2"].sum() == pytest.approx(mask.sum() * 100, rel=2e-3)
    assert f"{count:,} polygons" in told.out
    assert (found["class"] == "high").all()
    for row in found.iloc[::5].itertuples():
        point = row.geometry.representative_point()
        own = labels == labels[int((3_800_000 - point.y) // 10), int((point.x - 600_000) // 10)]
        assert row.mean_probability == pytest.approx(probability[own].mean(), rel=1e-5)
        assert row.mean_slope_degree == pytest.approx(image[1][own].mean(), rel=1e-5)
    assert tags["MODEL"] == "unet"
    assert np.asarray(Image.open(picture).convert("L")).std() > 10


def test_a_scene_in_degrees_is_outlined_in_square_metres(bundle, write_scene: WriteScene, tmp_path, capsys):
    place = from_origin(91.7, 22.5, 1e-4, 1e-4)
    scene = write_scene(make_image(90, 80), crs="EPSG:4326", transform=place)
    slides, picture = tmp_path / "slides.parquet", tmp_path / "map.png"
    done = make(bundle, scene, tmp_path / "prob.tif", "--polygons", slides, "--picture", picture, "--min-area", 500)
    told = capsys.readouterr()
    assert done == 0, told.err
    assert "km2" in told.out
    found = geopandas.read_parquet(slides)
    assert found.crs.to_epsg() == 4326
    # A pixel of 0.0001 degrees is 10.29 x 11.07 m there.
    np.testing.assert_allclose(found["area_m2"] / found["pixels"], 10.29 * 11.07, rtol=2e-3)
    assert found["area_m2"].min() >= 500


def test_a_map_without_landslides_has_an_empty_polygon_file(bundle, write_scene, tmp_path, capsys):
    slides = tmp_path / "slides.gpkg"
    more = ("--threshold", 1, "--polygons", slides, "--picture", tmp_path / "map.png")
    assert make(bundle, write_scene(make_image(70, 70)), tmp_path / "p.tif", *more) == 0, capsys.readouterr().err
    assert len(geopandas.read_file(slides)) == 0
    assert (tmp_path / "map.png").exists()


def test_names_are_refused_before_the_work(bundle, write_scene, tmp_path, capsys):
    scene, out = write_scene(make_image(70, 70)), tmp_path / "p.tif"

    def refusal(*more: object) -> str:
        assert make(bundle, scene, out, *more) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert ".gpkg" in refusal("--polygons", tmp_path / "slides.shp")
    assert ".png" in refusal("--picture", tmp_path / "map.xyz")
    assert "--polygons" in refusal("--min-area", 100)
    assert "--picture" in refusal("--title", "A map")
    assert "the same name" in refusal("--polygons", tmp_path / "a.gpkg", "--picture", tmp_path / "a.gpkg")
    (tmp_path / "there.gpkg").write_bytes(b"mine")
    assert "already exists" in refusal("--polygons", tmp_path / "there.gpkg")
    assert (tmp_path / "there.gpkg").read_bytes() == b"mine"


def test_a_map_is_outlined_again_with_another_threshold(bundle, write_scene, tmp_path, capsys):
    scene, out = write_scene(make_image(90, 80)), tmp_path / "p.tif"
    assert make(bundle, scene, out, "--polygons", tmp_path / "a.gpkg") == 0
    first = geopandas.read_file(tmp_path / "a.gpkg")
    again = ["polygons", str(out), "--scene", str(scene)]
    assert run([*again, "--out", str(tmp_path / "b.gpkg")]) == 0
    assert geopandas.read_file(tmp_path / "b.gpkg").equals(first)
    assert run([*again, "--out", str(tmp_path / "c.gpkg"), "--threshold", "0.5", "--min-area", "300"]) == 0
    stricter = geopandas.read_file(tmp_path / "c.gpkg")
    assert 0 < stricter["pixels"].sum() < first["pixels"].sum()
    assert stricter["area_m2"].min() >= 300
    report = zoo.polygons(out, tmp_path / "python.gpkg", scene=scene, threshold=0.5, min_area=300)
    assert geopandas.read_file(tmp_path / "python.gpkg").equals(stricter)
    assert str(report).startswith(f"{len(stricter)} polygons, {stricter['area_m2'].sum() / 1e6:.3f} km2")
    with pytest.raises(ConfigError, match="probability"):
        zoo.polygons(out, tmp_path / "e.gpkg", threshold=1.5)
    with pytest.raises(ConfigError, match="threshold of nan"):
        zoo.polygons(out, tmp_path / "e.gpkg", threshold=float("nan"))
    moved = tmp_path / "moved.tif"
    moved.write_bytes(scene.read_bytes())
    with rasterio.open(moved, "r+") as file:
        file.transform = file.transform * rasterio.Affine.translation(5, 0)
    with pytest.raises(DataError, match="is not on the pixel grid of the map"):
        zoo.polygons(out, tmp_path / "e.gpkg", scene=moved)
    capsys.readouterr()
    assert run(["polygons", str(scene), "--out", str(tmp_path / "d.gpkg")]) == 2
    assert "has no band landslide_probability" in capsys.readouterr().err
    other = write_scene(make_image(70, 80), "other.tif")
    assert run(["polygons", str(out), "--scene", str(other), "--out", str(tmp_path / "d.gpkg")]) == 2
    assert "pixel grid of the map" in capsys.readouterr().err
    assert run([*again, "--out", str(tmp_path / "c.gpkg")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_peaks_keep_single_pixels_and_count_all(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 0.3, (333, 250)).astype(np.float32)
    values[100, 77] = 0.9
    values[:40, :30] = np.nan

    def read(window):
        rows, columns = window.toslices()
        return values[rows, columns]

    peaks = find_peaks(values.shape, read, 0.5, max_side=50)
    assert peaks.step == 7
    assert peaks.values.shape == (48, 36)
    assert (peaks.above, peaks.known) == (1, np.isfinite(values).sum())
    assert peaks.values[100 // 7, 77 // 7] == np.float32(0.9)
    assert np.isnan(peaks.values[:5, :4]).all()
    np.testing.assert_array_equal(peaks.values[20], [np.nanmax(values[140:147, c : c + 7]) for c in range(0, 250, 7)])


def test_ground_is_relief_colours_or_the_first_band(write_scene):
    rng = np.random.default_rng(0)
    y = np.mgrid[:60, :50][0]
    dem = (5.0 * y)[None].astype(np.float32)
    with Scene([write_scene(dem, "dem.tif", bands=(Band("DEM", "m"),))], [Band("DEM", "m")]) as scene:
        ground = read_ground(scene)
        assert ground.description == "hillshade of the DEM"
        # Falling to the north at 5 m in 10 m, the light at 45 degrees from the north-west.
        light = (0.5 + np.sqrt(2)) / (2 * np.sqrt(1.25))
        np.testing.assert_allclose(ground.picture, 0.35 + 0.65 * light, rtol=2e-3)
    image = rng.uniform(0, 1, (4, 60, 50)).astype(np.float32)
    bands = tuple(Band(name, "1") for name in ("blue", "green", "red", "nir"))
    with Scene([write_scene(image, "rgb.tif", bands=bands)], bands) as scene:
        ground = read_ground(scene, max_side=30)
        assert (ground.description, ground.step, ground.picture.shape) == ("red, green, blue", 2, (30, 25, 3))
    with Scene([write_scene(image[:2], "two.tif", bands=bands[:2])], bands[:2]) as scene:
        assert read_ground(scene).description == "blue"


def test_other_rasters_are_not_opened_as_maps(tmp_path):
    from zoo.errors import DataError

    with pytest.raises(DataError, match="no such file"):
        ProbabilityMap(tmp_path / "p.tif")
