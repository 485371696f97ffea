"""A forecast run on a made-up valley with a storm in IMERG's layout: maps, alerts, catalogue, animation, resuming."""

import csv
import json
from dataclasses import replace
from datetime import datetime, timedelta

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from tests.rasters.rain_layouts import axis, write_era5, write_imerg
from zoo.cli import run
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import locked

LONS, LATS = axis(72.95, 12), axis(33.95, 10)
DAY = datetime(2024, 6, 11)
SIDE = 60
STEPS = zoo.RainReading(accumulation="step")
X, Y, PIXEL = 353_000, 3_812_000, 250


def write_hours(folder, first, last):
    """Hours of rain in the layout of ERA5, in one file; it rains 12 mm/h from 05 to 11 UTC."""
    hours = np.arange(first, last)
    metres = np.where((hours >= 5) & (hours < 11), 0.012, 0.0)[:, None, None] * np.ones((1, len(LATS), len(LONS)))
    write_era5(folder / f"{first:02}.nc", np.datetime64("2024-06-11T01", "h") + hours, metres, LONS, LATS)


@pytest.fixture
def place(tmp_path):
    """``stack.tif`` (steep in the west), ``w.json``, ``districts.gpkg`` (west, east) and twelve hours in ``rain/``."""
    slope = np.where(np.arange(SIDE) < SIDE // 2, 35.0, 5.0)[None].repeat(SIDE, axis=0)
    image = np.stack([slope, np.full((SIDE, SIDE), 1000.0)]).astype(np.float32)
    grid, names = from_origin(X, Y, PIXEL, PIXEL), (("slope", "degree"), ("DEM", "m"))
    write_geotiff(tmp_path / "stack.tif", image, names=names, transform=grid, nodata=np.nan)
    weights = {"weights": {"slope": 1.0}, "features": {"slope": {"low": 0, "high": 40}}}
    (tmp_path / "w.json").write_text(json.dumps(weights))
    middle, right, bottom = X + PIXEL * SIDE / 2, X + PIXEL * SIDE, Y - PIXEL * SIDE
    boxes = [shapely.box(X, bottom, middle, Y), shapely.box(middle, bottom, right, Y)]
    frame = geopandas.GeoDataFrame({"district": ["west", "east"]}, geometry=boxes, crs="EPSG:32643")
    frame.to_file(tmp_path / "districts.gpkg")
    (tmp_path / "rain").mkdir()
    for span in ((0, 6), (6, 7), (7, 9), (9, 12)):
        write_hours(tmp_path / "rain", *span)
    return tmp_path


@pytest.fixture
def small_pictures(monkeypatch):
    """Drawing takes longer than all the rest; one test looks at the real pictures."""
    monkeypatch.setattr("zoo.risk.watching.save_picture", lambda _, path: Image.new("RGB", (8, 6)).save(path))


def watch(place, folder="watch", **options):
    given = {
        "reading": STEPS,
        "weights": place / "w.json",
        "every": 6,
        "classes": (0.7, 0.9),
        "districts": place / "districts.gpkg",
    }
    return zoo.risk.watch(
        place / "stack.tif", place / "rain", place / folder, **{**given, "name": "district", **options}
    )


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def state(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_storm_from_half_hours_to_alerts(place, capsys):
    (place / "imerg").mkdir()
    for half in range(24):
        rate = np.full((len(LATS), len(LONS)), 12.0 if 10 <= half < 22 else 0.0)
        write_imerg(place / "imerg", DAY + timedelta(minutes=30 * half), rate, LONS, LATS)
    options = ["--weights", str(place / "w.json"), "--every", "6", "--classes", "0.6,0.7", "--name", "district"]
    options += ["--districts", str(place / "districts.gpkg"), "--rain", str(place / "imerg" / "*.HDF5")]
    assert run(["risk", "watch", str(place / "stack.tif"), *options, "--out", str(place / "watch")]) == 0
    told = capsys.readouterr()
    assert "2 steps mapped, 0 kept" in told.out
    found = {row["district"]: row for row in rows(place / "watch" / "alerts.csv")}
    # R_m = (P / P0)^1.2 (D / D0)^0.8 by hand: P0 = 14.82 * 24^-0.39 and D0 = 1 day, slope 35 of 40 degrees.
    for time, hours in (("T0600Z", 1), ("T1200Z", 6)):
        factor = min((12 / (14.82 * 24**-0.39)) ** 1.2 * (hours / 24) ** 0.8, 5)
        with rasterio.open(place / "watch" / f"20240611{time}" / "index.tif") as file:
            risk = file.read(1)
        assert risk[30, 10] == pytest.approx(1 / (1 + np.exp(-factor * 35 / 40)), abs=1e-5)
        assert risk[30, 50] == pytest.approx(1 / (1 + np.exp(-factor * 5 / 40)), abs=1e-5)
    west = [row for row in rows(place / "watch" / "shares.csv") if row["district"] == "west"]
    with rasterio.open(place / "watch" / "20240611T1200Z" / "index.tif") as file:
        assert float(west[-1]["high"]) == pytest.approx(np.mean(file.read(1)[:, :30] > 0.7), abs=1e-3)
    assert [row["time"] for row in west] == [f"2024-06-11T{hour:02}:00:00Z" for hour in (6, 12)]
    assert found["west"]["first_alert"] == "2024-06-11T12:00Z"
    assert float(found["west"]["highest_share"]) > 0.99
    assert found["east"]["first_alert"] == ""
    assert float(found["west"]["km2"]) == pytest.approx(15 * 7.5, rel=2e-3)
    with Image.open(place / "watch" / "animation.gif") as animation:
        assert animation.n_frames == 2
    catalogue = pystac.Catalog.from_file(str(place / "watch" / "catalog.json"))
    items = list(catalogue.get_items())
    assert len(items) == 2
    for item in items:
        assert item.to_dict()["stac_version"] == catalogue.to_dict()["stac_version"]
        assert item.bbox[0] < 73.5 < item.bbox[2]
        for asset in item.get_assets().values():
            assert (place / "watch" / item.id / asset.href.removeprefix("./")).is_file()


@pytest.mark.usefixtures("small_pictures")
def test_new_files_add_steps_and_nothing_else_changes(place):
    first = watch(place)
    assert (len(first.made), len(first.kept)) == (2, 0)
    before = state(place / "watch")
    again = watch(place)
    assert (len(again.made), len(again.kept)) == (0, 2)
    assert state(place / "watch") == before
    write_hours(place / "rain", 12, 18)
    more = watch(place)
    assert (more.made, len(more.kept)) == (("2024-06-11T18:00Z",), 2)
    after = state(place / "watch")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"alerts.csv", "shares.csv", "catalog.json", "animation.gif"}
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"20240611T1800Z"}
    # All at once gives the same bytes as one after the other.
    watch(place, "other")
    assert state(place / "other") == after


