"""Test that every fault of a folder gives one sentence that names the file and the remedy."""

from __future__ import annotations

import os
import re
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from zoo.datasets.base import DataWarning
from zoo.datasets.folder import Folder
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError


@pytest.fixture
def good(disk, tmp_path):
    """Ten good PNG pairs."""
    return disk.write_folder(tmp_path / "data", *disk.make_patches(10))


def refused(root, pattern, *, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        Folder(root, **{"split_by": "random", **options})
    text = str(caught.value)
    assert re.search(pattern, text), text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["GIF", "TGA", "PPM", "BMP"])
def test_another_kind_of_picture_under_the_name_of_a_png_is_refused(good, kind):
    with Image.open(good / "images" / "tile_003.png") as picture:
        picture.convert("RGB").save(good / "images" / "tile_003.png", format=kind)
    refused(good, "tile_003.png: is truncated or not a picture")


def test_missing_folder_suggests_its_neighbour(good):
    refused(good.parent / "dat", r"dat: no such folder\. Did you mean 'data'\?")


def test_file_instead_of_folder(good):
    refused(good / "images" / "tile_000.png", "is a file, but a data set is a folder")


def test_empty_folder(tmp_path):
    refused(tmp_path, "the folder is empty. It should contain images/ and masks/")


def test_folder_without_pairs_of_folders(tmp_path):
    (tmp_path / "stuff").mkdir()
    refused(tmp_path, "no folder of images with a folder of masks. It contains stuff")


def test_pair_of_folders_one_level_down_is_pointed_at(disk, tmp_path):
    disk.write_folder(tmp_path / "TrainData", *disk.make_patches(2), folders=("img", "mask"))
    refused(tmp_path, r"Did you mean .*TrainData\?")


def test_several_pairs_of_folders_must_be_named(good):
    shutil.copytree(good / "masks", good / "labels")
    refused(good, r"several folders could be .* images \+ masks; images \+ labels")
    assert len(Folder(good, split_by="random", masks="labels")) == 6


def test_named_folder_that_is_not_there(good):
    refused(good, r"no folder of masks 'mask'\. Did you mean 'masks'", images="images", masks="mask")


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_folder_without_files(good, folder):
    for path in (good / folder).iterdir():
        path.unlink()
    (good / folder / "note.txt").write_text("x")
    refused(good, rf"{folder}: contains no {folder} \(only 1 \.txt\)")


def test_images_without_masks_are_named_and_counted(good):
    for number in (2, 5, 6, 7):
        (good / "masks" / f"tile_00{number}.png").unlink()
    text = refused(good, "4 of 10 images have no mask: tile_002, tile_005, tile_006, ...")
    assert str(good / "images") in text


def test_what_is_named_does_not_depend_on_the_order_of_the_file_system(good, monkeypatch):
    for number in (2, 5, 6, 7):
        (good / "masks" / f"tile_00{number}.png").unlink()
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **options: ((a, b, c[::-1]) for a, b, c in walk(*args, **options)))
    refused(good, "have no mask: tile_002, tile_005, tile_006, ...")
    monkeypatch.setattr(os, "walk", lambda *args, **options: ((a, b, sorted(c)) for a, b, c in walk(*args, **options)))
    refused(good, "have no mask: tile_002, tile_005, tile_006, ...")


def test_masks_without_images(good):
    (good / "images" / "tile_004.png").unlink()
    refused(good, "masks: 1 of 10 masks has no image: tile_004")


def test_two_files_of_one_name(good):
    shutil.copy(good / "images" / "tile_001.png", good / "images" / "tile_001.jpg")
    refused(good, r"tile_001\.png: has the same name as tile_001\.jpg")


def test_names_that_reduce_to_the_same(disk, tmp_path):
    root = disk.write_folder(
        tmp_path, *disk.make_patches(2), names=["img_1", "image_1"], mask_names=["mask_1", "label_1"]
    )
    refused(root, "both reduce to '1', so they would have the same partner")


def test_images_of_another_size_are_named_with_theirs(disk, good):
    images, masks = disk.make_patches(2, size=(24, 16))
    for number in (3, 8):
        disk.write_png(good / "images" / f"tile_00{number}.png", images[0])
        disk.write_png(good / "masks" / f"tile_00{number}.png", masks[0])
    refused(
        good,
        r"tile_003\.png: 2 of 10 images differ from the 8 that have 16 x 16 pixels: "
        r"tile_003 \(24 x 16 pixels\), tile_008 \(24 x 16 pixels\)",
    )


