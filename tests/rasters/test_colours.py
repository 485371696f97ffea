"""Test how red, green and blue of a scene are found, and where they have no data."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.rasters.geotiffs import write_geotiff
from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.rasters.colours import choose_scale, find_colours, hide_borders, is_true_colour, survey_step
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import Mosaic

RGB = (0, 1, 2)


def write(
    path: Path, values: np.ndarray, names: tuple[str, ...] = (), units: tuple[str, ...] = (), **profile: Any
) -> Mosaic:
    named = zip_longest(names, units, fillvalue="")
    return Mosaic(write_geotiff(path, values, names=named, **profile))


def colours(rng: np.random.Generator, rows: int = 40, columns: int = 50) -> np.ndarray:
    return rng.integers(20, 120, (3, rows, columns)).astype(np.uint8)


def everything(mosaic: Mosaic, bands: tuple[int, ...] | None = None) -> np.ndarray:
    rows, columns = mosaic.shape
    return mosaic.read(window_of((0, rows), (0, columns)), bands)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T43SCT_20240611T054639_TCI_10m.jp2", True),
        ("/vsizip/{a.zip}/b/T43SCT_20240611T054639_TCI.jp2", True),
        ("TCI.tif", True),
        ("s3://bucket/T43SCT_TCI_10m.tif?token=1", True),
        ("FTCI.tif", False),
        ("TCI_of_my_county.tif", False),
    ],
)
def test_true_colour_images_are_known_by_name(name: str, expected: bool) -> None:
    assert is_true_colour(name) == expected


def test_colours_are_found_by_name_or_as_a_picture_of_three_bands() -> None:
    bytes_, words = np.dtype(np.uint8), np.dtype(np.uint16)

    def bands(*names: str) -> tuple[Band, ...]:
        return tuple(Band(name, "unknown") for name in names)

    assert find_colours(bands("nir", "blue", "green", "red"), [words] * 4) == (3, 2, 1)
    assert find_colours(bands("B02", "B03", "B04"), [words] * 3) == (2, 1, 0)
    assert find_colours(bands("band_1", "band_2", "band_3"), [bytes_] * 3) == (0, 1, 2)
    assert find_colours(bands("band_1", "band_2", "band_3"), [words] * 3) is None
    assert find_colours(bands("band_1", "band_2", "band_3", "band_4"), [bytes_] * 4) is None


def test_reflectance_digital_numbers_and_pictures_are_distinguished(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reflectance = rng.uniform(0.01, 0.3, (3, 40, 50)).astype(np.float32)
    cases = [
        (reflectance, (), "reflectance", 0.0),
        (reflectance, ("1",) * 3, "reflectance", 0.0),
        ((reflectance * 10000).astype(np.uint16), (), "digital numbers", 0.0),
        ((reflectance * 10000 + 1000).astype(np.uint16), (), "digital numbers", -1000.0),
        ((reflectance * 500).astype(np.float32), (), "display", 0.0),
        ((reflectance * 500).astype(np.uint8), (), "display", 0.0),
    ]
    for number, (values, units, kind, offset) in enumerate(cases):
        scale = choose_scale(write(tmp_path / f"{number}.tif", values, units=units), RGB)
        assert (scale.kind, scale.offset) == (kind, offset), number
        if kind != "display":
            found = scale.apply(values.astype(np.float32))
            np.testing.assert_allclose(found, 1 + 254 * np.clip(reflectance / 0.2, 0, 1), atol=0.2)


@pytest.mark.parametrize(
    ("units", "factor", "problem"),
    [(("K",) * 3, 1, "are in K"), (("1", "1", "K"), 1, "different units"), (("1",) * 3, 10000, "largest numbers")],
)
def test_other_quantities_are_refused(tmp_path: Path, units: tuple[str, ...], factor: int, problem: str) -> None:
    values = np.random.default_rng(0).uniform(0.1, 0.3, (3, 9, 9)).astype(np.float32) * factor
    with pytest.raises(DataError, match=problem):
        choose_scale(write(tmp_path / "a.tif", values, units=units), RGB)


def test_black_is_missing_everywhere_in_a_true_colour_image(tmp_path: Path) -> None:
    image = colours(np.random.default_rng(0))
    image[:, 20, 20] = 0
    image[0, 25, 25] = 0  # dark water: one colour of 0 is a measurement
    mosaic = write(tmp_path / "T43SCT_20240611T054639_TCI_10m.tif", image)
    assert "true-colour" in hide_borders(mosaic, RGB)
    found = everything(mosaic)
    assert np.isnan(found[:, 20, 20]).all()
    assert np.isnan(found).sum() == 3
    assert np.isnan(everything(mosaic, (1,))).sum() == 1
    image[:, 20:24, 20:24] = 0
    mosaic = write(tmp_path / "TCI.tif", image)
    hide_borders(mosaic, RGB)
    assert np.argwhere(np.isnan(mosaic.overview(4, RGB)[0])).tolist() == [[5, 5]]


def test_only_black_at_the_edge_of_another_picture_is_missing(tmp_path: Path) -> None:
    image = colours(np.random.default_rng(0))
    image[:, :, 40:] = 0
    image[:, 10:15, 10:15] = 0  # a lake in shadow
    image[:, 0, 3] = 0  # too small for a border
    mosaic = write(tmp_path / "a.tif", image)
    assert hide_borders(mosaic, RGB).startswith("about 20.0% of the image is a black border")
    missing = np.isnan(everything(mosaic))
    assert missing[:, :, 40:].all()
    assert not missing[:, :, :40].any()


def test_a_large_picture_is_searched_at_a_low_resolution(tmp_path: Path) -> None:
    image = np.full((3, 64, 5000), 50, np.uint8)
    image[:, :, 4001:] = 0
    assert survey_step((64, 5000)) == 4
    mosaic = write(tmp_path / "a.tif", image)
    assert hide_borders(mosaic, RGB)
    np.testing.assert_array_equal(np.isnan(everything(mosaic)[0]), image[0] == 0)


def test_a_nodata_tag_decides_alone(tmp_path: Path) -> None:
    image = colours(np.random.default_rng(0))
    image[:, :, 40:] = 0
    mosaic = write(tmp_path / "T43SCT_20240611T054639_TCI_10m.tif", image, nodata=255)
    assert hide_borders(mosaic, RGB) == ""
    assert np.isfinite(everything(mosaic)).all()