@pytest.mark.usefixtures("small_pictures")
def test_an_interrupted_step_is_computed_again(place):
    watch(place)
    before = state(place / "watch")
    (place / "watch" / "20240611T0600Z" / "item.json").write_text("{")
    (place / "watch" / "20240611T1200Z" / "classes.tif").unlink()
    again = watch(place)
    assert again.made == ("2024-06-11T06:00Z", "2024-06-11T12:00Z")
    assert state(place / "watch") == before


@pytest.mark.usefixtures("small_pictures")
def test_a_file_that_arrives_late_changes_its_steps_only(place):
    late = place / "rain" / "06.nc"
    content = late.read_bytes()
    late.unlink()
    watch(place, reading=replace(STEPS, max_missing=0.1))
    late.write_bytes(content)
    again = watch(place, reading=replace(STEPS, max_missing=0.1))
    assert again.made == ("2024-06-11T12:00Z",)


@pytest.mark.usefixtures("small_pictures")
def test_a_step_keeps_rain_that_was_removed_since(place):
    """Without the first hours, the event of the second step would begin an hour later."""
    watch(place)
    before = state(place / "watch")
    (place / "rain" / "00.nc").unlink()
    again = watch(place)
    assert (again.made, again.kept) == ((), ("2024-06-11T12:00Z",))
    assert state(place / "watch") == before


@pytest.mark.usefixtures("small_pictures")
def test_steps_with_too_little_rain_are_left_out_with_a_warning(place):
    for name in ("06.nc", "07.nc"):
        (place / "rain" / name).unlink()
    report = watch(place)
    assert report.made == ("2024-06-11T06:00Z",)
    assert any("no map of 2024-06-11T12:00Z: 3 of 12 hours are missing" in text for text in report.warnings)


@pytest.mark.usefixtures("small_pictures")
def test_without_districts_the_whole_stack_is_one(place):
    report = watch(place, districts=None, start="2024-06-11T12:00Z")
    assert [(one.district, len(report.made)) for one in report.alerts] == [("all", 1)]


@pytest.mark.usefixtures("small_pictures")
def test_bad_input_is_refused(place):
    watch(place, start="2024-06-11T12:00Z")
    with pytest.raises(ConfigError, match="holds steps of another stack, weights"):
        watch(place, classes=(0.6, 0.9))
    with pytest.raises(UnknownNameError, match="unknown column 'name'"):
        watch(place, "a", name="name")
    with pytest.raises(ConfigError, match="breaks of a scenario"):
        watch(place, "a", classes="scenario")
    with pytest.raises(ConfigError, match="an alert share of 0"):
        watch(place, "a", alert_share=0)
    with pytest.raises(DataError, match="contains no step of 24 h"):
        watch(place, "a", every=24)
    with pytest.raises(ConfigError, match=r"steps of 0\.01 hours"):
        watch(place, "a", every=0.01)
    with locked(place / "a" / ".watch.lock", ZooError("busy")), pytest.raises(ZooError, match="another run uses"):
        watch(place, "a")
    (place / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of rain"):
        zoo.risk.watch(place / "stack.tif", place / "empty", place / "a", weights=place / "w.json")
