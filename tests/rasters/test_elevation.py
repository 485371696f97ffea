"""Tiles that were put together wrongly are noticed, and terrain is not taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from zoo.rasters.elevation import elevation_warnings


def terrain(side: int = 640) -> NDArray[np.float32]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    rough = np.random.default_rng(0).normal(0, 1, (side, side))
    return (1000 + 0.7 * x + 200 * np.sin(x / 60) + 150 * np.cos(y / 45) + rough).astype(np.float32)


def look(values: NDArray[np.float32], pixel_size: float = 30) -> str:
    def read(window: Window) -> NDArray[np.float32]:
        rows, columns = window.toslices()
        return values[rows, columns]

    return "; ".join(elevation_warnings(read, (values.shape[0], values.shape[1]), pixel_size))


def test_transposed_tiles_are_noticed() -> None:
    values = terrain()
    for row in range(0, 640, 128):
        for column in range(0, 640, 128):
            tile = values[row : row + 128, column : column + 128]
            values[row : row + 128, column : column + 128] = tile.T.copy()
    assert "every 128th pixel" in look(values)


def test_terrain_has_no_seams() -> None:
    assert look(terrain()) == ""
    cliff = terrain()
    cliff[:, 256:] += 90
    assert look(cliff) == ""


def test_voids_of_zero_are_noticed() -> None:
    values = terrain(1100)
    values[40:60, 500:530] = 0
    values[1000:1080, 1010:1040] = 0
    found = look(values)
    assert found.startswith(
        "3,000 pixels (0.25%), the first at row 40, column 500, are exactly 0 and far below the ground"
    )
    assert look(terrain(1100)) == ""


def ground(metres: float, amplitude: float, smooth: float = 20) -> NDArray[np.float32]:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(200, 200)), smooth)
    return (metres + amplitude * noise / noise.std()).astype(np.float32)


@pytest.mark.parametrize(("metres", "amplitude"), [(60, 3), (90, 8), (20, 0)])
def test_an_enclosed_void_in_low_ground_is_noticed(metres: float, amplitude: float) -> None:
    values = ground(metres, amplitude)
    values[50:70, 80:120] = 0
    assert look(values).startswith("800 pixels")
    values[50:52, 119] = 5
    assert look(values).startswith("798 pixels")
    values[50:70, 100:] = 0
    assert look(values) == "", "it may be a part of the sea"


@pytest.mark.parametrize(
    "values",
    [
        np.maximum(0, ground(0, 120)),
        np.round(np.maximum(0, ground(0, 300, 5))),
        np.maximum(0, ground(1, 2)),
        np.maximum(0, np.abs(ground(0, 100)) - 8),
    ],
    ids=["islands", "steep islands in whole metres", "delta", "lakes"],
)
def test_water_at_0_is_no_void(values: NDArray[np.float32]) -> None:
    assert (values == 0).any()
    assert look(values) == ""


def test_water_behind_dikes_is_no_void() -> None:
    values = ground(-3, 1)
    values[48:72, 78:122] = 6
    values[50:70, 80:120] = 0
    assert look(values, 5) == ""


def test_the_sea_is_no_void() -> None:
    y, x = np.mgrid[0:400, 0:400].astype(np.float32)
    coast = np.maximum(0, 3 * (x - 150 + 20 * np.sin(y / 30))).astype(np.float32)
    assert look(coast) == ""
    # A cliff is a part of the coast, and pixels of a kilometre are steep without one.
    coast[100:140, 150:200] = 0
    coast[100:140, 200:] += 150
    assert look(coast) == ""
    coarse = np.where(coast > 0, coast + 400, 0).astype(np.float32)
    assert look(coarse, 1000) == ""
    assert "probably voids" in look(coarse)
