"""Conversion of Sentinel-2 digital numbers to reflectance, with the offset of processing baseline 04.00."""

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
"""Offset to add to digital numbers since processing baseline 04.00 (25 January 2022); ESA, Sentinel-2 products
specification [S]."""

QUANTIFICATION = 10000.0
"""Digital numbers per unit of reflectance, in every baseline [S]."""

DARK_QUANTILE = 0.001
"""Share of the darkest pixels [O]."""

OFFSET_LEFT_IN = 0.09
"""If the darkest pixels of every band exceed this reflectance, the offset of 0.1 was not removed [O]. Water, shadow and
dense forest have 0.00-0.03 in at least one band; the margin for noise is 0.01."""

NEGATIVE = (-0.02, 0.02)
"""A reflectance and a share of a band's pixels. If more pixels are darker, the offset was removed twice [O].
Atmospheric correction by itself gives about -0.01 over water and shadow."""

Verdict = Literal["plausible", "left in", "removed twice"]


def baseline_offset(baseline: str) -> float:
    """Return the offset of the digital numbers of a processing baseline, as ESA distributes them.

    Args:
        baseline: such as "05.09", "04.00", "N0509" or "2.14".

    Returns:
        -1000 since 04.00, and 0 before.

    Raises:
        ConfigError: if the text is not a baseline.
    """
    found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})|N(\d{2})(\d{2})", baseline.strip())
    if found is None:
        raise ConfigError(
            f"{baseline!r} is not a processing baseline", hint="Write it as 05.09; product names contain it as N0509"
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

    An offset does not cancel in a normalised difference. Some catalogues have already removed it
    (microsoft/PlanetaryComputer#134, Element84/earth-search#66): then pass ``offset=0``, or use :func:`guess_offset`.

    Args:
        numbers: digital numbers of one or more bands, any shape; integers are converted before anything is added.
        baseline: processing baseline, which determines the offset (:func:`baseline_offset`).
        offset: offset to add to the numbers, instead of that of a baseline.
        scale: reflectance per digital number.
        nodata: value that marks missing pixels; None if there is none. Sentinel-2 writes 0.

    Returns:
        dimensionless reflectance, floating point, the shape of ``numbers``; NaN where pixels are missing. Dark
        pixels may be slightly negative; clipping them would bias means over water and shadow.

    Raises:
        ConfigError: if neither or both of ``baseline`` and ``offset`` are given, or one is not valid.
    """
    if (baseline is None) == (offset is None):
        raise ConfigError("give either the processing baseline or the offset")
    if offset is None:
        assert baseline is not None
        offset = baseline_offset(baseline)
    if not math.isfinite(offset) or not (math.isfinite(scale) and scale > 0):
        raise ConfigError(
            f"the offset is {offset:g} and the scale {scale:g}", hint="Give a positive scale, such as 1e-4"
        )
    values = as_float(numbers)
    reflectance = (values + values.dtype.type(offset)) * values.dtype.type(scale)
    if nodata is not None and not math.isnan(nodata):
        reflectance = np.where(values == values.dtype.type(nodata), values.dtype.type(np.nan), reflectance)
    return np.asarray(reflectance)


@dataclass(frozen=True)
class DarkPixels:
    """Verdict on the offset from the darkest pixels of a scene.

    Attributes:
        verdict: "plausible", "left in" (the offset was not removed) or "removed twice".
        darkest: the 0.1th percentile of reflectance in the band where it is smallest.
        negative: the share of pixels below -0.02 in the band where it is largest.
        band: the band that decided the verdict.
    """

    verdict: Verdict
    darkest: float
    negative: float
    band: str


def dark_pixels(reflectances: Mapping[str, npt.ArrayLike]) -> DarkPixels:
    """Judge from the dark pixels whether the Sentinel-2 offset was removed exactly once.

    For a scene without water, shadow and forest (a desert, a snow field) the verdict may wrongly be "left in".

    Args:
        reflectances: reflectance by band; any shapes, NaN where pixels are missing.

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
        raise DataError("no band has a valid pixel, which the check of the offset needs")
    darkest, worst = min(dark, key=dark.__getitem__), max(negative, key=negative.__getitem__)
    if negative[worst] > NEGATIVE[1]:
        return DarkPixels("removed twice", dark[darkest], negative[worst], worst)
    verdict: Verdict = "left in" if dark[darkest] >= OFFSET_LEFT_IN else "plausible"
    return DarkPixels(verdict, dark[darkest], negative[worst], darkest)


def guess_offset(
    numbers: Mapping[str, npt.ArrayLike], scale: float = 1.0 / QUANTIFICATION, nodata: float | None = 0.0
) -> float:
    """Return the offset that the dark pixels indicate: -1000, or 0 if it was removed already.

    Args:
        numbers: digital numbers by band, all of one scene.
        scale: reflectance per digital number.
        nodata: see :func:`harmonize`.

    Raises:
        DataError: if no band has a pixel.
    """
    as_they_are = {band: harmonize(values, offset=0.0, scale=scale, nodata=nodata) for band, values in numbers.items()}
    return BOA_ADD_OFFSET if dark_pixels(as_they_are).verdict == "left in" else 0.0
