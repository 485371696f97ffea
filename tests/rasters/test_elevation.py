"""Tiles that were put together wrongly are noticed, and terrain is not taken for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from zoo.rasters.elevation import find_seams


def terrain(side: int = 640) -> NDArray[np.float32]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    rough = np.random.default_rng(0).normal(0, 1, (side, side))
    return (1000 + 0.7 * x + 200 * np.sin(x / 60) + 150 * np.cos(y / 45) + rough).astype(np.float32)


def look(values: NDArray[np.float32]) -> str:
    def read(window: Window) -> NDArray[np.float32]:
        rows, columns = window.toslices()
        return values[rows, columns]

    return find_seams(read, (values.shape[0], values.shape[1]))


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
