"""Backscatter in the layouts of HyP3, SNAP and Earth Engine; scales that are stated, seen, or contradictory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from scipy import fft, ndimage

import zoo
from tests.rasters.geotiffs import write_geotiff
from zoo.errors import ConfigError, DataError
from zoo.physics import filter_speckle
from zoo.rasters import sentinel1
from zoo.rasters.coregistration import Image, measure_shift
from zoo.rasters.sentinel1 import decibels, open_radar
from zoo.rasters.stacks import Stack

SHAPE = (96, 80)
HYP3 = "S1A_IW_{date}T010203_DVP_RTC20_G_g{letter}uned_AB12_{name}.tif"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def raster(name: str, values: np.ndarray, names: tuple[str, ...] = (), unit: str = "", **tags: str) -> Path:
        place = from_origin(600_000, 3_800_000, 20, 20)
        named = [(label, unit if not index else "") for index, label in enumerate(names or ("",) * bool(unit))]
        return write_geotiff(tmp_path / name, values, names=named, tags=tags, transform=place)

    return raster


def power(seed: int = 0, level: float = 0.08) -> np.ndarray:
    """Linear backscatter with speckle of 20 looks."""
    return (level * np.random.default_rng(seed).gamma(20, 1 / 20, SHAPE)).astype(np.float32)


def stacked(tmp_path: Path, **given: object) -> tuple[dict[str, np.ndarray], tuple[str, ...], dict[str, str]]:
    report = zoo.stack(tmp_path / "radar.tif", overwrite=True, **given)  # type: ignore[arg-type]
    with Stack(report.path) as stack:
        assert {band.unit for band in stack.bands} == {"dB"}
        return dict(zip([band.name for band in stack.bands], stack.read(), strict=True)), report.notes, dict(stack.tags)


def test_both_orbits_of_two_dates_by_hand(write: Write, tmp_path: Path) -> None:
    values = {}
    for number, (folder, date) in enumerate((("before", "20240601"), ("after", "20240721"))):
        for name, level in (("VV", 0.08), ("VH", 0.015)):
            values[folder, name, "asc"] = power(number, level)
            write(f"{folder}/asc/{HYP3.format(date=date, letter='p', name=name)}", values[folder, name, "asc"])
            values[folder, name, "desc"] = power(number + 5, level)
            write(f"{folder}/{date}_descending_{name}_dB.tif", 10 * np.log10(values[folder, name, "desc"]))
    found, notes, tags = stacked(tmp_path, s1=tmp_path / "after", s1_pre=tmp_path / "before")
    assert list(found) == [
        *("VV_asc", "VH_asc", "VV_VH_asc", "VV_desc", "VH_desc", "VV_VH_desc"),
        *("dVV_asc", "dVH_asc", "dVV_desc", "dVH_desc"),
    ]
    for orbit in ("asc", "desc"):
        vv, vh = values["after", "VV", orbit], values["after", "VH", orbit]
        np.testing.assert_allclose(found[f"VV_{orbit}"], 10 * np.log10(vv), atol=1e-4)
        np.testing.assert_allclose(found[f"VV_VH_{orbit}"], 10 * np.log10(vv / vh), atol=1e-4)
        ratio = 10 * np.log10(vv / values["before", "VV", orbit])
        np.testing.assert_allclose(found[f"dVV_{orbit}"], ratio, atol=1e-4)
    assert (tags["DATE"], tags["PHASE"]) == ("2024-07-21", "post")
    assert any("VV: power by name of the HyP3 product" in text for text in notes)
    assert any("image before" in text and "dB by word 'db'" in text for text in notes)


def test_bands_of_one_file_and_the_orbit_of_its_tags(write: Write, tmp_path: Path) -> None:
    """As Earth Engine exports them: one file, no scale stated, zeros without a tag where nothing was measured."""
    values = np.stack([10 * np.log10(power(1)), 10 * np.log10(power(2, 0.015)), np.full(SHAPE, 38, np.float32)])
    values[:, :5] = 0
    write("s1/export.tif", values.astype(np.float32), ("VV", "VH", "angle"), orbitProperties_pass="ASCENDING")
    found, notes, _ = stacked(tmp_path, s1=tmp_path / "s1")
    assert list(found) == ["VV_asc", "VH_asc", "VV_VH_asc"]
    assert np.isnan(found["VV_asc"][:5]).all()
    np.testing.assert_allclose(found["VH_asc"][5:], values[1, 5:], atol=1e-5)
    assert any("dB according to its values: half of its values are below -11" in text for text in notes)


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("scene_VV.tif", "", lambda p: 10 * np.log10(p)),
        ("scene_VV.tif", "amplitude", lambda p: 20 * np.log10(p)),
        (HYP3.format(date="20240601", letter="a", name="VV"), "", lambda p: 20 * np.log10(p)),
        ("scene_VV_linear.tif", "", lambda p: 10 * np.log10(p)),
    ],
)
def test_linear_scales(write: Write, tmp_path: Path, name: str, unit: str, expected: Callable[..., np.ndarray]) -> None:
    write(f"s1/{name}", power(), unit=unit)
    found, _, _ = stacked(tmp_path, s1=tmp_path / "s1")
    assert list(found) == ["VV"]
    np.testing.assert_allclose(found["VV"], expected(power()), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("a_VV_dB.tif", power(), "is named dB .* but half of its values are below 0.07.*0% are negative"),
        ("a_VV_linear.tif", 10 * np.log10(power()), "is named power .* 100% are negative"),
        ("a_VV_linear_dB.tif", power(), "is named dB .* and power"),
        ("a_VV.tif", 1000 * power(), "neither dB nor linear power"),
        ("a_VV.tif", -1000 * power(), "neither dB nor linear power"),
        ("a_VV.tif", (1000 * power()).astype(np.uint16), "digital numbers without a unit"),
        ("a_VV.tif", np.zeros(SHAPE, np.float32), "nodata on the whole grid"),
    ],
)
def test_scales_that_are_not_clear_are_refused(
    write: Write, tmp_path: Path, name: str, values: np.ndarray, problem: str
) -> None:
    write(f"s1/{name}", values)
    with pytest.raises(DataError, match=problem):
        stacked(tmp_path, s1=tmp_path / "s1")
    assert not (tmp_path / "radar.tif").exists()


def test_radar_geometry_is_refused(write: Write, tmp_path: Path) -> None:
    corners = [GroundControlPoint(row, col, 73 + col / 1e4, 34 - row / 1e4) for row in (0, 95) for col in (0, 79)]
    (tmp_path / "grd").mkdir()
    with rasterio.open(
        tmp_path / "grd" / "s1a-iw-grd-vv-20240721.tif", "w", driver="GTiff", width=80, height=96, count=1,
        dtype="uint16", gcps=corners, crs="EPSG:4326",
    ) as file:  # fmt: skip
        file.write((1e4 * power()).astype(np.uint16), 1)
    with pytest.raises(DataError, match=r"is in radar geometry.*\n?.*Terrain Correction"):
        open_radar(tmp_path / "grd")
    write("safe/S1A.SAFE/vv.tif", power())
    (tmp_path / "safe" / "S1A.SAFE" / "manifest.safe").touch()
    with pytest.raises(DataError, match="Sentinel-1 product in radar geometry"):
        open_radar(tmp_path / "safe")


def test_folders_that_do_not_fit(write: Write, tmp_path: Path) -> None:
    for folder, date in (("one", "20240601"), ("two", "20240701")):
        write(f"{folder}/{date}_asc_VV.tif", power())
    write("other/20240501_desc_VV.tif", power())
    write("double/20240601_VV.tif", power())
    write("double/20240613_VV.tif", power())
    write("none/dem.tif", power())
    write("both/asc/desc_VV.tif", power())
    for folder, problem in (
        ("double", "two rasters of vv: 20240601_VV.tif and 20240613_VV.tif"),
        ("none", "no backscatter"),
        ("both", "of both an ascending and a descending orbit"),
        ("nowhere", "does not exist"),
    ):
        with pytest.raises(DataError, match=problem):
            open_radar(tmp_path / folder)
    with pytest.raises(
        ConfigError, match="before the landslides is from 2024-07-01, the one after them from 2024-06-01"
    ):
        stacked(tmp_path, s1=tmp_path / "one", s1_pre=tmp_path / "two")
    with pytest.raises(DataError, match="only one has vv asc, vv desc"):
        stacked(tmp_path, s1=tmp_path / "two", s1_pre=tmp_path / "other")
    # The two orbits pass on different days, so a folder has no single date, but each band has one.
    write("late/20240614_asc_VV.tif", power())
    write("late/20240710_desc_VV.tif", power())
    write("early/20240602_asc_VV.tif", power())
    write("early/20240712_desc_VV.tif", power())
    with pytest.raises(
        ConfigError, match="before the landslides is from 2024-07-12, the one after them from 2024-07-10"
    ):
        stacked(tmp_path, s1=tmp_path / "late", s1_pre=tmp_path / "early")
    write("undated/asc_VV.tif", power())
    _, notes, _ = stacked(tmp_path, s1=tmp_path / "two", s1_pre=tmp_path / "undated")
    assert any("a date of Sentinel-1 is unknown, so the order" in text for text in notes)
    with pytest.raises(ConfigError, match="after the landslides is missing"):
        stacked(tmp_path, s1_pre=tmp_path / "one")


def test_what_is_not_positive_has_no_decibels() -> None:
    values = np.array([1.0, 0.1, 0.0, -0.1, np.nan], np.float32)
    np.testing.assert_allclose(decibels(values, "power"), [0, -10, np.nan, np.nan, np.nan], atol=1e-6)
    np.testing.assert_allclose(decibels(values, "amplitude"), [0, -20, np.nan, np.nan, np.nan], atol=1e-6)
    np.testing.assert_array_equal(decibels(np.array([-3.0, 0.0], np.float32), "dB"), [-3, np.nan])


def texture(seed: int = 0) -> np.ndarray:
    """Backscatter of mountains in dB: rough, with a standard deviation of 3 dB."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(fft.fftfreq(512)[:, None], fft.fftfreq(512)[None])
    frequency[0, 0] = 1
    field = fft.ifft2(frequency**-1.5 * np.exp(2j * np.pi * rng.random((512, 512)))).real
    return -11 + 3 * (field - field.mean()) / field.std()


