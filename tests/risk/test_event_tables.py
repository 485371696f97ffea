"""Rain events of dated landslides, from half-hourly files to thresholds, with events counted by hand."""

from datetime import datetime, timedelta

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from tests.rasters.rain_layouts import axis, write_imerg_daily
from zoo.cli import run
from zoo.errors import ConfigError, DataError, UnknownNameError

LONS, LATS = axis(72.95, 8), axis(33.95, 8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Thirty days: 24 mm on day 3, 48 and 12 mm on days 10 and 11 in the west; 36 mm on day 20 in the east."""
    folder = tmp_path_factory.mktemp("events")
    (folder / "imerg").mkdir()
    depths = np.zeros((30, len(LATS), len(LONS)))
    depths[3, :, :4], depths[10, :, :4], depths[11, :, :4], depths[20, :, 4:] = 24, 48, 12, 36
    for day, depth in enumerate(depths):
        date = datetime(2024, 6, 1) + timedelta(days=day)
        write_imerg_daily(folder / "imerg" / f"{day:02}.nc4", date, depth, LONS, LATS)
    slides = {
        (73.16, 34.26): "2024-06-11",  # west, on the first day of the second event
        (73.17, 34.27): "2024-06-11",  # the same cell and event
        (73.26, 34.26): "2024-06-12",  # another cell, on its second day
        (73.56, 34.26): "2024-06-21",  # east
        (73.46, 34.26): "2024-06-15",  # east, on a dry day
        (73.47, 34.36): "2024",
        (73.48, 34.36): "2023-01-01",
    }
    geopandas.GeoDataFrame(
        {"day": list(slides.values())}, geometry=[shapely.Point(*one) for one in slides], crs="EPSG:4326"
    ).to_file(folder / "slides.gpkg")
    return folder


def test_the_events_of_dated_landslides(place, capsys):
    out = place / "events.csv"
    arguments = ["--inventory", str(place / "slides.gpkg"), "--date-column", "day", "--out", str(out)]
    assert run(["risk", "events", str(place / "imerg"), *arguments]) == 0
    told = capsys.readouterr()
    assert "6 events in 4 cells, 3 of them with 4 landslides" in told.out
    for text in (
        "1 landslides without a day",
        "1 landslides are from days without rain",
        "1 landslides had no rain event",
    ):
        assert text in told.err
    table = pd.read_csv(out).set_index(["longitude", "day"]).sort_index()
    # The first landslide cuts its event at the end of its day; the event of the second cell is whole.
    first = table.loc[(73.15, "2024-06-11")]
    assert (first["P"], first["D"], first["landslide"], first["landslides"]) == (pytest.approx(2.0), 1.0, 1, 2)
    second = table.loc[(73.25, "2024-06-11")]
    assert (second["P"], second["D"], second["depth"], second["landslide"]) == (pytest.approx(1.25), 2.0, 60.0, 1)
    assert table.loc[(73.15, "2024-06-04")][["P", "D", "landslide"]].tolist() == [1.0, 1.0, 0]
    assert table.loc[(73.55, "2024-06-21")][["P", "landslides"]].tolist() == [1.5, 1]
    assert table.loc[(73.45, "2024-06-21")]["landslide"] == 0
    assert run(["risk", "events", str(place / "imerg"), *arguments]) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize("signed", [True, False])
def test_landslides_on_both_sides_of_180_degrees_have_the_events_of_elsewhere(place, tmp_path, signed):
    """The same rain and landslides, moved so that the antimeridian lies among them."""
    slides = geopandas.read_file(place / "slides.gpkg")
    move = 180 - 73.35
    lons = (LONS + move + 180) % 360 - 180
    order = np.argsort(lons)
    depths = np.zeros((30, len(LATS), len(LONS)))
    depths[3, :, :4], depths[10, :, :4], depths[11, :, :4], depths[20, :, 4:] = 24, 48, 12, 36
    for day, depth in enumerate(depths):
        date = datetime(2024, 6, 1) + timedelta(days=day)
        write_imerg_daily(tmp_path / f"{day:02}.nc4", date, depth[:, order], lons[order], LATS)
    x = slides.geometry.x + move
    x = np.where(x > 180, x - 360, x) if signed else x
    slides.set_geometry(geopandas.points_from_xy(x, slides.geometry.y, crs="EPSG:4326")).to_file(
        tmp_path / "moved.gpkg"
    )
    there = zoo.risk.events(place / "imerg", place / "slides.gpkg", "day").events
    here = zoo.risk.events(tmp_path, tmp_path / "moved.gpkg", "day").events
    assert here["longitude"].abs().max() <= 180
    here["longitude"] = (here["longitude"] - move).where(here["longitude"] > 0, here["longitude"] + 360 - move).round(4)
    pd.testing.assert_frame_equal(here, there)


def test_bad_input_is_refused(place):
    slides = place / "slides.gpkg"
    with pytest.raises(UnknownNameError, match="unknown column 'date'"):
        zoo.risk.events(place / "imerg", slides, "date")
    with pytest.raises(DataError, match="no landslide falls within the period of the rain"):
        zoo.risk.events(place / "imerg", slides, "day", where="day = '2023-01-01'")
    with pytest.raises(DataError, match="no landslide has a day in column 'day', which holds '2024'"):
        zoo.risk.events(place / "imerg", slides, "day", where="day = '2024'")
    with pytest.raises(DataError, match="no landslide location has a rain event"):
        zoo.risk.events(place / "imerg", slides, "day", rules=zoo.EventRules(min_depth=500))


def test_landslides_far_from_all_others_or_without_a_place_are_noted(place, tmp_path):
    points = [shapely.Point(73.1 + 0.01 * number, 34.26) for number in range(40)]
    points[3], points[5] = shapely.Point(34.26, 73.16), None
    slides = geopandas.GeoDataFrame({"day": ["2024-06-11"] * 40}, geometry=points, crs="EPSG:4326")
    slides.to_file(tmp_path / "slides.gpkg")
    hours = [datetime(2024, 6, 11) + timedelta(hours=hour) for hour in range(48)]
    rows = [f"{hour:%Y-%m-%dT%H:%M}Z,73.3,34.3,{2 + hour.hour % 2}" for hour in hours]
    (tmp_path / "gauge.csv").write_text("\n".join(["time,longitude,latitude,rain (mm)", *rows]))
    found = zoo.risk.events(
        tmp_path / "gauge.csv", tmp_path / "slides.gpkg", "day", reading=zoo.RainReading(stamps="end")
    )
    notes = " ".join(found.notes)
    assert "1 landslides without a valid location were left out" in notes
    assert "1 landslides lie far from all others, such as 34.2600, 73.1600" in notes
    assert "of the region lies more than 250 km from any gauge and has no rain" in notes
    assert "1 landslides lie where more than 5.0% of the hours are missing" in notes
    assert found.events["longitude"].min() > 70


@pytest.fixture(scope="module")
def maps(place):
    """Rasters of zoo rain of the ends of three days, on a fine grid."""
    y, x = np.mgrid[:60, :90]
    grid = from_origin(73.0, 34.6, 0.01, 0.01)
    image = (20 + x + y)[None].astype(np.float32)
    write_geotiff(place / "stack.tif", image, names=(("slope", "degree"),), crs="EPSG:4326", transform=grid)
    for day in ("2024-06-05", "2024-06-12", "2024-06-22"):
        zoo.rain([place / "imerg"], place / "stack.tif", place / f"rain-{day}.tif", at=f"{day}T00:00Z")
    return [place / f"rain-{day}.tif" for day in ("2024-06-22", "2024-06-05", "2024-06-12")]


def test_rasters_of_rain_give_the_events_of_their_days(place, maps, capsys):
    found = zoo.risk.events(maps, place / "slides.gpkg", "day")
    table = found.events.set_index(["day", "longitude", "latitude"]).sort_index()
    # 2024-06-11 ends with 48 mm in a day in the west; two landslides lie there, one of another day.
    first = table.loc[("2024-06-11", 73.16, 34.26)]
    assert (first["P"], first["D"], first["landslide"]) == (pytest.approx(2.0), 1.0, 1)
    assert table.loc[("2024-06-11", 73.26, 34.26), "landslide"] == 0
    assert table.loc[("2024-06-04", 73.16, 34.26)][["P", "D", "depth"]].tolist() == pytest.approx([1.0, 1.0, 24.0])
    assert table.loc[("2024-06-21", 73.56, 34.26)][["P", "landslides"]].tolist() == pytest.approx([1.5, 1])
    assert ("2024-06-21", 73.16, 34.26) not in table.index, "it is dry there"
    assert table["landslides"].sum() == 3
    assert "3 landslides are from days or locations without a raster, and were left out" in found.notes
    for given, words in (
        ({"rules": zoo.EventRules(dry_gap=48.0)}, "made with other event rules"),
        ({"reading": zoo.RainReading(unit="mm")}, "state their unit and time"),
    ):
        with pytest.raises(ConfigError, match=words):
            zoo.risk.events(maps, place / "slides.gpkg", "day", **given)
    with pytest.raises(DataError, match="was not written by zoo rain"):
        zoo.risk.events([*maps, place / "stack.tif"], place / "slides.gpkg", "day")
    with pytest.raises(DataError, match="describes 2024-06-22T00:00Z"):
        (place / "copy.tif").write_bytes(maps[0].read_bytes())
        zoo.risk.events([*maps, place / "copy.tif"], place / "slides.gpkg", "day")
    with pytest.raises(DataError, match="no landslide has a rain event in a raster of its day"):
        zoo.risk.events(maps[1:2], place / "slides.gpkg", "day")


def test_thresholds_of_rain_and_an_inventory_in_one_call(place, maps, tmp_path, capsys):
    """Thirty landslides on each of the two rainy days in the west, and on that in the east."""
    rng = np.random.default_rng(0)
    days = np.repeat(["2024-06-04", "2024-06-12", "2024-06-21"], 30)
    x = np.concatenate([rng.uniform(73.0, 73.24, 60), rng.uniform(73.4, 73.6, 30)])
    points = [shapely.Point(*one) for one in zip(x, rng.uniform(34.05, 34.55, 90), strict=True)]
    geopandas.GeoDataFrame({"day": days}, geometry=points, crs="EPSG:4326").to_file(tmp_path / "many.gpkg")
    common = ["--inventory", str(tmp_path / "many.gpkg"), "--date-column", "day", "--repeats", "0"]
    rain, events = [str(path) for path in maps], tmp_path / "events.csv"
    assert run(["risk", "thresholds", str(place / "imerg"), *common, "--events", str(events)]) == 0
    told = capsys.readouterr()
    table = pd.read_csv(events)
    assert f"{table['landslide'].sum()} events with landslides" in told.out
    assert "rainfall factor" in told.out or "were not fitted" in told.err
    # One table gives one answer, however it was made.
    assert run(["risk", "thresholds", str(events), "--label", "landslide", "--group", "day", "--repeats", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == told.out.splitlines()[:3]
    assert run(["risk", "thresholds", *rain, *common]) == 2
    assert "all events with landslides have the same duration" in capsys.readouterr().err
    for line, words in (
        ([str(events), "--dry-gap", "24"], "--dry-gap: applies only to rain with an inventory"),
        ([str(events), str(events)], "2 tables are given"),
        ([str(place / "imerg"), "--inventory", str(tmp_path / "many.gpkg")], "needs --date-column"),
        ([str(place / "imerg"), *common, "--events", str(events)], "already exists"),
    ):
        assert run(["risk", "thresholds", *line]) == 2
        assert words in capsys.readouterr().err
