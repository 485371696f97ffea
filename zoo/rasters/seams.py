"""Detect seams in a terrain model whose tiles were assembled incorrectly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from zoo.physics.bands import Band

TILE_SIDES: tuple[int, ...] = (
    *(16, 32, 50, 64, 100, 128, 200, 250, 256, 300, 400, 500, 512, 600, 1000, 1024, 1200, 1201, 1800, 2000, 2048),
    *(3600, 3601, 4096),
)
"""Sides of tiles, in pixels, in which rasters are stored or delivered."""

STEP = 4.0
"""A step at the border of tiles is a seam if it is this many times the usual step from pixel to pixel [O]: the mean
over a whole row or column hides single cliffs."""

LEAST_STEP = 1.0
"""Metres below which a seam does no harm."""

WINDOW = 1024


MOST_WINDOWS = 4
"""Number of windows along each side that are checked: tiles are assembled incorrectly everywhere or nowhere."""


def is_terrain(band: Band) -> bool:
    """Return whether a band is an elevation, by its name or unit."""
    return band.unit == "m" or band.name.casefold() in ("dem", "dtm", "dsm", "elevation", "height")


def find_seams(read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int]) -> str:
    """Return a sentence about the seams between the tiles of a DEM; "" if there are none.

    At most 4,096 x 4,096 pixels in the middle of the raster are read.

    Args:
        read: returns float32 (rows, columns) of a window, NaN where missing.
        shape: (rows, columns) of the raster.
    """
    steps = _Steps(shape)
    spans = []
    for length in shape:
        first = max(0, (length - MOST_WINDOWS * WINDOW) // 2)
        spans.append(range(first, min(length, first + MOST_WINDOWS * WINDOW), WINDOW))
    for row in spans[0]:
        for column in spans[1]:
            # One pixel more, because a step may lie at the border of two windows.
            height, width = min(WINDOW + 1, shape[0] - row), min(WINDOW + 1, shape[1] - column)
            window = Window(column, row, width, height)
            steps.add(read(window), window)
    return steps.note()


class _Steps:
    """Compares the steps at the borders of tiles with those between all other pixels, window by window.

    A DEM whose tiles were stored transposed or shifted jumps at every border of a tile. Its slope is a grid of cliffs,
    which a model learns. Natural terrain has no reason to jump at every 128th pixel.

    Args:
        shape: (rows, columns) of the raster.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        # Sum and number of the absolute steps onto each row and each column.
        self._sums = tuple(np.zeros(length) for length in shape)
        self._counts = tuple(np.zeros(length, np.int64) for length in shape)

    def add(self, values: NDArray[np.float32], window: Window) -> None:
        """Count the steps inside a window.

        Args:
            values: float32 (rows, columns), NaN where missing.
            window: where they lie.
        """
        for axis, first in ((0, window.row_off), (1, window.col_off)):
            steps = np.abs(np.diff(values, axis=axis))
            known = np.isfinite(steps)
            across = 1 - axis
            part = slice(first + 1, first + values.shape[axis])
            self._sums[axis][part] += np.where(known, steps, 0).sum(axis=across, dtype=np.float64)
            self._counts[axis][part] += known.sum(axis=across)

    def note(self) -> str:
        """Return a sentence about the seams that were found; "" without any."""
        worst: tuple[float, int, float] | None = None
        for sums, counts in zip(self._sums, self._counts, strict=True):
            found = _seam(sums, counts)
            if found is not None and (worst is None or found[0] > worst[0]):
                worst = found
        if worst is None:
            return ""
        ratio, side, step = worst
        return (
            f"the elevation jumps by {step:.0f} m at every {side}th pixel, {ratio:.0f} times the usual step: its tiles "
            "seem to be stored transposed or shifted, and the slope has a cliff at each seam"
        )


def _seam(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, int, float] | None:
    """Return ratio, side of the tiles and step of the clearest seams along one axis; ``None`` without any."""
    known = np.flatnonzero(counts >= 8)
    if len(known) < 32:
        return None
    steps = sums[known] / counts[known]
    best: tuple[float, int, float] | None = None
    for side in TILE_SIDES:
        border = known % side == 0
        if border.sum() < 2 or border.sum() > len(known) // 8:
            continue
        # Every border has to jump: one cliff at a border is terrain.
        lowest, usual = float(np.quantile(steps[border], 0.1, method="lower")), float(np.median(steps[~border]))
        if lowest >= LEAST_STEP and lowest > STEP * usual:
            ratio = lowest / max(usual, 1e-6)
            if best is None or ratio > 1.05 * best[0]:
                best = ratio, side, float(steps[border].mean())
    return best