def speckled(ground: np.ndarray, seed: int, looks: float = 4.4) -> np.ndarray:
    return (10 ** (ground / 10) * np.random.default_rng(seed).gamma(looks, 1 / looks, ground.shape)).astype(np.float32)


@pytest.fixture
def shifted(write: Write, tmp_path: Path) -> Path:
    """Two dates of both orbits with speckle; the earlier one of the ascending orbit lies 0.7 down and 1.4 left."""
    inside = np.s_[100:400, 100:400]
    for number, orbit in enumerate(("asc", "desc")):
        ground = texture(number)
        moved = ndimage.shift(ground, (0.7, -1.4), order=3) if orbit == "asc" else ground
        for name, level in (("VV", 0), ("VH", -7)):
            write(f"after/{orbit}/20240721_{name}.tif", speckled(ground + level, 10 + number, 20)[inside])
            write(f"before/{orbit}/20240601_{name}.tif", speckled(moved + level, 20 + number, 20)[inside])
    return tmp_path


def test_the_shift_of_each_orbit_is_measured_and_corrected_on_request(shifted: Path) -> None:
    given = {"s1": shifted / "after", "s1_pre": shifted / "before", "overwrite": True}
    with pytest.raises(DataError, match=r"before \(ascending\) lies 0\.\d\d pixels down and 1\.\d\d.* left .*VV in dB"):
        zoo.stack(shifted / "radar.tif", **given)
    report = zoo.stack(shifted / "radar.tif", **given, force=True)
    assert report.shift is None
    assert (report.radar_shifts["asc"].rows, report.radar_shifts["asc"].columns) == pytest.approx((0.7, -1.4), abs=0.15)
    assert report.radar_shifts["desc"].pixels < 0.15
    assert any("ascending" in text and "--coregister corrects it" in text for text in report.warnings)
    moved = zoo.stack(shifted / "radar.tif", **given, coregister=True)
    assert any("ascending" in text and "it was moved, and 0.0" in text for text in moved.notes)
    assert "moved from" in moved.sources["dVH_asc"]
    assert "moved from" not in moved.sources["dVV_desc"]
    # What is left is the speckle, which the interpolation smooths.
    assert moved.statistics["dVH_asc"].std < 0.8 * report.statistics["dVH_asc"].std
    assert moved.statistics["dVV_desc"].std == report.statistics["dVV_desc"].std


