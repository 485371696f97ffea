"""Read rain time series: IMERG, ERA5, ERA5-Land, CHIRPS and other longitude-latitude grids, and tables of gauges.

Layouts were checked against published headers [S]: IMERG V06 and V07, half-hourly (HDF5, group Grid, axes time, lon,
lat) and daily (NetCDF); the Climate Data Store's NetCDF and GRIB of ERA5; CHIRPS 2.0; and the GeoTIFFs of IMERG.
Units, times and missing values come from the file, or from an option where the file does not state them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from zoo.errors import ConfigError, DataError, UnknownNameError, first_line
from zoo.jobs import ProgressCallback
from zoo.physics.rain_events import RainSeries, Times, time_text
from zoo.rasters.gauges import inverse_distance, krige, read_gauge_table
from zoo.rasters.grid import Grid
from zoo.rasters.ground import Bounds, Ground, bounds_text, near_longitude, true_scale, window_bounds
from zoo.rasters.rain_series import (
    NAMES,
    RainPiece,
    RainReading,
    Values,
    check_description,
    check_not_cumulative,
    join_pieces,
    only_variable,
    stated_unit,
    unit_factor,
)
from zoo.rasters.reading import MAX_QUANTITY, RasterReader, missing_codes

RainPaths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file of rain, a folder of them or a pattern, or several of these."""

CALENDARS: tuple[str, ...] = ("standard", "gregorian", "proleptic_gregorian", "julian")
"""Supported calendars. IMERG V07 states "julian" and counts from 1980; from 1900 to 2100 the months of that calendar
are as long as Gregorian ones, so its dates are read as Gregorian."""

SUFFIXES = MappingProxyType(
    {
        **dict.fromkeys((".nc", ".nc4", ".h5", ".hdf5", ".rt-h5"), "netcdf"),
        **dict.fromkeys((".grib", ".grb", ".grib2", ".grb2"), "grib"),
        **dict.fromkeys((".tif", ".tiff"), "geotiff"),
        **dict.fromkeys((".csv", ".txt", ".tsv"), "gauges"),
    }
)

INTEGER_MISSING = (9999.0, 29999.0)
"""Missing values of the integers of IMERG's GeoTIFFs: 9999 in files up to 2018, 29999 in later ones (README.GIS of
NASA's Precipitation Processing System) [S]."""

GAUGE_CELLS = 48
"""Cells along the longer side of the grid that gauges are interpolated to [O]."""

MAX_GAUGE_DISTANCE = 1_000_000.0
"""Distance from the grid in metres above which a gauge is reported: its coordinates may be swapped [O]."""

GAUGE_REACH = 250_000.0
"""Distance from the nearest gauge in metres above which rain is unknown [O]; storms are smaller."""

_IMERG_NAME = re.compile(r"3IMERG\.(\d{8})-S(\d{6})-E(\d{6})\.\d{4}\.V\w+\.?(30min|3hr|1day)?")
_CHIRPS_NAME = re.compile(r"chirps-v\d\.\d\.(\d{4})\.(\d{2})\.(\d{2})\.tif", re.IGNORECASE)
_SPANS = {"30min": 0.5, "3hr": 3.0, "1day": 24.0}


@dataclass(frozen=True)
class RainField:
    """Rain over time on a north-up grid.

    Attributes:
        series: time series with rates of shape (T, rows, columns).
        crs: coordinate system of the grid.
        transform: transform from (column, row) to coordinates.
        notes: findings and decisions, as sentences.
    """

    series: RainSeries
    crs: CRS
    transform: Affine
    notes: tuple[str, ...]


def find_files(given: RainPaths) -> list[Path]:
    """Return the rain files of paths, folders and patterns such as ``imerg/*.HDF5``.

    Raises:
        DataError: if a folder or pattern has no files.
    """
    found: list[Path] = []
    for one in [given] if isinstance(given, (str, os.PathLike)) else given:
        path = Path(one)
        if path.is_dir():
            files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
        elif any(sign in path.name for sign in "*?[") and not path.exists():
            files = list(path.parent.glob(path.name))
        else:
            files = [path]
        if not files:
            raise DataError("holds no file of rain", where=path, hint=f"Known: {', '.join(SUFFIXES)}")
        found += sorted(files)
    return found


