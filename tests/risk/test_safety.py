import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.stats import kstest, triang

import zoo.risk
from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import slope_degrees
from zoo.physics.stability import (
    MAX_SAFETY,
    Soil,
    SoilRange,
    factor_of_safety,
    failure_probability,
    safety_channels,
    steady_wetness,
    storm_recharge,
)
from zoo.rasters.stacks import Stack
from zoo.risk.failure import map_safety


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
    assert stable[known].max() <= MAX_SAFETY


def test_outputs_are_nodata_where_elevation_is_unknown():
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
    monkeypatch.setattr("zoo.physics.stability.MAX_PIXELS", 100)
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
        ("friction=0.58", ConfigError),
        ("cohesion=5000", ConfigError),
        ("depth=170", ConfigError),
        ("conductivity=1e-5", ConfigError),
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
    place = from_origin(500_000, 4_000_000, 10, 10) if crs != "EPSG:4326" else from_origin(70, 30, 1e-4, 1e-4)
    image = np.stack([slope, elevation]).astype(np.float32)
    return write_geotiff(path, image, names=zip(names, units, strict=True), crs=crs, transform=place, nodata=np.nan)


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
        assert [(band.valid_min, band.valid_max) for band in made.bands] == [(0.0, 1.0), (0.0, MAX_SAFETY)]
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


def test_the_monte_carlo_is_the_factor_of_safety_of_each_random_soil():
    """Against the equations of :func:`factor_of_safety` and :func:`steady_wetness`, soil by soil."""
    rng = np.random.default_rng(0)
    slope, area = rng.uniform(0, 60, 300), rng.uniform(0, 500, 300)
    slope[:3], slope[3], area[4] = 0, np.nan, np.nan
    soil, rain = SoilRange(), (3.0, 1.0)
    probability, mean, spread = failure_probability(slope, area, rain, soil, draws=200, seed=5)
    soils = soil.draw(200, 5)
    factors = []
    for c, phi, z0, ks, share in zip(*soils.values(), strict=True):
        z = np.clip(z0 * np.exp(-0.6 * np.tan(np.radians(slope))), 0.3, 3.0)
        m = steady_wetness(storm_recharge(*rain) / 0.7 * share, area, ks * z, slope)
        factors.append(np.minimum(factor_of_safety(slope, m, c, phi, z), MAX_SAFETY))
    factors = np.array(factors)
    known = np.arange(300) != 3
    known[4] = False
    np.testing.assert_allclose(probability[known], (factors < 1).mean(axis=0)[known], atol=1e-12)
    np.testing.assert_allclose(mean[known], factors.mean(axis=0)[known], rtol=1e-9)
    np.testing.assert_allclose(spread[known], factors.std(axis=0)[known], atol=1e-6)
    assert np.isnan(probability[~known]).all()
    assert (probability[:3] == 0).all()
    assert 0.1 < probability[known].mean() < 0.9


def test_random_soils_have_triangular_distributions():
    soils = SoilRange(cohesion=(1, 2, 9), friction=(30, 30, 30)).draw(20_000, 1)
    expected = triang(c=(2 - 1) / (9 - 1), loc=1, scale=8)
    assert kstest(soils["cohesion"], expected.cdf).pvalue > 0.01
    assert soils["cohesion"].mean() == pytest.approx((1 + 2 + 9) / 3, rel=1e-3)
    assert (soils["friction"] == 30).all()
    assert abs(np.corrcoef(soils["cohesion"], soils["depth"])[0, 1]) < 0.03
    np.testing.assert_array_equal(SoilRange().draw(10, 3)["depth"], SoilRange().draw(10, 3)["depth"])


@pytest.mark.parametrize(
    "text",
    [
        "cohesion",
        "cohesion=1:2",
        "cohesion=5:2:8",
        "cohesion=-1:2:8",
        "friction=30:40:95",
        "infiltration=0.5:0.9:1.4",
        "depth=nan",
        "depth=0:1:2",
    ],
)
def test_an_impossible_range_is_refused(text):
    with pytest.raises(ConfigError):
        SoilRange.from_text(text)


def test_a_range_is_read_and_written():
    soil = SoilRange.from_text("cohesion=1:2:9, friction=30")
    assert (soil.cohesion, soil.friction) == ((1.0, 2.0, 9.0), (30.0, 30.0, 30.0))
    assert "cohesion 1:2:9, friction 30, depth 1.2:1.7:2.2" in str(soil)
    with pytest.raises(UnknownNameError):
        SoilRange.from_text("cohesoin=3")


