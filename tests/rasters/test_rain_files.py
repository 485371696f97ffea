"""Rain read from files in the layouts of real products, and laid on the grid of a stack."""

from datetime import datetime, timedelta

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from tests.rasters.rain_layouts import (
    axis,
    write_chirps,
    write_era5,
    write_era5_packed,
    write_imerg,
    write_imerg_daily,
)
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.rasters.alignment import RainLayers
from zoo.rasters.rain_bands import INTENSITY
from zoo.rasters.rain_files import read_rain
from zoo.rasters.rain_series import RainReading
from zoo.rasters.stacks import Stack

LONS, LATS = axis(72.95, 12), axis(33.95, 10)
"""Centres of cells of 0.1 degree around the stack, which covers 73.4 to 73.6 east and 34.3 to 34.5 north."""

DAY = datetime(2024, 6, 11)


def field(hour, lats=LATS, lons=LONS):
    """Rain that differs at each place around the stack and at each time, mm/h, (lat, lon)."""
    return 2 + np.sin(hour) + (lats[:, None] - 34) + 2 * np.abs(lons[None] - 73)


@pytest.fixture(scope="module")
def stack_file(tmp_path_factory):
    path, grid = tmp_path_factory.mktemp("tal ö") / "stack.tif", from_origin(73.4, 34.52, 0.01, 0.01)
    return write_geotiff(path, np.ones((22, 20), np.float32), crs="EPSG:4326", transform=grid)


@pytest.fixture
def grid(stack_file):
    with Stack(stack_file) as stack:
        yield stack


def value(field, longitude, latitude, values):
    """The value of the cell at a place."""
    column, row = ~field.transform * (longitude, latitude)
    return values[..., int(row), int(column)]


def check_cells(found, expected_rate, lats=LATS, lons=LONS):
    """Compare four cells around the stack with what was written there."""
    for latitude in (34.35, 34.45):
        for longitude in (73.35, 73.55):
            row, column = np.argmin(abs(lats - latitude)), np.argmin(abs((lons + 180) % 360 - 180 - longitude))
            written = expected_rate[:, row, column]
            np.testing.assert_allclose(
                value(found, longitude, latitude, found.series.rate), written, rtol=1e-4, atol=2e-3
            )


def test_imerg_half_hours_are_transposed_and_start_at_their_time(tmp_path, grid):
    rates = np.stack([field(hour) for hour in range(4)])
    rates[2, :, 4] = np.nan
    paths = [write_imerg(tmp_path, DAY + timedelta(minutes=30 * n), rate, LONS, LATS) for n, rate in enumerate(rates)]
    found = read_rain(paths[::-1], grid)
    assert found.series.starts.astype(str).tolist()[:2] == ["2024-06-11T00:00:00", "2024-06-11T00:30:00"]
    assert found.series.ends.astype(str)[-1] == "2024-06-11T02:00:00"
    check_cells(found, rates)
    assert np.isnan(found.series.rate[2]).any(axis=0).sum() == 1
    assert found.series.rate.shape[1] < len(LATS), "only the surroundings of the stack are read"


def test_imerg_days(tmp_path, grid):
    depths = [24 * field(0), 24 * field(5)]
    paths = [
        write_imerg_daily(tmp_path / f"{n}.nc4", DAY + timedelta(days=n), depth, LONS, LATS)
        for n, depth in enumerate(depths)
    ]
    found = read_rain(paths, grid)
    check_cells(found, np.stack(depths) / 24)
    assert found.series.hours.tolist() == [24, 24]


def era5(count, lons=LONS):
    ends = np.datetime64("2024-06-11T01", "h") + np.arange(count)
    return ends, np.stack([field(hour, lons=((lons + 180) % 360 - 180)) for hour in range(count)])


def test_era5_with_valid_time_longitudes_of_360_and_latitudes_southwards(tmp_path, grid):
    ends, rate = era5(30)
    path = write_era5(tmp_path / "era5.nc", ends, rate[:, ::-1] / 1000, LONS, LATS[::-1])
    found = read_rain([path], grid)
    check_cells(found, rate)
    assert found.series.starts[0] == np.datetime64("2024-06-11T00:00:00")
    assert any("depth of each step (ERA5): rain falls within a day" in note for note in found.notes)


