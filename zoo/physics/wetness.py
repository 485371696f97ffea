"""Saturated share of the soil under steady rain."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zoo.errors import DataError
from zoo.physics.arrays import FloatArray, as_float

INFILTRATION = 0.7
"""Share of the rain that does not run off at once [O]."""

RESPONSE = 0.7
"""Days of rain after which the soil is at 63 % of its steady wetness [O]."""


def storm_recharge(intensity: float, duration: float) -> float:
    """Return the steady recharge, m/day, that wets the soil as much as a rain that ends [O].

    Steady wetness is the end of a long rain; a short one gets only part of the way: 1 - exp(-D / 0.7 days).

    Args:
        intensity: P, mm/h.
        duration: D, days.

    Raises:
        DataError: if either is negative or not finite.
    """
    for what, value, unit in (("intensity", intensity, "mm/h"), ("duration", duration, "days")):
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"rain {what} of {value:g} {unit}")
    reached = 1.0 - float(np.exp(-duration / RESPONSE))
    return intensity * 24.0 / 1000.0 * INFILTRATION * reached


def steady_wetness(
    recharge: npt.ArrayLike, specific_area: npt.ArrayLike, transmissivity: npt.ArrayLike, slope: npt.ArrayLike
) -> FloatArray:
    """Return m = min(1, R a / (T sin theta)): Montgomery & Dietrich (1994), Water Resources Research 30, 1153 [S].

    Subsurface flow parallel to the slope in balance with steady rain; what the soil cannot carry runs off.

    Args:
        recharge: rain that enters the soil, R, m/day.
        specific_area: upslope area per metre of contour, a, m.
        transmissivity: of the saturated soil, T = Ks z, m2/day.
        slope: theta, degrees. Level ground carries nothing away: m is 1 there, or 0 without recharge.

    Returns:
        dimensionless, [0, 1], the broadcast shape; NaN where an input is NaN.

    Raises:
        DataError: if recharge or area is negative, transmissivity is not positive, or slope is outside [0, 90].
    """
    r, a, t, theta = (as_float(values) for values in (recharge, specific_area, transmissivity, slope))
    if np.any(r < 0) or np.any(a < 0):
        raise DataError("negative recharge or upslope area")
    if np.any(t <= 0):
        raise DataError("transmissivity that is not positive", hint="Soil depth and conductivity must be above 0")
    if np.any(theta < 0) or np.any(theta > 90):
        raise DataError("slope outside 0-90 degrees")
    supply = r * a
    capacity = t * np.sin(np.radians(theta))
    # 0 / 0 (no rain on level ground) is dry; the comparison avoids dividing by a capacity that underflows.
    saturated = supply >= capacity
    share = supply / np.where(saturated, 1.0, capacity)
    wetness = np.where(saturated & (supply > 0), 1.0, np.where(supply > 0, share, 0.0))
    unknown = np.isnan(supply) | np.isnan(capacity)
    return np.asarray(np.where(unknown, np.nan, wetness))
