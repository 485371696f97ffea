from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics import horn_gradient, slope_degrees

KASHMIR = Path(__file__).parents[2].parent / "shared" / "data" / "kashmir" / "AW3D30.tif"


def test_horn_by_hand():
    # To the right ((3 + 2*6 + 9) - (1 + 2*4 + 7)) / (8*10) = 8/80; down ((7+2*8+9) - (1+2*2+3)) / 80 = 24/80.
    dem = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    down, right = horn_gradient(dem, 10.0)
    assert right[1, 1] == pytest.approx(0.1)
    assert down[1, 1] == pytest.approx(0.3)
    assert slope_degrees(dem, 10.0)[1, 1] == pytest.approx(np.degrees(np.arctan(np.hypot(0.1, 0.3))))


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(1, 100), st.floats(1, 100))
def test_a_plane_has_its_slope_up_to_the_edge(down, right, height, width):
    row, column = np.mgrid[:5, :7]
    dem = 100 + down * row * height + right * column * width
    by_row, by_column = horn_gradient(dem, (height, width))
    assert by_row == pytest.approx(np.full((5, 7), down), abs=1e-6)
    assert by_column == pytest.approx(np.full((5, 7), right), abs=1e-6)


def test_level_ground_is_zero_and_steps_stay_below_90():
    assert np.all(slope_degrees(np.full((4, 4), 812.0), 10.0) == 0)
    assert np.all(slope_degrees(np.tile([0.0, 1e6], (4, 2)), 10.0) < 90)


def test_a_hole_empties_its_neighbourhood_and_no_more():
    dem = np.zeros((7, 7))
    dem[3, 3] = np.nan
    holes = np.isnan(slope_degrees(dem, 10.0))
    expected = np.zeros((7, 7), dtype=bool)
    expected[2:5, 2:5] = True
    assert np.array_equal(holes, expected)


def test_edges_can_be_left_empty():
    holes = np.isnan(slope_degrees(np.zeros((4, 5)), 10.0, edges="nan"))
    assert holes.sum() == 14
    assert not holes[1:-1, 1:-1].any()


@pytest.mark.parametrize("cell", [0.0, -10.0, float("nan"), (10.0, 0.0)])
def test_an_invalid_cell_size_is_refused(cell):
    with pytest.raises(ConfigError, match="cell size"):
        slope_degrees(np.zeros((3, 3)), cell)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 3, 4)])
def test_an_invalid_grid_is_refused(shape):
    with pytest.raises(DataError, match="elevation has the shape"):
        slope_degrees(np.zeros(shape), 10.0)


def test_an_unknown_treatment_of_edges_is_refused():
    with pytest.raises(ConfigError, match="edges cannot be 'wrap'"):
        slope_degrees(np.zeros((3, 3)), 10.0, edges="wrap")


def _xarray_spatial(dem: np.ndarray, cell: float) -> np.ndarray:
    xrspatial = pytest.importorskip("xrspatial")
    xarray = pytest.importorskip("xarray")
    rows, columns = dem.shape
    grid = xarray.DataArray(
        dem,
        dims=("y", "x"),
        coords={"y": np.arange(rows)[::-1] * cell, "x": np.arange(columns) * cell},
        attrs={"res": (cell, cell)},
    )
    return np.asarray(xrspatial.slope(grid))


def test_agrees_with_xarray_spatial_on_rough_ground():
    dem = np.random.default_rng(0).normal(size=(60, 50)).cumsum(axis=0).cumsum(axis=1)
    ours, theirs = slope_degrees(dem, 10.0, edges="nan"), _xarray_spatial(dem, 10.0)
    assert ours == pytest.approx(theirs, abs=2e-3, nan_ok=True)


@pytest.mark.skipif(not KASHMIR.exists(), reason="the Kashmir elevation model is not beside this checkout")
def test_agrees_with_xarray_spatial_on_kashmir():
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(KASHMIR) as source:
        dem, cell = source.read(1)[:300, :300], abs(source.transform.a)
    ours, theirs = slope_degrees(dem, cell, edges="nan"), _xarray_spatial(dem, cell)
    assert ours == pytest.approx(theirs, abs=0.02, nan_ok=True)
    # A high range: half of it steeper than 30 degrees.
    assert 30 < float(np.nanmedian(ours)) < 40
