"""Small files of rain in the layouts of the real products, written with h5py and netCDF as their makers do.

Layouts follow published headers: IMERG half-hourly V07 (HDF5) and daily V07 (NetCDF) of GES DISC, ERA5 of the Climate
Data Store since 2024 (valid_time, number, expver) and before (time, packed int16), ERA5-Land (sums since 00 UTC),
CHIRPS 2.0 of UCSB.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

GPS = datetime(1980, 1, 6, tzinfo=UTC)
FILL = np.float32(-9999.9)


def axis(start: float, count: int, step: float = 0.1) -> np.ndarray:
    return (start + step * np.arange(count)).astype(np.float32)


def write_imerg(folder: Path, start: datetime, rate: np.ndarray, lons: np.ndarray, lats: np.ndarray, **change) -> Path:
    """Write half an hour of IMERG V07; ``rate`` is mm/hr (lat, lon), NaN where missing, with latitudes northwards."""
    end = start + timedelta(minutes=29, seconds=59)
    serial = start.hour * 60 + start.minute
    path = folder / f"3B-HHR.MS.MRG.3IMERG.{start:%Y%m%d-S%H%M%S}-E{end:%H%M%S}.{serial:04}.V07B.HDF5"
    seconds = int((start.replace(tzinfo=UTC) - GPS).total_seconds())
    units = change.get("units", b"mm/hr")
    with h5py.File(path, "w") as file:
        file.attrs["FileHeader"] = np.bytes_("AlgorithmID=3IMERGHH;\nTimeInterval=HALF_HOUR;\nProductVersion=V07B;\n")
        grid = file.create_group("Grid")
        about_time = {
            "units": b"seconds since 1980-01-06 00:00:00 UTC",
            "Units": b"seconds since 1980-01-06 00:00:00 UTC",
            "standard_name": b"time",
            "bounds": b"time_bnds",
            "calendar": change.get("calendar", b"julian"),
        }
        for name, values, about in (
            ("time", np.array([seconds], np.int32), about_time),
            ("lon", lons, {"units": b"degrees_east", "standard_name": b"longitude"}),
            ("lat", lats, {"units": b"degrees_north", "standard_name": b"latitude"}),
            ("nv", np.arange(2, dtype=np.int32), {}),
        ):
            made = grid.create_dataset(
                name, data=values, maxshape=(None,) if name == "time" else None, chunks=name == "time" or None
            )
            made.make_scale(name)
            for key, value in about.items():
                made.attrs[key] = np.bytes_(value)
        values = np.where(np.isnan(rate), FILL, rate).astype(np.float32).T[None]
        for name, data in (
            ("precipitation", values),
            ("precipitationQualityIndex", np.ones_like(values)),
            ("randomError", values / 2),
        ):
            made = grid.create_dataset(name, data=data, compression="gzip", fillvalue=FILL)
            for number, dimension in enumerate(("time", "lon", "lat")):
                made.dims[number].attach_scale(grid[dimension])
            made.attrs["DimensionNames"] = np.bytes_("time,lon,lat")
            made.attrs["coordinates"] = np.bytes_("time lon lat")
            made.attrs["_FillValue"] = FILL
            made.attrs["CodeMissingValue"] = np.bytes_("-9999.9")
            if name != "precipitationQualityIndex" and units:
                made.attrs["units"] = np.bytes_(units)
                made.attrs["Units"] = np.bytes_(change.get("Units", units))
        bounds = grid.create_dataset("time_bnds", data=np.array([[seconds, seconds + 1800]], np.int32))
        bounds.dims[0].attach_scale(grid["time"])
        bounds.dims[1].attach_scale(grid["nv"])
        bounds.attrs["units"] = np.bytes_("seconds since 1980-01-06 00:00:00 UTC")
    return path


def write_imerg_daily(path: Path, day: datetime, depth: np.ndarray, lons: np.ndarray, lats: np.ndarray) -> Path:
    """Write a day of IMERG V07 (GPM_3IMERGDF): mm/day (lat, lon)."""
    days = (day - datetime(1970, 1, 1)).days
    about_time = {"units": "days since 1970-01-01 00:00:00Z", "calendar": "standard", "bounds": "time_bnds"}
    rain = xr.Variable(("time", "lon", "lat"), depth.T[None].astype(np.float32), {"units": "mm/day"})
    counts = xr.Variable(("time", "lon", "lat"), np.full(rain.shape, 48, np.int16), {"units": "count"})
    dataset = xr.Dataset(
        {
            "precipitation": rain,
            "precipitation_cnt": counts,
            "randomError": rain / 2,
            "time_bnds": (("time", "nv"), np.array([[days, days + 1 - 1 / 86400]])),
        },
        coords={
            "time": ("time", np.array([days], np.int32), about_time),
            "lon": ("lon", lons, {"units": "degrees_east"}),
            "lat": ("lat", lats.astype(np.float64), {"units": "degrees_north"}),
        },
    )
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"precipitation": {"_FillValue": FILL}})
    return path


def write_era5(path: Path, ends: np.ndarray, metres: np.ndarray, lons: np.ndarray, lats: np.ndarray) -> Path:
    """Write ERA5 or ERA5-Land as the Climate Data Store does since 2024: m (valid_time, latitude, longitude)."""
    seconds = ends.astype("datetime64[s]").astype(np.int64)
    about_time = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "standard_name": "time"}
    rain = xr.Variable(
        ("valid_time", "latitude", "longitude"),
        metres.astype(np.float32),
        {
            "units": "m",
            "long_name": "Total precipitation",
            "GRIB_shortName": "tp",
            "GRIB_stepType": "accum",
            "GRIB_dataType": "fc",
        },
    )
    dataset = xr.Dataset(
        {"tp": rain},
        coords={
            "number": ((), 0),
            "valid_time": ("valid_time", seconds, about_time),
            "latitude": ("latitude", lats.astype(np.float64), {"units": "degrees_north"}),
            "longitude": ("longitude", lons.astype(np.float64), {"units": "degrees_east"}),
            "expver": ("valid_time", np.full(len(ends), "0001", dtype="<U4")),
        },
    )
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"tp": {"_FillValue": np.float32(np.nan)}})
    return path


def write_era5_packed(path: Path, ends: np.ndarray, metres: np.ndarray, lons: np.ndarray, lats: np.ndarray) -> Path:
    """Write ERA5 as the Climate Data Store did until 2024: NetCDF-3, int16 with scale and offset, hours since 1900."""
    hours = (ends.astype("datetime64[h]") - np.datetime64("1900-01-01T00", "h")).astype(np.int32)
    low, high = float(np.nanmin(metres)), float(np.nanmax(metres))
    encoding = {
        "dtype": "int16",
        "scale_factor": (high - low) / 65532,
        "add_offset": (high + low) / 2,
        "_FillValue": np.int16(-32767),
    }
    dataset = xr.Dataset(
        {"tp": (("time", "latitude", "longitude"), metres, {"units": "m", "long_name": "Total precipitation"})},
        coords={
            "time": ("time", hours, {"units": "hours since 1900-01-01 00:00:00.0", "calendar": "gregorian"}),
            "latitude": ("latitude", lats, {"units": "degrees_north"}),
            "longitude": ("longitude", lons, {"units": "degrees_east"}),
        },
    )
    dataset.to_netcdf(path, engine="scipy", format="NETCDF3_64BIT", encoding={"tp": encoding})
    return path


def write_chirps(path: Path, days: np.ndarray, depth: np.ndarray, lons: np.ndarray, lats: np.ndarray) -> Path:
    """Write CHIRPS 2.0: mm/day (time, latitude, longitude), latitudes northwards."""
    since = (days.astype("datetime64[D]") - np.datetime64("1980-01-01", "D")).astype(np.float32)
    about = {"units": "mm/day", "time_step": "day", "standard_name": "convective precipitation rate"}
    dataset = xr.Dataset(
        {"precip": (("time", "latitude", "longitude"), depth.astype(np.float32), about)},
        coords={
            "time": ("time", since, {"units": "days since 1980-1-1 0:0:0", "calendar": "gregorian"}),
            "latitude": ("latitude", lats, {"units": "degrees_north"}),
            "longitude": ("longitude", lons, {"units": "degrees_east"}),
        },
    )
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"precip": {"_FillValue": np.float32(-9999.0)}})
    return path
