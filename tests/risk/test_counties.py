"""Forecast runs of several counties, in processes of this machine and on a local Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from tests.rasters.rain_layouts import axis, write_era5
from zoo.cli import run
from zoo.errors import ConfigError

LONS, LATS = axis(72.95, 12), axis(33.95, 10)
X, Y, PIXEL, SIDE = 353_000, 3_812_000, 500, 20
OPTIONS = {"reading": zoo.RainReading(accumulation="step"), "every": 6.0, "classes": (0.7, 0.9)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Steep ``west.tif`` and gentle ``east.tif`` with weights of their own, ``flat.tif`` without, and rain."""
    grid, names = from_origin(X, Y, PIXEL, PIXEL), (("slope", "degree"), ("DEM", "m"))
    for name, slope in (("west", 35.0), ("east", 5.0), ("flat", 1.0)):
        image = np.stack([np.full((SIDE, SIDE), slope), np.full((SIDE, SIDE), 1000.0)]).astype(np.float32)
        write_geotiff(tmp_path / f"{name}.tif", image, names=names, transform=grid, nodata=np.nan)
    weights = {"weights": {"slope": 1.0}, "features": {"slope": {"low": 0, "high": 40}}}
    for name in ("west", "east"):
        (tmp_path / f"{name}.json").write_text(json.dumps(weights))
    (tmp_path / "rain").mkdir()
    hours = np.arange(12)
    metres = np.where((hours >= 5) & (hours < 11), 0.012, 0.0)[:, None, None] * np.ones((1, len(LATS), len(LONS)))
    write_era5(tmp_path / "rain" / "a.nc", np.datetime64("2024-06-11T01", "h") + hours, metres, LONS, LATS)
    return tmp_path


@pytest.mark.slow
def test_a_county_that_fails_does_not_stop_the_others(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    line = ["risk", "watch", "west.tif", "flat.tif", "east.tif", "--weights", "{name}.json", "--rain", "rain"]
    line += ["--accumulation", "step", "--every", "6", "--classes", "0.7,0.9", "--jobs", "2", "--out", "watch"]
    assert run(line) == 2
    told = capsys.readouterr()
    assert "1 of 3 counties have no map: flat" in told.err
    assert "flat.json" in told.err
    alone = zoo.risk.watch("west.tif", ["rain"], "alone", weights="west.json", **OPTIONS)
    assert len(alone.made) == 2
    for name in alone.made:
        step = name.replace(":", "").replace("-", "")
        same = [(place / folder / step / "index.tif").read_bytes() for folder in ("watch/west", "alone")]
        assert same[0] == same[1]
    assert (place / "watch" / "east" / "alerts.csv").is_file()
    again = zoo.risk.watch_counties(["west.tif"], "rain", "watch", weights="{name}.json", **OPTIONS)
    assert len(again["west"].unwrap().kept) == 2, "a second run keeps what is there"
    with pytest.raises(ConfigError, match="two stacks are called west"):
        zoo.risk.watch_counties(["west.tif", "other/west.tif"], "rain", "watch")


@pytest.mark.nightly
@pytest.mark.usefixtures("ray_node")
def test_counties_on_a_cluster(place: Path) -> None:
    stacks = [place / "west.tif", place / "flat.tif"]
    found = zoo.risk.watch_counties(
        stacks, place / "rain", place / "watch", weights=place / "{name}.json", cluster="local", **OPTIONS
    )
    assert [outcome.status for outcome in found.values()] == ["ok", "failed"]
    assert found["west"].unwrap().made == ("2024-06-11T06:00Z", "2024-06-11T12:00Z")
    assert "flat.json" in found["flat"].error