def test_more_rain_fails_more_and_certain_soil_gives_certainty(tmp_path, capsys):
    stack = write(tmp_path / "stack.tif")
    reports = [
        zoo.risk.safety(stack, tmp_path / f"{rain}.tif", rain=(rain, 1.0), draws=100) for rain in (0.0, 2.0, 10.0)
    ]
    assert reports[0].expected_km2 < reports[1].expected_km2 < reports[2].expected_km2
    assert reports[0].area_km2 == pytest.approx(reports[0].known * 1e-4, rel=2e-3)
    certain = ",".join(f"{name}={value}" for name, value in vars(Soil()).items()) + ",infiltration=0.7"
    arguments = ["risk", "safety", str(stack), "--rain", "4,1", "--soil", certain, "--draws", "3"]
    assert run([*arguments, "--out", str(tmp_path / "certain.tif")]) == 0
    assert "more likely to fail than not" in capsys.readouterr().out
    with Stack(stack) as opened:
        map_safety(opened, tmp_path / "one.tif", (4.0, 1.0))
    with Stack(tmp_path / "certain.tif") as made, Stack(tmp_path / "one.tif") as one:
        assert [band.name for band in made.bands] == [
            "failure_probability", "factor_of_safety", "factor_of_safety_spread"
        ]  # fmt: skip
        probability, mean, spread = made.read()
        expected = one.read()[1]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    np.testing.assert_array_equal(probability == 1, expected < 1)
    assert np.nanmax(spread) < 1e-3
    assert run([*arguments, "--out", str(tmp_path / "certain.tif")]) == 2
    assert "already exists" in capsys.readouterr().err
    for wrong, told in (
        (["--rain", "4"], "2 numbers"),
        (["--rain", "-4,1"], "rain"),
        (["--draws", "0"], "draws"),
    ):
        assert run([*arguments, *wrong, "--out", str(tmp_path / "wrong.tif")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "wrong.tif").exists()


def test_an_elevation_without_slope_is_refused(tmp_path):
    path = write(tmp_path / "stack.tif")
    with rasterio.open(path, "r+") as file:
        file.write(np.full((60, 60), np.nan, np.float32), 1)
    with pytest.raises(DataError, match="no pixel has both slope and elevation"):
        zoo.risk.safety(path, tmp_path / "failure.tif", rain=(4.0, 1.0))
    assert not (tmp_path / "failure.tif").exists()


def test_rain_of_a_raster_is_summed_over_the_slopes_above(tmp_path, capsys):
    """On a plane that falls to the south, water of a row comes from all rows above it, and from no column beside it."""
    cell, rows, columns = 10.0, 40, 9
    elevation = np.repeat((1000 - 0.5 * cell * np.arange(rows))[:, None], columns, axis=1).astype(np.float32)
    slope = np.full_like(elevation, np.degrees(np.arctan(0.5)))
    grid = from_origin(500_000, 3_800_000, cell, cell)
    names = (("slope", "degree"), ("DEM", "m"))
    stack = write_geotiff(tmp_path / "stack.tif", np.stack([slope, elevation]), names=names, transform=grid)
    intensity = np.where(np.arange(rows) < 20, 8.0, 0.0)[:, None] * np.ones((1, columns))
    bands = np.stack([intensity, np.full_like(intensity, 2.0)]).astype(np.float32)
    about = (("intensity", "mm/h"), ("duration", "day"))
    rain = write_geotiff(tmp_path / "rain.tif", bands, names=about, transform=grid, nodata=np.nan)
    certain = "cohesion=2,friction=30,depth=1,conductivity=10,infiltration=0.5"
    soil = SoilRange.from_text(certain)
    zoo.risk.safety(stack, tmp_path / "found.tif", rain=rain, soil=soil, draws=2)
    theta, z = np.arctan(0.5), np.exp(-0.6 * 0.5)
    steady = 8 * 24 / 1000 * (1 - np.exp(-2 / 0.7))
    with Stack(tmp_path / "found.tif") as made:
        mean = made.read()[1]
        assert made.tags["RAIN"] == "rain.tif"
    for row in (5, 19, 30):
        water = 0.5 * steady * min(row + 1, 20) * cell
        m = min(1.0, water / (10 * z * np.sin(theta)))
        expected = (2 + (18 - m * 9.81) * z * np.cos(theta) ** 2 * np.tan(np.radians(30))) / (
            18 * z * np.sin(theta) * np.cos(theta)
        )
        assert mean[row, 4] == pytest.approx(expected, rel=0.02)
    uniform = np.stack([np.full_like(intensity, 4.0), np.full_like(intensity, 2.0)]).astype(np.float32)
    write_geotiff(tmp_path / "uniform.tif", uniform, names=about, transform=grid)
    line = ["risk", "safety", str(stack), "--soil", certain, "--draws", "2"]
    for number, given in enumerate((str(tmp_path / "uniform.tif"), "4,2")):
        assert run([*line, "--rain", given, "--out", str(tmp_path / f"{number}.tif")]) == 0
    with Stack(tmp_path / "0.tif") as one, Stack(tmp_path / "1.tif") as other:
        np.testing.assert_allclose(one.read(), other.read(), rtol=1e-5)
    capsys.readouterr()
    bands[0, :3] = np.nan
    write_geotiff(tmp_path / "gap.tif", bands, names=about, transform=grid, nodata=np.nan)
    write_geotiff(tmp_path / "single.tif", bands[:1], names=about[:1], transform=grid, nodata=np.nan)
    for words, told in (
        (["--rain", str(tmp_path / "gap.tif")], "has no rain in 7.5% of the pixels"),
        (["--rain", str(tmp_path / "single.tif")], "holds one band, the intensity"),
        (["--rain", "4,2", "--duration", "2"], "a duration can only be given with a rain raster"),
        (["--rain", str(tmp_path / "none.tif")], "none.tif"),
    ):
        assert run([*line, *words, "--out", str(tmp_path / "wrong.tif")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "wrong.tif").exists()
