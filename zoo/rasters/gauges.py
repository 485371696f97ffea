"""Rain gauges: read their tables, and interpolate between them by inverse squared distance or kriging."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
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
from zoo.rasters.rain_series import NAMES, NEGATIVE_TOLERANCE, RainReading, only_variable, stated_unit
from zoo.rasters.reading import missing_codes
from zoo.rasters.text_tables import read_text_table, to_numbers

MIN_GAUGES, MIN_STEPS = 5, 10
"""Minimum number of gauges, and of complete steps with varying rain, to fit a covariance [O]."""

MAX_STEPS = 500
"""Maximum number of steps, spread evenly over time, to fit a covariance [O]."""

MEAN_VARIANCE = 1e4
"""Variance of the unknown mean, in variances of a step."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class KrigedRain:
    """Interpolated rain, and the basis of the interpolation.

    Attributes:
        values: (T, cells), in the unit of the gauges, between 0 and the largest gauge of the step; NaN for a step
            without a gauge.
        error: smallest and largest standard error of a cell, as a share of the standard deviation of the gauges.
        metres: range of the covariance exp(-distance / range) in metres.
        nugget: share of the variance without spatial correlation.
        left_out: leave-one-out root mean square error of the gauges, by kriging and by inverse squared distance, in
            the unit of the gauges.
    """

    values: Numbers
    error: tuple[float, float]
    metres: float
    nugget: float
    left_out: tuple[float, float]

    def sentence(self) -> str:
        """Return a sentence about the basis of the interpolation."""
        low, high = self.error
        return (
            f"interpolated by kriging: covariance exp(-distance / {self.metres / 1000:.3g} km) and a nugget of "
            f"{self.nugget:.0%}; standard error of a cell {low:.2f} to {high:.2f} standard deviations of the gauges; "
            f"leave-one-out error of a gauge {self.left_out[0]:.3g} (inverse squared distance: "
            f"{self.left_out[1]:.3g}), root mean square in the unit of the table"
        )


def inverse_distance(measured: Numbers, squared: Numbers) -> Numbers:
    """Interpolate by inverse squared distance (Shepard 1968 [S]).

    Args:
        measured: (T, gauges), NaN where missing.
        squared: squared distances in m2, (cells, gauges).

    Returns:
        (T, cells), NaN for a step without a gauge.
    """
    # The lower limit of 1 m avoids a division by zero; such a gauge determines the cell.
    weights = 1 / np.maximum(squared, 1.0)
    known = np.isfinite(measured)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(known, measured, 0.0) @ weights.T) / (known @ weights.T))


def krige(measured: Numbers, places: Numbers, cells: Numbers) -> KrigedRain:
    """Interpolate by ordinary kriging.

    This is Gaussian process regression with an unknown mean [S: Rasmussen and Williams 2006, 2.2 and 2.7]. The
    covariance is exponential with a nugget. Its parameters maximise the likelihood of the complete steps, each divided
    by its standard deviation so that no single storm dominates [O]. Predictions are clipped to the range from 0 to the
    largest gauge of the step [O].

    Args:
        measured: (T, gauges), NaN where missing.
        places: x and y of the gauges in metres, (gauges, 2).
        cells: x and y of the cells in metres, (cells, 2).

    Raises:
        ConfigError: if scikit-learn is not installed.
        DataError: if there are too few gauges or steps.
    """
    kernel = _fit(measured, places)
    values, errors = np.full((len(measured), len(cells)), np.nan), []
    for steps, gauges in _patterns(measured):
        rain = measured[np.ix_(steps, gauges)]
        # Without rain, or with a single gauge, there is no variation.
        values[steps] = rain.mean(axis=1, keepdims=True)
        varied = steps[np.ptp(rain, axis=1) > 0]
        if not len(varied):
            continue
        values[varied], error = _predict(kernel, measured[np.ix_(varied, gauges)], places[gauges], cells)
        errors.append(error)
    every = np.concatenate(errors)
    shared, noise = kernel.k1.k1, float(kernel.k1.k2.noise_level)
    length, share = float(shared.k2.length_scale), noise / (noise + float(shared.k1.constant_value))
    return KrigedRain(
        values, (float(every.min()), float(every.max())), length, share, _leave_one_out(kernel, measured, places)
    )