def read_rain(
    paths: RainPaths, grid: Grid, reading: RainReading | None = None, progress: ProgressCallback | None = None
) -> RainField:
    """Read rain over the region of a raster.

    Args:
        paths: files of one product, folders of them or patterns: NetCDF, HDF5, GRIB or GeoTIFF; or tables of gauges
            with the columns time, longitude, latitude (or x, y in the coordinates of the raster) and rain.
        grid: the raster.
        reading: options for what the files do not state.
        progress: called with the number of files read and the total.

    Raises:
        DataError: if a file is missing or damaged, covers another area, states no unit, time zone or step length, or
            contradicts another file or itself.
        ConfigError: if options contradict the files, or a library for a format is not installed.
    """
    files = sorted(find_files(paths))
    if not files:
        raise ConfigError("no file of rain is given")
    kinds = {SUFFIXES.get(path.suffix.lower()) for path in files}
    reading = reading or RainReading()
    if None in kinds:
        wrong = next(path for path in files if path.suffix.lower() not in SUFFIXES)
        raise ConfigError(
            f"{wrong.suffix or 'a name without a suffix'} is not a format of rain",
            where=wrong,
            hint=f"Known: {', '.join(SUFFIXES)}",
        )
    for path in files:
        if not path.is_file():
            raise DataError("there is no such file", where=path)
    if "gauges" in kinds:
        if len(kinds) > 1:
            raise ConfigError("gauges and grids cannot be read together", hint="Give one of them")
        return _read_gauges(files, grid, reading)
    if reading.time_zone is not None:
        raise ConfigError("times of grids are UTC", where="--time-zone", hint="Leave it out")
    if reading.gauges != RainReading.gauges:
        raise ConfigError("grids have no gauges to interpolate", where="--gauges", hint="Leave it out")
    region = _region(grid)
    notes: list[str] = []
    pieces = []
    for number, path in enumerate(files, 1):
        kind = SUFFIXES[path.suffix.lower()]
        pieces.append(
            _read_geotiff(path, region, reading) if kind == "geotiff" else _read_dataset(path, region, reading)
        )
        if progress is not None:
            progress(number, len(files))
    series = join_pieces(pieces, reading, notes)
    first = pieces[0]
    # Over the whole side, because float32 coordinates are only accurate to a ten-thousandth of a cell.
    height, width = (abs(float(axis[-1] - axis[0])) / (len(axis) - 1) for axis in (first.latitudes, first.longitudes))
    transform = Affine(width, 0, first.longitudes[0] - width / 2, 0, -height, first.latitudes[0] + height / 2)
    return RainField(series, CRS.from_epsg(4326), transform, tuple(notes))


def _region(grid: Grid) -> Bounds:
    """Return (west, south, east, north) of a raster in degrees; east may be beyond 180."""
    left, bottom, right, top = window_bounds(grid.transform, grid.shape)
    x, y = (np.linspace(*ends, 21) for ends in ((left, right), (bottom, top)))
    edge_x = np.concatenate([x, x, np.full(21, left), np.full(21, right)])
    edge_y = np.concatenate([np.full(21, bottom), np.full(21, top), y, y])
    longitude, latitude = Ground(grid.crs).degrees(edge_x, edge_y)
    middle = float(longitude[10])
    longitude = near_longitude(longitude, middle)
    return float(longitude.min()), float(latitude.min()), float(longitude.max()), float(latitude.max())


