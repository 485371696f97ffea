"""An image as a folder of files, under the names that people give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rasters.test_safe import write_safe
from zoo.errors import ConfigError, DataError
from zoo.rasters.image_folder import open_image


def folder(place: Path, *names: str) -> Path:
    place.mkdir(exist_ok=True)
    for name in names:
        (place / name).touch()
    return place


def test_files_of_a_granule_have_roles_scene_and_date(tmp_path: Path) -> None:
    names = [f"T43SCT_20240611T054639_{band}_10m.jp2" for band in ("B02", "B03", "B04", "B08", "B8A", "B11", "SCL")]
    found = open_image(folder(tmp_path, *names, "notes.txt"))
    assert {role: Path(file.path).name.split("_")[2] for role, file in found.files.items()} == {
        **{"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir": "B11", "scl": "SCL"}
    }
    assert (found.scene, found.date) == ("T43SCT", "2024-06-11")
    assert found.files["red"].offset is None
    assert found.files["scl"].nodata == 0


def test_files_named_by_role(tmp_path: Path) -> None:
    found = open_image(folder(tmp_path, "red.tif", "2024-06-11-NIR.TIF", "swir2.tif"))
    assert set(found.files) == {"red", "nir", "swir2"}
    assert (found.scene, found.date) == ("", "2024-06-11")


def test_dates_that_differ_are_no_date(tmp_path: Path) -> None:
    assert open_image(folder(tmp_path, "20240611_B04.tif", "20240612_B08.tif")).date == ""


def test_a_product_has_its_blue_band(tmp_path: Path) -> None:
    found = open_image(write_safe(tmp_path))
    assert found.files["blue"].offset == -1001
    assert found.date == "2024-08-30"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((), "contains no image"),
        (("picture.png", "B8A.tif"), "contains no image"),
        (("B04_10m.tif", "B04_20m.tif"), "two files for red: B04_10m.tif and B04_20m.tif"),
    ],
)
def test_folders_without_one_image(tmp_path: Path, names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_image(folder(tmp_path, *names))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_image(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        open_image(folder(tmp_path, "B04.tif") / "B04.tif")


def test_a_day_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'2024-02-31' is not a date"):
        open_image(folder(tmp_path, "20240231_B04.tif"))