def test_the_shift_of_a_small_scene_with_the_speckle_of_grd_is_known_to_a_quarter_of_a_pixel() -> None:
    errors = []
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        true = rng.uniform(-1.5, 1.5, 2)
        ground = texture(seed)
        images = [10 * np.log10(speckled(one, 10 * seed + number)[100:400, 100:400])
                  for number, one in enumerate((ground, ndimage.shift(ground, true, order=3)))]  # fmt: skip
        readers: list[Image] = [lambda window, image=image: image[window.toslices()] for image in images]  # type: ignore[misc]
        found = measure_shift(*readers, (300, 300), sentinel1._LOW_PASS_STD)
        assert found is not None
        assert found.known
        errors.append(np.hypot(found.rows - true[0], found.columns - true[1]))
    assert np.sqrt(np.mean(np.square(errors))) < 0.25


def test_dates_that_do_not_resemble_each_other_are_a_warning(write: Write, tmp_path: Path) -> None:
    write("before/20240601_VV.tif", power(1))
    write("after/20240721_VV.tif", power(2))
    report = zoo.stack(tmp_path / "radar.tif", s1=tmp_path / "after", s1_pre=tmp_path / "before")
    assert report.radar_shifts == {}
    assert any("could not be measured: the images do not resemble each other" in text for text in report.warnings)


