"""Tables of rain gauges: read columns, times, places and units, and reject ambiguous ones."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from zoo.errors import ConfigError, DataError, UnknownNameError, first_line
from zoo.rasters.grid import Grid
from zoo.rasters.ground import near_longitude, zero_places
from zoo.rasters.rain_series import NAMES, NEGLIGIBLE, RainReading, only_variable, stated_unit
from zoo.rasters.reading import missing_codes
from zoo.rasters.text_tables import read_text_table, to_numbers

GAUGE_CODES = (999.0, 999.9, 9999.0, 9999.9, 99999.0)
"""Numbers that mark missing values in tables of gauges, if they are far above all other values."""

_ZONE = re.compile(r"[T ]\d{2}.*(?:Z|[+-]\d{2}(?::?\d{2})?)$")
_UNIT_IN_NAME = re.compile(r"^[^\W_]+\s*[\[(_ ]\s*(.+?)[\])]?$")


def read_gauge_table(path: Path, reading: RainReading, grid: Grid, notes: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the columns time (UTC), x, y (in grid coordinates) and rain of a table of gauges, and the unit of rain.

    Args:
        path: a text file with the columns time, longitude, latitude (or x, y) and rain.
        reading: options for what the table does not state.
        grid: the raster.
        notes: list to which a sentence is appended for each decision about the file.

    Raises:
        DataError: if the table is damaged or empty, a column is missing or may be another, or a cell is no time, no
            place or no rain.
    """
    try:
        table = read_text_table(path, notes, as_text=True)
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(
            "cannot be read as a table of gauges", where=path, hint=f"Save it again ({first_line(error)})"
        ) from error
    columns = [str(name) for name in table.columns]
    table = table.set_axis(pd.Index(columns), axis=1)
    names = {name.strip().lower(): name for name in columns}
    time = next((names[word] for word in ("time", "datetime", "timestamp", "date") if word in names), None)
    degrees = next(
        ((names[a], names[b]) for a, b in (("longitude", "latitude"), ("lon", "lat")) if a in names and b in names),
        None,
    )
    rain = reading.variable or only_variable(
        [name for name in columns if re.split(r"[\s\[(_]", name.strip().lower())[0] in (*NAMES, "depth")], path
    )
    if time is None or rain is None or (degrees is None and not {"x", "y"} <= set(names)):
        raise DataError(
            "needs the columns time, longitude, latitude (or x, y) and rain",
            where=path,
            hint=f"It has {', '.join(columns)}; name the rain with --variable",
        )
    if rain not in columns:
        raise UnknownNameError("column", rain, columns, where=path)
    if table.empty:
        raise DataError("has no rows", where=path)
    found = pd.DataFrame({"time": _utc(table[time], path, reading)})
    x, y = degrees or (names["x"], names["y"])
    for key, name in (("x", x), ("y", y), ("rain", rain)):
        found[key] = _numbers(table[name], f"{path}, column {name!r}", missing=key == "rain")
    _check_rain(found["rain"], f"{path}, column {rain!r}")
    _check_places(found[["x", "y"]].to_numpy(np.float64), path, degrees is not None)
    if degrees is not None:
        found["x"], found["y"] = transform_points(CRS.from_epsg(4326), grid.crs, found["x"], found["y"])
        if grid.crs.is_geographic:
            found["x"] = near_longitude(found["x"], grid.transform.c + grid.transform.a * grid.shape[1] / 2)
    stated = _UNIT_IN_NAME.match(rain.strip())
    return found, stated_unit({"units": stated[1] if stated else ""}, reading.unit, f"{path}, column {rain!r}")


