"""Cutting images of any size into patches of one size, so that each pixel counts exactly once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """One patch along one axis of an image.

    Attributes:
        start: first pixel of the image that the patch shows; negative where the patch begins in the padding.
        first: first pixel of the image that counts in this patch.
        stop: pixel after the last that counts.
    """

    start: int
    first: int
    stop: int


def spans(length: int, size: int) -> tuple[Span, ...]:
    """Cut one axis.

    An axis that is not longer than a patch gives one, with the image in its middle. A longer one gives as few patches
    as cover it, evenly spaced and all inside the image; where two overlap, each counts up to the middle of the overlap,
    and shows the rest as surroundings.

    Args:
        length: of the axis in pixels, at least 1.
        size: of a patch in pixels, at least 1.

    Returns:
        The patches in order; their parts that count are disjoint and cover the axis.
    """
    if length <= size:
        return (Span(-((size - length) // 2), 0, length),)
    count = math.ceil(length / size)
    starts = [index * (length - size) // (count - 1) for index in range(count)]
    borders = [0, *((left + size + right) // 2 for left, right in pairwise(starts)), length]
    return tuple(Span(start, borders[index], borders[index + 1]) for index, start in enumerate(starts))


def cut(values: NDArray[Any], row: Span, col: Span, size: int, fill: float, *, counting: bool) -> NDArray[Any]:
    """Cut one patch.

    Args:
        values: (..., H, W).
        row: along H.
        col: along W.
        size: of the patch.
        fill: what the padding holds.
        counting: also fill what the patch shows and does not count.

    Returns:
        (..., size, size), dtype of ``values``.
    """
    patch = np.full((*values.shape[:-2], size, size), fill, dtype=values.dtype)
    height, width = values.shape[-2:]
    top, bottom = (row.first, row.stop) if counting else (max(row.start, 0), min(row.start + size, height))
    left, right = (col.first, col.stop) if counting else (max(col.start, 0), min(col.start + size, width))
    inside = (slice(top - row.start, bottom - row.start), slice(left - col.start, right - col.start))
    patch[(..., *inside)] = values[..., top:bottom, left:right]
    return patch
