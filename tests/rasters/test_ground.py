"""Lengths and areas are those on the ground, in every coordinate system."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

from zoo.rasters.ground import Ground, PixelAreas, metres_per_pixel, true_scale, utm_code

SYSTEMS = (3857, 32643, 4326, 3035)


def disc(longitude: float, latitude: float, metres: float) -> shapely.Polygon:
    """Return a geodesic disc, drawn with Karney's direct problem."""
    around = np.linspace(0, 360, 721)[:-1]
    east, north, _ = pyproj.Geod(ellps="WGS84").fwd(
        np.full(720, longitude), np.full(720, latitude), around, np.full(720, metres)
    )
    return shapely.Polygon(np.column_stack([east, north]))


@settings(max_examples=40, deadline=None)
@given(st.floats(-70, 70), st.floats(-170, 170), st.floats(50, 3000), st.sampled_from([3857, 4326, 6933]))
def test_areas_are_geodesic(latitude: float, longitude: float, radius: float, code: int) -> None:
    shape = disc(longitude, latitude, radius)
    true = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)[0])
    to = pyproj.Transformer.from_crs(4326, code, always_xy=True)
    placed = shapely.transform(shape, to.transform, interleaved=False)
    found = Ground(CRS.from_epsg(code)).areas(np.array([placed], object))[0]
    assert found == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("code", SYSTEMS)
def test_a_buffer_is_round_on_the_ground(code: int) -> None:
    crs = CRS.from_epsg(code)
    x, y = pyproj.Transformer.from_crs(4326, code, always_xy=True).transform(12.0, 50.0)
    if code == 32643:
        x, y = 300_000.0, 5_500_000.0
    (widened,) = Ground(crs).buffer(np.array([shapely.Point(x, y)], object), 100.0)
    assert Ground(crs).areas(np.array([widened], object))[0] == pytest.approx(np.pi * 1e4, rel=0.01)


def test_a_pixel_of_web_mercator_is_smaller_on_the_ground() -> None:
    transform = from_origin(8_349_000, 6_500_000, 10, 10)
    size = metres_per_pixel(CRS.from_epsg(3857), transform, (96, 96))
    assert size == pytest.approx(6.39, abs=0.01)
    assert PixelAreas(CRS.from_epsg(3857), transform, (96, 96)).mean() == pytest.approx(size**2, rel=2e-3)


def test_ten_metres_of_utm_stay_ten_metres() -> None:
    assert metres_per_pixel(CRS.from_epsg(32643), from_origin(500_000, 3_800_000, 10, 10), (64, 64)) == 10.0
    assert true_scale(CRS.from_epsg(32643), 500_000, 3_800_000) == (1.0, 1.0)


def test_areas_of_windows_add_up_to_the_whole() -> None:
    areas = PixelAreas(CRS.from_epsg(3857), from_origin(8_349_000, 6_500_000, 100, 100), (1000, 800))
    parts = [Window(0, 0, 800, 400), Window(0, 400, 800, 600)]
    total = sum(areas.mean(part) * part.width * part.height for part in parts)
    assert total == pytest.approx(areas.mean() * 800_000, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "code", "zone"),
    [(819_550, 8_134_610, 32760, "EPSG:32760"), (179.999, -17, 4326, "EPSG:32760"), (180.5, -17, 4326, "EPSG:32701")],
)
def test_the_zone_at_the_antimeridian(x: float, y: float, code: int, zone: str) -> None:
    assert utm_code((x - 1e-3, y - 1e-3, x + 1e-3, y + 1e-3), CRS.from_epsg(code)) == zone


def test_a_file_without_a_place_has_no_pixel_size() -> None:
    assert metres_per_pixel(None, Affine.identity(), (4, 4)) is None
    assert metres_per_pixel(CRS.from_epsg(32643), Affine.identity(), (4, 4)) is None
    assert metres_per_pixel(CRS.from_epsg(4326), from_origin(75, 34, 1e-4, 1e-4), (4, 4)) is None
