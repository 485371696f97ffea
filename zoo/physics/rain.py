"""Rainfall factor of the risk index."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from zoo.errors import ConfigError, DataError
from zoo.physics.arrays import FloatArray, as_float


@dataclass(frozen=True)
class RainParameters:
    """Reference rain and exponents of equation 5.

    The factor is 1 on the curve P = P0 (D / D0)^(-beta / alpha), an intensity-duration threshold of landslides.

    Args:
        intensity: reference intensity P0, mm/h.
        duration: reference duration D0, days.
        alpha: exponent of the intensity.
        beta: exponent of the duration.

    Raises:
        ConfigError: if a reference is not positive or an exponent is negative.
    """

    intensity: float
    duration: float = 1.0
    alpha: float = 1.2
    beta: float = 0.8

    def __post_init__(self) -> None:
        for name in ("intensity", "duration"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"the reference {name} is {value}, not a positive number")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}, not a number of at least 0")


def threshold_intensity(scale: float, exponent: float, days: float = 1.0) -> float:
    """Return the threshold ``scale * hours^-exponent`` in mm/h for a duration in days.

    Caine (1980): 14.82 * 24^-0.39 = 4.29 mm/h for one day.
    """
    return float(scale * (24.0 * days) ** -exponent)


CAINE_1980 = (14.82, 0.39)
"""Scale (mm/h) and exponent of I = 14.82 D^-0.39, D in hours; Caine (1980), Geografiska Annaler 62A, 23-27 [S]."""

GUZZETTI_2008 = (2.20, 0.44)
"""I = 2.20 D^-0.44, D in hours; global threshold of Guzzetti et al. (2008), Landslides 5, 3-17 [S]."""

_ALPHA = 1.2


def threshold_rain(scale: float, exponent: float, mean_annual: float | None = None) -> RainParameters:
    """Return the reference rain whose factor is 1 on a threshold I = ``scale`` * D^-``exponent``, with D in hours.

    Args:
        scale: scale of the threshold in mm/h. For a threshold that is normalised by the mean annual rain (MAP), to
            apply in other climates: the share of the mean annual rain that falls in an hour.
        exponent: exponent of the threshold, above 0.
        mean_annual: mean annual rain of the region in mm, for a normalised threshold; None for a threshold in mm/h.

    Raises:
        ConfigError: if a number is not positive and finite.
    """
    for what, value in (("scale", scale), ("exponent", exponent), ("mean annual rain", mean_annual)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"the {what} of a rain threshold is {value:g}, not a positive number")
    hourly = scale * (1.0 if mean_annual is None else mean_annual)
    return RainParameters(threshold_intensity(hourly, exponent), alpha=_ALPHA, beta=_ALPHA * exponent)


RAIN_PRESETS: Mapping[str, RainParameters] = MappingProxyType(
    {
        "paper": RainParameters(threshold_intensity(*CAINE_1980), alpha=_ALPHA, beta=0.8),
        "caine": threshold_rain(*CAINE_1980),
        "guzzetti-global": threshold_rain(*GUZZETTI_2008),
    }
)
"""Named parameters.