def test_era5_with_hours_left_out_is_refused(tmp_path, grid):
    ends, rate = era5(30)
    path = write_era5(tmp_path / "era5.nc", ends[::3], rate[::3] / 1000, LONS, LATS)
    with pytest.raises(DataError, match="its times are 3 h apart"):
        read_rain([path], grid)
    check_cells(read_rain([path], grid, RainReading(accumulation="step")), rate[::3] / 3)


@pytest.mark.parametrize("shift", [0, 360])
def test_west_of_greenwich(tmp_path, shift):
    path = tmp_path / "stack.tif"
    grid = from_origin(-0.25, 34.5, 0.1, 0.1)
    write_geotiff(path, np.ones((5, 5), np.float32), crs="EPSG:4326", transform=grid)
    lons = axis(0.05, 3600) if shift else axis(-179.95, 3600)
    ends, rate = era5(3, lons)
    data = write_era5(tmp_path / "e.nc", ends, rate / 1000, lons, LATS)
    with Stack(path) as stack:
        found = read_rain([data], stack, RainReading(accumulation="step"))
    assert found.transform.c == pytest.approx(-0.4, abs=0.11)
    column = np.argmin(abs((lons + 180) % 360 - 180 + 0.05))
    assert value(found, -0.05, 34.35, found.series.rate)[1] == pytest.approx(rate[1, 4, column], rel=1e-3)


def test_era5_packed_into_integers(tmp_path, grid):
    ends, rate = era5(8)
    rate[3] = 0
    path = write_era5_packed(tmp_path / "old.nc", ends, rate / 1000, LONS, LATS)
    check_cells(read_rain([path], grid), rate)


def test_era5_land_is_a_sum_since_midnight_utc(tmp_path, grid):
    """The depth of 00 UTC belongs to the last hour of the day before."""
    ends, rate = era5(50)
    sums = np.zeros_like(rate)
    for number in range(50):
        first = number - number % 24
        sums[number] = rate[first : number + 1].sum(axis=0)
    path = write_era5(tmp_path / "land.nc", ends, sums / 1000, LONS, LATS)
    found = read_rain([path], grid)
    check_cells(found, rate)
    assert any("since 00 UTC (ERA5-Land)" in note for note in found.notes)
    part = write_era5(tmp_path / "part.nc", ends[3:20], sums[3:20] / 1000, LONS, LATS)
    with pytest.raises(DataError, match="it is unknown whether values"):
        read_rain([part], grid)
    later = read_rain([part], grid, RainReading(accumulation="day"))
    assert np.isnan(later.series.rate[0]).all(), "the sum before the first hour is unknown"
    check_cells(read_rain([part], grid, RainReading(accumulation="step")), sums[3:20])


def test_chirps_days(tmp_path, grid):
    days = np.arange("2024-06-10", "2024-06-13", dtype="datetime64[D]")
    depth = np.stack([24 * field(n) for n in range(3)])
    depth[0, 4, 4] = np.nan
    path = write_chirps(tmp_path / "chirps-v2.0.2024.days_p05.nc", days, depth, LONS, LATS)
    found = read_rain([path], grid)
    check_cells(found, depth / 24)
    assert found.series.starts.astype("datetime64[D]").tolist() == days.tolist()


def write_tif(path, values, *, dtype="float32", **about):
    grid = from_origin(72.9, 34.9, 0.1, 0.1)
    return write_geotiff(path, values[::-1].astype(dtype), crs="EPSG:4326", transform=grid, **about)