def _fit(measured: Numbers, places: Numbers) -> Any:
    """Return the kernel of the covariance with the highest likelihood."""
    try:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    except ImportError as error:
        raise ConfigError(
            "kriging needs scikit-learn", where="--gauges", hint="pip install 'landslide-zoo[risk]'"
        ) from error
    rain = _complete(measured)
    if len(places) < MIN_GAUGES or len(rain) < MIN_STEPS:
        raise DataError(
            f"{len(places)} gauges and {len(rain)} steps in which all of them measured rain are too few for kriging",
            hint=f"It needs {MIN_GAUGES} gauges and {MIN_STEPS} such steps; use --gauges inverse-distance",
        )
    distances = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))
    near, far = float(distances[distances > 0].min()), float(distances.max())
    kernel = ConstantKernel(0.9, (1e-3, 10.0)) * Matern(far / 3, (near / 10, 10 * far), nu=0.5)
    # A constant with a large variance models the unknown mean.
    kernel = kernel + WhiteKernel(0.1, (1e-4, 2.0)) + ConstantKernel(MEAN_VARIANCE, "fixed")
    with warnings.catch_warnings():
        # The warning about a parameter at its bound is redundant: the note states range and nugget.
        warnings.simplefilter("ignore")
        return _process(kernel, places, _standard(rain)[0], optimizer="fmin_l_bfgs_b").kernel_


def _standard(rain: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return steps with mean 0 and standard deviation 1, and their original means and deviations."""
    mean, deviation = rain.mean(axis=1, keepdims=True), rain.std(axis=1, keepdims=True)
    return (rain - mean) / deviation, mean, deviation


def _process(kernel: Any, places: Numbers, rain: Numbers, optimizer: str | None = None) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(kernel, alpha=1e-10, optimizer=optimizer).fit(places, rain.T)


def _predict(kernel: Any, rain: Numbers, places: Numbers, cells: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rain of varying steps, (T, cells), and the standard error, (cells,), in deviations of a step."""
    standard, mean, deviation = _standard(rain)
    found, error = _process(kernel, places, standard).predict(cells, return_std=True)
    values = found.reshape(len(cells), -1).T * deviation + mean
    return np.clip(values, 0, rain.max(axis=1, keepdims=True)), error.reshape(len(cells), -1)[:, 0]


def _complete(measured: Numbers) -> Numbers:
    """Return complete steps with varying rain, spread evenly over time."""
    rain = measured[np.isfinite(measured).all(axis=1)]
    rain = rain[np.ptp(rain, axis=1) > 0]
    chosen = np.unique(np.linspace(0, max(0, len(rain) - 1), MAX_STEPS).round().astype(int))
    return np.asarray(rain[chosen[: len(rain)]])


def _patterns(measured: Numbers) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield groups of steps with the same gauges, and these gauges."""
    known = np.isfinite(measured)
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(which.ravel() == number), np.flatnonzero(pattern)


def _leave_one_out(kernel: Any, measured: Numbers, places: Numbers) -> tuple[float, float]:
    """Return the leave-one-out root mean square errors of kriging and of inverse squared distance."""
    rain = _complete(measured)
    squared = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    errors = np.empty((2, *rain.shape))
    for gauge in range(len(places)):
        others = np.arange(len(places)) != gauge
        varied = np.ptp(rain[:, others], axis=1) > 0
        found = rain[:, others].mean(axis=1)
        if varied.any():
            found[varied] = _predict(kernel, rain[varied][:, others], places[others], places[[gauge]])[0][:, 0]
        errors[0, :, gauge] = found - rain[:, gauge]
        nearest = inverse_distance(rain[:, others], squared[[gauge]][:, others])
        errors[1, :, gauge] = nearest[:, 0] - rain[:, gauge]
    kriging, shepard = (math.sqrt(float((error**2).mean())) for error in errors)
    return kriging, shepard


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
    negative = np.flatnonzero(rain < -NEGATIVE_TOLERANCE)
    if len(negative):
        raise DataError(
            f"row {negative[0] + 2}: the rain is {rain.iloc[negative[0]]:g}",
            where=where,
            hint="If it means missing, leave the cell empty",
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
    invalid = (np.abs(places) > (360, 90)).any(axis=1) if degrees else ~np.isfinite(places).all(axis=1)
    zeros = zero_places(x, y, degrees=degrees)
    for wrong, problem, hint in (
        (
            invalid,
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
