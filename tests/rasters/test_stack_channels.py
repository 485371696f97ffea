"""The whole stack against the same thing computed at once, without windows, warps or running statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, IndexParameters, slope_degrees
from zoo.physics.stability import Soil, safety_channels
from zoo.rasters import stacking
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions, StackReport, build_stack
from zoo.rasters.stacks import Stack

NAMES = ["SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"]
FILES = ("green", "red", "nir", "swir", "dem")
RANGES = {
    "slope": FeatureRange(0.0, 60.0),
    "DEM": FeatureRange(900.0, 1600.0),
    "NDVI": FeatureRange(-0.1, 0.9),
    "NDWI": FeatureRange(-0.8, 0.3),
    "SMI": FeatureRange(0.1, 0.8),
    "NDBI": FeatureRange(-0.5, 0.4),
}


@pytest.fixture(autouse=True, params=[64, 1024], ids=["windows of 64", "one window"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in many windows and in one."""
    monkeypatch.setattr(stacking, "WINDOW", request.param)


def read(path: Path) -> dict[str, np.ndarray]:
    with Stack(path) as stack:
        return dict(zip([band.name for band in stack.bands], stack.read(), strict=True))


def build(sources: Sources, tmp_path: Path, **options: object) -> tuple[StackReport, dict[str, np.ndarray]]:
    report = build_stack(sources, tmp_path / "stack.tif", StackOptions(**options))  # type: ignore[arg-type]
    return report, read(report.path)


def reflectance(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {role: np.round(fields[role] * 10_000) / 10_000 for role in ("green", "red", "nir", "swir", "swir2")}


def test_seven_channels_by_hand(one_grid: Sources, fields: dict[str, np.ndarray], tmp_path: Path) -> None:
    index = IndexParameters(ranges=RANGES, source="elsewhere")
    report, found = build(one_grid, tmp_path, rain=(10.0, 2.0), index=index)
    assert list(found) == NAMES
    r = reflectance(fields)
    elevation = fields["dem"].astype(np.float32)
    expected = {
        "SMI": fields["moisture"] / 0.5,
        "NDBI": (r["swir"] - r["nir"]) / (r["swir"] + r["nir"]),
        "NDVI": (r["nir"] - r["red"]) / (r["nir"] + r["red"]),
        "NDWI": (r["green"] - r["nir"]) / (r["green"] + r["nir"]),
        "slope": slope_degrees(elevation, 10.0),
        "DEM": elevation,
    }
    weighted = sum(
        PAPER_WEIGHTS[name] * np.clip((values - RANGES[name].low) / (RANGES[name].high - RANGES[name].low), 0, 1)
        for name, values in expected.items()
    )
    factor = (10.0 / (14.82 * 24**-0.39)) ** 1.2 * 2.0**0.8
    expected["LSI"] = expit(factor * weighted)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=3e-6, rtol=2e-6, err_msg=name)
    # A slope computed on windows with a halo is the slope of the whole, bit for bit.
    np.testing.assert_array_equal(found["slope"], expected["slope"])
    np.testing.assert_array_equal(found["DEM"], elevation)
    assert report.statistics["slope"].mean == pytest.approx(float(expected["slope"].mean()), rel=1e-6)


