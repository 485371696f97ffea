"""Inventories of landslides: real files of several formats, with what users' files suffer from."""

from __future__ import annotations

import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import from_origin
from rasterio.warp import calculate_default_transform, reproject
from rasterio.windows import Window
from scipy import ndimage
from shapely.affinity import affine_transform
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from tests.rasters.geotiffs import write_geotiff
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.rasters.grid import PixelGrid
from zoo.rasters.ground import window_bounds
from zoo.rasters.inventory import parse_day, parse_period, read_inventory, read_truth
from zoo.rasters.vectors import Area, read_features, read_places, read_vector

UTM = CRS.from_epsg(32643)
TRANSFORM = from_origin(400000, 3900000, 10, 10)
SHAPE = (100, 120)
EXTENT = window_bounds(TRANSFORM, SHAPE)
ONE, TWO, THREE = (box(400000 + x, 3899500, 400000 + x + 60, 3899580) for x in (100, 300, 500))


def write(path: Path, shapes: list[Any], crs: Any = 32643, **columns: list[Any]) -> Path:
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)
    frame.to_file(path, engine="pyogrio")
    return path


def read(path: Path, **options: Any) -> Any:
    return read_inventory(path, UTM, EXTENT, **options)


@pytest.mark.parametrize("name", ["slides.gpkg", "slides.shp", "slides.geojson", "Rutschungen ñ 滑坡.gpkg"])
def test_formats_and_systems_burn_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    geopandas.GeoDataFrame(geometry=[ONE, TWO], crs=32643).to_crs(4326).to_file(path, engine="pyogrio")
    inventory = read(path)
    assert inventory.crs == UTM
    assert inventory.notes == ("reprojected from EPSG:4326 to EPSG:32643",)
    expected = geometry_mask([ONE, TWO], SHAPE, TRANSFORM, invert=True)
    assert np.array_equal(inventory.burn(TRANSFORM, SHAPE) > 0, expected)
    assert expected.sum() == 2 * 6 * 8
    assert inventory.areas() == pytest.approx([4800, 4800], rel=1e-3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(-2000, 2000), st.integers(-2000, 2000), st.booleans())
def test_scene_and_landslides_that_move_together_give_the_same_mask(
    tmp_path: Path, seed: int, right: int, down: int, mirrored: bool
) -> None:
    rng = np.random.default_rng(seed)
    shapes = [
        Point(rng.uniform(EXTENT[0], EXTENT[2]), rng.uniform(EXTENT[1], EXTENT[3])).buffer(rng.uniform(20, 150))
        for _ in range(6)
    ]
    drawn = read(write(tmp_path / "one.gpkg", shapes)).burn(TRANSFORM, SHAPE) > 0
    middle = (EXTENT[0] + EXTENT[2]) / 2
    flip = -1 if mirrored else 1
    moved = [
        affine_transform(shapes[number], [flip, 0, 0, 1, (1 - flip) * middle + 10 * right, -10 * down])
        for number in rng.permutation(len(shapes))
    ]
    transform = from_origin(400000 + 10 * right, 3900000 - 10 * down, 10, 10)
    inventory = read_inventory(write(tmp_path / "other.gpkg", moved), UTM, window_bounds(transform, SHAPE))
    found = inventory.burn(transform, SHAPE) > 0
    assert np.array_equal(found, drawn[:, ::flip])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from([32642, 32644, 3857, 4326]))
@example(971, 4326)
def test_scene_and_landslides_in_another_system_differ_by_resampling_alone(
    tmp_path: Path, seed: int, code: int
) -> None:
    rng = np.random.default_rng(seed)
    shapes = [
        Point(rng.uniform(EXTENT[0], EXTENT[2]), rng.uniform(EXTENT[1], EXTENT[3])).buffer(rng.uniform(40, 150))
        for _ in range(6)
    ]
    there = CRS.from_epsg(code)
    transform, columns, rows = calculate_default_transform(UTM, there, SHAPE[1], SHAPE[0], *EXTENT)
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=32643)
    frame.geometry.segmentize(5).to_crs(code).to_file(tmp_path / "there.gpkg", engine="pyogrio")
    here = read(write(tmp_path / "here.gpkg", shapes))
    other = read_inventory(tmp_path / "there.gpkg", there, window_bounds(transform, (rows, columns)))
    np.testing.assert_allclose(sorted(other.areas()), sorted(here.areas()), rtol=1e-3)
    mask = (here.burn(TRANSFORM, SHAPE) > 0).astype(np.uint8)
    expected = np.zeros((rows, columns), np.uint8)
    reproject(mask, expected, src_transform=TRANSFORM, src_crs=UTM, dst_transform=transform, dst_crs=there)
    inside = np.zeros((rows, columns), np.uint8)
    reproject(np.ones_like(mask), inside, src_transform=TRANSFORM, src_crs=UTM, dst_transform=transform, dst_crs=there)
    found = other.burn(transform, (rows, columns)) > 0
    # A gap narrower than a pixel, or a bridge, may be seen in one of them alone.
    near = np.ones((3, 3))
    rims = [
        ndimage.binary_dilation(one, near) & ~ndimage.binary_erosion(one, near, border_value=1)
        for one in (found, expected)
    ]
    assert not ((found != (expected > 0)) & ~rims[0] & ~rims[1] & (inside > 0)).any()