def test_geotiffs_of_imerg_and_chirps(tmp_path, grid):
    tenths = np.rint(field(0) * 10).astype(np.uint16)
    tenths[5, 5], tenths[5, 6] = 29999, 9999
    name = "3B-HHR-E.MS.MRG.3IMERG.20240611-S003000-E005959.0030.V06B.30min.tif"
    path = write_tif(tmp_path / name, tenths, dtype="uint16")
    with pytest.raises(DataError, match="states no unit"):
        read_rain([path], grid)
    found = read_rain([path], grid, RainReading(unit="0.1 mm"))
    assert value(found, 73.35, 34.35, found.series.rate)[0] == pytest.approx(2 * tenths[4, 4] / 10)
    assert np.isnan(found.series.rate).sum() == 2
    assert (found.series.starts[0], found.series.hours[0]) == (np.datetime64("2024-06-11T00:30:00"), 0.5)
    daily = field(0)
    daily[5, 5] = -9999
    path = write_tif(tmp_path / "chirps-v2.0.2024.06.11.tif", daily)
    found = read_rain([path], grid, RainReading(unit="mm/day"))
    assert np.isnan(found.series.rate).sum() == 1
    assert value(found, 73.35, 34.35, found.series.rate)[0] == pytest.approx(daily[4, 4] / 24)
    with pytest.raises(DataError, match="its name states no time"):
        read_rain([write_tif(tmp_path / "rain.tif", daily)], grid, RainReading(unit="mm"))


@pytest.mark.parametrize(
    ("words", "unit", "other"),
    [
        ("30-minute accumulation, unit 0.1 mm", "0.1 mm", "0.1 mm/h"),
        ("Rain rate (0.1mm/hr)", "0.1 mm/h", "0.1 mm"),
        ("average in 0.001 millimeters per hour", "0.001 mm/h", "0.1 mm/h"),
        ("depth in mm, scaled by 10", "0.1 mm", "0.1 mm/day"),
        ("0.1 mm/day", "0.1 mm/day", "0.1 mm/h"),
    ],
)
def test_a_unit_that_contradicts_the_description_of_a_geotiff_is_refused(tmp_path, grid, words, unit, other):
    name = "3B-HHR-E.MS.MRG.3IMERG.20240611-S003000-E005959.0030.V06B.30min.tif"
    tags = {"TIFFTAG_IMAGEDESCRIPTION": words}
    path = write_tif(tmp_path / name, np.rint(field(0) * 10), dtype="uint16", tags=tags)
    read_rain([path], grid, RainReading(unit=unit))
    with pytest.raises(DataError, match="describes itself as"):
        read_rain([path], grid, RainReading(unit=other))


def test_a_description_without_a_unit_is_ignored(tmp_path, grid):
    tags = {"TIFFTAG_IMAGEDESCRIPTION": "IMERG, summm of 30 min, see README"}
    path = write_tif(tmp_path / "chirps-v2.0.2024.06.11.tif", field(0), tags=tags)
    read_rain([path], grid, RainReading(unit="mm/day"))


