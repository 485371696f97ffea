"""Stability of a shallow soil on a long slope."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zoo.errors import DataError
from zoo.physics.arrays import FloatArray, as_float

SOIL_UNIT_WEIGHT = 18.0
"""Unit weight of moist soil, kN/m3 [O, risk.md]."""

WATER_UNIT_WEIGHT = 9.81
"""Unit weight of water, kN/m3."""


def factor_of_safety(
    slope: npt.ArrayLike,
    wetness: npt.ArrayLike,
    cohesion: npt.ArrayLike,
    friction_angle: npt.ArrayLike,
    depth: npt.ArrayLike,
    soil_unit_weight: float = SOIL_UNIT_WEIGHT,
    water_unit_weight: float = WATER_UNIT_WEIGHT,
) -> FloatArray:
    """Return the factor of safety of an infinite slope with seepage parallel to the surface [S].

    FS = [c + (g - m gw) z cos^2(theta) tan(phi)] / (g z sin(theta) cos(theta)); Skempton & DeLory (1957), as in
    Montgomery & Dietrich (1994) with cohesion. Below 1 the slope cannot stand.

    Args:
        slope: theta, degrees, [0, 90).
        wetness: saturated share of the soil, m, [0, 1].
        cohesion: of soil and roots together, c, kPa.
        friction_angle: phi, degrees, [0, 90).
        depth: vertical soil depth z, m, above 0.
        soil_unit_weight: g, kN/m3.
        water_unit_weight: gw, kN/m3.

    Returns:
        dimensionless, the broadcast shape; infinite on level ground, NaN where an input is NaN.

    Raises:
        DataError: if an argument is outside the range above, or a unit weight is not positive.
    """
    theta, m, c, phi, z = (as_float(values) for values in (slope, wetness, cohesion, friction_angle, depth))
    if np.any(theta < 0) or np.any(theta >= 90) or np.any(phi < 0) or np.any(phi >= 90):
        raise DataError("slope or friction angle outside 0-90 degrees")
    if np.any(m < 0) or np.any(m > 1):
        raise DataError("wetness outside 0-1")
    if np.any(c < 0) or np.any(z <= 0):
        raise DataError("negative cohesion, or soil depth that is not positive")
    if not (soil_unit_weight > 0 and water_unit_weight > 0):
        raise DataError("unit weight that is not positive")
    sine, cosine = np.sin(np.radians(theta)), np.cos(np.radians(theta))
    resisting = c + (soil_unit_weight - m * water_unit_weight) * z * cosine**2 * np.tan(np.radians(phi))
    driving = soil_unit_weight * z * sine * cosine
    level = driving == 0
    safety = np.where(level, np.inf, resisting / np.where(level, 1.0, driving))
    return np.asarray(np.where(np.isnan(resisting), np.nan, safety))
