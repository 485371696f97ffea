"""A scene on pixels of another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.rasters.test_colours import write
from zoo.errors import DataError
from zoo.rasters.ground import window_bounds
from zoo.rasters.reading import window_of
from zoo.rasters.resampling import ResampledMosaic


def whole(raster: ResampledMosaic) -> np.ndarray:
    return raster.read(window_of((0, raster.shape[0]), (0, raster.shape[1])))


def test_finer_pixels_are_averaged_over_their_area(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 40, 60)).astype(np.float32)
    raster = ResampledMosaic(write(tmp_path / "a.tif", values), 20)
    assert raster.shape == (20, 30)
    np.testing.assert_allclose(whole(raster), values.reshape(2, 20, 2, 30, 2).mean((2, 4)), rtol=1e-6)


def test_coarser_pixels_are_interpolated_and_a_gradient_stays_one(tmp_path: Path) -> None:
    columns = np.broadcast_to(np.arange(60, dtype=np.float32), (1, 40, 60)).copy()
    raster = ResampledMosaic(write(tmp_path / "a.tif", columns), 4)
    found = whole(raster)[0]
    assert raster.shape == (100, 150)
    np.testing.assert_allclose(found[50, 5:-5], (np.arange(150)[5:-5] + 0.5) * 0.4 - 0.5, atol=1e-5)


@pytest.mark.parametrize("size", [7.3, 23.0])
def test_a_window_gives_the_same_pixels_as_the_whole(tmp_path: Path, size: float) -> None:
    values = np.random.default_rng(0).random((2, 70, 90)).astype(np.float32)
    values[:, 20:30, 40:60] = np.nan
    raster = ResampledMosaic(write(tmp_path / "a.tif", values), size)
    rows, columns = raster.shape
    found = raster.read(window_of((3, rows - 2), (5, columns)), [1])
    np.testing.assert_array_equal(found[0], whole(raster)[1, 3:-2, 5:])
    assert 0 < np.isnan(found).sum() < 0.1 * found.size


def test_place_and_size_are_kept(tmp_path: Path) -> None:
    mosaic = write(tmp_path / "a.tif", np.ones((1, 44, 66), np.float32))
    raster = ResampledMosaic(mosaic, 20)
    assert window_bounds(raster.transform, raster.shape) == window_bounds(mosaic.transform, mosaic.shape)
    assert raster.pixel_size == 20
    assert raster.overview(4).shape == (1, 6, 9)


def test_an_infinity_stays_one(tmp_path: Path) -> None:
    values = np.ones((1, 40, 40), np.float32)
    values[0, 11, 11] = np.inf
    assert np.argwhere(np.isinf(whole(ResampledMosaic(write(tmp_path / "a.tif", values), 20)))).tolist() == [[0, 5, 5]]


def test_a_grid_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pixels of 0\.0001 m"):
        ResampledMosaic(write(tmp_path / "a.tif", np.ones((1, 44, 66), np.float32)), 0.0001)
