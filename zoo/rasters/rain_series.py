"""Rain of several files in chronological order: units, repeated and missing steps, accumulations that reset."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.physics.rain import RECORD_DEPTH, TO_MM, TO_MM_PER_HOUR
from zoo.physics.rain_events import RainSeries, Times, time_text

NAMES: tuple[str, ...] = (
    *("precipitation", "precipitationCal", "tp", "precip", "pr", "prcp", "rain", "rainfall", "RAINRATE"),
    *("hourlyPrecipRate", "total_precipitation"),
)
"""Names of the rain variable, in search order: IMERG V07, IMERG V06, ECMWF, CHIRPS, CF."""

NEGATIVE_TOLERANCE = 0.01
"""Tolerance for negative rain in mm, from packing into 16-bit integers and differences of accumulations [O]."""

MAX_STEP_HOURS = 120.0
"""Hours of the longest step in which rain events are looked for, the five days of CHIRPS [O]: months hold many."""

MIN_INCREASES = 10
"""Number of increases after which rain that never decreases counts as a sum since the start [O]."""

_UNIT_IN_WORDS = re.compile(
    r"(\d*\.?\d+)?\s*(?<![a-z])(?:mm|millimet(?:er|re)s?)"
    r"(?:\s*(?:/|per)?\s*(h|d)(?:ou)?r?(?:ay)?(?:-1)?)?(?![a-z]|\s*(?:/|per))"
)

Accumulation: TypeAlias = Literal["step", "day"]
Stamps: TypeAlias = Literal["start", "end"]
Gauges: TypeAlias = Literal["inverse-distance", "kriging"]
Values: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class RainReading:
    """Options for reading rain files: what the files do not state, and how much may be missing.

    Attributes:
        variable: name of the variable or column; None for one of :data:`NAMES`.
        unit: unit of files that do not state one, such as "mm/day"; "0.1 mm" for integers of tenths.
        stamps: whether a time is the "start" or the "end" of its step; None to use the file's statement.
        accumulation: whether a value of ECMWF is the depth of its "step" (ERA5) or since the start of the "day"
            (ERA5-Land); None to infer it from the values.
        time_zone: IANA name of the time zone of gauge tables whose times have none, such as "Asia/Karachi".
        gauges: interpolation between gauges (:mod:`zoo.rasters.gauges`).
        max_missing: maximum share of missing hours [O]; missing hours count as dry, so more would hide rain.

    Raises:
        ConfigError: if the share is outside 0..1.
    """

    variable: str | None = None
    unit: str | None = None
    stamps: Stamps | None = None
    accumulation: Accumulation | None = None
    time_zone: str | None = None
    gauges: Gauges = "inverse-distance"
    max_missing: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing <= 1:
            raise ConfigError(
                f"a share of {self.max_missing:g} missing hours", where="--max-missing", hint="Give 0 to 1"
            )


@dataclass(frozen=True)
class RainPiece:
    """Some times of one file, cut to the region."""

    path: Path
    values: Values
    times: Times
    bounds: NDArray[np.datetime64] | None
    runs: Times | None
    unit: str
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    ecmwf: bool


def only_variable(found: Sequence[str], where: object) -> str | None:
    """Return the only name of a rain variable in a file; None without one.

    Raises:
        DataError: if there are several, so that the user must choose.
    """
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(map(repr, found))} may each be the rain",
            where=where,
            hint=f"Name the one to read, for example --variable {shlex.quote(found[0])}",
        )
    return found[0] if found else None


def stated_unit(attributes: Any, given: str | None, where: object) -> str:
    """Return the unit of a variable; file and option must agree."""
    stated = {str(attributes[key]).strip() for key in ("units", "Units") if str(attributes.get(key, "")).strip()}
    if len({unit_factor(text, where) for text in stated}) > 1:
        raise DataError(f"states two units: {' and '.join(sorted(stated))}", where=where)
    if not stated:
        if given is None:
            raise DataError(
                "states no unit of rain", where=where, hint="Look it up and give it, for example --unit mm/day"
            )
        return given
    unit = stated.pop()
    if given is not None and unit_factor(given, "--unit") != unit_factor(unit, where):
        raise DataError(f"is in {unit!r}, not in {given!r}", where=where, hint="Leave --unit out")
    return unit


def unit_factor(unit: str, where: object) -> tuple[bool, float]:
    """Return whether a unit is a depth, and its factor to mm or mm/h."""
    found = re.fullmatch(r"(\d*\.?\d+)? ?(.+)", re.sub(r"\s+", " ", unit.strip().lower()))
    scale, name = (float(found[1] or 1), found[2]) if found is not None else (1.0, "")
    for table, depth in ((TO_MM_PER_HOUR, False), (TO_MM, True)):
        if name in table and scale > 0:
            return depth, scale * table[name]
    raise DataError(
        f"{unit!r} is not a known unit of rain",
        where=where,
        hint="Known: mm, m, kg m-2, mm/h, mm/day, kg m-2 s-1, m/s; with a number for scaled integers: '0.1 mm'",
    )


def check_description(text: str, unit: str, where: object) -> None:
    """Check a unit against a free-text description, such as that of IMERG's GeoTIFFs.

    A description agrees if one of its units is of the same kind (depth or intensity) as ``unit``, with the same factor
    if it has a number. A description without a unit is ignored.

    Args:
        text: the description, such as "accumulation in 0.1 mm".
        unit: unit from the user.
        where: the file, for the error.

    Raises:
        DataError: if the description contradicts the unit.
    """
    depth, factor = unit_factor(unit, "--unit")
    stated = [
        (f"{number} mm{'/' if period else ''}{period}".strip(), bool(number))
        for number, period in _UNIT_IN_WORDS.findall(text.lower())
    ]
    for one, exact in stated:
        its_depth, its_factor = unit_factor(one, where)
        if its_depth == depth and (not exact or math.isclose(its_factor, factor)):
            return
    if stated:
        raise DataError(
            f"describes itself as {text.strip()!r}, which is not in {unit!r}",
            where=where,
            hint=f"Give --unit {stated[0][0]!r} if that is its unit",
        )


def join_pieces(pieces: list[RainPiece], reading: RainReading, notes: list[str]) -> RainSeries:
    """Join the files of one product in chronological order, and convert them to mm/h."""
    first = pieces[0]
    for piece in pieces[1:]:
        same = piece.latitudes.shape == first.latitudes.shape and piece.longitudes.shape == first.longitudes.shape
        if not (
            same
            and np.allclose(piece.latitudes, first.latitudes, atol=1e-3)
            and np.allclose(piece.longitudes, first.longitudes, atol=1e-3)
        ):
            raise DataError(f"has another grid than {first.path}", where=piece.path, hint="Give one product at a time")
        if unit_factor(piece.unit, piece.path) != unit_factor(first.unit, first.path):
            raise DataError(f"is in {piece.unit!r}, and {first.path} in {first.unit!r}", where=piece.path)
        if (piece.bounds is None) != (first.bounds is None):
            raise DataError(f"states the ends of its steps, or {first.path} does, not both", where=piece.path)
    times = np.concatenate([piece.times for piece in pieces])
    owner = np.repeat(np.arange(len(pieces)), [len(piece.times) for piece in pieces])
    values = np.concatenate([piece.values for piece in pieces])
    order = np.argsort(times, kind="stable")
    times, owner, values = times[order], owner[order], values[order]
    kept = _unique(times, values, [pieces[one].path for one in owner], notes)
    times, values = times[kept], values[kept]
    depth, factor = unit_factor(first.unit, first.path)
    accumulates = depth and first.ecmwf
    if reading.stamps is not None and first.bounds is not None:
        raise ConfigError("states the ends of its steps", where=first.path, hint="Leave --stamps out")
    if reading.accumulation is not None and not accumulates:
        raise ConfigError("holds no depths of ECMWF", where=first.path, hint="Leave --accumulation out")
    notes.append(f"{len(pieces):,} files, {len(times):,} steps of rain in {first.unit}")
    if first.bounds is not None:
        ends = np.concatenate([piece.bounds for piece in pieces if piece.bounds is not None])[order][kept]
        starts, ends = ends[:, 0], ends[:, 1]
    else:
        length = _step(times, first.path)
        if accumulates:
            runs = [piece.times - np.timedelta64(1, "s") for piece in pieces]
            runs = [
                days.astype("datetime64[D]").astype("datetime64[s]") if piece.runs is None else piece.runs
                for piece, days in zip(pieces, runs, strict=True)
            ]
            values = (
                _increments(
                    values * np.float32(factor),
                    times,
                    np.concatenate(runs)[order][kept],
                    length,
                    first.path,
                    reading,
                    notes,
                )
                / factor
            )
        starts, ends = _place_stamps(times, length, first, reading, notes)
    hours = ((ends - starts) / np.timedelta64(3600, "s")).astype(np.float32)[:, None, None]
    if np.median(hours) > MAX_STEP_HOURS:
        raise DataError(
            f"its steps are {np.median(hours) / 24:g} days long, and rain events last hours or days",
            where=first.path,
            hint="Give rain of days or hours",
        )
    rate = values * np.float32(factor) / (hours if depth else np.float32(1))
    with np.errstate(invalid="ignore"):
        rate[(rate < 0) & (rate * hours > -NEGATIVE_TOLERANCE)] = 0.0
    if depth and not accumulates:
        check_not_cumulative(values * np.float32(factor), first.path)
    check_records(rate * hours, hours, starts, [pieces[one].path for one in owner[kept]])
    negative = np.flatnonzero((rate < 0).reshape(len(rate), -1).any(axis=1))
    if len(negative):
        step = negative[0]
        raise DataError(
            f"the rain at {time_text(starts[step])} is {np.nanmin(rate[step]):g} mm/h",
            where=pieces[owner[kept][step]].path,
            hint="If it means missing, set it as the fill value or nodata value of the file",
        )
    try:
        return RainSeries(starts, ends, rate.astype(np.float32))
    except DataError as error:
        raise DataError(error.problem, where=first.path.parent, hint=error.hint) from error


def check_not_cumulative(depth: NDArray[np.floating[Any]], where: object) -> None:
    """Reject depths that only increase: they are sums since the start, not the rain of each step.

    Args:
        depth: mm, (T, ...) in chronological order, NaN where unknown.
        where: the file, for the error.

    Raises:
        DataError: if the depth never decreases and increases in :data:`MIN_INCREASES` steps or more.
    """
    last, rises = np.full(depth.shape[1:], np.nan), 0
    for now in depth:
        with np.errstate(invalid="ignore"):
            change = now - last
        if (change < -NEGATIVE_TOLERANCE).any():
            return
        rises += bool((change > NEGATIVE_TOLERANCE).any())
        last = np.where(np.isfinite(now), now, last)
    if rises >= MIN_INCREASES:
        raise DataError(
            f"its rain increases in {rises} steps and never decreases, so it is a sum since the start",
            where=where,
            hint="Write the rain of each step: the difference between each value and the previous one",
        )


def check_records(
    depth: NDArray[np.floating[Any]], hours: NDArray[Any], starts: Times, paths: Sequence[object]
) -> None:
    """Reject steps with more rain than the record for their duration, such as a code for missing rain.

    Args:
        depth: mm, (T, ...), NaN where unknown.
        hours: length of each step, (T, ...).
        starts: start of each step, (T,).
        paths: file of each step, (T,).

    Raises:
        DataError: if a step exceeds the records of :data:`zoo.physics.rain.RECORD_DEPTH`.
    """
    with np.errstate(invalid="ignore"):
        beyond = (depth > RECORD_DEPTH[0] * hours ** RECORD_DEPTH[1]).reshape(len(depth), -1).any(axis=1)
    if beyond.any():
        step = int(np.argmax(beyond))
        length = float(np.ravel(hours)[step])
        raise DataError(
            f"the rain at {time_text(starts[step])} is {np.nanmax(depth[step]):.4g} mm in {length:g} h, more than was "
            f"ever measured ({RECORD_DEPTH[0] * length ** RECORD_DEPTH[1]:,.0f} mm)",
            where=paths[step],
            hint="Check its unit, and mark missing rain as such",
        )


def _unique(times: Times, values: Values, paths: list[Path], notes: list[str]) -> NDArray[np.int64]:
    """Return the indices of unique times in sorted order.

    Raises:
        DataError: if two files have different rain at one time.
    """
    again = np.flatnonzero(times[1:] == times[:-1]) + 1
    for number in again:
        if not np.array_equal(values[number], values[number - 1], equal_nan=True):
            raise DataError(
                f"has different rain at {time_text(times[number])} than {paths[number - 1]}",
                where=paths[number],
                hint="Early, late and final runs differ: give one of them",
            )
    if len(again):
        notes.append(f"{len(again):,} steps occur twice with the same rain; each was used once")
    return np.setdiff1d(np.arange(len(times)), again)


def _step(times: Times, path: Path) -> np.timedelta64:
    if len(times) < 2:
        raise DataError(
            "has one time and states neither its start nor its end", where=path, hint="Give files of several times"
        )
    step: np.timedelta64 = np.min(np.diff(times))
    return step


def _place_stamps(
    times: Times, step: np.timedelta64, piece: RainPiece, reading: RainReading, notes: list[str]
) -> tuple[Times, Times]:
    stamps = reading.stamps
    if stamps is None:
        if piece.ecmwf:
            stamps = "end"
        elif step >= np.timedelta64(86400, "s"):
            stamps = "start"
        else:
            raise DataError(
                "does not state whether its times mark the start or the end of a step",
                where=piece.path,
                hint="Look it up and give --stamps start or --stamps end",
            )
        notes.append(f"times are the {stamps} of a step of {step / np.timedelta64(3600, 's'):g} h")
    return (times, times + step) if stamps == "start" else (times - step, times)


def _increments(
    depth: Values, times: Times, runs: Times, step: np.timedelta64, path: Path, reading: RainReading, notes: list[str]
) -> Values:
    """Return the depth of each step from values of ECMWF, which may be sums since the start of a day or forecast.

    Args:
        depth: mm, (T, rows, columns).
        times: ends of the steps.
        runs: start of the day or forecast of each step.
        step: length of a step.
        path: the first file, for messages.
        reading: options that state which; otherwise it is inferred from the values.
        notes: list to which a sentence about the decision is appended.
    """
    within = np.diff(runs) == np.timedelta64(0, "s")
    accumulation = reading.accumulation
    if accumulation is None and step != np.timedelta64(3600, "s"):
        # A value of an hourly ERA5 file with missing hours covers only one hour.
        raise DataError(
            f"its times are {step / np.timedelta64(3600, 's'):g} h apart; it is unknown how many hours a value covers",
            where=path,
            hint="Give hourly files; or --accumulation step (over that time) or day (since 00 UTC)",
        )
    if accumulation is None:
        with np.errstate(invalid="ignore"):
            falls = np.asarray((np.diff(depth, axis=0) < -NEGATIVE_TOLERANCE).any(axis=(1, 2)))
        if falls[within].any():
            accumulation, why = "step", "rain falls within a day"
        elif not np.nanmax(depth, initial=0.0) > NEGATIVE_TOLERANCE:
            accumulation, why = "step", "there is no rain"
        elif within.any() and falls[~within].any():
            accumulation, why = "day", "it never falls within a day and does so after it"
        else:
            raise DataError(
                "it is unknown whether values are the rain of a step (ERA5) or since 00 UTC (ERA5-Land)",
                where=path,
                hint="Give --accumulation step or --accumulation day",
            )
        what = "the depth of each step (ERA5)" if accumulation == "step" else "depths since 00 UTC (ERA5-Land)"
        notes.append(f"values are {what}: {why}")
    if accumulation == "step":
        return depth
    found = np.full_like(depth, np.nan)
    opening = times - runs == step
    found[opening] = depth[opening]
    following = np.concatenate([[False], within & (np.diff(times) == step)])
    found[following] = depth[following] - depth[np.flatnonzero(following) - 1]
    return found
