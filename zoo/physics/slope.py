"""Slope and hillshade of an elevation grid."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from zoo.errors import ConfigError, DataError
from zoo.physics.arrays import FloatArray, as_float

Edges = Literal["extrapolate", "nan"]


def horn_gradient(
    dem: npt.ArrayLike, cell_size: float | tuple[float, float], edges: Edges = "extrapolate"
) -> tuple[FloatArray, FloatArray]:
    """Return the gradient downwards (along columns) and to the right (along rows) by Horn (1981) [S].

    Each is a central difference over a 3x3 window with 1-2-1 smoothing across. GDAL, ArcGIS and xarray-spatial use the
    same method.

    Args:
        dem: elevation in metres, (rows, columns), at least 2x2.
        cell_size: metres between cell centres, one number or (between rows, between columns). Degrees of longitude
            and latitude are wrong: they give slopes near 87 degrees everywhere.
        edges: "extrapolate" continues the surface linearly beyond the grid, so that a plane has its true slope up
            to the edge and no pixel is lost [O]; "nan" makes the outer ring NaN, as xarray-spatial and GDAL do.

    Returns:
        (d/d row, d/d column), each dimensionless (m/m), shape and precision of ``dem``; NaN where any of the nine
        cells is NaN.

    Raises:
        DataError: if ``dem`` is not two-dimensional or has fewer than two rows or columns.
        ConfigError: if a cell size is not a positive number, or ``edges`` is unknown.
    """
    z = as_float(dem)
    if z.ndim != 2 or min(z.shape) < 2:
        raise DataError(f"the elevation has the shape {z.shape}", hint="A slope needs a grid of at least 2x2 cells")
    pair = cell_size if isinstance(cell_size, tuple) else (cell_size, cell_size)
    if not all(math.isfinite(size) and size > 0 for size in pair):
        raise ConfigError(f"the cell size is {cell_size}, not a positive number of metres")
    if edges not in ("extrapolate", "nan"):
        raise ConfigError(f"edges cannot be {edges!r}", hint="Use 'extrapolate' or 'nan'")
    height, width = pair
    padded = _extend(z)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    along = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    by_row = (across[2:] - across[:-2]) / (8 * height)
    by_column = (along[:, 2:] - along[:, :-2]) / (8 * width)
    if edges == "nan":
        for gradient in (by_row, by_column):
            gradient[[0, -1], :] = np.nan
            gradient[:, [0, -1]] = np.nan
    # Horn's window gives the centre cell no weight, but a cell without elevation must have no slope.
    unknown = np.isnan(z)
    by_row[unknown] = np.nan
    by_column[unknown] = np.nan
    return by_row, by_column


def slope_degrees(
    dem: npt.ArrayLike, cell_size: float | tuple[float, float], edges: Edges = "extrapolate"
) -> FloatArray:
    """Return the steepest slope in degrees, [0, 90), by Horn (1981).

    Arguments and errors are those of :func:`horn_gradient`; the result is float32 in the shape of ``dem``.
    """
    by_row, by_column = horn_gradient(dem, cell_size, edges)
    return np.degrees(np.arctan(np.hypot(by_row, by_column)))


def hillshade(dem: npt.ArrayLike, cell_size: float | tuple[float, float]) -> FloatArray:
    """Return the hillshade of an elevation grid, lit from the north-west at 45 degrees.

    Arguments and errors are those of :func:`horn_gradient`. The result is in [0, 1], 0.71 on flat ground, NaN where
    the gradient is NaN, and has the shape and precision of ``dem``. The rows of ``dem`` must go from north to south.
    """
    down, right = horn_gradient(dem, cell_size)
    # The surface normal is (-right, +down, 1) with y to the north; the light comes from (-1, 1, sqrt 2) / 2.
    light = (right + down + math.sqrt(2)) / (2 * np.sqrt(1 + down**2 + right**2))
    return np.asarray(np.clip(light, 0, 1), dtype=down.dtype)


def _extend(z: FloatArray) -> FloatArray:
    padded = np.pad(z, 1, mode="edge")
    padded[0] = 2 * padded[1] - padded[2]
    padded[-1] = 2 * padded[-2] - padded[-3]
    padded[:, 0] = 2 * padded[:, 1] - padded[:, 2]
    padded[:, -1] = 2 * padded[:, -2] - padded[:, -3]
    return padded
