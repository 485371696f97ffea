"""Tiles that were put together wrongly are noticed, and terrain is not taken for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

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
    assert found.startswith("3,000 pixels (0.25%), the first at row 40, column 500, are exactly 0 beside steps of more")
    assert "more than 100 m" in found
    assert look(terrain(1100)) == ""


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
