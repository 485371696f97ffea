"""Normalised differences of two reflectances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zoo.errors import DataError
from zoo.physics.arrays import FloatArray, as_float


def normalized_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Return (a - b) / (a + b), and NaN where that means nothing.

    A normalised difference is a statement about two amounts of light. Where they add up to zero or less (nodata
    written as 0, or noise around a dark target after an offset was taken off) the quotient is a random number of
    any size, so it is NaN here [O]. One negative reflectance with a positive sum is kept: the result is then
    outside [-1, 1], which the valid range of the band catches.

    Args:
        a: reflectances or radiances, any shape; integers are converted before they are subtracted.
        b: the same quantity in another band, of a shape that broadcasts with ``a``.

    Returns:
        dimensionless, floating point (float32 stays float32), the broadcast shape. NaN where either input is NaN.

    Raises:
        DataError: if the shapes do not broadcast.
    """
    left, right = as_float(a), as_float(b)
    try:
        total = left + right
    except ValueError:
        raise DataError(
            f"bands of shapes {left.shape} and {right.shape} do not lie on one grid",
            hint="Resample one of them to the other first",
        ) from None
    safe = np.where(total > 0, total, np.nan)
    return np.asarray((left - right) / safe, dtype=total.dtype)


def ndvi(nir: npt.ArrayLike, red: npt.ArrayLike) -> FloatArray:
    """Return the vegetation index (NIR - Red) / (NIR + Red), equation 3 [P]; Rouse et al. 1974.

    Sentinel-2: B08, B04. Arguments, result and errors as :func:`normalized_difference`.
    """
    return normalized_difference(nir, red)


def ndwi(green: npt.ArrayLike, nir: npt.ArrayLike) -> FloatArray:
    """Return the open-water index (Green - NIR) / (Green + NIR), equation 2 [P]; McFeeters 1996.

    Sentinel-2: B03, B08. Not Gao's index of the same name, which holds SWIR. It shares NIR with NDVI and is
    close to its negative over land.
    """
    return normalized_difference(green, nir)


def ndbi(swir: npt.ArrayLike, nir: npt.ArrayLike) -> FloatArray:
    """Return the built-up index (SWIR - NIR) / (SWIR + NIR), equation 1 [P]; Zha et al. 2003.

    Sentinel-2: B11 (20 m, resampled), B08.
    """
    return normalized_difference(swir, nir)