def test_grib_of_era5_land(tmp_path, grid):
    """Forecast times and steps are the axes; steps 1 to 24 are sums since 00 UTC."""
    eccodes = pytest.importorskip("eccodes")
    pytest.importorskip("cfgrib")
    _, rate = era5(26)
    path = tmp_path / "land.grib"
    with path.open("wb") as file:
        for number in range(26):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
            sums = rate[number - number % 24 : number + 1].sum(axis=0)
            about = {
                "dataDate": 20240611 + number // 24, "dataTime": 0, "stepUnits": 1, "timeRangeIndicator": 4,
                "P1": 0, "P2": number % 24 + 1, "indicatorOfParameter": 228, "table2Version": 128, "centre": 98,
                "Ni": len(LONS), "Nj": len(LATS), "latitudeOfFirstGridPointInDegrees": float(LATS[-1]),
                "latitudeOfLastGridPointInDegrees": float(LATS[0]),
                "longitudeOfFirstGridPointInDegrees": float(LONS[0]),
                "longitudeOfLastGridPointInDegrees": float(LONS[-1]), "iDirectionIncrementInDegrees": 0.1,
                "jDirectionIncrementInDegrees": 0.1, "bitsPerValue": 24,
            }  # fmt: skip
            for key, content in about.items():
                eccodes.codes_set(message, key, content)
            eccodes.codes_set_values(message, (sums[::-1] / 1000).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    found = read_rain([path], grid)
    assert len(found.series.starts) == 26
    check_cells(found, rate)


GAUGES = """time,longitude,latitude,rain (mm)
2024-06-11T05:00+05:00,73.41,34.41,4.0
2024-06-11T05:00+05:00,73.59,34.31,1.0
2024-06-11T06:00+05:00,73.41,34.41,2.0
2024-06-11T06:00+05:00,73.59,34.31,
2024-06-11T07:00+05:00,73.41,34.41,0.0
2024-06-11T07:00+05:00,73.59,34.31,-9999
"""


def test_gauges_are_interpolated_by_inverse_squared_distance(tmp_path, grid):
    path = tmp_path / "gauges.csv"
    path.write_text(GAUGES)
    found = read_rain([path], grid, RainReading(stamps="end"))
    assert found.series.ends.astype(str)[0] == "2024-06-11T00:00:00", "times are converted to UTC"
    rows, columns = found.series.rate.shape[1:]
    x, y = found.transform * (columns // 2 + 0.5, rows // 2 + 0.5)
    metres = np.array([np.cos(np.radians(34.41)), 1.0])
    first, second = (np.sum((np.array(place) - (x, y)) ** 2 * metres**2) for place in ((73.41, 34.41), (73.59, 34.31)))
    expected = (4 / first + 1 / second) / (1 / first + 1 / second)
    assert found.series.rate[0, rows // 2, columns // 2] == pytest.approx(expected, rel=5e-3)
    np.testing.assert_allclose(found.series.rate[1], 2.0, rtol=1e-5)


def test_gauges_are_kriged_and_grids_are_not(tmp_path, grid):
    rng = np.random.default_rng(0)
    places = rng.uniform((73.4, 34.3), (73.6, 34.5), (6, 2))
    rows = ["time,longitude,latitude,rain (mm)"]
    for hour in range(12):
        rows += [f"2024-06-11T{hour:02}:00Z,{x:.4f},{y:.4f},{3 + 9 * (x - 73.4) + hour % 3:.2f}" for x, y in places]
    path = tmp_path / "gauges.csv"
    path.write_text("\n".join(rows))
    found = read_rain([path], grid, RainReading(stamps="end", gauges="kriging"))
    assert "interpolated by kriging" in found.notes[0]
    depths = [3 + 9 * (x - 73.4) for x, _ in places]
    assert found.series.rate.max() <= max(depths) + 2.01
    assert found.series.rate[0, :, -1].mean() > found.series.rate[0, :, 0].mean() + 0.2, "rain grows to the east"
    path.write_text(path.read_text() + "\n2024-06-11T12:00Z,73.5,34.4,-3")
    with pytest.raises(DataError, match=r"column 'rain \(mm\)': row 74: the rain is -3"):
        read_rain([path], grid, RainReading(stamps="end"))
    (tmp_path / "a.nc").write_bytes(b"CDF")
    with pytest.raises(ConfigError, match="grids have no gauges"):
        read_rain([tmp_path / "a.nc"], grid, RainReading(gauges="kriging"))


def gauge_table(path, *gauges, step=1, column="rain (mm)"):
    """Write gauges beside each other, each with one value a step, ``None`` for none."""
    rows = [f"time,longitude,latitude,{column}"]
    for gauge, values in enumerate(gauges):
        for number, rain in enumerate(values):
            time = DAY + timedelta(hours=step * number)
            rows += [] if rain is None else [f"{time:%Y-%m-%dT%H:%M}Z,{73.42 + 0.1 * gauge:.2f},34.41,{rain}"]
    path.write_text("\n".join(rows))
    return path


def test_values_of_gauges_that_are_not_rain_of_one_step_are_refused(tmp_path, grid):
    showers = [hour % 4 for hour in range(24)]
    daily = [None] * 23 + [36.0]
    sums = np.cumsum(showers).tolist()
    read = RainReading(stamps="end")
    path = tmp_path / "gauges.csv"
    read_rain([gauge_table(path, showers, showers[::-1])], grid, read)
    with pytest.raises(DataError, match=r"gauge at 73\.52, 34\.41: its rain increases in 18 steps and never decreases"):
        read_rain([gauge_table(path, showers, sums)], grid, read)
    with pytest.raises(
        DataError, match=r"gauge at 73\.52, 34\.41: its values are 24 h apart, those of other gauges 1 h"
    ):
        read_rain([gauge_table(path, showers * 2, daily * 2)], grid, read)
    for code in (999, 999.9, 9999, "inf"):
        with pytest.raises(DataError, match=f"row 26: the rain is {code}, far above all other values"):
            read_rain([gauge_table(path, showers, [code, *showers[1:]])], grid, read)
    assert read_rain([gauge_table(path, [999.0] + [500.0] * 3, step=24)], grid, read).series.rate.max() > 40
    with pytest.raises(DataError, match=r"is 450 mm in 1 h, more than was ever measured \(422 mm\)"):
        read_rain([gauge_table(path, [450] * 24)], grid, read)


def test_two_columns_or_variables_of_rain_are_refused_until_one_is_named(tmp_path, grid):
    path = gauge_table(tmp_path / "gauges.csv", range(6), range(6))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},precip_mm", *(f"{line},9" for line in lines[1:])]))
    with pytest.raises(
        DataError, match=r"'rain \(mm\)' and 'precip_mm' may each be the rain.*--variable 'rain \(mm\)'"
    ):
        read_rain([path], grid, RainReading(stamps="end"))
    for name, most in (("rain (mm)", 5), ("precip_mm", 9)):
        assert read_rain([path], grid, RainReading(variable=name, stamps="end")).series.rate.max() == most
    path.write_text(path.read_text().replace("precip_mm", "rain (mm)"))
    with pytest.raises(DataError, match=r"two columns are named 'rain \(mm\)'"):
        read_rain([path], grid, RainReading(stamps="end"))
    time = ("time", np.arange(3), {"units": "hours since 2024-06-11"})
    rain = ("time", "lat", "lon"), np.stack([field(hour) for hour in range(3)]), {"units": "mm"}
    axes = {"time": time, "lat": LATS, "lon": LONS}
    xr.Dataset({"tp": rain, "precip": rain}, axes).to_netcdf(tmp_path / "rain.nc")
    with pytest.raises(DataError, match=r"rain\.nc: 'tp' and 'precip' may each be the rain"):
        read_rain([tmp_path / "rain.nc"], grid, RainReading(stamps="end"))


def test_gauges_with_monthly_sums_gaps_or_impossible_numbers_are_reported(tmp_path, grid):
    path, read = tmp_path / "gauges.csv", RainReading(stamps="start", time_zone="UTC")
    months = [f"2024-{month:02}-01,73.42,34.41,{80 + month % 2}" for month in range(1, 13)]
    path.write_text("\n".join(["time,longitude,latitude,rain (mm)", *months]))
    with pytest.raises(DataError, match=r"gauges\.csv: its steps are 29 days long"):
        read_rain([path], grid, read)
    found = read_rain([gauge_table(path, range(6), [""] * 6)], grid, RainReading(stamps="end"))
    assert "1 of the gauges hold no value" in found.notes
    with pytest.raises(DataError, match="row 3: the rain is inf"):
        read_rain([gauge_table(path, [1, "1e3084000042", 2])], grid, RainReading(stamps="end"))


def test_gauges_without_a_place_are_refused_and_far_ones_named(tmp_path, grid):
    path = gauge_table(tmp_path / "gauges.csv", range(6), range(6))
    good, read = path.read_text(), RainReading(stamps="end")
    path.write_text(good.replace("73.52,34.41", "0,0"))
    with pytest.raises(DataError, match=r"gauges\.csv, row 8: the coordinates of the gauge are 0, 0, which means"):
        read_rain([path], grid, read)
    path.write_text(good.replace("73.52,34.41", "999,999"))
    with pytest.raises(DataError, match="row 8: the coordinates of the gauge are 999, 999, beyond 360 and 90 degrees"):
        read_rain([path], grid, read)
    assert len(read_rain([gauge_table(path, range(6), range(6))], grid, read).notes) == 1
    path.write_text(good.replace("73.52,34.41", "34.41,73.52"))
    assert "1 gauges lie more than 1,000 km from the grid" in read_rain([path], grid, read).notes[-1]
    path.write_text(good.splitlines()[0])
    with pytest.raises(DataError, match="has no rows"):
        read_rain([path], grid, read)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_gauges_in_the_formats_of_a_spreadsheet(tmp_path, grid, encoding, separator):
    path = gauge_table(tmp_path / "gauges.csv", [0.25, 1.5, 0.0], [2.5, 0.5, 1.25])
    expected = read_rain([path], grid, RainReading(stamps="end"))
    lines = [f"{line},{name}" for line, name in zip(path.read_text().splitlines(), ["Ort", *["Köln"] * 6], strict=True)]
    text = "\n".join(lines).replace(",", separator)
    path.write_bytes((text if separator == "," else text.replace(".", ",")).encode(encoding))
    found = read_rain([path], grid, RainReading(stamps="end"))
    np.testing.assert_array_equal(found.series.rate, expected.series.rate)
    assert any("Windows-1252" in note for note in found.notes) == (encoding == "latin-1")
    assert any("decimal signs in longitude, latitude, rain (mm)" in note for note in found.notes) == (separator != ",")


def test_times_of_gauges_in_other_orders_are_refused_in_one_line(tmp_path, grid):
    path = gauge_table(tmp_path / "gauges.csv", range(6))
    good = path.read_text()
    for time in ("11.06.2024 04:00", "06/11/2024 04:00", "1718064000", "", "2024061104"):
        path.write_text(good.replace("2024-06-11T04:00Z", time).replace("Z,", ","))
        with pytest.raises(DataError, match=f"column 'time': row 6 holds '{time}', not a time in ISO 8601") as caught:
            read_rain([path], grid, RainReading(stamps="end", time_zone="UTC"))
        assert "\n" not in str(caught.value)


def test_grids_of_sums_since_the_start_and_of_codes_are_refused(tmp_path, grid):
    def write(values):
        time = ("time", np.arange(len(values)), {"units": "hours since 2024-06-11"})
        rain = ("time", "lat", "lon"), np.stack(values).astype(np.float32), {"units": "mm"}
        xr.Dataset({"precip": rain}, {"time": time, "lat": LATS, "lon": LONS}).to_netcdf(tmp_path / "rain.nc")
        return [tmp_path / "rain.nc"]

    steps = [field(hour) for hour in range(12)]
    with pytest.raises(DataError, match=r"rain\.nc: its rain increases in 11 steps and never decreases"):
        read_rain(write(np.cumsum(steps, axis=0)), grid, RainReading(stamps="end"))
    with pytest.raises(DataError, match=r"2024-06-11T10:00Z is 999 mm in 1 h, more than was ever measured \(422 mm\)"):
        read_rain(write([*steps[:11], np.full_like(steps[0], 999)]), grid, RainReading(stamps="end"))


def test_times_of_gauges_need_a_time_zone(tmp_path, grid):
    path = tmp_path / "gauges.csv"
    naive = GAUGES.replace("+05:00", "").replace("rain (mm)", "rain")
    path.write_text(naive)
    with pytest.raises(DataError, match="has no time zone"):
        read_rain([path], grid, RainReading(unit="mm", stamps="end"))
    with pytest.raises(DataError, match="states no unit of rain"):
        read_rain([path], grid, RainReading(time_zone="Asia/Karachi", stamps="end"))
    with pytest.raises(ConfigError, match="'Asia/Karatschi' is not a time zone"):
        read_rain([path], grid, RainReading(unit="mm", time_zone="Asia/Karatschi", stamps="end"))
    with pytest.raises(DataError, match="start or the end of a step"):
        read_rain([path], grid, RainReading(unit="mm", time_zone="UTC"))
    found = read_rain([path], grid, RainReading(unit="mm", time_zone="Asia/Karachi", stamps="end"))
    assert found.series.ends.astype(str)[0] == "2024-06-11T00:00:00"
    path.write_text(naive.replace("2024-06-11T06", "2024-10-27T02"))
    with pytest.raises(DataError, match="2024-10-27T02:00 of Europe/Berlin occurs twice or never"):
        read_rain([path], grid, RainReading(unit="mm", time_zone="Europe/Berlin", stamps="end"))
    for zone in ("+05:00", "+0500", "+05"):
        path.write_text(GAUGES.replace("+05:00", zone))
        found = read_rain([path], grid, RainReading(stamps="end"))
        assert found.series.ends.astype(str)[0] == "2024-06-11T00:00:00"
        with pytest.raises(ConfigError, match="its times state their time zone"):
            read_rain([path], grid, RainReading(time_zone="UTC", stamps="end"))
    path.write_text(GAUGES.replace("4.0", "four"))
    with pytest.raises(DataError, match=r"rain \(mm\)'.*row 2 holds 'four'"):
        read_rain([path], grid, RainReading(stamps="end"))
    path.write_text(GAUGES.replace("2024-06-11T06:00+05:00,73.41", "2024-06-11T05:00+05:00,73.41"))
    with pytest.raises(DataError, match="row 4: a second value of this gauge at"):
        read_rain([path], grid, RainReading(stamps="end"))


def test_units_and_times_that_contradict_each_other(tmp_path, grid):
    def one(**change):
        return write_imerg(tmp_path, DAY, field(0), LONS, LATS, **change)

    with pytest.raises(DataError, match="states no unit"):
        read_rain([one(units=b"")], grid)
    with pytest.raises(DataError, match="states two units: mm/day and mm/hr"):
        read_rain([one(Units=b"mm/day")], grid)
    with pytest.raises(DataError, match="'furlong' is not a known unit"):
        read_rain([one(units=b"furlong")], grid)
    with pytest.raises(DataError, match="is in 'mm/hr', not in 'mm/day'"):
        read_rain([one()], grid, RainReading(unit="mm/day"))
    for option, message in (
        (RainReading(stamps="end"), "states the ends of its steps"),
        (RainReading(accumulation="day"), "holds no depths of ECMWF"),
        (RainReading(time_zone="UTC"), "times of grids are UTC"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_rain([one()], grid, option)
    with pytest.raises(DataError, match="calendar '360_day' of a climate model"):
        read_rain([one(calendar=b"360_day")], grid)
    with pytest.raises(UnknownNameError, match="unknown variable 'rainfall'"):
        read_rain([one()], grid, RainReading(variable="rainfall"))
    with pytest.raises(DataError, match=r"2024-06-11T00:00Z is -6\.35 mm/h"):
        read_rain([write_imerg(tmp_path, DAY, field(0) - 9, LONS, LATS)], grid)
    ends, rate = era5(3)
    for unit, factor in (("kg m-2 s-1", 3600), ("mm/h", 1), ("m s-1", 3.6e6)):
        path = write_era5(tmp_path / "rate.nc", ends, rate / factor, LONS, LATS)
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
            changed = opened.load()
        changed["tp"].attrs["units"] = unit
        changed.to_netcdf(path, engine="h5netcdf")
        check_cells(read_rain([path], grid), rate)


def test_repeated_overlapping_and_foreign_files(tmp_path, grid):
    folders = [tmp_path / name for name in ("early", "final")]
    for folder in folders:
        folder.mkdir()
    same = [write_imerg(folder, DAY, field(0), LONS, LATS) for folder in folders]
    found = read_rain(same, grid)
    assert len(found.series.starts) == 1
    assert any("twice with the same rain" in note for note in found.notes)
    other = write_imerg(folders[1], DAY, field(1), LONS, LATS)
    with pytest.raises(DataError, match="has different rain at 2024-06-11T00:00Z than"):
        read_rain([same[0], other], grid)
    shifted = write_imerg(folders[1], DAY + timedelta(minutes=30), field(1), LONS + 0.05, LATS)
    with pytest.raises(DataError, match="has another grid than"):
        read_rain([same[0], shifted], grid)
    far = write_imerg(folders[1], DAY, field(1), LONS + 60, LATS)
    with pytest.raises(DataError, match=r"does not overlap the grid.*x 132\.9\d+ to 134"):
        read_rain([far], grid)
    overlapping = write_imerg(folders[1], DAY + timedelta(minutes=10), field(1), LONS, LATS)
    with pytest.raises(DataError, match="00:00Z and 2024-06-11T00:10Z overlap"):
        read_rain([same[0], overlapping], grid)
    cut = tmp_path / "cut.HDF5"
    cut.write_bytes(same[0].read_bytes()[:3000])
    with pytest.raises(DataError, match="truncated or its format does not match its name"):
        read_rain([cut], grid)
    with pytest.raises(ConfigError, match="not a format of rain"):
        read_rain([tmp_path / "rain.zarr"], grid)


def storm(folder, *spans):
    """One hourly file a span of hours, with a storm from hour 10 to 22; returns the paths."""
    paths = []
    for first, last in spans:
        hours = np.arange(first, last)
        metres = np.where((hours >= 10) & (hours < 22), 1, 0)[:, None, None] * field(0) / 1000
        path = folder / f"{first:02}.nc"
        paths.append(write_era5(path, np.datetime64("2024-06-11T01", "h") + hours, metres, LONS, LATS))
    return paths


def test_the_rain_lies_on_the_grid_and_zoo_risk_map_reads_it(tmp_path, stack_file):
    out = tmp_path / "rain.tif"
    report = zoo.rain(storm(tmp_path, (0, 24)), stack_file, out)
    assert report.at == "2024-06-12T00:00Z"
    with rasterio.open(out) as file, rasterio.open(stack_file) as like:
        assert (file.crs, file.transform, file.shape) == (like.crs, like.transform, like.shape)
        assert file.descriptions == ("intensity", "duration")
        assert file.units == ("mm/h", "day")
        intensity, duration = file.read()
        assert "24 h without rain" in file.tags()["RAIN_AT"]
        about = file.tags(1)
    assert float(about["STATISTICS_MEAN"]) == pytest.approx(float(intensity.astype(float).mean()), rel=1e-6)
    assert (about["STATISTICS_VALID_PERCENT"], about["LONG_NAME"]) == ("100", INTENSITY.description)
    # The field is linear in longitude and latitude, so that interpolation between cells is exact.
    rows, columns = np.mgrid[:22, :20]
    truth = field(0, np.asarray(34.52 - 0.01 * (rows[:, 0] + 0.5)), np.asarray(73.4 + 0.01 * (columns[0] + 0.5)))
    np.testing.assert_allclose(intensity, truth, atol=2e-3)
    np.testing.assert_allclose(duration, 0.5, atol=1e-6)
    with Stack(stack_file) as stack, RainLayers(out, stack) as layers:
        window = next(stack.windows())
        np.testing.assert_array_equal(layers.intensity(window), intensity)
        np.testing.assert_array_equal(layers.duration(window), duration)


def test_missing_hours_are_counted_and_bounded(tmp_path, stack_file):
    report = zoo.rain(storm(tmp_path, (0, 13), (14, 24)), stack_file, tmp_path / "rain.tif")
    assert any("1 of 24 hours are missing and count as dry" in note for note in report.notes)
    with rasterio.open(tmp_path / "rain.tif") as file:
        assert file.read(2)[10, 10] == pytest.approx(0.5)
    paths = storm(tmp_path, (0, 13), (17, 24))
    with pytest.raises(DataError, match=r"4 of 24 hours are missing, more than 5\.0%"):
        zoo.rain(paths, stack_file, tmp_path / "other.tif")
    assert not (tmp_path / "other.tif").exists()
    zoo.rain(paths, stack_file, tmp_path / "other.tif", reading=RainReading(max_missing=0.2))


def test_rain_that_ends_before_the_date_of_the_stack(tmp_path, stack_file):
    dated = tmp_path / "dated.tif"
    dated.write_bytes(stack_file.read_bytes())
    with rasterio.open(dated, "r+") as file:
        file.update_tags(DATE="2024-06-13")
    paths = storm(tmp_path, (0, 24))
    with pytest.raises(DataError, match=r"ends at 2024-06-12T00:00Z, before the date of .*\(2024-06-13\)"):
        zoo.rain(paths, dated, tmp_path / "rain.tif")
    report = zoo.rain(paths, dated, tmp_path / "rain.tif", at="2024-06-11T17:00+05:00")
    assert report.at == "2024-06-11T12:00Z"
    assert report.bands["duration"][3] == pytest.approx(2 / 24)
    with pytest.raises(DataError, match="no rain at 2024-07-01T00:00Z"):
        zoo.rain(paths, dated, tmp_path / "late.tif", at="2024-07-01")
    with pytest.raises(ConfigError, match="'yesterday' is not a time"):
        zoo.rain(paths, dated, tmp_path / "late.tif", at="yesterday")
