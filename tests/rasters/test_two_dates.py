"""Stacks of two dates: the differences against the same thing computed at once, and images that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin
from scipy import ndimage

from tests.rasters.conftest import numbers
from zoo.errors import ConfigError, DataError
from zoo.rasters import stacking
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions, StackReport, build_stack
from zoo.rasters.stacks import Stack
from zoo.rasters.two_dates import plan_changes

WriteRaster = Callable[..., Path]
ROLES = ("blue", "green", "red", "nir", "swir")


@pytest.fixture
def ground(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reflectances with details, so that a shift can be seen."""
    detail = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((240, 200)), 1.5) * 0.15
    bands = {"blue": 0.7 * fields["green"], **{role: fields[role] for role in ROLES[1:]}}
    return {role: np.clip(values * (1 + detail), 0.005, 1) for role, values in bands.items()}


@pytest.fixture
def image(write_raster: WriteRaster) -> Callable[..., Sources]:
    """Write reflectances as the bands of an image; a baseline of before 2022 has no offset."""

    def write(name: str, bands: dict[str, np.ndarray], date: str = "", offset: int = 1000, **grid: object) -> Sources:
        files = {
            role: BandFile(str(write_raster(f"{name}_{role}.tif", numbers(values, offset), **grid)), offset=-offset)
            for role, values in bands.items()
            if role != "scl"
        }
        files = {role: replace(file, scale=1e-4) for role, file in files.items()}
        if "scl" in bands:
            files["scl"] = BandFile(str(write_raster(f"{name}_scl.tif", bands["scl"].astype(np.uint8))), nodata=0.0)
        return Sources(files, date=date)

    return write


def build(
    after: Sources, before: Sources, folder: Path, **options: object
) -> tuple[StackReport, dict[str, np.ndarray]]:
    options = {"moisture": "none", "phase": "post", **options}
    report = build_stack(after, folder / "stack.tif", StackOptions(**options), before=before)  # type: ignore[arg-type]
    with Stack(report.path) as stack:
        return report, dict(zip([band.name for band in stack.bands], stack.read(), strict=True))


