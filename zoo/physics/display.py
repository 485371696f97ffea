"""Display colours: conversion of reflectance to the values 1 to 255 of a true-colour image, and cloud detection in it.

Each Sentinel-2 product contains a true-colour image (TCI): red, green and blue (B04, B03, B02) in 8 bits.
"The reflectances are coded between 1 and 255, 0 being reserved for 'No Data'"; 255 stands for a reflectance of 0.3558
in level 1C and of 0.2 in level 2A [S: Sentinel-2 MSI User Guide, Definitions].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.physics.bands import Band

DISPLAY = "display 0..255"
"""Unit of a colour that is scaled for display, as in a TCI or a PNG: 0 is black and 255 is the maximum."""

COLOURS = ("red", "green", "blue")
"""Names of the colours, in RGB order."""

SATURATION = {"2A": 0.2, "1C": 0.3558}
"""Reflectance that a TCI shows as 255, by processing level [S]."""

MIN_CLOUD_VALUE = 190.0
"""Minimum red, green and blue of a cloud [O]. In a level 2A TCI this is a reflectance of 0.15. Blue does not exceed it
in any pixel of the 1,980 Landslide4Sense patches; bare soil and fresh scars are bright only in red."""

MIN_CLOUD_GREYNESS = 0.8
"""Minimum ratio of the darkest to the brightest colour of a cloud [O]: clouds and snow are white, roofs and soil are
not."""

MIN_CLOUD_PIXELS = 1024
"""Minimum pixels of a bright region that counts as a cloud: 10 ha at 10 m. Roofs and quarries are smaller [O]."""

CLOUD_MARGIN = 8
"""Pixels to add around a bright region for the thin edge of a cloud [O]."""


def display_colours(bands: Sequence[Band]) -> list[int] | None:
    """Return the indices of red, green and blue; ``None`` unless all three have the unit :data:`DISPLAY`."""
    found = [number for name in COLOURS for number, band in enumerate(bands) if band.name == name]
    return found if len(found) == 3 and all(bands[one].unit == DISPLAY for one in found) else None


def display_from_reflectance(
    reflectance: NDArray[np.floating], saturation: float = SATURATION["2A"]
) -> NDArray[np.float32]:
    """Return reflectance scaled to the range of a true-colour image: from 1 (black) to 255 (saturated).

    The scale is linear, and values are not rounded [O].

    Args:
        reflectance: dimensionless, any shape, NaN where missing.
        saturation: reflectance that becomes 255.
    """
    share = np.clip(np.asarray(reflectance, np.float32) / np.float32(saturation), 0, 1)
    return np.asarray(1 + 254 * share, np.float32)


def is_bright(colours: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return a mask of bright, white pixels: clouds or snow, which have the same colour.

    Args:
        colours: red, green and blue in :data:`DISPLAY`, (3, ...), NaN where missing.
    """
    darkest = colours.min(axis=0)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = (darkest >= MIN_CLOUD_VALUE) & (darkest >= MIN_CLOUD_GREYNESS * colours.max(axis=0))
    return found


def bright_regions(colours: NDArray[np.floating], step: int = 1) -> tuple[NDArray[np.bool_], float]:
    """Find the large bright white areas of an image: clouds or snow.

    Args:
        colours: red, green and blue in :data:`DISPLAY`, (3, H, W), NaN where missing.
        step: side of each value of ``colours`` in pixels of the full image.

    Returns:
        The regions with an edge of :data:`CLOUD_MARGIN` pixels, bool (H, W), and their share of the pixels with data,
        without the edge.
    """
    numbers, count = ndimage.label(is_bright(colours))
    large = np.bincount(numbers.ravel(), minlength=count + 1) >= max(1, MIN_CLOUD_PIXELS // step**2)
    large[0] = False
    regions: NDArray[np.bool_] = large[numbers]
    if not regions.any():
        return regions, 0.0
    grown = ndimage.binary_dilation(regions, np.ones((3, 3), bool), iterations=max(1, -(-CLOUD_MARGIN // step)))
    return np.asarray(grown, dtype=bool), float(regions.sum() / np.isfinite(colours).all(axis=0).sum())