def test_a_first_image_of_another_size_is_named(disk, good):
    images, masks = disk.make_patches(1, size=(8, 8))
    disk.write_png(good / "images" / "tile_000.png", images[0])
    disk.write_png(good / "masks" / "tile_000.png", masks[0])
    refused(good, r"tile_000\.png: 1 of 10 images differ from the 9 that have 16 x 16 pixels")


def test_one_channel_too_many(disk, tmp_path):
    images, masks = disk.make_patches(5, 7, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    disk.write_tiff(root / "images" / "tile_002.tif", np.concatenate([images[2], images[2][:1]]))
    refused(root, r"tile_002\.tif: 1 of 5 images differ from the 4 that have 7 bands: tile_002 \(8 bands\)")


def test_mask_of_another_size_than_its_image(disk, good):
    disk.write_png(good / "masks" / "tile_006.png", np.ones((16, 12), np.uint8))
    refused(good, r"tile_006\.png: image of 16 x 16 pixels has a mask of 16 x 12")


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_array_that_fits_its_mask_in_no_order(disk, tmp_path, suffix):
    root = disk.write_folder(tmp_path, *disk.make_patches(3, 4, dtype="float32"), suffix=suffix)
    disk.WRITERS[suffix](root / "masks" / f"tile_001{suffix}", np.ones((16, 15), np.uint8))
    refused(root, rf"tile_001\{suffix}: image of .* pixels has a mask of 16 x 15")


def test_images_of_another_dtype(disk, tmp_path):
    images, masks = disk.make_patches(4, 1)
    root = disk.write_folder(tmp_path, images, masks)
    disk.write_png(root / "images" / "tile_003.png", images[3].astype(np.uint16) * 100)
    refused(root, r"tile_003\.png: .* that have uint8 values: tile_003 \(uint16 values\)")


def test_bands_in_another_order(disk, tmp_path):
    images, masks = disk.make_patches(3, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, names in enumerate([("NDVI", "DEM"), ("NDVI", "DEM"), ("DEM", "NDVI")]):
        disk.write_tiff(root / "images" / f"tile_00{index}.tif", images[index], names=names)
    refused(root, r"tile_002\.tif: bands are DEM, NDVI, but in tile_000\.tif they are NDVI, DEM")


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".h5"])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_truncated_file_is_named(disk, tmp_path, folder, suffix, keep):
    root = disk.write_folder(tmp_path, *disk.make_patches(3, size=(64, 64)), suffix=suffix)
    path = root / folder / f"tile_001{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    refused(root, rf"{folder}/tile_001\{suffix}: (is truncated|cannot be read)")


def test_compressed_truncated_tiff_is_named(disk, tmp_path):
    images, masks = disk.make_patches(3, 7, (64, 64), "float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    path = root / "images" / "tile_001.tif"
    disk.write_tiff(path, images[1], compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(root, r"tile_001\.tif: cannot be read as a raster: it is truncated")


def test_file_of_another_kind_is_named(good):
    (good / "images" / "tile_001.png").write_text("<html>404</html>")
    refused(good, r"tile_001\.png: is truncated or not a picture")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(good):
    (good / "images" / "tile_001.png").chmod(0)
    refused(good, r"tile_001\.png: may not be read \(permission denied\)")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".h5"])
def test_an_unreadable_file_is_named_for_every_format(disk, tmp_path, monkeypatch, suffix):
    from pathlib import Path

    import PIL.Image

    root = disk.write_folder(tmp_path, *disk.make_patches(3, 3), suffix=suffix)

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(PIL.Image, "open", denied)
    monkeypatch.setattr(np, "load", denied)
    refused(root, rf"tile_000\{suffix}: may not be read \(permission denied\)")


def test_training_without_a_landslide_is_refused_and_testing_is_warned_of(disk, tmp_path):
    images, masks = disk.make_patches(10)
    names = [f"{'A' if index < 5 else 'B'}_{index}" for index in range(10)]
    options = {"group_pattern": "^([AB])_", "split_by": None, "val_groups": ()}
    masks[:5] = 0
    root = disk.write_folder(tmp_path / "train", images, masks, names=names)
    refused(
        root,
        r"masks: no mask of the train split \(5 patches\) contains a landslide pixel \(1\)\. There is nothing to learn",
        train_groups="A",
        test_groups="B",
        **options,
    )
    with pytest.warns(DataWarning, match=r"no mask of the test split \(5 patches\).*Dice is not defined"):
        Folder(root, "test", train_groups="B", test_groups="A", **options)


