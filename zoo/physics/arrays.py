"""Conversion of the equations' input to floating point."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


def as_float(values: npt.ArrayLike) -> FloatArray:
    """Return ``values`` as floating point: float16 to float64 keep their precision, other types become float64.

    Equations must not run on integers: a subtraction of uint16 digital numbers wraps around.
    """
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float64)
    return array