def _check_rain(rain: pd.Series[float], where: str) -> None:
    negative = np.flatnonzero(rain < -NEGLIGIBLE)
    if len(negative):
        raise DataError(
            f"row {negative[0] + 2}: the rain is {rain.iloc[negative[0]]:g}",
            where=where,
            hint="Mark missing rain as such",
        )
    highest = rain[~rain.isin(GAUGE_CODES)].max()
    coded = np.flatnonzero(np.isinf(rain) | (rain.isin(GAUGE_CODES) & ~(rain < 3 * highest)))
    if len(coded):
        raise DataError(
            f"row {coded[0] + 2}: the rain is {rain.iloc[coded[0]]:g}, far above all other values",
            where=where,
            hint="If it means missing, leave the cell empty",
        )


def _check_places(places: NDArray[np.float64], path: Path, degrees: bool) -> None:
    """Reject coordinates that are invalid or stand for missing ones."""
    x, y = places.T
    beyond = (np.abs(places) > (360, 90)).any(axis=1) if degrees else ~np.isfinite(places).all(axis=1)
    zeros = zero_places(x, y, degrees=degrees)
    for wrong, problem, hint in (
        (
            beyond,
            "beyond 360 and 90 degrees" if degrees else "not a place",
            "Columns longitude and latitude are in degrees, x and y in the coordinates of the raster",
        ),
        (zeros, "which means that they are missing", "Write its coordinates, or leave its rows out"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"the coordinates of the gauge are {x[row]:g}, {y[row]:g}, {problem}",
                where=f"{path}, row {row + 2}",
                hint=hint,
            )


def _numbers(texts: pd.Series[str], where: str, *, missing: bool) -> pd.Series[float]:
    """Return a column as numbers.

    Raises:
        DataError: if a cell is not a number; the message names its row.
    """
    stripped = texts.str.strip()
    empty = stripped.str.lower().isin(("", "na", "nan", "null", "-"))
    numbers = to_numbers(stripped.mask(empty))
    wrong = numbers.isna() & ~(empty if missing else np.zeros(len(texts), bool))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {row + 2} holds {texts.iloc[row][:60]!r}, not a number",
            where=where,
            hint="Write decimal points, and leave the cell empty where the rain is unknown"
            if missing
            else "Write the coordinates of each gauge with decimal points",
        )
    if missing:
        coded = missing_codes(numbers.to_numpy(), np.dtype(np.float64), None)
        numbers = numbers if coded is None else numbers.mask(coded)
    return numbers


def _utc(texts: pd.Series[str], path: Path, reading: RainReading) -> pd.Series[Any]:
    """Return times in UTC.

    Raises:
        DataError: if a text is not a time, or its time zone is unknown.
    """
    texts = texts.str.strip()
    zoned = texts.str.contains(_ZONE)
    if zoned.any() and not zoned.all():
        raise DataError("has times with and without a time zone", where=path, hint="Write all of them the same way")
    if zoned.all() and reading.time_zone is not None:
        raise ConfigError("its times state their time zone", where=path, hint="Leave --time-zone out")
    times = pd.to_datetime(texts, utc=bool(zoned.all()), format="ISO8601", errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise DataError(
            f"row {row + 2} holds {texts.iloc[row][:60]!r}, not a time in ISO 8601",
            where=f"{path}, column {texts.name!r}",
            hint="Write year, month and day in this order, and the hour: 2024-06-11T05:00Z",
        )
    if zoned.all():
        return times
    if reading.time_zone is None:
        raise DataError(
            f"the time {texts.iloc[0]!r} has no time zone",
            where=path,
            hint="Give it, for example --time-zone Asia/Karachi or UTC, or write 2024-06-11T05:00Z",
        )
    try:
        zone = ZoneInfo(str(reading.time_zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"{reading.time_zone!r} is not a time zone", where="--time-zone", hint="Write UTC or Asia/Karachi"
        ) from error
    placed = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if placed.isna().any():
        text = texts[placed.isna()].iloc[0]
        raise DataError(
            f"the local time {text} of {reading.time_zone} occurs twice or never",
            where=path,
            hint="Give such times in UTC",
        )
    return placed.dt.tz_convert("UTC")
