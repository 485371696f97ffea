"""Conversion of the equations' input to floating point."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


def as_float(values: npt.ArrayLike) -> FloatArray:
    """Return ``values`` as floating point: float16 to float64 keep their precision, other types become float64.

    Integers must be converted before an equation uses them, because uint16 digital numbers wrap around in a
    subtraction.
    """
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float64)
    return array