"paper": alpha 1.2 and beta 0.8 of Table 1 [P]. The paper gives no P0 and D0; they are Caine's threshold at one day
[O]. "caine" and "guzzetti-global": the paper's alpha, and the beta for which the factor is 1 on that threshold.
"""


def rainfall_factor(
    intensity: npt.ArrayLike,
    duration: npt.ArrayLike,
    parameters: RainParameters | str = "paper",
    clip: tuple[float, float] | None = None,
) -> FloatArray:
    """Return R_m = (P / P0)^alpha (D / D0)^beta, equation 5 [P].

    Args:
        intensity: rain intensity P in mm/h, any shape; NaN stays NaN.
        duration: rain duration D in days, broadcastable with ``intensity``.
        parameters: reference rain and exponents, or the name of one of :data:`RAIN_PRESETS`.
        clip: smallest and largest factor to return; None for no bounds. 20 mm/h over 3 days give 15, which
            saturates the sigmoid of equation 4.

    Returns:
        dimensionless, >= 0, 1 at the reference rain.

    Raises:
        DataError: if any intensity or duration is negative or infinite, or the shapes do not broadcast.
        ConfigError: if the preset is unknown, or ``clip`` is not 0 <= low <= high.
    """
    if isinstance(parameters, str):
        if parameters not in RAIN_PRESETS:
            raise ConfigError(f"unknown rain preset {parameters!r}", hint=f"Choose one of {', '.join(RAIN_PRESETS)}")
        parameters = RAIN_PRESETS[parameters]
    p, d = as_float(intensity), as_float(duration)
    _check(p, "rain intensity", "mm/h")
    _check(d, "rain duration", "days")
    try:
        factor = (p / parameters.intensity) ** parameters.alpha * (d / parameters.duration) ** parameters.beta
    except ValueError:
        raise DataError(f"rain intensity of shape {p.shape} and duration of shape {d.shape} do not broadcast") from None
    if clip is not None:
        low, high = clip
        if not 0 <= low <= high:
            raise ConfigError(f"the clip of the rainfall factor is {clip}", hint="Give 0 <= low <= high")
        factor = np.clip(factor, low, high)
    return np.asarray(factor)


RECORD_DEPTH = (422.0, 0.475)
"""Largest rain depth ever measured, 422 D^0.475 mm, D in hours; envelope of Jennings (1950), Monthly Weather Review 78,
4-5 [S]."""

MAX_DAYS = 31.0
"""Longest plausible duration of a rain event [O]; 48 is more likely to be hours."""

MIN_INTENSITY = 0.01
"""Lower bound of the largest intensity, mm/h [O]: a quarter of a millimetre per day triggers no landslide."""


TO_MM_PER_HOUR: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("mm/h", "mm h-1", "mm/hr", "mm/hour", "mm h**-1", "mm hr-1"), 1.0),
        **dict.fromkeys(("mm/day", "mm/d", "mm d-1", "mm day-1", "mm d**-1"), 1 / 24),
        **dict.fromkeys(("m/h", "m h-1", "m h**-1"), 1000.0),
        **dict.fromkeys(
            ("kg m-2 s-1", "kg/m2/s", "kg m**-2 s**-1", "kg m^-2 s^-1", "mm/s", "mm s-1", "mm s**-1"), 3600.0
        ),
        **dict.fromkeys(("m/s", "m s-1", "m s**-1"), 3_600_000.0),
    }
)
"""Factor to mm/h by unit of rain intensity, in lower case."""

TO_MM: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("mm", "kg m-2", "kg m**-2", "kg/m2", "kg m^-2", "millimeter", "millimeters"), 1.0),
        **dict.fromkeys(("m", "m of water equivalent", "metres", "meters"), 1000.0),
    }
)
"""Factor to mm by unit of rain depth, in lower case."""


_HOURS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 60),
        **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1.0),
        **dict.fromkeys(("d", "day", "days"), 24.0),
    }
)
"""Factor to hours by unit of duration, in lower case."""

_HEADING_UNITS = ("in", "inch", "inches", "in/h", "in/hr", "in/hour", "cm", "cm/h", "m/day")
"""Units of rain that occur in column headings but not in raster files."""

_BRACKETS = re.compile(r"[\[(]\s*(.+?)\s*[\])]\s*$")


def check_rain_names(intensity: str, duration: str, where: object = None) -> None:
    """Reject columns whose names state units other than mm/h and days, or that are swapped.

    Args:
        intensity: name of the column of P, such as "P" or "P (mm/h)".
        duration: name of the column of D, such as "D" or "duration_days".
        where: file or option, for messages.

    Raises:
        DataError: if a name states another unit.
    """
    p, d = _stated_units(intensity), _stated_units(duration)
    if set(p) & {*_HOURS, "duration", "dur"} or set(d) & {*TO_MM_PER_HOUR, *TO_MM, *_HEADING_UNITS, "intensity"}:
        raise DataError(
            f"{intensity!r} is to be the intensity, and {duration!r} the duration, which their names contradict",
            where=where,
            hint="Name the columns as P,D: intensity in mm/h, then duration in days",
        )
    hours = next((_HOURS[one] for one in d if one in _HOURS), 24.0)
    if hours != 24:
        raise DataError(
            f"{duration!r} is not in days, by its name",
            where=where,
            hint=f"Divide its values by {24 / hours:g}, and name it without a unit or in days",
        )
    wrong = next((one for one in p if TO_MM_PER_HOUR.get(one, 1.0) != 1 or one in TO_MM or one in _HEADING_UNITS), None)
    if wrong is not None:
        raise DataError(
            f"{intensity!r} is in {wrong}, not in mm/h, by its name",
            where=where,
            hint="Give the mean intensity in mm/h: the depth of the event in mm divided by its hours",
        )


def _stated_units(name: str) -> list[str]:
    """Return the parts of a column name that may be a unit, the likeliest first, in lower case."""
    name = name.strip().lower()
    found = _BRACKETS.search(name)
    if found:
        return [found[1]]
    tokens = re.split(r"[\s_]+", name)
    joined = "/".join(tokens[-2:])
    if joined in TO_MM_PER_HOUR or joined in _HEADING_UNITS:
        return [joined]
    return (
        tokens
        if len(tokens) == 1
        else [" ".join(tokens[1:]), *(set(tokens) & {"duration", "dur", "intensity"}), tokens[-1]]
    )


def check_rain(intensity: npt.ArrayLike, duration: npt.ArrayLike, where: object = None) -> None:
    """Reject rain above the measured records; the hint names the unit that it is probably in.

    Args:
        intensity: P in mm/h, any shape; NaN is ignored.
        duration: D in days, broadcastable with ``intensity``.
        where: file, columns or option, for messages.

    Raises:
        DataError: if rain is negative, infinite, longer than :data:`MAX_DAYS`, above the records of
            :data:`RECORD_DEPTH`, or not all zero but nowhere above :data:`MIN_INTENSITY`.
    """
    p, d = as_float(intensity), as_float(duration)
    try:
        _check(p, "rain intensity", "mm/h")
        _check(d, "rain duration", "days")
    except DataError as error:
        raise DataError(error.problem, where=where, hint=error.hint) from None
    if (p.ndim == 0 and np.isnan(p)) or (d.ndim == 0 and np.isnan(d)):
        raise DataError(f"rain of {p} mm/h over {d} days", where=where, hint="Give numbers, such as 12 mm/h and 2 days")
    p, d = np.broadcast_arrays(p, d)
    known = np.isfinite(p) & np.isfinite(d)
    p, d = p[known], d[known]
    if d.size and d.max() > MAX_DAYS:
        raise DataError(
            f"rain of {d.max():g} days is longer than {MAX_DAYS:g} days",
            where=where,
            hint=f"Is the duration in hours? {d.max():g} hours are {d.max() / 24:.3g} days",
        )
    if not p.size:
        return
    if 0 < p.max() < MIN_INTENSITY:
        raise DataError(
            f"the largest rain intensity is {p.max():.3g} mm/h, too little for any landslide",
            where=where,
            hint="The unit is mm/h. Multiply metres per hour by 1000, and kg m-2 s-1 by 3600",
        )
    depth, record = 24 * p * d, RECORD_DEPTH[0] * (24 * d) ** RECORD_DEPTH[1]
    if np.any(depth > record):
        worst = int(np.argmax(depth - record))
        raise DataError(
            f"{p[worst]:.4g} mm/h over {d[worst]:.3g} days are {depth[worst]:,.0f} mm, more than was ever measured "
            f"({record[worst]:,.0f} mm)",
            where=where,
            hint=f"The unit is mm/h. Is it mm/day ({p[worst] / 24:.3g} mm/h) or the depth in mm "
            f"({p[worst] / (24 * d[worst]):.3g} mm/h)?",
        )


def _check(values: FloatArray, what: str, unit: str) -> None:
    if np.any(values < 0) or np.any(np.isinf(values)):
        worst = float(np.nanmin(values)) if np.any(values < 0) else math.inf
        hint = "Mark missing rain as NaN" if values.ndim else "Give a finite number of at least 0"
        raise DataError(f"the {what} is {worst:g} {unit}", hint=hint)