def test_windows_burn_what_the_whole_burns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [Point(*rng.uniform((400000, 3899000), (401200, 3900000))).buffer(rng.uniform(5, 90)) for _ in range(60)]
    inventory = read(write(tmp_path / "a.gpkg", shapes))
    whole = inventory.burn(TRANSFORM, SHAPE)
    for row, column in ((0, 0), (37, 11), (70, 90)):
        part = inventory.burn(TRANSFORM * TRANSFORM.translation(column, row), (30, 30))
        assert np.array_equal(part, whole[row : row + 30, column : column + 30])


def test_overlaps_belong_to_the_later_one_and_small_ones_need_all_touched(tmp_path: Path) -> None:
    tiny = box(400701, 3899501, 400703, 3899503)
    inventory = read(write(tmp_path / "a.gpkg", [ONE, ONE, tiny]))
    assert set(np.unique(inventory.burn(TRANSFORM, SHAPE))) == {0, 2}
    assert set(np.unique(inventory.burn(TRANSFORM, SHAPE, all_touched=True))) == {0, 2, 3}


def test_broken_geometries_are_repaired_dropped_and_counted(tmp_path: Path) -> None:
    bow_tie = Polygon([(400100, 3899500), (400160, 3899580), (400160, 3899500), (400100, 3899580)])
    flat = Polygon([(400300, 3899500), (400360, 3899580), (400300, 3899500)])
    path = write(tmp_path / "a.gpkg", [bow_tie, TWO, None, Polygon(), flat, box(1e6, 3.8e6, 1.1e6, 3.9e6)])
    inventory = read(path)
    assert inventory.notes == (
        "2 without a geometry were dropped",
        "2 invalid outlines were repaired",
        "1 without an area were dropped",
        "1 lie outside the scene",
    )
    assert inventory.areas() == pytest.approx([2400, 4800], rel=1e-3)


def test_files_without_coordinates_or_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such inventory"):
        read(tmp_path / "none.gpkg")
    with pytest.raises(DataError, match="has no coordinate reference system"):
        read(write(tmp_path / "bare.shp", [ONE], None))
    with pytest.raises(DataError, match="holds no landslide"):
        geopandas.GeoDataFrame({"a": [1]}, geometry=[ONE], crs=32643).iloc[:0].to_file(tmp_path / "empty.gpkg")
        read(tmp_path / "empty.gpkg")
    with pytest.raises(DataError, match="none of its 2 landslides has a geometry"):
        read(write(tmp_path / "null.gpkg", [None, Polygon()]))
    with pytest.raises(
        DataError, match=r"is a table without geometries|truncated or its format does not match its name|no layer"
    ):
        (tmp_path / "a.csv").write_text("a,b\n1,2\n")
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [ONE, TWO])
    path.write_bytes(path.read_bytes()[: 40 if suffix == "shp" else 500])
    with pytest.raises(DataError, match="truncated or its format does not match its name"):
        read(path)


def test_another_place_is_refused_with_both_extents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [box(10, 46, 10.1, 46.1)], 4326)
    with pytest.raises(DataError, match=r"extend over x -?\d+ to .* the scene over x 400000 to 401200.*EPSG:32643"):
        read(path)


def test_coordinates_under_a_wrong_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"do not exist in EPSG:4326"):
        read(write(tmp_path / "a.gpkg", [ONE], 4326))


def test_an_outline_with_a_vertex_that_is_no_number_is_dropped_and_counted(tmp_path: Path) -> None:
    broken = Polygon([(400300, 3899500), (np.nan, np.nan), (400360, 3899580), (400300, 3899580)])
    inventory = read(write(tmp_path / "a.gpkg", [ONE, broken]))
    assert inventory.areas() == pytest.approx([4800], rel=1e-3)
    assert "1 have coordinates that do not exist in EPSG:32643, so they were dropped" in inventory.notes


