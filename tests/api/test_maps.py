"""`zoo.accuracy` and `zoo accuracy` on real files: draw points, fill in the ground, estimate."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run
from zoo.errors import DataError, UnknownNameError

PIXEL = 10.0
LEFT, TOP = 600_000.0, 3_800_000.0
PLACE = from_origin(LEFT, TOP, PIXEL, PIXEL)


@pytest.fixture
def ground() -> np.ndarray:
    """True landslides in a scene of 600 x 700 pixels."""
    rows, columns = np.mgrid[:600, :700]
    truth: np.ndarray = np.hypot(rows - 300, columns - 350) < 120
    return truth


@pytest.fixture
def mapped(tmp_path: Path, ground: np.ndarray) -> Path:
    """A map of classes that lies 40 pixels beside the truth, with a border of nodata."""
    values = np.roll(ground, 40, axis=1).astype(np.uint8) + 1
    values[:10] = 0
    return write_map(tmp_path / "classes.tif", values)


def write_map(path: Path, values: np.ndarray, crs: str = "EPSG:32643", **tags: str) -> Path:
    about = {"CLASS_1": "background", "CLASS_2": "landslide", **tags}
    names = [("landslide_class", "1")]
    return write_geotiff(path, values, names=names, band_tags=about, crs=crs, transform=PLACE, nodata=0)


def fill_in(points: Path, ground: np.ndarray) -> geopandas.GeoDataFrame:
    """Look at every point on the ground."""
    frame = geopandas.read_file(points)
    rows = ((TOP - frame.geometry.y) / PIXEL).astype(int)
    columns = ((frame.geometry.x - LEFT) / PIXEL).astype(int)
    frame["reference"] = np.where(ground[rows, columns], "landslide", "background")
    frame.to_file(points)
    return frame


def test_from_a_map_to_its_true_areas(mapped: Path, ground: np.ndarray, tmp_path: Path) -> None:
    points = tmp_path / "points.gpkg"
    drawn = zoo.draw_sample(mapped, points, 1200)
    share = round(1200 * ground.sum() / ground[10:].size)
    assert drawn == {"background": 1200 - share, "landslide": share}
    frame = fill_in(points, ground)
    assert len(frame.drop_duplicates("geometry")) == 1200
    assert frame.map_class.value_counts().to_dict() == drawn
    assert frame.map_class.iloc[:100].nunique() == 2, "the order must not tell the class"
    found = zoo.accuracy(mapped, points)
    corners = [(LEFT, TOP - 100), (LEFT + 7000, TOP - 100), (LEFT + 7000, TOP - 6000), (LEFT, TOP - 6000)]
    inverse = pyproj.Transformer.from_crs("EPSG:32643", "EPSG:4326", always_xy=True)
    outline = shapely.segmentize(shapely.Polygon(corners), 100)
    degrees = shapely.transform(outline, inverse.transform, interleaved=False)
    area = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(degrees)[0]) / 1e6
    assert found.mapped_km2.sum() == pytest.approx(area, rel=1e-6)
    true_area = ground[10:].sum() * area / ground[10:].size
    assert abs(found.area_km2[1] - true_area) < 3 * found.area_error_km2[1]
    assert abs(found.mapped_km2[1] - true_area) < 0.01, "the map is wrong in places, and not in area"
    assert found.counts.sum() == 1200
    assert found.counts.sum(axis=1).tolist() == list(drawn.values())


def test_the_same_seed_draws_the_same_points(mapped: Path, tmp_path: Path) -> None:
    frames = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        zoo.draw_sample(mapped, tmp_path / f"{name}.gpkg", 100, seed=seed)
        frames.append(geopandas.read_file(tmp_path / f"{name}.gpkg"))
    assert frames[0].geometry.equals(frames[1].geometry)
    assert not frames[0].geometry.equals(frames[2].geometry)


def test_every_pixel_of_a_class_has_the_same_chance(tmp_path: Path) -> None:
    """A class that crosses four windows: a quarter of its points lies in each."""
    mapped = write_map(tmp_path / "even.tif", np.full((1024, 1024), 1, np.uint8))
    zoo.draw_sample(mapped, tmp_path / "points.gpkg", 4000)
    frame = geopandas.read_file(tmp_path / "points.gpkg")
    west, north = frame.geometry.x < LEFT + 5120, frame.geometry.y > TOP - 5120
    shares = [(west & north).mean(), (west & ~north).mean(), (~west & north).mean(), (~west & ~north).mean()]
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_points_in_degrees_and_classes_by_number(mapped: Path, ground: np.ndarray, tmp_path: Path) -> None:
    points = tmp_path / "points.gpkg"
    zoo.draw_sample(mapped, points, 300)
    frame = fill_in(points, ground)
    expected = zoo.accuracy(mapped, points)
    frame["seen"] = np.where(frame.reference == "landslide", 2, 1)
    frame.drop(columns=["map_class", "reference"]).to_crs("EPSG:4326").to_file(tmp_path / "degrees.geojson")
    found = zoo.accuracy(mapped, tmp_path / "degrees.geojson", column="seen")
    np.testing.assert_array_equal(found.counts, expected.counts)


def test_a_probability_map_has_two_classes(tmp_path: Path, ground: np.ndarray) -> None:
    path = tmp_path / "prob.tif"
    values = np.where(ground, 150, 60).astype(np.uint8)  # 0.6 and 0.24
    values[:, :50] = 255
    about = {"tags": {"THRESHOLD": "0.4"}, "scales": (0.004,), "transform": PLACE, "nodata": 255}
    write_geotiff(path, values, names=[("landslide_probability", "1")], **about)
    assert zoo.draw_sample(path, tmp_path / "points.gpkg", 400) == {"background": 350, "landslide": 50}
    fill_in(tmp_path / "points.gpkg", ground)
    found = zoo.accuracy(path, tmp_path / "points.gpkg")
    assert found.overall == 1.0
    assert found.mapped_km2[1] == pytest.approx(ground.sum() * 1e-4, rel=2e-3)
    with pytest.raises(DataError, match="was drawn as landslide, but the map says background"):
        zoo.accuracy(path, tmp_path / "points.gpkg", threshold=0.7)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"reference": "river"}, "unknown class 'river'"),
        ({"reference": ""}, "row 3 has no reference"),
        ({"map_class": "river"}, "row 3 was drawn as river"),
        ({"geometry": shapely.Point(LEFT - 5, TOP - 500)}, "row 3 lies outside the map"),
        ({"geometry": shapely.Point(LEFT + 5, TOP - 5)}, "row 3 lies on nodata"),
        ({"geometry": shapely.Point(LEFT, TOP).buffer(1)}, "row 3 is not a point"),
        ({"geometry": None}, "row 3 is not a point"),
    ],
)
def test_a_wrong_point_is_named(
    mapped: Path, ground: np.ndarray, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    points = tmp_path / "points.gpkg"
    zoo.draw_sample(mapped, points, 120)
    frame = fill_in(points, ground)
    for column, value in change.items():
        frame.loc[2, column] = value
    frame.to_file(points)
    with pytest.raises((DataError, UnknownNameError), match=problem):
        zoo.accuracy(mapped, points)


def test_two_points_in_one_pixel_and_a_class_without_points(mapped: Path, ground: np.ndarray, tmp_path: Path) -> None:
    points = tmp_path / "points.gpkg"
    zoo.draw_sample(mapped, points, 120)
    frame = fill_in(points, ground)
    twice = frame.copy()
    twice.loc[5, "geometry"] = twice.loc[1, "geometry"]
    twice.to_file(tmp_path / "twice.gpkg")
    with pytest.raises(DataError, match="row 6 lies in the same pixel as an earlier one"):
        zoo.accuracy(mapped, tmp_path / "twice.gpkg")
    frame[frame.map_class == "background"].to_file(tmp_path / "half.gpkg")
    with pytest.raises(DataError, match="class landslide of the map has no points"):
        zoo.accuracy(mapped, tmp_path / "half.gpkg")
    shifted = frame.set_crs("EPSG:32644", allow_override=True)
    shifted.to_file(tmp_path / "elsewhere.gpkg")
    with pytest.raises(DataError, match=r"lies outside the map \(and 119 more\)") as caught:
        zoo.accuracy(mapped, tmp_path / "elsewhere.gpkg")
    assert "Check the coordinate reference system" in str(caught.value)


def test_a_raster_of_measurements_is_no_class_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    elevation = write_map(tmp_path / "dem.tif", rng.normal(1000, 100, (60, 70)).astype(np.float32))
    with pytest.raises(DataError, match="not a class map"):
        zoo.draw_sample(elevation, tmp_path / "points.gpkg", 100)
    counts = write_map(tmp_path / "counts.tif", rng.integers(1, 250, (60, 70)).astype(np.uint8))
    with pytest.raises(DataError, match="more than 100 numbers"):
        zoo.draw_sample(counts, tmp_path / "points.gpkg", 100)


def test_the_command(mapped: Path, ground: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = tmp_path / "points.gpkg"
    assert run(["accuracy", str(mapped), "--draw", "200", "--out", str(points)]) == 0
    assert "150 points in background, 50 points in landslide" in capsys.readouterr().out
    fill_in(points, ground)
    assert run(["accuracy", str(mapped), "--samples", str(points)]) == 0
    told = capsys.readouterr().out
    for words in ("error matrix in points", "producer's", "overall accuracy 0.9", " to "):
        assert words in told
    assert run(["accuracy", str(mapped), "--samples", str(points), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["classes"] == ["background", "landslide"]
    assert len(document["area_interval_km2"]) == 2
    assert run(["accuracy", str(mapped), "--draw", "200", "--out", str(points)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert run(["accuracy", str(mapped), "--draw", "3", "--out", str(tmp_path / "few.gpkg")]) == 2
    assert "3 points are too few for 2 classes" in capsys.readouterr().err
    for wrong in ([], ["--draw", "200"], ["--samples", str(points), "--draw", "9"]):
        assert run(["accuracy", str(mapped), *wrong]) == 2
        assert "Give either --samples" in capsys.readouterr().err
    assert run(["accuracy", str(mapped), "--samples", str(points), "--threshold", "0.5"]) == 2
    assert "need no threshold" in capsys.readouterr().err
    assert run(["accuracy", str(mapped), "--draw", "200", "--out", str(tmp_path / "points.shp")]) == 2
    assert "points are written as GeoPackage" in capsys.readouterr().err


@pytest.mark.parametrize("number", [57.0, -0.2, np.inf])
def test_numbers_that_are_no_probability_are_refused(tmp_path: Path, number: float) -> None:
    values = np.full((40, 40), 0.25, np.float32)
    values[3, 4] = number
    path = write_geotiff(
        tmp_path / "prob.tif", values, names=[("landslide_probability", "1")], crs="EPSG:32643", transform=PLACE
    )
    with pytest.raises(DataError, match=r"band landslide_probability holds .*, but a probability is from 0 to 1"):
        zoo.polygons(path, tmp_path / "slides.gpkg", threshold=0.5)
    with pytest.raises(DataError, match="a probability is from 0 to 1"):
        zoo.draw_sample(path, tmp_path / "points.gpkg", 100, threshold=0.5)
    assert [one.name for one in tmp_path.iterdir()] == ["prob.tif"]