def test_own_ranges_are_the_percentiles_of_the_scene(
    one_grid: Sources, fields: dict[str, np.ndarray], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.json"
    report, found = build(one_grid, tmp_path, save_weights=weights)
    assert report.index is not None
    for name, span in report.index.ranges.items():
        low, high = np.percentile(found[name], [0.5, 99.5])
        width = high - low
        assert span.low == pytest.approx(low, abs=0.003 * width), name
        assert span.high == pytest.approx(high, abs=0.003 * width), name
    assert any("own 0.5-99.5 percentiles" in text for text in report.notes)
    # What was saved gives the same index again, and says nothing about percentiles any more.
    again = build_stack(one_grid, tmp_path / "again.tif", StackOptions(index=IndexParameters.load(weights)))
    np.testing.assert_array_equal(read(again.path)["LSI"], found["LSI"])
    assert not any("percentiles" in text for text in again.notes)


def test_statistics_are_those_of_the_pixels(one_grid: Sources, tmp_path: Path) -> None:
    report, found = build(one_grid, tmp_path)
    with Stack(report.path) as stack:
        tags = [stack.band_tags(index) for index in range(len(stack.bands))]
    for name, values, told in zip(found, found.values(), tags, strict=True):
        exact = values.astype(np.float64)
        for key, number in (
            ("MINIMUM", exact.min()),
            ("MAXIMUM", exact.max()),
            ("MEAN", exact.mean()),
            ("STDDEV", exact.std()),
            ("VALID_PERCENT", 100.0),
        ):
            assert float(told[f"STATISTICS_{key}"]) == pytest.approx(float(number), rel=1e-5, abs=1e-7), (name, key)


def test_optram_is_wet_where_the_ground_is(one_grid: Sources, fields: dict[str, np.ndarray], tmp_path: Path) -> None:
    report, found = build(one_grid, tmp_path, moisture="optram")
    r = reflectance(fields)
    ndvi = (r["nir"] - r["red"]) / (r["nir"] + r["red"])
    value = (1 - r["swir2"]) ** 2 / (2 * r["swir2"])
    bins = np.minimum((ndvi * 50).astype(int), 49)
    rows = [row for row in range(50) if ((bins == row) & (ndvi >= 0)).sum() >= 100]
    centres = (np.array(rows) + 0.5) / 50
    dry, wet = (
        np.polyfit(centres, [np.quantile(value[(bins == row) & (ndvi >= 0)], share) for row in rows], 1)
        for share in (0.05, 0.95)
    )
    low, high = np.polyval(dry, ndvi), np.polyval(wet, ndvi)
    np.testing.assert_allclose(found["SMI"], np.clip((value - low) / (high - low), 0, 1), atol=0.01)
    assert np.corrcoef(found["SMI"].ravel(), fields["moisture"].ravel())[0, 1] > 0.85
    assert "OPTRAM" in report.sources["SMI"]
    assert any("no radiometer" in text for text in report.notes)


def test_ndmi_is_given_only_with_a_warning(one_grid: Sources, tmp_path: Path) -> None:
    report, found = build(one_grid, tmp_path, moisture="ndmi")
    np.testing.assert_allclose(2 * found["SMI"] - 1, -found["NDBI"], atol=1e-6)
    assert any("-NDBI" in text for text in report.warnings)


def test_clouds_are_nodata_for_optics_and_not_for_terrain(
    one_grid: Sources, write_raster: object, tmp_path: Path
) -> None:
    classes = np.full((120, 100), 4, dtype=np.uint8)
    classes[10:20, 30:40] = 9
    classes[50:55, 60:70] = 3
    classes[90:95, 0:10] = 2  # topographic shadow: in mountains that is land
    path = write_raster("scl.tif", classes, pixel=20.0)  # type: ignore[operator]
    _, found = build(one_grid.merged(Sources({"scl": BandFile(str(path))})), tmp_path)
    hidden = np.kron(np.isin(classes, (9, 3)), np.ones((2, 2))).astype(bool)
    for name in ("NDVI", "NDWI", "NDBI", "LSI"):
        np.testing.assert_array_equal(np.isnan(found[name]), hidden, err_msg=name)
    for name in ("slope", "DEM", "SMI"):
        assert np.isfinite(found[name]).all()


def test_rain_may_be_two_rasters(one_grid: Sources, write_raster: object, tmp_path: Path) -> None:
    index = IndexParameters(ranges=RANGES)
    rain = {
        role: BandFile(str(write_raster(f"{role}.tif", np.full((240, 200), value, dtype=np.float32))))  # type: ignore[operator]
        for role, value in (("rain_intensity", 10.0), ("rain_duration", 2.0))
    }
    _, by_raster = build(one_grid.merged(Sources(rain)), tmp_path, index=index)
    numbers = build_stack(one_grid, tmp_path / "numbers.tif", StackOptions(index=index, rain=(10.0, 2.0)))
    np.testing.assert_allclose(by_raster["LSI"], read(numbers.path)["LSI"], atol=1e-6)


def test_a_part_of_the_inputs_gives_a_part_of_the_channels(one_grid: Sources, tmp_path: Path) -> None:
    terrain = replace(one_grid, files={"dem": one_grid.files["dem"]})
    report, found = build(terrain, tmp_path)
    assert list(found) == ["slope", "DEM"]
    assert list(report.missing) == ["SMI", "NDBI", "NDVI", "NDWI", "LSI"]
    assert report.index is None


def test_wetness_and_safety_are_two_channels_more(
    one_grid: Sources, fields: dict[str, np.ndarray], tmp_path: Path
) -> None:
    soil = Soil(cohesion=2.0, depth=1.2)
    terrain = Sources({"dem": one_grid.files["dem"]})
    report, found = build(terrain, tmp_path, rain=(4.0, 1.0), soil=soil)
    assert list(found) == ["slope", "DEM", "wetness", "factor_of_safety"]
    elevation = fields["dem"].astype(np.float32)
    expected = safety_channels(elevation, slope_degrees(elevation, 10.0).astype(np.float32), 10.0, (4.0, 1.0), soil)
    for name, values in zip(("wetness", "factor_of_safety"), expected, strict=True):
        np.testing.assert_array_equal(found[name], values)
        assert report.statistics[name].mean == pytest.approx(float(values.astype(np.float64).mean()), rel=1e-6)
    with Stack(report.path) as stack:
        bands = {band.name: band for band in stack.bands}
        assert (bands["factor_of_safety"].valid_min, bands["factor_of_safety"].valid_max) == (0.0, 10.0)
        assert "cohesion 2" in bands["wetness"].description
        assert (stack.tags["RAIN"], stack.tags["SOIL"][:10]) == ("4,1", "cohesion 2")
    # The other channels do not know of it.
    np.testing.assert_array_equal(build(terrain, tmp_path, overwrite=True)[1]["slope"], found["slope"])


def test_safety_needs_rain_and_elevation(one_grid: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="need the rain"):
        StackOptions(soil=Soil())
    bare = Sources({role: one_grid.files[role] for role in ("red", "nir")})
    with pytest.raises(ConfigError, match="need an elevation"):
        build(bare, tmp_path, rain=(4.0, 1.0), soil=Soil())
    monkeypatch.setattr("zoo.physics.stability.MAX_PIXELS", 100)
    with pytest.raises(DataError, match="in memory"):
        build(Sources({"dem": one_grid.files["dem"]}), tmp_path, rain=(4.0, 1.0), soil=Soil())
    assert not list(tmp_path.glob("*.tif"))
