"""Rain over time: events separated by dry spells, and the rain before them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.physics.rain import MAX_DAYS

ANTECEDENT_DAYS: tuple[int, ...] = (3, 7, 15, 30)
"""Periods over which the rain before an event is summed, in days [O]."""

API_DECAY = 0.9
"""Share of the antecedent precipitation index that remains after a day [O].

Kohler & Linsley (1951, US Weather Bureau Research Paper 34) give 0.85 to 0.90 for most of the eastern and central
United States [S]; Viessman & Lewis (1996) give 0.80 to 0.98 [S].
"""

API_DAYS = 30
"""Days that the index covers [O]: earlier days would have weights below 0.9^30 = 4 %."""

_HOUR = np.timedelta64(3600, "s")
_LOOKBACK = np.timedelta64(int((MAX_DAYS + API_DAYS + 1) * 86400), "s")
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class RainSeries:
    """Time series of rain, at one place or many.

    Attributes:
        starts: start of each step in UTC, datetime64[s] (T,), increasing.
        ends: end of each step, datetime64[s] (T,); steps do not overlap.
        rate: mm/h, float32 (T, ...) with one or more axes of places, NaN where unknown.

    Raises:
        DataError: if there is no step, steps overlap or have zero length, or rain is negative or infinite.
    """

    starts: Times
    ends: Times
    rate: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.starts):
            raise DataError("there is no rain at any time")
        wrong = np.flatnonzero(self.ends <= self.starts)
        if len(wrong):
            raise DataError(f"the step from {time_text(self.starts[wrong[0]])} has no length")
        wrong = np.flatnonzero(self.starts[1:] < self.ends[:-1])
        if len(wrong):
            raise DataError(
                f"the steps from {time_text(self.starts[wrong[0]])} and {time_text(self.starts[wrong[0] + 1])} overlap",
                hint="Give the files of one product, each once",
            )
        with np.errstate(invalid="ignore"):
            invalid = (self.rate < 0) | np.isinf(self.rate)
        if invalid.any():
            step = int(np.argmax(invalid.reshape(len(invalid), -1).any(axis=1)))
            worst = float(np.nanmin(self.rate[step])) if not np.isinf(self.rate[step]).any() else math.inf
            raise DataError(
                f"the rain at {time_text(self.starts[step])} is {worst:g} mm/h", hint="Set missing rain to NaN"
            )

    @property
    def hours(self) -> NDArray[np.float64]:
        """Length of each step in hours, (T,)."""
        return (self.ends - self.starts) / _HOUR

    def until(self, at: np.datetime64) -> RainSeries:
        """Return the steps that end by a time and matter for the events at that time.

        Raises:
            DataError: if the time is outside the series.
        """
        if not self.ends[0] <= at <= self.ends[-1]:
            raise DataError(
                f"there is no rain at {time_text(at)}: it covers {time_text(self.starts[0])} to "
                f"{time_text(self.ends[-1])}",
                hint="Add the files of that time, or choose a time within them",
            )
        part = (self.ends <= at) & (self.starts >= at - _LOOKBACK)
        if not part.any():
            raise DataError(f"there is no rain in the {_LOOKBACK // (24 * _HOUR)} days before {time_text(at)}")
        return RainSeries(self.starts[part], self.ends[part], self.rate[part])


@dataclass(frozen=True)
class EventRules:
    """Rules that separate one rain event from the next.

    Attributes:
        dry_gap: hours without rain that end an event. The default of a day is ours [O]; Melillo et al. (2015,
            Landslides 12, 311-320) use 48 hours in the warm and 96 in the cold season of Sicily [S].
        wet: minimum mm in an hour, or in a longer step, that counts as rain. The same source removes isolated hours
            below the default [S]; here it applies to every step [O].
        min_depth: minimum rain of an event, in mm. The same source removes parts of an event up to the default [S];
            here it applies to whole events [O].

    Raises:
        ConfigError: if a number is negative or not finite, or the gap is 0.
    """

    dry_gap: float = 24.0
    wet: float = 0.2
    min_depth: float = 1.0

    def __post_init__(self) -> None:
        for name, value, unit in (
            ("dry gap", self.dry_gap, "h"),
            ("wet limit", self.wet, "mm"),
            ("smallest event", self.min_depth, "mm"),
        ):
            if not (math.isfinite(value) and value >= 0) or (name == "dry gap" and value == 0):
                raise ConfigError(
                    f"{name} of {value:g} {unit} in the rules of rain events", hint="Give a positive number"
                )

    def __str__(self) -> str:
        return (
            f"events end with {self.dry_gap:g} h without rain; rain is from {self.wet:g} mm an hour or step; "
            f"events are from {self.min_depth:g} mm"
        )


@dataclass(frozen=True)
class RainState:
    """Rain at one time, by place.

    Attributes:
        depth: mm of the current event, 0 without one, float64.
        days: duration of the current event up to its last wet step, 0 without one.
        antecedent: rain in mm by length of the period in days. The period ends where the event begins, or at the
            requested time without an event; NaN where the series does not cover it.
        api: antecedent precipitation index in mm over :data:`API_DAYS` before the same moment; NaN likewise.
        missing_hours: hours of the period without a value, which count as dry.
        hours: hours of the period, from the first step that matters to the requested time.
    """

    depth: NDArray[np.float64]
    days: NDArray[np.float64]
    antecedent: Mapping[int, NDArray[np.float64]]
    api: NDArray[np.float64]
    missing_hours: NDArray[np.float64]
    hours: float


def rain_at(series: RainSeries, at: np.datetime64, rules: EventRules | None = None) -> RainState:
    """Return the rain event that is current at a time, and the rain before it.

    An event begins with the first wet step after a dry gap, and ends with its last wet step. It is current until the
    dry gap has passed.

    Args:
        series: the rain.
        at: UTC, within the series.
        rules: rules that separate events; None for the defaults.

    Raises:
        DataError: if the time is outside the series, an event is longer than 31 days, or values are missing for as
            long as the dry gap, which would separate events wrongly.
    """
    rules = rules or EventRules()
    part = series.until(at)
    now = at.astype("datetime64[s]")
    following = np.append(part.starts[1:], now)
    unknown = (following - part.ends) / _HOUR
    if unknown.max() >= rules.dry_gap:
        step = int(np.argmax(unknown))
        raise DataError(
            f"there is no rain from {time_text(part.ends[step])} to {time_text(following[step])}, as long as the "
            f"dry gap of {rules.dry_gap:g} h that separates events",
            hint="Add the missing files",
        )
    starts, ends = ((times - now) / _HOUR for times in (part.starts, part.ends))
    hours = part.hours
    depth = np.nan_to_num(part.rate.astype(np.float64)) * _column(hours, part.rate.ndim)
    wet = (depth >= _column(rules.wet * np.minimum(hours, 1.0), depth.ndim)) & (depth > 0)
    sums = np.concatenate([np.zeros((1, *depth.shape[1:])), np.cumsum(depth, axis=0)])
    begin = np.full(depth.shape[1:], -np.inf)
    last, before, after = begin.copy(), np.zeros_like(begin), np.zeros_like(begin)
    for step in range(len(hours)):
        first = wet[step] & (starts[step] - last >= rules.dry_gap)
        begin[first], before[first] = starts[step], sums[step][first]
        last[wet[step]], after[wet[step]] = ends[step], sums[step + 1][wet[step]]
    event = (-last < rules.dry_gap) & (after - before >= rules.min_depth)
    with np.errstate(invalid="ignore"):
        days = np.where(event, last - begin, 0.0) / 24
    if days.max(initial=0.0) > MAX_DAYS:
        raise DataError(
            f"an event lasts {days.max():.3g} days at {time_text(at)}, longer than {MAX_DAYS:g} days",
            hint=f"Separate events with a shorter gap than {rules.dry_gap:g} h, or with more rain than {rules.wet:g} "
            f"mm",
        )
    moment = np.where(event, begin, 0.0)
    knots = np.column_stack([starts, ends]).ravel()
    known = {span: moment - 24 * span >= starts[0] - 1e-9 for span in (*ANTECEDENT_DAYS, API_DAYS)}

    def between(values: NDArray[np.float64], span: int) -> NDArray[np.float64]:
        """Return the sum over the ``span`` days before the moment; NaN where the series does not cover them."""
        running = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
        at_knots = np.stack([running[:-1], running[1:]], axis=1).reshape(len(knots), *values.shape[1:])
        found = _interpolate(knots, at_knots, moment) - _interpolate(knots, at_knots, moment - 24 * span)
        return np.where(known[span], np.maximum(found, 0.0), np.nan)

    middle = (starts + ends) / 48
    weighted = between(depth * _column(API_DECAY**-middle, depth.ndim), API_DAYS)
    period = -float(starts[0])
    return RainState(
        depth=np.where(event, after - before, 0.0),
        days=days,
        antecedent={span: between(depth, span) for span in ANTECEDENT_DAYS},
        api=weighted * API_DECAY ** (moment / 24),
        missing_hours=period - np.sum(np.isfinite(part.rate) * _column(hours, part.rate.ndim), axis=0),
        hours=period,
    )


@dataclass(frozen=True)
class RainEvent:
    """One rain event at one place.

    Attributes:
        start, end: UTC, datetime64[s].
        depth: mm.
    """

    start: np.datetime64
    end: np.datetime64
    depth: float

    @property
    def days(self) -> float:
        """Duration D in days."""
        return float((self.end - self.start) / _HOUR) / 24

    @property
    def intensity(self) -> float:
        """Mean intensity P in mm/h."""
        return self.depth / (24 * self.days)


def rain_events(series: RainSeries, rules: EventRules | None = None) -> list[RainEvent]:
    """Return the events at one place in chronological order.

    Args:
        series: the rain, with rates of shape (T,) or (T, 1). Steps without a value count as dry.
        rules: rules that separate events; None for the defaults.
    """
    rules = rules or EventRules()
    hours = series.hours
    depth = np.nan_to_num(series.rate.reshape(len(hours)).astype(np.float64)) * hours
    wet = np.flatnonzero((depth >= rules.wet * np.minimum(hours, 1.0)) & (depth > 0))
    if not len(wet):
        return []
    dry = (series.starts[wet[1:]] - series.ends[wet[:-1]]) / _HOUR
    found = [
        RainEvent(series.starts[part[0]], series.ends[part[-1]], float(depth[part[0] : part[-1] + 1].sum()))
        for part in np.split(wet, np.flatnonzero(dry >= rules.dry_gap) + 1)
    ]
    return [event for event in found if event.depth >= rules.min_depth]


def _column(values: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    return values.reshape(-1, *([1] * (ndim - 1)))


def _interpolate(
    knots: NDArray[np.float64], values: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate linearly along the first axis of ``values``, at a different position for each of its columns."""
    right = np.clip(np.searchsorted(knots, wanted, side="right"), 1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (wanted - low) / (high - low), 0.0)
    first, second = (np.take_along_axis(values, index[None], axis=0)[0] for index in (right - 1, right))
    return np.asarray(first + np.clip(share, 0.0, 1.0) * (second - first))


def time_text(time: np.datetime64) -> str:
    """Return a UTC time as text: ``2024-06-11T05:30Z``."""
    return f"{np.datetime_as_string(time.astype('datetime64[s]'), unit='m')}Z"


def parse_time(text: str, where: str) -> np.datetime64:
    """Parse an ISO 8601 time as datetime64[s] in UTC; a text without a time zone is UTC.

    Raises:
        ConfigError: if the text is not a time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a time", where=where, hint="Write 2024-06-11T12:00Z") from None
    if found.tzinfo is not None:
        found = (found - (found.utcoffset() or found - found)).replace(tzinfo=None)
    return np.datetime64(found, "s")