def test_masks_without_background_are_warned_of(disk, tmp_path):
    images, masks = disk.make_patches(10)
    names = [f"{'A' if index < 5 else 'B'}_{index}" for index in range(10)]
    masks[:5] = 1
    root = disk.write_folder(tmp_path / "test", images, masks, names=names)
    options = {"group_pattern": "^([AB])_", "split_by": None, "val_groups": (), "train_groups": "B"}
    with pytest.warns(
        DataWarning, match=r"every valid pixel of the test split \(5 patches\) is a landslide; check what"
    ):
        Folder(root, "test", test_groups="A", **options)


def test_nan_is_refused_with_its_place(disk, tmp_path):
    images, masks = disk.make_patches(4, 7, dtype="float32")
    images[2, 4, 5, 6:9] = np.nan
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    pattern = r"tile_002\.tif: NaN in band 5 \({}\) at row 5, column 6; 3 such values in this image\. .*nodata=nan"
    refused(root, pattern.format("slope"), bands="a,b,c,d,slope,e,f")
    refused(root, r"NaN in band 5 at row 5")


def test_infinity_is_refused_even_where_nan_is_allowed(disk, tmp_path):
    images, masks = disk.make_patches(4, 2, dtype="float64")
    images[1, 0, 0, 3] = -np.inf
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    refused(root, r"tile_001\.npy: -inf in band 1 at row 0, column 3", nodata="nan")


def test_numbers_too_large_for_any_quantity_are_missing_and_warned_of(disk, tmp_path):
    images, masks = disk.make_patches(3, 2, dtype="float64")
    images[1, 0, 0, 3] = 1e300
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    with pytest.warns(DataWarning, match=r"1e\+300 counts as missing"):
        dataset = Folder(root, split_by="random", fractions="1,0,0")
    assert sum(int(sample["image"].isnan().sum()) for sample in dataset) == 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.full((16, 16), 0.3), r"mask value 0\.3 at row 0, column 0 is a fraction \(256 pixels\).*threshold"),
        (np.full((16, 16), np.nan), r"mask is NaN at row 0, column 0 \(256 pixels\)\. Pass ignore_value=nan"),
        (np.full((16, 16), 1e6), r"mask value 1000000\.0 at row 0, column 0 is not a class"),
        (np.full((16, 16), -1), r"mask value -1 \(256 pixels here\) is not one of the classes 0, 1.*mask_values"),
        (np.full((16, 16), 7), r"mask value 7 \(256 pixels here\) is not one of the classes 0, 1"),
        (np.stack([np.zeros((16, 16)), np.ones((16, 16))]), r"mask has 2 different channels"),
        (np.zeros((2, 2, 16, 16)), r"has shape 2 x 2 x 16 x 16, but a patch has two or three axes"),
        (np.full((16, 16), 1j), r"contains complex128 values, not real numbers"),
    ],
)
def test_invalid_masks_are_refused(disk, tmp_path, values, problem):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, mask_suffix=".npy")
    np.save(root / "masks" / "tile_001.npy", values)
    refused(root, rf"tile_001\.npy: {problem}")


def test_nan_in_a_mask_can_be_ignored(disk, tmp_path):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, mask_suffix=".npy")
    values = masks[1].astype(float)
    values[4] = np.nan
    np.save(root / "masks" / "tile_001.npy", values)
    dataset = Folder(root, split_by="random", fractions="1,0,0", ignore_value="nan")
    assert (dataset[1]["mask"][4] == 255).all()


def test_class_without_a_name(disk, tmp_path):
    images, masks = disk.make_patches(3)
    masks[1, 3, 3] = 3
    root = disk.write_folder(tmp_path, images, masks)
    refused(
        root, r"tile_001\.png: mask value 3 \(1 pixels here\) is not one of the classes 0, 1, 2", class_names="a,b,c"
    )


def test_jpeg_masks_are_refused(good):
    (good / "masks" / "tile_001.png").rename(good / "masks" / "tile_001.jpg")
    refused(good, r"tile_001\.jpg: is a JPEG, whose compression mixes the classes")


def test_pickled_arrays_are_not_loaded(disk, tmp_path):
    root = disk.write_folder(tmp_path, *disk.make_patches(3), suffix=".npy")
    np.save(root / "images" / "tile_001.npy", np.array([{"a": 1}], dtype=object))
    refused(root, r"tile_001\.npy: contains Python objects \(pickle\), which are not loaded because they can run code")