def test_a_world_wide_inventory_is_read_though_utm_does_not_span_the_world(tmp_path: Path) -> None:
    """90 degrees off its meridian UTM has no coordinates, and the scene needs none of there."""
    here = geopandas.GeoSeries([ONE, TWO], crs=32643).to_crs(4326).tolist()
    path = tmp_path / "world.gpkg"
    write(
        path, [box(160, -0.1, 160.1, 0), here[0], box(10, 46, 10.1, 46.1), here[1]], 4326, year=[2009, 2009, 2009, 2012]
    )
    inventory = read(path, date_column="year", image_date=date(2010, 6, 1), phase="post")
    assert "1 have coordinates that do not exist in EPSG:32643, so they were dropped" in inventory.notes
    assert "1 lie outside the scene" in inventory.notes
    # The dates are still those of their own landslides.
    assert inventory.areas() == pytest.approx([4800], rel=1e-3)
    assert inventory.shapes[0].centroid.x == pytest.approx(ONE.centroid.x, abs=0.01)


@pytest.mark.parametrize("start", [179.8, -180.2], ids=["to 180.2", "from -180.2"])
def test_landslides_on_both_sides_of_the_antimeridian_are_drawn(tmp_path: Path, start: float) -> None:
    transform, shape = from_origin(start, -16.8, 0.01, 0.01), (40, 40)
    grid = PixelGrid(CRS.from_epsg(4326), transform, shape)
    west, east = box(179.9, -17.0, 179.95, -16.95), box(-179.95, -17.0, -179.9, -16.95)
    divided = MultiPolygon([box(179.98, -17.0, 180, -16.9), box(-180, -17.0, -179.98, -16.9)])
    crossing = Polygon([(179.97, -17.1), (-179.97, -17.1), (-179.97, -17.05), (179.97, -17.05)])
    path = write(tmp_path / "i.gpkg", [west, east, divided, crossing], crs=4326)
    turned = [affine_transform(east, [1, 0, 0, 1, 360, 0]), box(179.98, -17.0, 180.02, -16.9)]
    turned.append(box(179.97, -17.1, 180.03, -17.05))
    other = write(tmp_path / "turned.gpkg", [west, *turned], crs=4326)
    extent = window_bounds(transform, shape)
    found = [read_inventory(one, grid.crs, extent) for one in (path, other)]
    drawn = [one.burn(transform, shape) for one in found]
    np.testing.assert_array_equal(*drawn)
    assert np.bincount(drawn[0].ravel())[1:].tolist() == [25, 25, 40, 30]
    assert [one.notes for one in found] == [(), ()]
    np.testing.assert_allclose(found[0].areas(), found[1].areas(), rtol=1e-6)
    assert Area(other, grid).covers(Window(0, 0, 40, 40)).sum() == 120


def test_points_and_lines_need_a_radius(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [Point(400500, 3899500), LineString([(400100, 3899500), (400200, 3899500)])])
    with pytest.raises(DataError, match=r"2 of 2 landslides have no area \(LineString, Point\)") as caught:
        read(path)
    assert "--buffer" in str(caught.value)
    inventory = read(path, buffer=50)
    assert inventory.areas() == pytest.approx([np.pi * 2500, np.pi * 2500 + 100 * 100], rel=0.01)
    assert "their outlines are not real" in inventory.notes[-1]
    with pytest.raises(ConfigError, match="not a positive number"):
        read(path, buffer=-1)
    in_degrees = read_inventory(path, CRS.from_epsg(4326), (-180, -90, 180, 90), buffer=50)
    assert in_degrees.areas() == pytest.approx([np.pi * 2500, np.pi * 2500 + 100 * 100], rel=0.01)


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_conditions_hold_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [ONE, TWO, THREE], Year=[2000, 2010, 2011], name=["a", "b", "c"])
    assert len(read(path, where="Year >= 2010").shapes) == 2
    dated = read(path, where="name <> 'b'", date_column="Year", image_date=date(2005, 1, 1), phase="post")
    assert len(dated.shapes) == 1


def test_layers_conditions_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [ONE, TWO, THREE], Year=[2000, 2010, 2011])
    assert len(read(path, where="Year >= 2010").shapes) == 2
    assert read(path, where="Year >= 2010").notes == ("2 landslides fulfil Year >= 2010",)
    with pytest.raises(ConfigError, match="the condition 'Yaer >= 2010' cannot be applied") as caught:
        read(path, where="Yaer >= 2010")
    assert "Columns: Year" in str(caught.value)
    with pytest.raises(ZooError, match=r"cannot be applied|holds no landslide"):
        read(path, where="Year >=")
    with pytest.raises(DataError, match="holds no landslide"):
        read(path, where="Year > 3000")
    geopandas.GeoDataFrame(geometry=[ONE], crs=32643).to_file(path, layer="second", engine="pyogrio")
    with pytest.raises(ConfigError, match="several layers: a, second"):
        read(path)
    with pytest.raises(UnknownNameError, match="Did you mean 'second'"):
        read(path, layer="secnd")
    assert len(read(path, layer="second").shapes) == 1


