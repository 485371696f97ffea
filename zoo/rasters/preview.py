"""A raster of any size in as few pixels as a picture has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

_SIDE = 1024


def reduced(
    shape: tuple[int, int],
    read: Callable[[Window], NDArray[np.float32]],
    longest: int,
    how: Literal["mean", "max"],
) -> tuple[NDArray[np.float32], int]:
    """Make one value of each square of pixels, reading window by window.

    Args:
        shape: (rows, columns) of the raster.
        read: gives float32 (C, rows, columns) of a window, NaN where there is nothing.
        longest: values along the longer side, at most.
        how: "mean" of what is known in a square, or "max", by which a single pixel is still seen.

    Returns:
        float32 (C, rows, columns), NaN where nothing in a square is known; and the pixels along a square's side. The
        last squares may reach beyond the raster.
    """
    step = max(1, -(-max(shape) // longest))
    size = step * max(1, _SIDE // step)
    whole: NDArray[np.float32] | None = None
    for row in range(0, shape[0], size):
        for column in range(0, shape[1], size):
            part = read(Window(column, row, min(size, shape[1] - column), min(size, shape[0] - row)))
            if whole is None:
                whole = np.full((len(part), -(-shape[0] // step), -(-shape[1] // step)), np.nan, np.float32)
            found = _squares(part, step, how)
            top, left = row // step, column // step
            whole[:, top : top + found.shape[1], left : left + found.shape[2]] = found
    assert whole is not None  # no raster is empty
    return whole, step


def _squares(part: NDArray[np.float32], step: int, how: Literal["mean", "max"]) -> NDArray[np.float32]:
    if step == 1:
        return part
    rows, columns = -(-part.shape[1] // step), -(-part.shape[2] // step)
    filled = np.full((len(part), rows * step, columns * step), np.nan, np.float32)
    filled[:, : part.shape[1], : part.shape[2]] = part
    squares = filled.reshape(len(part), rows, step, columns, step)
    if how == "max":
        highest: NDArray[np.float32] = np.fmax.reduce(squares, axis=(2, 4))
        return highest
    known = np.isfinite(squares)
    count = known.sum(axis=(2, 4))
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, squares, 0).sum(axis=(2, 4), dtype=np.float64) / count
    return mean.astype(np.float32)


def stretch(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Stretch each band between its 2nd and 98th percentile.

    Args:
        image: (C, H, W), NaN where there is nothing.

    Returns:
        float32 (H, W, C) in 0..1: white where nothing is known, grey where a band is flat.
    """
    shown = np.ones((*image.shape[1:], len(image)), np.float32)
    for band, values in enumerate(image):
        known = np.isfinite(values)
        if known.any():
            low, high = np.percentile(values[known], (2, 98))
            scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
            shown[..., band] = np.where(known, np.clip(scaled, 0, 1), 1)
    return shown
