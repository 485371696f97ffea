"""`zoo rain` as a user runs it."""

import json
from datetime import datetime, timedelta

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tests.rasters.geotiffs import write_geotiff
from tests.rasters.rain_layouts import axis, write_imerg
from zoo.cli import run

LONS, LATS = axis(72.95, 12), axis(33.95, 10)


@pytest.fixture(scope="module")
def imerg(tmp_path_factory):
    """A day of half-hourly rain: 5 mm/h from 06 to 12 UTC."""
    folder = tmp_path_factory.mktemp("imerg")
    return [
        write_imerg(
            folder,
            datetime(2024, 6, 11) + timedelta(minutes=30 * half),
            np.full((len(LATS), len(LONS)), 5.0 if 12 <= half < 24 else 0.0),
            LONS,
            LATS,
        )
        for half in range(48)
    ]


@pytest.fixture
def place(tmp_path):
    """``stack.tif`` with slope and DEM."""
    y, x = np.mgrid[:40, :40]
    image = np.stack([20 + 15 * np.sin(x / 4), 900 + 10.0 * y]).astype(np.float32)
    grid, names = from_origin(353_000, 3_812_000, 250, 250), (("slope", "degree"), ("DEM", "m"))
    write_geotiff(tmp_path / "stack.tif", image, names=names, transform=grid, nodata=np.nan)
    return tmp_path


def test_from_half_hours_to_a_risk_map(place, imerg, capsys):
    files = [str(path) for path in imerg]
    common = ["--grid", str(place / "stack.tif"), "--out", str(place / "rain.tif")]
    assert run(["rain", *files, *common, "--dry-gap", "12.5"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split() == ["intensity", "mm/h", "5", "5", "5", "100.0%"]
    assert told.out.splitlines()[2].split() == ["duration", "day", "0.25", "0.25", "0.25", "100.0%"]
    assert "a rain event is in progress in 100.0% of the cells" in told.err
    assert "events end with 12.5 h without rain" in told.err
    weights = {
        "weights": {"slope": 0.6, "DEM": 0.4},
        "features": {"slope": {"low": 0, "high": 40}, "DEM": {"low": 900, "high": 1300}},
    }
    (place / "w.json").write_text(json.dumps(weights))
    stack = [str(place / "stack.tif"), "--weights", str(place / "w.json"), "--classes", "0.5,0.6"]
    assert run(["risk", "map", *stack, "--rain", str(place / "rain.tif"), "--out", str(place / "a.tif")]) == 0
    assert run(["risk", "map", *stack, "--rain", "5,0.25", "--out", str(place / "b.tif")]) == 0
    with rasterio.open(place / "a.tif") as one, rasterio.open(place / "b.tif") as other:
        np.testing.assert_allclose(one.read(1), other.read(1), atol=1e-6)
    capsys.readouterr()
    # Twelve hours after the rain, an event that twelve dry hours end is over.
    assert run(["rain", *files, *common, "--dry-gap", "12", "--overwrite"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["intensity", "mm/h", "0", "0", "0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "mm/day"], "is in 'mm/hr', not in 'mm/day'"),
        (["--at", "2024-06-14"], "there is no rain at 2024-06-14T00:00Z"),
        (["--dry-gap", "0"], "dry gap of 0 h"),
        (["--max-missing", "2"], "a share of 2 missing hours"),
        (["--variable", "rain"], "unknown variable 'rain'"),
    ],
)
def test_bad_input_is_one_message(place, imerg, capsys, options, message):
    files = [str(path) for path in imerg[:4]]
    common = ["--grid", str(place / "stack.tif"), "--out", str(place / "rain.tif")]
    assert run(["rain", *files, *common, *options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (place / "rain.tif").exists()