def test_hdf5_without_the_array(disk, tmp_path):
    import h5py

    root = disk.write_folder(tmp_path, *disk.make_patches(3, 4), suffix=".h5")
    path = root / "images" / "tile_001.h5"
    with h5py.File(path, "w") as file:
        file["one"], file["two"] = np.zeros((16, 16, 4)), np.zeros((16, 16, 4))
    refused(root, r"tile_001\.h5: contains several arrays and none is called image: one, two\. .*image_key")
    refused(
        root,
        r"tile_000\.h5: has no image array 'images'\. Did you mean 'img'\? \(option image_key\)",
        image_key="images",
    )
    with h5py.File(path, "w") as file:
        file["scalar"] = 3.0
    refused(root, r"tile_001\.h5: contains no array of two or three axes")


def test_patches_of_one_pixel_are_refused(disk, tmp_path):
    images, masks = disk.make_patches(3, 7, (1, 2), "float32")
    refused(disk.write_folder(tmp_path, images, masks, suffix=".npy"), r"is a patch of 1 x 2 pixels")


def test_an_empty_split_gives_the_reason(disk, tmp_path):
    root = disk.write_folder(tmp_path, *disk.make_patches(2))
    with pytest.raises(DataError, match=r"the val split is empty \(train 1, val 0, test 1"):
        Folder(root, "val", split_by="random", fractions="1,0,1")


@pytest.mark.parametrize(
    ("options", "kind", "pattern"),
    [
        ({"split": "valid"}, UnknownNameError, r"unknown split 'valid'"),
        ({"layout": "NCHW"}, ConfigError, r"option layout: 'NCHW' is not valid\. Choose one of 'auto', 'CHW', 'HWC'"),
        ({"split_by": "scene"}, ConfigError, r"option split_by: 'scene' is not valid"),
        ({"fractions": "6,2"}, ConfigError, r"are not three shares"),
        ({"fractions": "a,b,c"}, ConfigError, r"are not fractions"),
        ({"nodata": "water"}, ConfigError, r"option nodata: 'water' is not valid. Give a number or none"),
        ({"nodata": "1e999"}, ConfigError, r"nodata must be a finite number or nan"),
        ({"ignore_value": float("inf")}, ConfigError, r"ignore_value must be a finite number or nan"),
        ({"seed": -1}, ConfigError, r"option seed: seed must be from 0"),
        ({"guard": 10**9}, ConfigError, r"guard must be from 0 to 1000000, not 1000000000"),
        ({"block": 0}, ConfigError, r"block must be from 1"),
        ({"bands": [1]}, ConfigError, r"option bands: \[1\] is not valid"),
        ({"images": "x" * 300}, DataError, r"no folder of images"),
        ({"table": "x" * 300, "split_by": None}, DataError, r"no table"),
        ({"nodata": 0.5}, ConfigError, r"option nodata: no uint8 value can be 0\.5"),
        ({"pixel_size": 0}, ConfigError, r"option pixel_size: a pixel size of 0 m is not possible"),
        ({"seed": "x"}, ConfigError, r"option seed: 'x' is not valid"),
        ({"nodata": -1}, ConfigError, r"option nodata: no uint8 value can be -1"),
        ({"mask_values": "a"}, ConfigError, r"'a' is not a list of mask values"),
        ({"mask_values": "0,1", "ignore_value": 1}, ConfigError, r"1 is both a class and an ignored value"),
        ({"mask_values": "0:0,1:5", "class_names": "a,b"}, ConfigError, r"class 5 has no name: 2 names"),
        ({"class_names": "one"}, ConfigError, r"at least two classes"),
        ({"split_by": "group"}, ConfigError, r"a split by group needs groups"),
        ({"split_by": None, "train_groups": "A"}, ConfigError, r"it is unknown which patch belongs to which"),
        ({"split_by": "block"}, DataError, r"patches have no row and column"),
        ({"group_pattern": "(", "split_by": None}, ConfigError, r"is not a regular expression"),
        ({"group_pattern": "tile", "split_by": None}, ConfigError, r"has no group in parentheses"),
        ({"group_pattern": "^(x)", "split_by": None}, DataError, r"does not match 'tile_000'"),
    ],
)
def test_options_out_of_range(good, options, kind, pattern):
    refused(good, pattern, kind=kind, **options)


def test_good_folder_is_opened_without_a_warning(good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Folder(good, split_by="random")) == 6


def test_every_error_is_one_of_ours(good):
    assert issubclass(DataError, ZooError)
    (good / "masks" / "tile_000.png").write_bytes(os.urandom(200))
    refused(good, r"tile_000\.png", kind=ZooError)
