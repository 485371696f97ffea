"""Radar speckle: the equivalent number of looks, and a filter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import ConfigError

WINDOW_SIDE = 7
"""Side of the square window whose mean and variance the filter uses, in pixels [O]."""

Power = NDArray[np.floating[Any]]


def local_looks(power: Power, side: int = WINDOW_SIDE) -> NDArray[np.float64]:
    """Return mean^2 / variance of the square around each pixel.

    On uniform ground this is the equivalent number of looks. Elsewhere it is smaller, because the ground also varies.

    Args:
        power: backscatter on a linear scale, (H, W), NaN where unknown.
        side: side of the square, odd.

    Returns:
        (H, W), NaN where unknown, infinite where the variance is 0.
    """
    mean, variance = _moments(power, side)
    with np.errstate(divide="ignore"):
        return mean**2 / variance


def filter_speckle(power: Power, looks: float, side: int = WINDOW_SIDE) -> NDArray[np.float32]:
    """Reduce speckle in backscatter with the local linear filter of Lee (1980) for multiplicative noise.

    Each pixel becomes m + b (z - m), where m is the mean of the square around it. b is the share of the square's
    variance that is not speckle: 0 on uniform ground, nearly 1 at edges and bright points. Lee (1980, IEEE
    Transactions on Pattern Analysis and Machine Intelligence 2, 165-168), with the exact variance of Kuan et al. (1985,
    ibid. 7, 165-177) [S]. Squares at the edge of the image or with unknown pixels use the pixels that are known.

    Args:
        power: backscatter on a linear scale, (H, W), NaN where unknown.
        looks: equivalent number of looks: mean^2 / variance on uniform ground.
        side: side of the square, odd.

    Returns:
        (H, W), NaN where unknown.

    Raises:
        ConfigError: if ``looks`` is not a positive number.
    """
    if not 0 < looks < math.inf:
        raise ConfigError(f"{looks:g} equivalent looks", hint="Give a positive number, such as 4.4")
    mean, variance = _moments(power, side)
    speckle = 1 / looks
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (variance - mean**2 * speckle) / ((1 + speckle) * variance)
    share = np.where(variance > 0, np.clip(share, 0, 1), 0)
    return np.asarray(mean + share * (power - mean), dtype=np.float32)


def _moments(power: Power, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the known pixels in the square around each known pixel; NaN around others."""
    known = np.isfinite(power)
    values = np.where(known, power, 0).astype(np.float64)
    share, total, squares = (
        ndimage.uniform_filter(image, side, mode="constant") for image in (known.astype(np.float64), values, values**2)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, square = total / share, squares / share
    mean[~known] = np.nan
    return mean, np.maximum(square - mean**2, 0)