DATED = {"when": [2010, 2012, 2011, None, 2009]}
ROW = [box(400000 + 100 * i, 3899500, 400060 + 100 * i, 3899580) for i in range(5)]


@pytest.mark.parametrize(("phase", "drawn"), [("post", {0, 4}), ("pre", {1})])
def test_landslides_are_drawn_on_the_image_that_can_show_them(tmp_path: Path, phase: str, drawn: set[int]) -> None:
    path = write(tmp_path / "a.gpkg", ROW, **DATED)
    inventory = read(path, date_column="when", image_date=date(2011, 6, 1), phase=phase)
    burnt = inventory.burn(TRANSFORM, SHAPE)
    centres = {i: burnt[46, 10 * i + 3] for i in range(5)}
    assert {i for i, number in centres.items() if number > 0} == drawn
    # 2011 may be before or after the first of June, and nothing tells nothing.
    assert {i for i, number in centres.items() if number < 0} == {2, 3}
    left_out = 5 - 2 - len(drawn)
    side = "after" if phase == "post" else "before"
    assert f"{left_out} happened {side} the image of 2011-06-01, so they were not drawn" in inventory.notes
    assert any(note.startswith("2 may have happened before or after") for note in inventory.notes)


def test_a_certain_landslide_wins_over_a_doubtful_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [ONE, ONE], when=["2011-05-01", "2011"])
    inventory = read(path, date_column="when", image_date=date(2011, 6, 1), phase="post")
    assert set(np.unique(inventory.burn(TRANSFORM, SHAPE))) == {0, 1}