def landslide(bands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same ground with bare soil in one place."""
    bare = {"blue": 0.08, "green": 0.11, "red": 0.15, "nir": 0.22, "swir": 0.28}
    changed = {role: values.copy() for role, values in bands.items()}
    for role, value in bare.items():
        changed[role][40:60, 50:80] = value
    return changed


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a - b) / (a + b)


@pytest.mark.parametrize("window", [64, 1024])
def test_differences_by_hand(
    ground: dict[str, np.ndarray],
    image: Callable[..., Sources],
    tmp_path: Path,
    window: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacking, "WINDOW", window)
    clouds = {name: np.full((240, 200), 4) for name in ("before", "after")}
    clouds["before"][100:120] = 9
    clouds["after"][150:160] = 3
    before = image("before", {**ground, "scl": clouds["before"]}, "2021-06-01", offset=0)
    after = image("after", {**landslide(ground), "scl": clouds["after"]}, "2024-07-01")
    report, found = build(after, before, tmp_path)
    assert list(found) == ["NDBI", "NDVI", "NDWI", "dNDBI", "dNDVI", "dNDWI", "dBSI"]
    r = {name: {role: np.round(v * 1e4) / 1e4 for role, v in bands.items()} for name, bands in
         (("before", ground), ("after", landslide(ground)))}  # fmt: skip
    index = {
        "dNDBI": lambda b: difference(b["swir"], b["nir"]),
        "dNDVI": lambda b: difference(b["nir"], b["red"]),
        "dNDWI": lambda b: difference(b["green"], b["nir"]),
        "dBSI": lambda b: difference(b["swir"] + b["red"], b["nir"] + b["blue"]),
    }
    hidden = (clouds["before"] == 9) | (clouds["after"] == 3)
    for name, formula in index.items():
        expected = np.where(hidden, np.nan, formula(r["after"]) - formula(r["before"]))
        np.testing.assert_allclose(found[name], expected, atol=3e-6, err_msg=name)
        assert report.statistics[name].count == (~hidden).sum()
    assert np.isnan(found["NDVI"]).sum() == 10 * 200  # clouds of the later date alone
    assert found["dNDVI"][50, 60] < -0.1 < 0.05 < found["dBSI"][50, 60]
    with Stack(report.path) as stack:
        assert (stack.tags["DATE"], stack.tags["DATE_BEFORE"], stack.tags["PHASE"]) == (
            "2024-07-01",
            "2021-06-01",
            "post",
        )
        assert json.loads(stack.tags["SOURCES"])["red before"]["offset"] == 0
        band = {one.name: one for one in stack.bands}["dNDVI"]
        assert (band.unit, band.valid_min, band.valid_max) == ("1", -2.0, 2.0)
        assert "NDVI of 2024-07-01 minus NDVI of 2021-06-01, of before_nir.tif, before_red.tif" in band.description


def test_a_small_shift_is_reported_and_corrected_on_request(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    moved = {role: ndimage.shift(values, (0.4, -0.7), order=3, mode="nearest") for role, values in ground.items()}
    before, after = image("before", moved, "2024-06-01"), image("after", ground, "2024-07-01")
    report, shifted = build(after, before, tmp_path)
    assert report.shift is not None
    assert (report.shift.rows, report.shift.columns) == pytest.approx((0.4, -0.7), abs=0.1)
    assert any("--coregister corrects it" in text for text in report.warnings)
    report, corrected = build(after, before, tmp_path, coregister=True, overwrite=True)
    assert any("it was moved, and 0.0" in text for text in report.notes)
    inside = np.s_[5:-5, 5:-5]
    left, right = (float(np.nanstd(found["dNDVI"][inside])) for found in (corrected, shifted))
    assert left < 0.65 * right


def test_a_large_shift_is_refused_unless_it_is_corrected_or_accepted(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    moved = {role: np.roll(values, (3, 2), (0, 1)) for role, values in ground.items()}
    before, after = image("before", moved), image("after", ground)
    with pytest.raises(DataError, match=r"3\.0\d pixels down and 2\.0\d pixels right.*\n?.*--coregister"):
        build(after, before, tmp_path)
    assert not (tmp_path / "stack.tif").exists()
    report, found = build(after, before, tmp_path, coregister=True)
    assert np.abs(found["dNDVI"][5:-8, 5:-8]).max() < 0.02
    assert np.isnan(found["dNDVI"][-3:]).all()  # the earlier image ends there
    report, _ = build(after, before, tmp_path, force=True, overwrite=True)
    assert any("3.0" in text for text in report.warnings)
    assert any("the order of the two dates was not checked" in text for text in report.notes)


def test_images_that_do_not_resemble_each_other(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    other = {role: np.clip(0.2 + 0.05 * rng.standard_normal((240, 200)), 0.005, 1) for role in ROLES}
    other["red"] *= 0.3
    report, _ = build(image("after", ground), image("before", other), tmp_path)
    assert report.shift is None
    assert any("could not be measured" in text for text in report.warnings)


def test_dates_on_other_grids_meet_on_that_of_the_later(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    part = {role: values[40:, :160] for role, values in ground.items()}
    before = image("before", part, "2024-06-01", transform=from_origin(600_000, 3_800_000 - 400, 10, 10))
    report, found = build(image("after", ground, "2024-07-01"), before, tmp_path)
    assert report.shape == (200, 160)
    assert np.abs(found["dNDVI"]).max() < 1e-6


def test_images_that_cannot_be_compared(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    after = image("after", ground, "2024-07-01")
    late = image("late", ground, "2024-07-01")
    with pytest.raises(
        ConfigError, match="before the landslides is from 2024-07-01, the one after them from 2024-07-01"
    ):
        build(after, late, tmp_path)
    fewer = image("fewer", {role: ground[role] for role in ("red", "nir")}, "2024-06-01")
    with pytest.raises(DataError, match="image before the landslides has no band blue, green, swir"):
        build(after, fewer, tmp_path)
    with pytest.raises(DataError, match="image after the landslides has no band"):
        build(replace(fewer, date="2024-08-01"), replace(after, date="2024-06-01"), tmp_path)
    with pytest.raises(DataError, match="no index can be compared: the bands are nir before the landslides and nir"):
        plan_changes(image("one", {"nir": ground["nir"]}), image("other", {"nir": ground["nir"]}))
    with pytest.raises(DataError, match="no index can be compared: the bands are none"):
        build(after, Sources({}), tmp_path)
    far = image("far", ground, transform=from_origin(900_000, 3_800_000, 10, 10))
    with pytest.raises(DataError, match="does not overlap"):
        build(after, far, tmp_path)


def test_red_and_nir_give_one_difference_and_reasons_for_the_others(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    two = {role: ground[role] for role in ("red", "nir")}
    report, found = build(image("after", two), image("before", two), tmp_path)
    assert list(found) == ["NDVI", "dNDVI"]
    assert report.missing["dBSI"] == "no swir and no blue"


def test_clouds_of_one_date_alone_are_a_warning_and_clouds_everywhere_an_error(
    ground: dict[str, np.ndarray], image: Callable[..., Sources], tmp_path: Path
) -> None:
    after = image("after", {**ground, "scl": np.full((240, 200), 4)})
    report, _ = build(after, image("before", ground), tmp_path)
    assert any("image before the landslides has no scene classification" in text for text in report.warnings)
    upper, lower = (np.full((240, 200), 4) for _ in range(2))
    upper[:121], lower[119:] = 9, 9
    after, before = image("after", {**ground, "scl": upper}), image("before", {**ground, "scl": lower})
    with pytest.raises(DataError, match="no pixel is visible on both dates"):
        build(after, before, tmp_path, overwrite=True)
