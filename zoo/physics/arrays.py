"""What the equations accept: any real array or number, turned into floating point before anything is computed."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


def as_float(values: npt.ArrayLike) -> FloatArray:
    """Return ``values`` as floating point; float16 to float64 keep their precision, all else becomes float64.

    Integers must not reach an equation as they are: uint16 digital numbers wrap around when subtracted.
    """
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float64)
    return array
