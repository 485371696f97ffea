"""Check that the values of the bands of a stack match their units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics import FeatureRange
from zoo.physics.bands import PAPER_CHANNELS
from zoo.rasters.stacks import Stack

MAX_OUTSIDE_SHARE = 0.005
"""Maximum share of pixels outside the possible values [O]: a few are noise, more indicate another unit."""

MIN_VOID_GAP = 50.0
"""Minimum gap in metres between 0 and the lowest other elevation at which 0 means missing [O]; a coast has values in
between."""

MAX_BEYOND_SHARE = 0.5
"""Share of values outside the range of the weights above which the index is doubtful [O]; it is 0.01 in the region
of the weights."""

_PLACES, _SIDE = 37, 256
"""Number of windows to check in a stack, and their side in pixels."""

_HINTS = MappingProxyType(
    {
        "slope": "Is it in percent? degrees = arctan(percent / 100)",
        "DEM": "Is it in feet or decimetres? Convert it to metres",
    }
)


def check_values(stack: Stack, names: Iterable[str]) -> None:
    """Check that band values are possible in the unit of their channel; reject, for example, a slope in percent.

    Values are read in windows spread over the stack, which is enough to recognise a wrong unit.

    Args:
        stack: an open stack.
        names: bands in use; only channels of the paper are checked.

    Raises:
        DataError: if more than :data:`MAX_OUTSIDE_SHARE` of the values of a band are impossible, a slope without a unit
            looks like radians, or elevations of 0 mean missing.
    """
    channels = {band.name: band for band in PAPER_CHANNELS}
    positions = {band.name: number for number, band in enumerate(stack.bands)}
    wanted = [name for name in names if name in channels and name in positions]
    if not wanted:
        return
    values = _spread_values(stack, [positions[name] for name in wanted])
    for name, row in zip(wanted, values, strict=True):
        channel, known = channels[name], row[np.isfinite(row)]
        if not known.size or channel.valid_min is None or channel.valid_max is None:
            continue
        spare = 0.01 * (channel.valid_max - channel.valid_min)
        outside = np.mean((known < channel.valid_min - spare) | (known > channel.valid_max + spare))
        span = f"{name} holds values from {known.min():.4g} to {known.max():.4g}"
        if outside > MAX_OUTSIDE_SHARE:
            unit = "" if channel.unit == "1" else f" {channel.unit}"
            raise DataError(
                f"{span}; {outside:.1%} of them are outside {channel.valid_min:g} to {channel.valid_max:g}{unit}",
                where=stack.path,
                hint=_HINTS.get(name, "Is it scaled to integers? Divide it by its scale, or set the scale in the file"),
            )
        if (
            name == "DEM"
            and (known == 0).any()
            and (known > MIN_VOID_GAP).any()
            and known[known != 0].min() > MIN_VOID_GAP
        ):
            raise DataError(
                f"DEM is 0 in {np.mean(known == 0):.1%} of the pixels, and {known[known != 0].min():.4g} m or more in "
                "the others, so 0 means missing",
                where=stack.path,
                hint="Set 0 as nodata of the elevation (gdal_translate -a_nodata 0), and make the stack again",
            )
        stated = stack.bands[positions[name]].unit != "unknown"
        if name == "slope" and not stated and 0 < known.max() <= math.pi / 2:
            raise DataError(
                f"{span} and states no unit, so it may be in radians",
                where=stack.path,
                hint="Convert it to degrees; if it is in degrees, set the unit of the band to degree",
            )


def beyond_ranges(stack: Stack, ranges: Mapping[str, FeatureRange]) -> list[str]:
    """Return a sentence about each band whose values are mostly outside the range of the weights.

    Args:
        stack: an open stack.
        ranges: range by band name; the stack has all of these bands.
    """
    positions = {band.name: number for number, band in enumerate(stack.bands)}
    found = []
    for (name, span), row in zip(
        ranges.items(), _spread_values(stack, [positions[name] for name in ranges]), strict=True
    ):
        known = row[np.isfinite(row)]
        beyond = float(np.mean((known < span.low) | (known > span.high))) if known.size else 0.0
        if beyond > MAX_BEYOND_SHARE:
            found.append(
                f"{name}: {beyond:.0%} of the values lie outside {span.low:.4g} to {span.high:.4g}, the range of the "
                f"weights, and count as its ends. Check the unit ({known.min():.4g} to {known.max():.4g}), or "
                "calibrate weights for this region"
            )
    return found


def _spread_values(stack: Stack, positions: list[int]) -> NDArray[np.float32]:
    """Return the values of bands in windows spread over a stack, float32 (bands, N)."""
    windows = list(stack.windows(_SIDE))
    chosen = sorted({int(number) for number in np.linspace(0, len(windows) - 1, _PLACES)})
    parts = [stack.read(windows[number], positions).reshape(len(positions), -1) for number in chosen]
    return np.concatenate(parts, axis=1)
