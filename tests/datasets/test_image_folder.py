"""Images without masks are read as the folder data set reads them, and refused with the same words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets import Folder
from zoo.datasets.folder import ImageFolder
from zoo.errors import DataError, UnknownNameError


def test_it_gives_what_the_data_set_gives_and_opens_no_mask(patches: Path, tmp_path: Path) -> None:
    labelled = Folder(patches, "test", group_column="scene", test_groups="s2")
    alone = ImageFolder(patches, channels=3, groups="s2")
    assert [patch.name for patch in alone.patches] == [patch.name for patch in labelled.patches]
    assert alone.bands == labelled.bands
    for index in range(len(alone)):
        np.testing.assert_array_equal(alone.read(index), labelled.read(index)[0])
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in sorted((patches / "images").iterdir()):
        np.save(bare / path.name, np.load(path))
    assert len(ImageFolder(bare, channels=3)) == 24


def test_the_fingerprint_changes_with_a_pixel(patches: Path, tmp_path: Path) -> None:
    for path in sorted((patches / "images").iterdir())[:3]:
        np.save(tmp_path / path.name, np.load(path))
    before = ImageFolder(tmp_path, channels=3).fingerprint()
    assert ImageFolder(tmp_path, channels=3).fingerprint() == before
    image = np.load(tmp_path / "p001.npy")
    image[2, 3, 4] += 1
    np.save(tmp_path / "p001.npy", image)
    assert ImageFolder(tmp_path, channels=3).fingerprint() != before


def test_transparent_and_nodata_pixels_are_missing(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:3, :, 3] = 0
    pixels[7, 7, 0] = 9
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = ImageFolder(tmp_path, channels=3, nodata=9).read(0)
    assert np.isnan(image[:, :3]).all()
    assert np.argwhere(np.isnan(image[:, 3:])).tolist() == [[0, 4, 7]]


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (np.zeros((3, 8, 9), np.float32), "is 3 x 8 x 9"),
        (np.full((3, 8, 8), np.nan, np.float32), "nan in band 1 at row 0, column 0"),
        (np.zeros((5, 8, 8), np.float32), "it is unknown which axis"),
    ],
)
def test_an_image_that_differs_or_is_damaged_is_named(tmp_path: Path, second: np.ndarray, complaint: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.float32))
    np.save(tmp_path / "b.npy", second)
    with pytest.raises(DataError, match=r"b\.npy") as caught:
        ImageFolder(tmp_path, channels=3)
    assert complaint in str(caught.value)


def test_unknown_groups_and_missing_folders_are_refused(patches: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown group 's9'"):
        ImageFolder(patches, channels=3, groups="s9")
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(tmp_path / "gone", channels=3)
    with pytest.raises(DataError, match="contains no images"):
        ImageFolder(tmp_path, channels=3)
