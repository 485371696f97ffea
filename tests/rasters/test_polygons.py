"""Polygon files as a GIS opens them: columns, areas on the ground, both formats, nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import ConfigError, ZooError
from zoo.rasters.polygons import FeatureWriter, PolygonOptions, PolygonReport, check_polygons, write_polygons

UTM, DEGREES, MERCATOR = CRS.from_epsg(32643), CRS.from_epsg(4326), CRS.from_epsg(3857)
METRES = from_origin(600_000, 3_800_000, 10, 10)


def field(seed: int = 0, side: int = 90) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((side, side)), 3)
    values = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    values[:10, :20] = np.nan
    return values


def reader(values: np.ndarray):
    def read(window: Window) -> np.ndarray:
        rows, columns = window.toslices()
        return values[rows, columns]

    return read


def write(
    out: Path,
    values: np.ndarray,
    *,
    crs: CRS = UTM,
    transform: Affine = METRES,
    slope: np.ndarray | None = None,
    threshold: float = 0.6,
    **options: object,
) -> tuple[PolygonReport, geopandas.GeoDataFrame]:
    report = write_polygons(
        out,
        shape=values.shape,
        transform=transform,
        crs=crs,
        probability=reader(values),
        slope=None if slope is None else reader(slope),
        options=PolygonOptions(threshold, block=32, **options),
        metadata={"MODEL": "unet"},
    )
    return report, geopandas.read_parquet(out) if out.suffix == ".parquet" else geopandas.read_file(out)


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_columns_and_places(tmp_path, suffix):
    values = field()
    slope = np.full(values.shape, 30, np.float32)
    slope[values > 0.9] = np.nan
    report, found = write(
        tmp_path / f"slides ü{suffix}", values, slope=slope, classes=((0, "unsure"), (0.7, "sure")), threshold=0.6
    )
    assert list(found.columns) == [
        "id", "area_m2", "pixels", "mean_probability", "max_probability", "mean_slope_degree", "class", "geometry",
    ]  # fmt: skip
    mask = values >= np.float32(0.6)
    labels, count = ndimage.label(mask)
    assert report.polygons == len(found) == count > 3
    assert found["id"].tolist() == list(range(1, count + 1))
    assert found.crs == pyproj.CRS.from_epsg(32643)
    assert found["pixels"].sum() == mask.sum()
    np.testing.assert_allclose(found["area_m2"], found.geometry.area, rtol=1e-3)
    assert found["area_m2"].sum() == pytest.approx(report.area)
    assert report.area == pytest.approx(mask.sum() * 100, rel=1e-3)
    for row in found.itertuples():
        point = row.geometry.representative_point()
        column, line = ~METRES * (point.x, point.y)
        own = labels == labels[int(line), int(column)]
        assert row.mean_probability == pytest.approx(values[own].mean(), rel=1e-6)
        assert row.max_probability == values[own].max()
        assert row._7 == ("sure" if row.mean_probability >= 0.7 else "unsure")
        assert row.mean_slope_degree == 30
        assert row.geometry.exterior.is_ccw
    assert report.by_class == found["class"].value_counts().reindex(["unsure", "sure"], fill_value=0).to_dict()
    assert [path.name for path in tmp_path.iterdir()] == [f"slides ü{suffix}"]


def test_a_file_records_how_it_was_made(tmp_path):
    write(tmp_path / "a.gpkg", field(), min_area=500)
    metadata = pyogrio.read_info(tmp_path / "a.gpkg", layer="a")["layer_metadata"]
    assert metadata == {"MODEL": "unet", "THRESHOLD": "0.6", "LEAST_AREA_M2": "500"}
    write(tmp_path / "a.parquet", field())
    from pyarrow import parquet

    assert parquet.read_schema(tmp_path / "a.parquet").metadata[b"MODEL"] == b"unet"


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
@pytest.mark.parametrize("values", [np.zeros((40, 40), np.float32), np.full((40, 40), np.nan, np.float32)])
def test_nothing_found_is_a_valid_file(tmp_path, suffix, values):
    report, found = write(tmp_path / f"none{suffix}", values, slope=values)
    assert report.polygons == len(found) == 0
    assert found.columns[0] == "id"
    assert list(found.columns)[-2:] == ["class", "geometry"]
    assert found.crs == pyproj.CRS.from_epsg(32643)


def test_small_polygons_are_left_out_and_counted(tmp_path):
    values = field()
    _, everything = write(tmp_path / "a.gpkg", values)
    least = float(everything["area_m2"].median())
    report, found = write(tmp_path / "b.gpkg", values, min_area=least)
    assert sorted(found["area_m2"]) == sorted(everything["area_m2"][everything["area_m2"] >= least])
    assert report.left_out == len(everything) - len(found) > 0
    # The same on a grid in degrees, where areas are known when the outline is.
    degrees = from_origin(75, 34.3, 1e-4, 1e-4)
    _, everything = write(tmp_path / "c.gpkg", values, crs=DEGREES, transform=degrees)
    least = float(everything["area_m2"].median())
    report, found = write(tmp_path / "d.gpkg", values, crs=DEGREES, transform=degrees, min_area=least)
    assert len(found) == (everything["area_m2"] >= least).sum()
    assert report.left_out == len(everything) - len(found)


def zone(south: float, north: float, width: float) -> float:
    """Area in m2 between two parallels on WGS 84, from the closed form of the authalic latitude (Snyder 1987, 3-12)."""
    a, f = 6_378_137.0, 1 / 298.257223563
    e = np.sqrt(f * (2 - f))

    def q(degrees: float) -> float:
        s = e * np.sin(np.radians(degrees))
        return (1 - e**2) * (np.sin(np.radians(degrees)) / (1 - s**2) + np.arctanh(s) / e)

    return float(a**2 * np.radians(width) * (q(north) - q(south)) / 2)


def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path):
    values = np.zeros((40, 60), np.float32)
    values[10:20, 5:55] = 0.9
    _report, found = write(tmp_path / "a.gpkg", values, crs=DEGREES, transform=from_origin(91, 60.2, 0.01, 0.01))
    np.testing.assert_allclose(found["area_m2"], zone(60.0, 60.1, 0.5), rtol=1e-5)


def test_areas_in_web_mercator_are_not_those_of_the_map(tmp_path):
    values = np.zeros((20, 20), np.float32)
    values[5:9, 5:9] = 1
    place = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(10.0, 60.0)
    _report, found = write(tmp_path / "a.gpkg", values, crs=MERCATOR, transform=from_origin(*place, 10, 10))
    assert found.geometry.area[0] == pytest.approx(1600)
    assert found["area_m2"][0] == pytest.approx(1600 * np.cos(np.radians(60)) ** 2, rel=0.01)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    latitude=st.floats(-75, 75),
    longitude=st.floats(-170, 170),
    code=st.sampled_from([4326, 3857, 6933, "utm"]),
)
def test_areas_are_those_of_pyproj_everywhere(tmp_path, seed, latitude, longitude, code):
    if code == "utm":
        code = (32600 if latitude >= 0 else 32700) + int((longitude + 180) // 6) + 1
    crs = CRS.from_epsg(code)
    place = pyproj.Transformer.from_crs(4326, code, always_xy=True).transform(longitude, latitude)
    size = 1e-4 if crs.is_geographic else 10
    _, found = write(tmp_path / "a.parquet", field(seed, 40), crs=crs, transform=from_origin(*place, size, size))
    assert len(found)
    # Edges are straight in the grid; points along them follow the same line on the ellipsoid.
    degrees = found.geometry.segmentize(size).to_crs(4326)
    geodesic = [abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in degrees]
    np.testing.assert_allclose(found["area_m2"], geodesic, rtol=1e-3)


def test_feet_become_metres(tmp_path):
    values = np.zeros((8, 8), np.float32)
    values[2:4, 2:4] = 1
    _, found = write(
        tmp_path / "a.gpkg", values, crs=CRS.from_epsg(2229), transform=from_origin(6_500_000, 1_800_000, 30, 30)
    )
    assert found["area_m2"][0] == pytest.approx(4 * (30 * 1200 / 3937) ** 2, rel=1e-3)


def test_many_batches_are_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.rasters.polygons.WRITE_BATCH", 2)
    values = field(1)
    for name in ("a.gpkg", "a.parquet"):
        report, found = write(tmp_path / name, values)
        assert report.polygons == len(found) > 4
        assert found["id"].tolist() == list(range(1, len(found) + 1))
        assert found["pixels"].sum() == (values >= np.float32(0.6)).sum()


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_what_fails_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    out = tmp_path / f"slides{suffix}"
    out.write_bytes(b"old")

    def full(self, polygons):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FeatureWriter, "_to_geopackage", full)
    monkeypatch.setattr(FeatureWriter, "_to_geoparquet", full)
    with pytest.raises(ZooError, match="No space left"):
        write(out, field())
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_no_polygon_file_is_refused(tmp_path, monkeypatch):
    for name in ("a.shp", "a.geojson", "slides"):
        with pytest.raises(ConfigError, match=r"suffix|cannot be written"):
            check_polygons(tmp_path / name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pyarrow"):
        check_polygons(tmp_path / "a.parquet")
    for wrong in (
        {"threshold": 1.5},
        {"threshold": 0.5, "min_area": -1},
        {"threshold": 0.5, "classes": ((0.5, "a"),)},
    ):
        with pytest.raises(ConfigError):
            PolygonOptions(**wrong)


def test_the_same_polygons_give_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path / "a.gpkg", field())
    monkeypatch.setattr("zoo.rasters.polygons.GEOPACKAGE_DATE", "2001-01-01T00:00:00.000Z")
    write(tmp_path / "b.gpkg", field())
    monkeypatch.undo()
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "a.gpkg", field())
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "other" / "a.gpkg").read_bytes()
    assert b"2001-01-01" in (tmp_path / "b.gpkg").read_bytes()
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None
