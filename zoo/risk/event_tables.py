"""Table of rain events with and without landslides, from rain files and a dated inventory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.files import atomic_path, check_output
from zoo.jobs import ProgressCallback
from zoo.physics.rain_events import EventRules, RainEvent, RainSeries, rain_events, time_text
from zoo.rasters.grid import grid_around
from zoo.rasters.ground import near_longitude
from zoo.rasters.inventory import parse_period
from zoo.rasters.rain_bands import rain_maps, rain_of_pixels
from zoo.rasters.rain_files import RainField, RainPaths, find_files, read_rain
from zoo.rasters.rain_series import RainReading
from zoo.rasters.vectors import read_places

_DAY = np.timedelta64(86_400, "s")


@dataclass(frozen=True)
class EventTable:
    """Rain events of the cells that contain landslides.

    Attributes:
        events: one row per event: day, longitude, latitude, start and end (empty for rasters), P (mm/h), D (days),
            depth (mm), landslide (0 or 1), landslides (number).
        notes: findings and decisions, as sentences.
    """

    events: pd.DataFrame
    notes: tuple[str, ...]


# long: one parameter for each option of `zoo risk events`
def list_events(
    rain: RainPaths,
    inventory: str | os.PathLike[str],
    date_column: str,
    *,
    out: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    where: str | None = None,
    rules: EventRules | None = None,
    reading: RainReading | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> EventTable:
    """List the rain events of places with landslides, for :func:`zoo.risk.thresholds`.

    The command is ``zoo risk events``. All events of each rain cell that contains a landslide are listed. The event of
    a landslide is the last one in progress on its day, truncated at the end of that day (UTC); it ends no earlier than
    a dry gap before the day.

    Args:
        rain: rain files, folders or patterns; see :func:`zoo.rain`. Or rasters written by :func:`zoo.rain`, one per
            day: the event in progress at the time of a raster belongs to the landslides of its day, and is an event
            without landslides at the locations of the others.
        inventory: points or polygons of landslides.
        date_column: column with the day of each landslide; dates with only a month or year are excluded.
        out: CSV to write.
        layer, where: layer and SQL condition of the inventory.
        rules, reading: as in :func:`zoo.rain`.
        overwrite: replace an existing file.
        progress: called with the number of files read and the total.

    Returns:
        The events, and notes on landslides that have none.

    Raises:
        ZooError: if a file is missing, damaged or contradictory, or no landslide has a day within the rain.

    Example:
        >>> import zoo
        >>> found = zoo.risk.events("imerg/", "slides.gpkg", "day", out="events.csv")  # doctest: +SKIP
        >>> int(found.events["landslide"].sum()), len(found.events)  # doctest: +SKIP
        (212, 5310)
    """
    rules, reading = rules or EventRules(), reading or RainReading()
    files = find_files(rain)
    if out is not None:
        check_output(Path(out), [Path(inventory), *files], overwrite=overwrite)
    maps = rain_maps(files, rules, reading)
    notes: list[str] = []
    frame, places = read_places(inventory, [date_column], notes, layer=layer, where=where)
    periods = [parse_period(value) for value in frame[date_column]]
    exact = np.array([period is not None and period[0] == period[1] for period in periods])
    if not exact.all():
        example = str(frame[date_column][~exact].iloc[0])[:60]
        if not exact.any():
            raise DataError(
                f"no landslide has a day in column {date_column!r}, which holds {example!r}",
                where=inventory,
                hint="Write year, month and day: 2024-06-11",
            )
        notes.append(
            f"{int((~exact).sum())} landslides without a day in {date_column!r}, such as {example!r}, were left out"
        )
    days = np.array([period[0] for period in periods if period is not None and period[0] == period[1]])
    days, places = days.astype("datetime64[D]").astype("datetime64[s]"), places[exact]
    if maps:
        rows = _rows_of_maps(maps, places, days, notes, progress)
        notes.append(f"{len(maps)} rasters of zoo rain; {rules}")
    else:
        field = read_rain(files, grid_around(places), reading, progress)
        rows = _rows_of_series(field, places, days, rules, reading.max_missing, notes, inventory)
        notes = [*field.notes, *notes, str(rules)]
    table = EventTable(pd.DataFrame(rows), tuple(notes))
    if out is not None:
        with atomic_path(out) as temporary:
            table.events.to_csv(temporary, index=False, lineterminator="\n")
    return table


def _rows_of_series(
    field: RainField,
    places: NDArray[np.float64],
    days: NDArray[np.datetime64],
    rules: EventRules,
    max_missing: float,
    notes: list[str],
    inventory: str | os.PathLike[str],
) -> list[dict[str, object]]:
    """Return all events of the rain cells that contain landslides."""
    inside = (days + _DAY > field.series.starts[0]) & (days < field.series.ends[-1])
    if not inside.all():
        notes.append(f"{int((~inside).sum())} landslides are from days without rain data and were left out")
    if not inside.any():
        raise DataError(
            f"no landslide falls within the period of the rain, {time_text(field.series.starts[0])} to "
            f"{time_text(field.series.ends[-1])}",
            where=inventory,
        )
    places, days = places[inside], days[inside]
    middle, _ = field.transform * (field.series.rate.shape[2] / 2, 0)
    x, y = near_longitude(places[:, 0], middle), places[:, 1]
    column, row = (np.floor(axis).astype(np.int64) for axis in ~field.transform * (x, y))
    series, rows = field.series, []
    period = float((series.ends[-1] - series.starts[0]) / np.timedelta64(3600, "s"))
    incomplete, unmatched = 0, 0
    for y, x in sorted(set(zip(row.tolist(), column.tolist(), strict=True))):
        rate = series.rate[:, y, x]
        cell_days = days[(row == y) & (column == x)]
        if period - series.hours[np.isfinite(rate)].sum() > max_missing * period:
            incomplete += len(cell_days)
            continue
        place = RainSeries(series.starts, series.ends, rate)
        events = rain_events(place, rules)
        slid: dict[int, list[np.datetime64]] = {}
        for day in cell_days:
            number = _event_of(events, day, rules)
            if number is None:
                unmatched += 1
            else:
                slid.setdefault(number, []).append(day)
        longitude, latitude = field.transform * (x + 0.5, y + 0.5)
        for number, event in enumerate(events):
            found = slid.get(number, [])
            shown = _truncate_event(place, event, min(found) + _DAY) if found else event
            span = time_text(shown.start), time_text(shown.end)
            rows.append(_row(event.start, span, (longitude, latitude), shown.intensity, shown.days, len(found)))
    for count, why in (
        (incomplete, f"lie where more than {max_missing:.1%} of the hours are missing"),
        (unmatched, f"had no rain event on their day or in the {rules.dry_gap:g} h before"),
    ):
        if count:
            notes.append(f"{count} landslides {why}, and were left out")
    if not rows:
        raise DataError("no landslide location has a rain event", hint="Check dates, units and event rules")
    return rows


def _row(
    day: np.datetime64,
    span: tuple[str, str],
    place: tuple[float, float],
    intensity: float,
    duration: float,
    landslides: int,
) -> dict[str, object]:
    """Return a table row: an event with P (mm/h) and D (days) at a longitude and latitude."""
    return {
        "day": str(day.astype("datetime64[D]")),
        "longitude": round(float(near_longitude(place[0], 0.0)), 4),
        "latitude": round(place[1], 4),
        "start": span[0],
        "end": span[1],
        "P": round(intensity, 5),
        "D": round(duration, 6),
        "depth": round(24 * duration * intensity, 3),
        "landslide": int(landslides > 0),
        "landslides": landslides,
    }


def _rows_of_maps(
    maps: Mapping[np.datetime64, Path],
    places: NDArray[np.float64],
    days: NDArray[np.datetime64],
    notes: list[str],
    progress: ProgressCallback | None,
) -> list[dict[str, object]]:
    """Return the event in progress at the time of each raster, in each pixel that contains a landslide of any day.

    A raster at midnight describes the day that ends then.
    """
    rows: list[dict[str, object]] = []
    matched = np.zeros(len(days), dtype=bool)
    covered = np.zeros(len(days), dtype=bool)
    for number, (at, path) in enumerate(maps.items(), 1):
        day = (at - np.timedelta64(1, "s")).astype("datetime64[D]")
        today = days == day.astype("datetime64[s]")
        inside, pixels = rain_of_pixels(path, places)
        covered |= inside & today
        for selected, intensity, duration in pixels:
            if intensity > 0 and duration > 0:
                matched |= selected & today
                place = float(places[selected, 0].mean()), float(places[selected, 1].mean())
                rows.append(_row(day, ("", ""), place, intensity, duration, int((selected & today).sum())))
        if progress is not None:
            progress(number, len(maps))
    for count, why in (
        (int((~covered).sum()), "are from days or locations without a raster"),
        (int((covered & ~matched).sum()), "had no rain event on their day"),
    ):
        if count:
            notes.append(f"{count} landslides {why}, and were left out")
    if not matched.any():
        raise DataError(
            "no landslide has a rain event in a raster of its day", hint="Check the dates of inventory and rasters"
        )
    return rows


def _event_of(events: list[RainEvent], day: np.datetime64, rules: EventRules) -> int | None:
    """Return the index of the last event in progress on a day; None without one."""
    gap = np.timedelta64(round(rules.dry_gap * 3600), "s")
    under_way = [number for number, event in enumerate(events) if event.start < day + _DAY and event.end + gap > day]
    return under_way[-1] if under_way else None


def _truncate_event(series: RainSeries, event: RainEvent, time: np.datetime64) -> RainEvent:
    """Return an event truncated at a time."""
    if event.end <= time:
        return event
    part = (series.starts >= event.start) & (series.ends <= time)
    if not part.any():
        return event
    depth = float((np.nan_to_num(series.rate[part].astype(np.float64)) * series.hours[part]).sum())
    return RainEvent(event.start, series.ends[part][-1], depth)