def _crop(
    path: Path, latitudes: NDArray[np.float64], longitudes: NDArray[np.float64], region: Bounds
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows and columns of a file around a region, north and west first, and their coordinates."""
    west, south, east, north = region
    middle = (west + east) / 2
    # 350 degrees east is 10 degrees west.
    longitudes = near_longitude(longitudes, middle)
    found = []
    for axis, name, low, high in ((latitudes, "latitudes", south, north), (longitudes, "longitudes", west, east)):
        order = np.argsort(axis)
        spaces = np.diff(axis[order])
        if not len(spaces):
            raise DataError(f"has a single value in its {name}", where=path, hint="Crop it less tightly to the region")
        space = float(np.median(spaces))
        near = (axis[order] > low - 2 * space) & (axis[order] < high + 2 * space)
        inside = (axis[order] > low - space / 2) & (axis[order] < high + space / 2)
        if not inside.any():
            text = bounds_text((longitudes.min(), latitudes.min(), longitudes.max(), latitudes.max()))
            raise DataError(
                "does not overlap the grid",
                where=path,
                hint=f"It lies at {text}, and the grid at {bounds_text(region)}, in degrees",
            )
        kept = order[near]
        if len(kept) < 2:
            raise DataError(f"has a single value in its {name} near the grid", where=path, hint="Crop it less tightly")
        if not np.allclose(np.diff(axis[kept]), space, rtol=0.02):
            raise DataError(
                f"its {name} are not evenly spaced",
                where=path,
                hint="Interpolate it to a regular grid first (cdo remapbil)",
            )
        found.append(kept)
    rows, columns = found[0][::-1], found[1]
    return rows, columns, latitudes[rows], longitudes[columns]


def _read_dataset(path: Path, region: Bounds, reading: RainReading) -> RainPiece:
    with _open_dataset(path, reading) as dataset:
        name = _variable(dataset, path, reading)
        rain = dataset[name]
        unit = stated_unit(rain.attrs, reading.unit, f"{path}, variable {name}")
        axes = {}
        for kind, words in (("latitude", ("lat", "latitude")), ("longitude", ("lon", "longitude"))):
            found = [dimension for dimension in rain.dims if str(dimension).lower() in words]
            if not found or found[0] not in dataset or dataset[found[0]].ndim != 1:
                raise DataError(
                    f"{name} has no axis of {kind}", where=path, hint=f"Its axes are {', '.join(map(str, rain.dims))}"
                )
            axes[kind] = found[0]
        latitudes, longitudes = (
            _load(dataset[axes[kind]], path).to_numpy().astype(np.float64) for kind in ("latitude", "longitude")
        )
        rows, columns, latitudes, longitudes = _crop(path, latitudes, longitudes, region)
        rain = _load(rain.isel({axes["latitude"]: rows, axes["longitude"]: columns}), path)
        if "expver" in rain.dims:
            # Each time has one of two versions: final ERA5, or the preliminary release of the last months.
            rain = rain.max("expver")
        over_time = [dimension for dimension in rain.dims if dimension not in axes.values()]
        if not set(map(str, over_time)) <= {"time", "valid_time", "step"}:
            raise DataError(
                f"{name} has the axes {', '.join(map(str, rain.dims))}",
                where=path,
                hint="Choose one member or level first, for example with cdo",
            )
        values = rain.transpose(*over_time, axes["latitude"], axes["longitude"]).to_numpy().astype(np.float32)
        times, bounds, runs = _times(dataset, [str(one) for one in over_time], path)
        ecmwf = name == "tp" or rain.attrs.get("GRIB_shortName") == "tp"
    fields = values.size // (len(latitudes) * len(longitudes))
    if fields != len(times) or (runs is not None and len(runs) != len(times)):
        raise DataError(f"has {fields} fields of rain and {len(times)} times", where=path)
    values = values.reshape(len(times), len(latitudes), len(longitudes))
    known = ~np.isnat(times)
    # GRIB files are a full table of forecast times and steps; the first and last day use only a part of it.
    known &= np.isfinite(values).any(axis=(1, 2)) | (runs is None)
    runs = None if runs is None else runs[known]
    bounds = None if bounds is None else bounds[known]
    return RainPiece(
        path, _without_codes(values[known]), times[known], bounds, runs, unit, latitudes, longitudes, ecmwf
    )


def _load(array: Any, path: Path) -> Any:
    """Read an array of xarray from its file, which may be damaged.

    Raises:
        DataError: if the array cannot be read, or holds no numbers.
    """
    try:
        array.load()
    except Exception as error:
        # Damaged files raise almost any error: OSError, KeyError, RuntimeError of HDF5, errors of eccodes.
        raise _damage_error(path, error) from error
    if array.dtype.kind not in "iuf":
        raise DataError(f"{array.name} holds no numbers", where=path)
    return array


def _open_dataset(path: Path, reading: RainReading) -> Any:
    """Open a file with xarray; times remain numbers, because xarray does not decode some calendars."""
    try:
        import xarray
        from xarray.backends import H5netcdfBackendEntrypoint, ScipyBackendEntrypoint
    except ImportError as error:
        raise _missing_package(error) from error
    if SUFFIXES[path.suffix.lower()] == "grib":
        try:
            from cfgrib.xarray_plugin import CfGribBackend
        except ImportError as error:
            raise ConfigError("GRIB needs cfgrib", where=path, hint="pip install cfgrib") from error
        chosen = {"filter_by_keys": {"shortName": reading.variable or "tp"}, "indexpath": ""}
        try:
            return xarray.open_dataset(path, engine=CfGribBackend, decode_times=False, backend_kwargs=chosen)
        except Exception as error:
            raise _damage_error(path, error) from error
    try:
        with path.open("rb") as file:
            classic = file.read(3) == b"CDF"
        if classic:
            return xarray.open_dataset(path, engine=ScipyBackendEntrypoint, decode_times=False)
        with h5py.File(path) as content:
            group = "Grid" if "Grid" in content else None
        return xarray.open_dataset(path, engine=H5netcdfBackendEntrypoint, decode_times=False, group=group)
    except ImportError as error:
        raise _missing_package(error) from error
    except Exception as error:
        raise _damage_error(path, error) from error


def _missing_package(error: ImportError) -> ConfigError:
    return ConfigError(
        f"reading rain needs {error.name}, which is not installed", hint="pip install 'landslide-zoo[rain]'"
    )


def _damage_error(path: Path, error: Exception) -> DataError:
    hint = f"({first_line(error)})"
    return DataError("cannot be read: it is truncated or its format does not match its name", where=path, hint=hint)


def _variable(dataset: Any, path: Path, reading: RainReading) -> str:
    names = [str(name) for name in dataset.data_vars]
    if reading.variable is not None:
        if reading.variable not in names:
            raise UnknownNameError("variable", reading.variable, names, where=path)
        return reading.variable
    found = only_variable([name for name in NAMES if name in names], path)
    if found is not None:
        return found
    raise DataError(
        "holds no variable with a known name of rain",
        where=path,
        hint=f"Name it with --variable; there are {', '.join(names) or 'none'}",
    )


def _times(dataset: Any, over_time: list[str], path: Path) -> tuple[Times, NDArray[np.datetime64] | None, Times | None]:
    """Return the times of a file, the two ends of their steps, and the start of the forecast each belongs to."""
    name = "valid_time" if "valid_time" in dataset else (over_time or ["time"])[0]
    if name not in dataset:
        raise DataError("has no time", where=path)
    axis = dataset[name]
    units, calendar = _time_unit(axis.attrs, path, name)
    times = _decode(axis, units, calendar, path)
    runs = None
    if {"time", "step"} <= set(dataset.coords) and name == "valid_time":
        units, calendar = _time_unit(dataset["time"].attrs, path, "time")
        runs = np.broadcast_to(
            _decode(dataset["time"], units, calendar, path)[:, None], (dataset["time"].size, dataset["step"].size)
        ).ravel()
    edges = str(axis.attrs.get("bounds", ""))
    if edges not in dataset:
        return times, None, runs
    if dataset[edges].shape != (*axis.shape, 2):
        raise DataError(f"{edges} does not hold the two ends of each of the {axis.size} steps", where=path)
    units = str(dataset[edges].attrs.get("units", units))
    found = _decode(dataset[edges], units, calendar, path).reshape(-1, 2)
    # In some products, a step ends a second or a millisecond before the next one.
    minutes = (found + np.timedelta64(30, "s")).astype("datetime64[m]")
    return times, minutes.astype("datetime64[s]"), runs


def _time_unit(attributes: Any, path: Path, name: str) -> tuple[str, str]:
    units, calendar = str(attributes.get("units", "")), str(attributes.get("calendar", "standard")).lower()
    if " since " not in units:
        raise DataError(f"{name} is in {units!r}, not in a unit such as 'hours since 1970-01-01'", where=path)
    if calendar not in CALENDARS:
        raise DataError(
            f"has the calendar {calendar!r} of a climate model, whose dates are not real ones",
            where=path,
            hint=f"Convert it first; known: {', '.join(CALENDARS)}",
        )
    return units, calendar


def _decode(axis: Any, units: str, calendar: str, path: Path) -> Times:
    """Return the times of an axis in UTC as datetime64[s] (N,); NaT for what is not a number."""
    try:
        import cftime
    except ImportError as error:
        raise _missing_package(error) from error
    numbers = _load(axis, path).to_numpy().ravel()
    times = np.full(len(numbers), "NaT", dtype="datetime64[s]")
    known = np.isfinite(numbers)
    try:
        dates = cftime.num2date(numbers[known], units, calendar, only_use_cftime_datetimes=True)
        # cftime applies a time zone offset in the unit.
        times[known] = [np.datetime64(date.strftime("%Y-%m-%dT%H:%M:%S"), "s") for date in np.atleast_1d(dates)]
    except (ValueError, OverflowError, TypeError) as error:
        raise DataError(f"its times cannot be read as {units!r}", where=path, hint=f"({error})") from error
    return times


def _without_codes(values: Values) -> Values:
    """Replace fill values that no tag declares with NaN."""
    values[np.abs(values) >= MAX_QUANTITY] = np.nan
    coded = missing_codes(values, values.dtype, None)
    if coded is not None:
        values[coded] = np.nan
    return values


def _read_geotiff(path: Path, region: Bounds, reading: RainReading) -> RainPiece:
    start, end = _period_in_name(path)
    with RasterReader(path) as reader:
        if reader.crs is None or not reader.crs.is_geographic:
            raise DataError("is not on a longitude-latitude grid", where=path)
        unit = stated_unit({"units": reader.bands[0].unit}, reading.unit, path)
        check_description(reader.tags.get("TIFFTAG_IMAGEDESCRIPTION", ""), unit, path)
        rows, columns = reader.shape
        latitudes = reader.transform.f + reader.transform.e * (np.arange(rows) + 0.5)
        longitudes = reader.transform.c + reader.transform.a * (np.arange(columns) + 0.5)
        chosen = _crop(path, latitudes, longitudes, region)
        values = reader.read(None, [0])[0][np.ix_(chosen[0], chosen[1])]
        if reader.bands[0].dtype.kind in "ui":
            values[np.isin(values, INTEGER_MISSING)] = np.nan
    ends = np.array([[start, end]], dtype="datetime64[s]")
    return RainPiece(path, values[None], ends[:, 0], ends, None, unit, chosen[2], chosen[3], False)


def _period_in_name(path: Path) -> tuple[datetime, datetime]:
    """Return the start and end time in the name of a GeoTIFF.

    Raises:
        DataError: if the name has no times.
    """
    if found := _IMERG_NAME.search(path.name):
        start = datetime.strptime(found[1] + found[2], "%Y%m%d%H%M%S")
        end = datetime.strptime(found[1] + found[3], "%Y%m%d%H%M%S") + timedelta(seconds=1)
        return (end - timedelta(hours=_SPANS[found[4]]) if found[4] else start), end
    if found := _CHIRPS_NAME.search(path.name):
        start = datetime(int(found[1]), int(found[2]), int(found[3]))
        return start, start + timedelta(days=1)
    raise DataError(
        "its name states no time",
        where=path,
        hint="Keep the published file names of IMERG (...3IMERG.20240611-S053000-E055959...) or "
        "chirps-v2.0.2024.06.11.tif",
    )


def _read_gauges(files: list[Path], grid: Grid, reading: RainReading) -> RainField:
    """Read tables of gauges and interpolate between the gauges."""
    notes: list[str] = []
    remarks: list[str] = []
    tables, units = zip(*(read_gauge_table(path, reading, grid, remarks) for path in files), strict=True)
    if len(set(units)) > 1:
        raise DataError(f"the tables are in {' and '.join(sorted(set(units)))}", where=files[0].parent)
    table, unit = pd.concat(tables, keys=files), units[0]
    table = table.drop_duplicates(["time", "x", "y", "rain"])
    duplicated = table.duplicated(["time", "x", "y"])
    if duplicated.any():
        path, row = table.index[duplicated][0]
        raise DataError(
            f"a second value of this gauge at {time_text(table['time'][duplicated].iloc[0].to_datetime64())}",
            where=f"{path}, row {row + 2}",
            hint="Keep one of them; the time must state the hour if a step is shorter than a day",
        )
    wide = table.pivot(index="time", columns=["x", "y"], values="rain").sort_index()
    places = np.array(list(wide.columns), dtype=np.float64)
    left, bottom, right, top = window_bounds(grid.transform, grid.shape)
    scale = np.array(true_scale(grid.crs, (left + right) / 2, (bottom + top) / 2))
    cell = max((right - left) * scale[0], (top - bottom) * scale[1]) / GAUGE_CELLS
    width, height = cell / scale
    columns, rows = math.ceil((right - left) / width) + 2, math.ceil((top - bottom) / height) + 2
    transform = Affine(width, 0, left - width, 0, -height, top + height)
    x = transform.c + transform.a * (np.arange(columns) + 0.5)
    y = transform.f + transform.e * (np.arange(rows) + 0.5)
    grid_x, grid_y = np.meshgrid(x, y)
    cells = np.column_stack([grid_x.ravel(), grid_y.ravel()])
    squared = (((cells[:, None] - places[None]) * scale) ** 2).sum(axis=2)
    measured = wide.to_numpy(np.float64)
    _check_gauges(wide, unit, files[0])
    if reading.gauges == "kriging":
        kriged = krige(measured, places * scale, cells * scale)
        values, how = kriged.values, kriged.sentence()
    else:
        values, how = inverse_distance(measured, squared), "interpolated by inverse squared distance"
    beyond = squared.min(axis=1) > GAUGE_REACH**2
    values[:, beyond] = np.nan
    times = wide.index.tz_localize(None).to_numpy().astype("datetime64[s]")
    piece = RainPiece(
        files[0], values.reshape(len(times), rows, columns).astype(np.float32), times, None, None, unit, y, x, False
    )
    away = np.sqrt(squared.min(axis=0))
    nearest, farthest = float(away.min()), int(np.argmax(away))
    if nearest > max(rows, columns) * cell:
        raise DataError(
            f"the nearest gauge is {nearest / 1000:,.0f} km from the grid", where=files[0], hint="Check its coordinates"
        )
    series = join_pieces([piece], reading, notes)
    silent = int(np.isnan(measured).all(axis=0).sum())
    if silent:
        remarks.append(f"{silent} of the gauges hold no value")
    notes[0] = f"{len(places)} gauges, {len(times):,} steps of rain in {unit}, {how}"
    if beyond.any():
        remarks.append(
            f"{beyond.mean():.0%} of the region lies more than {GAUGE_REACH / 1000:g} km from any gauge and has no rain"
        )
    if away[farthest] > MAX_GAUGE_DISTANCE:
        east, north = places[farthest]
        limit = f"{MAX_GAUGE_DISTANCE / 1000:,.0f} km"
        remarks.append(
            f"{int((away > MAX_GAUGE_DISTANCE).sum())} gauges lie more than {limit} from the grid, the farthest "
            f"{away[farthest] / 1000:,.0f} km at {east:.6g}, {north:.6g}. Check their coordinates"
        )
    return RainField(series, grid.crs, transform, (*notes, *remarks))


def _check_gauges(wide: pd.DataFrame, unit: str, path: Path) -> None:
    """Refuse gauges whose values are not the rain of the steps of the table.

    Args:
        wide: rain by time (rows) and place (columns).
        unit: unit of the rain.
        path: the table, for the error.

    Raises:
        DataError: if a gauge has longer steps than another, or holds sums since the start.
    """
    if len(wide) < 2:
        return
    depth, factor = unit_factor(unit, path)
    step = wide.index.to_series().diff().min()
    for place in wide.columns:
        x, y = map(float, place)
        known = wide[place].dropna()
        where = f"{path}, gauge at {x:.6g}, {y:.6g}"
        own = known.index.to_series().diff().min()
        if len(known) > 1 and own > step:
            raise DataError(
                f"its values are {own.total_seconds() / 3600:g} h apart, those of other gauges "
                f"{step.total_seconds() / 3600:g} h, so they are the rain of different times",
                where=where,
                hint="Give gauges with equal steps: sum up the shorter ones, or leave this gauge out",
            )
        if depth:
            check_not_cumulative(known.to_numpy() * factor, where)
