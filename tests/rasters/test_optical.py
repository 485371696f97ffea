"""Test scale, offset and order of optical bands: given, from tags, or from the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from zoo.errors import ConfigError, DataError
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions, build_stack
from zoo.rasters.stacks import Stack

WriteRaster = Callable[..., Path]
Fields = dict[str, np.ndarray]


def optical(write_raster: WriteRaster, fields: Fields, in_there: int, **file: object) -> Sources:
    files = {}
    for role in ("green", "red", "nir"):
        values = np.round(fields[role] * 10_000 + in_there).astype(np.uint16)
        given = {"offset": None, "scale": None, **file}
        files[role] = BandFile(str(write_raster(f"{role}{in_there}.tif", values)), **given)  # type: ignore[arg-type]
    return Sources(files)


def ndvi(path: Path) -> np.ndarray:
    with Stack(path) as stack:
        return stack.read()[[band.name for band in stack.bands].index("NDVI")]


def true_ndvi(fields: Fields) -> np.ndarray:
    red, nir = (np.round(fields[role] * 10_000) / 10_000 for role in ("red", "nir"))
    return (nir - red) / (nir + red)


@pytest.mark.parametrize("offset", [0, 1000])
def test_dark_pixels_decide_the_offset_and_a_note_states_it(
    offset: int, write_raster: WriteRaster, fields: Fields, tmp_path: Path
) -> None:
    report = build_stack(optical(write_raster, fields, offset), tmp_path / "stack.tif")
    np.testing.assert_allclose(ndvi(report.path), true_ndvi(fields), atol=1e-5)
    note = next(text for text in report.notes if "it is unknown whether" in text)
    assert ("-1000 was added" in note) == (offset == 1000)
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("offset", "options", "file"),
    [
        (1000, {"baseline": "05.09"}, {}),
        (0, {"baseline": "03.01"}, {}),
        (1000, {"offset": -1000.0}, {}),
        (1000, {}, {"offset": -1000.0, "scale": 1e-4}),
        (1000, {"scale": 1e-4, "offset": -1000.0}, {"offset": 0.0, "scale": 1.0}),
    ],
)
def test_a_given_offset_is_used_without_an_estimate(
    offset: int,
    options: dict[str, object],
    file: dict[str, object],
    write_raster: WriteRaster,
    fields: Fields,
    tmp_path: Path,
) -> None:
    sources = optical(write_raster, fields, offset, **file)
    report = build_stack(sources, tmp_path / "stack.tif", StackOptions(**options))  # type: ignore[arg-type]
    np.testing.assert_allclose(ndvi(report.path), true_ndvi(fields), atol=1e-5)
    assert not any("it is unknown whether" in text for text in report.notes)
    assert report.warnings == ()


def test_an_old_baseline_of_the_source_needs_no_look(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    sources = replace(optical(write_raster, fields, 0), baseline="02.14")
    report = build_stack(sources, tmp_path / "stack.tif")
    assert not any("it is unknown whether" in text for text in report.notes)
    with Stack(report.path) as stack:
        assert "baseline 02.14" in stack.tags["SOURCES"]
        assert stack.tags["BASELINE"] == "02.14"


def test_a_wrong_word_is_warned_of(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    left = build_stack(optical(write_raster, fields, 1000), tmp_path / "left.tif", StackOptions(offset=0.0))
    assert any("may still be in the numbers" in text for text in left.warnings)
    twice = build_stack(optical(write_raster, fields, 0), tmp_path / "twice.tif", StackOptions(baseline="05.09"))
    assert any("removed twice" in text and "baseline 05.09" in text for text in twice.warnings)


def test_reflectance_is_taken_as_it_is(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    files = {
        role: BandFile(str(write_raster(f"{role}.tif", fields[role].astype(np.float32))), offset=None, scale=None)
        for role in ("red", "nir")
    }
    report = build_stack(Sources(files), tmp_path / "stack.tif", StackOptions(baseline="05.09"))
    expected = (fields["nir"] - fields["red"]) / (fields["nir"] + fields["red"])
    np.testing.assert_allclose(ndvi(report.path), expected, atol=1e-5)
    assert any("holds reflectance" in text for text in report.notes)


def test_tags_of_the_file_are_believed(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    sources = optical(write_raster, fields, 1000)
    for file in sources.files.values():
        with rasterio.open(file.path, "r+") as opened:
            opened.scales, opened.offsets = (1e-4,), (-0.1,)
    report = build_stack(sources, tmp_path / "stack.tif")
    np.testing.assert_allclose(ndvi(report.path), true_ndvi(fields), atol=1e-5)
    assert not any("it is unknown whether" in text for text in report.notes)


def test_values_that_are_not_reflectance_are_refused(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    out = tmp_path / "stack.tif"
    for name, values, said in (
        ("picture", (fields["nir"] * 255).astype(np.uint8), "picture"),
        ("percent", (fields["nir"] * 100).astype(np.float32), "neither reflectance"),
    ):
        files = {
            role: BandFile(str(write_raster(f"{name}-{role}.tif", values)), offset=None, scale=None)
            for role in ("red", "nir")
        }
        with pytest.raises(DataError, match=said) as caught:
            build_stack(Sources(files), out)
        assert caught.value.hint is not None
        assert "--scale" in caught.value.hint
    with pytest.raises(ConfigError, match="both"):
        build_stack(optical(write_raster, fields, 0), out, StackOptions(baseline="05.09", offset=0.0))
    assert not out.exists()


def test_swapped_bands_are_refused_unless_forced(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    sources = optical(write_raster, fields, 1000)
    red, nir = sources.files["red"], sources.files["nir"]
    swapped = Sources({**sources.files, "red": nir, "nir": red})
    with pytest.raises(DataError, match="swapped"):
        build_stack(swapped, tmp_path / "stack.tif")
    report = build_stack(swapped, tmp_path / "stack.tif", StackOptions(force=True))
    assert any("swapped" in text for text in report.warnings)


def test_zero_is_nodata_without_a_tag(write_raster: WriteRaster, fields: Fields, tmp_path: Path) -> None:
    files = {}
    for role, pixel in (("red", 10.0), ("nir", 10.0), ("swir", 20.0)):
        values = np.round(fields[role] * 10_000 + 1000).astype(np.uint16)
        values = values if pixel == 10 else values[::2, ::2]
        values[: values.shape[0] // 2] = 0
        files[role] = BandFile(str(write_raster(f"{role}.tif", values, pixel=pixel)), offset=None, scale=None)
    report = build_stack(Sources(files), tmp_path / "stack.tif")
    with Stack(report.path) as stack:
        image = stack.read()
    assert np.isnan(image[:, :119]).all()
    assert np.isfinite(image[:, 121:]).all()
    # No pixel at the edge is a mixture with the zeros beyond it: that would take half of its SWIR away.
    assert np.abs(image[0, 121] - image[0, 123]).max() < 0.06
    assert report.statistics["NDVI"].valid_percent == 50.0
