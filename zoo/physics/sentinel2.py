"""Sentinel-2 digital numbers to reflectance: the offset that came with processing baseline 04.00."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zoo.errors import ConfigError, DataError
from zoo.physics.arrays import FloatArray, as_float

BOA_ADD_OFFSET = -1000.0
"""Added to the digital number since processing baseline 04.00 (25 January 2022); ESA, Sentinel-2 products
specification [S]."""

QUANTIFICATION = 10000.0
"""Digital numbers per unit of reflectance, in every baseline [S]."""

DARK_QUANTILE = 0.001
"""Share of pixels that counts as the darkest [O]."""

OFFSET_LEFT_IN = 0.09
"""Reflectance of the darkest pixels of every band above which the offset of 0.1 is taken to be in there still: water,
shadow and dense forest are at 0.00-0.03 in at least one band; 0.01 is left for noise [O]."""

NEGATIVE = (-0.02, 0.02)
"""Reflectance below the first number in more than this share of a band's pixels: the offset went twice. Atmospheric
correction alone goes down to about -0.01 over water and shadow [O]."""

Verdict = Literal["plausible", "left in", "removed twice"]


def baseline_offset(baseline: str) -> float:
    """Return what is added to the digital numbers of a processing baseline as ESA distributes it.

    Args:
        baseline: such as "05.09", "04.00", "N0509" or "2.14".

    Returns:
        -1000 since 04.00, before that 0.

    Raises:
        ConfigError: if the text is no baseline.
    """
    found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})|N(\d{2})(\d{2})", baseline.strip())
    if found is None:
        raise ConfigError(
            f"{baseline!r} is no processing baseline",
            hint="It reads like 05.09; a product's name holds it as N0509",
        )
    return BOA_ADD_OFFSET if int(found[1] or found[3]) >= 4 else 0.0


def harmonize(
    numbers: npt.ArrayLike,
    baseline: str | None = None,
    *,
    offset: float | None = None,
    scale: float = 1.0 / QUANTIFICATION,
    nodata: float | None = 0.0,
) -> FloatArray:
    """Return reflectance = (number + offset) * scale, the same for every processing baseline.

    Normalised differences do not cancel an offset. Catalogues disagree whether they have taken it off already
    (microsoft/PlanetaryComputer#134, Element84/earth-search#66): then say ``offset=0``, or ask :func:`guess_offset`.

    Args:
        numbers: digital numbers of one or more bands, any shape; integers are converted before anything is added.
        baseline: processing baseline, which tells the offset (:func:`baseline_offset`).
        offset: added to the numbers, instead of what the baseline says.
        scale: reflectance of one digital number.
        nodata: number that means nothing; None if there is none. Sentinel-2 writes 0.

    Returns:
        dimensionless reflectance, floating point, the shape of ``numbers``; NaN where there is nothing. Dark pixels
        may be slightly negative: clipping them would bias every mean over water and shadow.

    Raises:
        ConfigError: if neither or both of ``baseline`` and ``offset`` are given, or either is not usable.
    """
    if (baseline is None) == (offset is None):
        raise ConfigError("an offset needs one of: the processing baseline, the offset itself")
    if offset is None:
        assert baseline is not None
        offset = baseline_offset(baseline)
    if not math.isfinite(offset) or not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"offset {offset:g} and scale {scale:g}", hint="The scale is a positive number, such as 1e-4")
    values = as_float(numbers)
    reflectance = (values + values.dtype.type(offset)) * values.dtype.type(scale)
    if nodata is not None and not math.isnan(nodata):
        reflectance = np.where(values == values.dtype.type(nodata), values.dtype.type(np.nan), reflectance)
    return np.asarray(reflectance)


@dataclass(frozen=True)
class DarkPixels:
    """What the darkest pixels of a scene say about the offset.

    Attributes:
        verdict: "plausible", "left in" (the offset is still in the numbers) or "removed twice".
        darkest: smallest over the bands of the reflectance that 0.1 % of a band's pixels stay below.
        negative: largest over the bands of the share of pixels below -0.02.
        band: band in which that was seen.
    """

    verdict: Verdict
    darkest: float
    negative: float
    band: str


def dark_pixels(reflectances: Mapping[str, npt.ArrayLike]) -> DarkPixels:
    """Judge by dark pixels whether the offset of Sentinel-2 was removed, once.

    A scene without water, shadow and forest (a desert, a snow field) may look as if the offset were left in.

    Args:
        reflectances: by band; any shapes, NaN where there is nothing.

    Raises:
        DataError: if no band has a pixel.
    """
    dark: dict[str, float] = {}
    negative: dict[str, float] = {}
    for band, values in reflectances.items():
        array = as_float(values)
        array = array[np.isfinite(array)]
        if array.size:
            dark[band] = float(np.quantile(array, DARK_QUANTILE))
            negative[band] = float(np.mean(array < NEGATIVE[0]))
    if not dark:
        raise DataError("no band has a pixel to judge the offset by")
    darkest, worst = min(dark, key=dark.__getitem__), max(negative, key=negative.__getitem__)
    if negative[worst] > NEGATIVE[1]:
        return DarkPixels("removed twice", dark[darkest], negative[worst], worst)
    verdict: Verdict = "left in" if dark[darkest] >= OFFSET_LEFT_IN else "plausible"
    return DarkPixels(verdict, dark[darkest], negative[worst], darkest)


def guess_offset(
    numbers: Mapping[str, npt.ArrayLike], scale: float = 1.0 / QUANTIFICATION, nodata: float | None = 0.0
) -> float:
    """Return the offset that dark pixels speak for where nobody says it: -1000, or 0 when it is off already.

    Args:
        numbers: digital numbers by band, all of one scene.
        scale: reflectance of one digital number.
        nodata: see :func:`harmonize`.

    Raises:
        DataError: if no band has a pixel.
    """
    as_they_are = {band: harmonize(values, offset=0.0, scale=scale, nodata=nodata) for band, values in numbers.items()}
    return BOA_ADD_OFFSET if dark_pixels(as_they_are).verdict == "left in" else 0.0