def test_speckle_is_filtered_on_the_pixels_of_the_file(write: Write, tmp_path: Path, monkeypatch) -> None:
    vv, vh = speckled(np.full(SHAPE, -11.0), 1), speckled(np.full(SHAPE, -18.0), 2)
    vv[10:14, 20:30] = 0  # zeros are nodata
    write("s1/scene.tif", np.stack([10 * np.log10(np.where(vv > 0, vv, 1)), 10 * np.log10(vh)]), ("VV", "VH"))
    expected = 10 * np.log10(filter_speckle(np.where(vv > 0, vv, np.nan), 4.4))
    for window in (32, 1024):
        monkeypatch.setattr(sentinel1, "_WINDOW", window)
        found, notes, tags = stacked(tmp_path, s1=tmp_path / "s1", s1_looks=4.4)
        np.testing.assert_allclose(found["VV"], expected, atol=1e-4)
        assert any("speckle was filtered with 4.4 equivalent looks; half of the squares" in text for text in notes)
    assert json.loads(tags["SOURCES"])["vh"] == {
        **json.loads(tags["SOURCES"])["vv"], "band": 2
    }  # fmt: skip
    assert json.loads(tags["SOURCES"])["vv"]["file"] == "scene.tif"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["radar.tif", "s1"]
    # A part of the file, on coarser pixels, is that part of the filtered file.
    part = zoo.stack(
        tmp_path / "part.tif", s1=tmp_path / "s1", s1_looks=4.4, bounds=(600_420, 3_798_960, 601_020, 3_799_560),
        resolution=60,
    )  # fmt: skip
    with Stack(part.path) as stack:
        power_of = 10 ** (expected[22:52, 21:51] / 10)
        mean = power_of.reshape(10, 3, 10, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(stack.read()[0], 10 * np.log10(mean), atol=1e-3)
    assert "speckle filtered with 4.4 looks" in part.sources["VV"]


def test_looks_that_contradict_the_image(write: Write, tmp_path: Path) -> None:
    write("smooth/scene_VV.tif", power())  # 20 looks
    report = zoo.stack(tmp_path / "radar.tif", s1=tmp_path / "smooth", s1_looks=4.4)
    assert any("show at least 21 equivalent looks, but --s1-looks is 4.4" in text for text in report.warnings)
    assert not zoo.stack(tmp_path / "radar.tif", s1=tmp_path / "smooth", s1_looks=20, overwrite=True).warnings
    write("filtered/S1A_IW_20240601T010203_DVP_RTC20_G_gpufed_AB12_VV.tif", power())
    with pytest.raises(DataError, match="speckle is already filtered"):
        zoo.stack(tmp_path / "other.tif", s1=tmp_path / "filtered", s1_looks=4.4)
    with pytest.raises(ConfigError, match="-1 equivalent looks"):
        zoo.stack(tmp_path / "other.tif", s1=tmp_path / "smooth", s1_looks=-1)
    with pytest.raises(ConfigError, match="a speckle filter needs Sentinel-1"):
        zoo.stack(tmp_path / "other.tif", s1_looks=4.4)
    assert not (tmp_path / "other.tif").exists()
