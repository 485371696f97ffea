import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import slope_degrees
from zoo.physics.stability import MOST_SAFETY, Soil, safety_channels, storm_recharge
from zoo.rasters.stacks import Stack
from zoo.risk.mapping import map_safety


def valley(side=60, cell=10.0):
    """Two planes that meet in a channel falling towards row 0."""
    y, x = np.mgrid[:side, :side] * cell
    return (800 + 0.2 * y + 0.5 * np.abs(x - x.mean())).astype(np.float32)


def test_a_plane_by_hand():
    # Straight down, water of the rows above: a = (rows from the top) * cell, as the first row is the crest.
    cell, rows = 10.0, 40
    elevation = np.repeat((1000 - 0.5 * cell * np.arange(rows))[:, None], 9, axis=1).astype(np.float32)
    slope = np.full_like(elevation, np.degrees(np.arctan(0.5)))
    soil = Soil(cohesion=2.0, friction=30.0, depth=1.0, conductivity=10.0)
    wetness, safety = safety_channels(elevation, slope, cell, (5.0, 1.0), soil)
    theta = np.arctan(0.5)
    z = np.exp(-0.6 * 0.5)
    recharge = 5 * 24 / 1000 * 0.7 * (1 - np.exp(-1 / 0.7))
    area = (20 + 1) * cell
    m = min(1.0, recharge * area / (10 * z * np.sin(theta)))
    assert wetness[20, 4] == pytest.approx(m, rel=0.02)
    fs = (2 + (18 - m * 9.81) * z * np.cos(theta) ** 2 * np.tan(np.radians(30))) / (
        18 * z * np.sin(theta) * np.cos(theta)
    )
    assert safety[20, 4] == pytest.approx(fs, rel=0.02)


def test_hollows_are_wet_and_rain_destabilises():
    elevation = valley()
    slope = slope_degrees(elevation, 10.0).astype(np.float32)
    dry, stable = safety_channels(elevation, slope, 10.0, (0.0, 1.0))
    _, unstable = safety_channels(elevation, slope, 10.0, (4.0, 1.0))
    known = np.isfinite(stable)
    assert (dry[known] == 0).all()
    damp, _ = safety_channels(elevation, slope, 10.0, (1.0, 1.0))
    assert damp[30, 30] > 2 * damp[30, 5] > 0
    assert (unstable[known] <= stable[known]).all()
    assert unstable[known].min() < stable[known].min()
    assert stable[known].max() <= MOST_SAFETY


def test_nothing_is_known_where_elevation_is_not():
    elevation = valley()
    elevation[10:15, 20:25] = np.nan
    slope = slope_degrees(elevation, 10.0).astype(np.float32)
    wetness, safety = safety_channels(elevation, slope, 10.0, (4.0, 1.0))
    assert np.isnan(wetness[12, 22])
    assert np.isnan(safety[12, 22])
    assert np.isfinite(safety[30:50, 30:50]).all()


def test_a_short_rain_wets_less_than_a_long_one():
    assert storm_recharge(10, 0) == 0
    assert storm_recharge(10, 0.5) < storm_recharge(10, 5) < 10 * 24 / 1000 * 0.7
    for bad in ((-1, 1), (1, -1), (np.nan, 1), (1, np.inf)):
        with pytest.raises(DataError):
            storm_recharge(*bad)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("zoo.physics.stability.MOST_PIXELS", 100)
    with pytest.raises(DataError, match="in memory"):
        safety_channels(valley(), valley(), 10.0, (4.0, 1.0))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cohesion", ConfigError),
        ("cohesion=much", ConfigError),
        ("cohesion=-1", ConfigError),
        ("depth=0", ConfigError),
        ("friction=95", ConfigError),
        ("cohesoin=3", UnknownNameError),
    ],
)
def test_an_invalid_soil_is_refused(text, error):
    with pytest.raises(error):
        Soil.from_text(text)


def test_a_soil_is_read():
    assert Soil.from_text("cohesion=0, friction=30") == Soil(cohesion=0.0, friction=30.0)


def write(path, *, names=("slope", "DEM"), units=("degree", "m"), crs="EPSG:32643"):
    elevation = valley()
    slope = slope_degrees(elevation, 10.0)
    with rasterio.open(
        path, "w", driver="GTiff", width=60, height=60, count=2, dtype="float32", crs=crs, nodata=np.nan,
        transform=from_origin(500_000, 4_000_000, 10, 10) if crs != "EPSG:4326" else from_origin(70, 30, 1e-4, 1e-4),
    ) as file:  # fmt: skip
        file.write(np.stack([slope, elevation]).astype(np.float32))
        for number in (1, 2):
            file.set_band_description(number, names[number - 1])
            file.set_band_unit(number, units[number - 1])
    return path


def test_the_safety_channels_are_added_to_the_stack(tmp_path):
    with Stack(write(tmp_path / "stack.tif")) as stack:
        share = map_safety(stack, tmp_path / "safety.tif", (4.0, 1.0))
        image = stack.read()
        wetness, safety = safety_channels(image[1], image[0], 10.0, (4.0, 1.0))
    with Stack(tmp_path / "safety.tif") as made:
        assert [band.name for band in made.bands] == ["wetness", "factor_of_safety"]
        np.testing.assert_array_equal(made.read(), np.stack([wetness, safety]))
        assert made.tags["RAIN"] == "4,1"
        assert "cohesion 5" in made.tags["SOIL"]
        assert made.tags["SOURCE"] == "stack.tif"
        assert [(band.valid_min, band.valid_max) for band in made.bands] == [(0.0, 1.0), (0.0, MOST_SAFETY)]
    assert share == pytest.approx(np.nanmean(np.where(np.isnan(safety), np.nan, safety < 1)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"names": ("Slope", "DEM")}, "Slope"),
        ({"units": ("radian", "m")}, "radian"),
        ({"units": ("degree", "ft")}, "ft"),
        ({"crs": "EPSG:4326"}, "metres"),
    ],
)
def test_a_stack_that_does_not_fit_is_refused(tmp_path, options, told):
    with (
        Stack(write(tmp_path / "stack.tif", **options)) as stack,
        pytest.raises((DataError, UnknownNameError)) as caught,
    ):
        map_safety(stack, tmp_path / "safety.tif", (4.0, 1.0))
    assert told in str(caught.value)