def test_dates_that_do_not_help(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", ROW, **DATED, name=list("abcde"))
    with pytest.raises(ConfigError, match="only with the date and phase"):
        read(path, date_column="when")
    options = {"image_date": date(1990, 1, 1), "phase": "post"}
    with pytest.raises(UnknownNameError, match="column"):
        read(path, date_column="wen", **options)
    with pytest.raises(DataError, match="no landslide of a post image of 1990-01-01 is left"):
        read(path, date_column="when", **options)
    with pytest.raises(DataError, match="no value of column 'name' is a date"):
        read(path, date_column="name", **options)


@pytest.mark.parametrize(
    ("value", "period"),
    [
        (2010, (date(2010, 1, 1), date(2010, 12, 31))),
        (2010.0, (date(2010, 1, 1), date(2010, 12, 31))),
        ("2010", (date(2010, 1, 1), date(2010, 12, 31))),
        ("2012-02", (date(2012, 2, 1), date(2012, 2, 29))),
        ("2010/7/3", (date(2010, 7, 3), date(2010, 7, 3))),
        ("2010-07-03T01:00+05:00", (date(2010, 7, 2), date(2010, 7, 2))),
        ("2010-07-03 22:00:00-0300", (date(2010, 7, 4), date(2010, 7, 4))),
        (datetime.fromisoformat("2010-07-03T01:00+05:00"), (date(2010, 7, 2), date(2010, 7, 2))),
        ("2010-07-03T12:00:00Z", (date(2010, 7, 3), date(2010, 7, 3))),
        (np.datetime64("2010-07-03"), (date(2010, 7, 3), date(2010, 7, 3))),
        (datetime(2010, 7, 3, 12), (date(2010, 7, 3), date(2010, 7, 3))),
        (date(2010, 7, 3), (date(2010, 7, 3), date(2010, 7, 3))),
        *((nothing, None) for nothing in (None, "", "unknown", 0, np.nan, 2010.5, "2010-13", "2011-02-29")),
        (np.datetime64("NaT", "s"), None),
    ],
)
def test_periods(value: Any, period: Any) -> None:
    assert parse_period(value) == period


def test_a_month_is_no_day() -> None:
    with pytest.raises(ConfigError, match="'2010-07' is not a date"):
        parse_day("2010-07", "here")


def zipped(path: Path, **files: Path | bytes) -> Path:
    """Write a zip; two underscores in a name stand for a folder, one before the suffix for the dot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            inside = name.replace("__", "/")
            inside = ".".join(inside.rsplit("_", 1))
            archive.writestr(inside, content if isinstance(content, bytes) else content.read_bytes())
    return path


def test_a_zip_that_holds_a_vector_file_in_a_folder(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"i": [1]}, geometry=[box(500100, 3799700, 500200, 3799800)], crs=32643)
    frame.to_file(tmp_path / "y.shp")
    frame.to_file(tmp_path / "y.gpkg")
    parts = {f"inventory__y_{part}": tmp_path / f"y.{part}" for part in ("shp", "shx", "dbf", "prj")}
    for path in (zipped(tmp_path / "a.zip", **parts), zipped(tmp_path / "b.zip", y_gpkg=tmp_path / "y.gpkg")):
        assert read_vector(path).geometry.iloc[0].equals(frame.geometry.iloc[0])
    with pytest.raises(DataError, match="virtual paths of GDAL are not opened"):
        read_vector(f"/vsizip/{tmp_path}/a.zip/inventory/y.shp")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"readme_txt": b"x"}, "must hold one vector file .* found: none"),
        ({"a_gpkg": b"x", "b_gpkg": b"x"}, r"must hold one vector file .* found: a\.gpkg, b\.gpkg"),
        ({"a_geojson": b"<OGRVRTDataSource/>"}, "points to other files"),
        ({"a_shp": b"x"}, "cannot be read"),
    ],
)
def test_zips_that_hold_no_vector_file(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_vector(zipped(tmp_path / "a.zip", **files))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(100), b"<html>"])
def test_a_zip_that_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="is a damaged or encrypted zip"):
        read_vector(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("coding", "drawn"),
    [((0, 255), (False, True, True)), ((0, 1), (False, True, True)), ((0, 1, 255), (False, True, False))],
)
def test_a_mask_of_0_and_255_alone_holds_landslides(tmp_path: Path, coding: tuple[int, ...], drawn: Any) -> None:
    values = np.zeros((30, 40), np.uint8)
    values[:, 10:20], values[:, 20:] = coding[1], coding[-1]
    write_geotiff(tmp_path / "mask.tif", values, crs="EPSG:32643", transform=TRANSFORM)
    found = read_truth(tmp_path / "mask.tif", PixelGrid(UTM, TRANSFORM, values.shape), Window(5, 3, 30, 10))
    np.testing.assert_array_equal(found, np.repeat([drawn], 10, axis=0).repeat([5, 10, 15], axis=1))


@pytest.mark.parametrize(
    ("values", "colours", "words"),
    [
        ([[0, 1], [2, 1]], None, "holds 1 and 2, and it is unknown which number is the landslide"),
        ([[0.1, 0.7], [0, 1]], None, r"holds 0\.1 and 0\.7"),
        ([[0, 1], [1, 1]], {0: (255, 0, 0), 1: (255, 255, 255)}, "the palette draws value 0 in the colour"),
    ],
)
def test_truth_without_landslide_locations_is_refused(
    tmp_path: Path, values: list[list[float]], colours: dict[int, tuple[int, int, int]] | None, words: str
) -> None:
    array = np.asarray(values, np.uint8 if colours or words.startswith("holds 1") else np.float32)
    path = write_geotiff(tmp_path / "mask.tif", array, crs="EPSG:32643", transform=TRANSFORM)
    if colours is not None:
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, colours)
    with pytest.raises(DataError, match=rf"mask\.tif: {words}"):
        read_truth(path, PixelGrid(UTM, TRANSFORM, (2, 2)), Window(0, 0, 2, 2))


@pytest.mark.parametrize("divided", [True, False])
def test_middles_of_features_on_both_sides_of_180_degrees(tmp_path: Path, divided: bool) -> None:
    crossing = MultiPolygon([box(179.98, -17, 180, -16.9), box(-180, -17, -179.98, -16.9)])
    outline = crossing if divided else box(179.98, -17, 180.02, -16.9)
    shapes = [box(179.9, -17, 179.92, -16.98), outline, box(-179.9, -17, -179.88, -16.98)]
    path = write(tmp_path / "slides.gpkg", shapes, 4326)
    frame, places = read_places(path, [], [])
    assert len(frame) == 3
    np.testing.assert_allclose(places[:, 0] % 360, [179.91, 180, 180.11], atol=1e-9)
    assert np.ptp(places[:, 0]) < 0.3
    _, metres = read_features(path)
    across = pyproj.Geod(ellps="WGS84").inv(179.91, -16.99, 180.11, -16.99)[2]
    assert np.hypot(*(metres[2] - metres[0])) == pytest.approx(across, rel=2e-3)
    assert metres[0, 0] < metres[1, 0] < metres[2, 0]
