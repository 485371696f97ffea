"""Landslides recognised by their outline: the same one in two splits is the same place, whatever the image shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALLEST = 60
"""Pixels below which an outline is too common to name a landslide [O]."""

CORNERS = 30
"""Corners below which an outline is too plain to name a landslide: rectangles have 4 [O]."""

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Outline:
    """One landslide that lies whole inside its patch.

    Attributes:
        key: digest of its shape; the same after a shift, a turn by 90 degrees or a reflection.
        pixels: its size.
    """

    key: bytes
    pixels: int


def find_outlines(landslide: NDArray[np.bool_]) -> Iterator[Outline]:
    """Give the landslides of a mask that can be recognised: whole, of 60 pixels and 30 corners or more.

    Two landslides of that size and shape do not agree in every pixel by chance; small squares and drawn discs do.

    Args:
        landslide: bool (H, W); landslides are 8-connected.
    """
    labels, count = ndimage.label(landslide, structure=_EIGHT)
    if not count:
        return
    height, width = landslide.shape
    sizes = np.bincount(labels.ravel())
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        touches = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        if touches or sizes[number] < SMALLEST:
            continue
        shape = labels[place] == number
        if corners(shape) >= CORNERS:
            yield Outline(_key(shape), int(sizes[number]))


def corners(shape: NDArray[np.bool_]) -> int:
    """Count the corners of the outline of a shape: places where one or three of the four pixels around are inside.

    Args:
        shape: bool (H, W).

    Returns:
        The number of corners, those of holes included; two where pixels touch by their corners alone.
    """
    padded = np.pad(shape, 1).astype(np.int8)
    around = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    crossed = (around == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    return int(((around == 1) | (around == 3)).sum() + 2 * crossed.sum())


def _key(shape: NDArray[np.bool_]) -> bytes:
    return min(
        hashlib.blake2b(repr(turned.shape).encode() + np.packbits(turned).tobytes(), digest_size=16).digest()
        for turned in turns(shape)
    )


def turns(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Give an image (H, W) turned by 0, 90, 180 and 270 degrees, then the same of its reflection left to right."""
    for start in (image, image[:, ::-1]):
        for quarter in range(4):
            yield np.rot90(start, quarter)
