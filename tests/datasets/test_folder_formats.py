"""Every format, dtype and band count comes back as it was written."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.datasets.base import IGNORE, DataWarning
from zoo.datasets.folder import Folder
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.evaluation.counts import Counts
from zoo.physics.bands import Band
from zoo.schema import to_plain

EVERYTHING = {"fractions": (1, 0, 0), "split_by": "random"}


def opened(root, **options):
    return Folder(root, **{**EVERYTHING, **options})


@pytest.mark.parametrize(
    ("suffix", "bands", "dtype"),
    [
        (".png", 3, "uint8"),
        (".png", 1, "uint8"),
        (".png", 1, "uint16"),
        (".tif", 1, "float32"),
        (".tif", 7, "float32"),
        (".tif", 14, "uint16"),
        (".tif", 3, "int16"),
        (".npy", 4, "float64"),
        (".npy", 3, "uint8"),
        (".npy", 2, ">i4"),
        (".h5", 14, "float64"),
        (".h5", 1, "float32"),
    ],
)
def test_images_and_masks_come_back_as_written(disk, tmp_path, suffix, bands, dtype):
    images, masks = disk.make_patches(6, bands, (16, 20), dtype)
    dataset = opened(disk.write_folder(tmp_path, images, masks, suffix=suffix))
    assert [patch.name for patch in dataset.patches] == [f"tile_{index:03d}" for index in range(6)]
    for index, sample in enumerate(dataset):
        assert sample["image"].dtype == torch.float32
        assert sample["image"].shape == (bands, 16, 20)
        assert sample["mask"].dtype == torch.int64
        np.testing.assert_array_equal(sample["image"].numpy(), images[index].astype(np.float32))
        np.testing.assert_array_equal(sample["mask"].numpy(), masks[index])
    assert len(dataset.bands) == bands


@pytest.mark.parametrize("mask_suffix", [".png", ".tif", ".npy", ".h5"])
def test_images_and_masks_may_have_different_formats(disk, tmp_path, mask_suffix):
    images, masks = disk.make_patches(4, 7, dtype="float32")
    dataset = opened(disk.write_folder(tmp_path, images, masks, suffix=".tif", mask_suffix=mask_suffix))
    np.testing.assert_array_equal(dataset[3]["mask"].numpy(), masks[3])


def test_jpeg_images_are_read(disk, tmp_path):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks)
    for path in (root / "images").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    dataset = opened(root)
    assert [band.name for band in dataset.bands] == ["red", "green", "blue"]
    assert dataset[0]["image"].shape == (3, 16, 16)


def test_sixteen_bit_colour_png_is_not_cut_to_eight(disk, tmp_path):
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    values = np.arange(3 * 16 * 16, dtype=np.uint16).reshape(3, 16, 16) * 80
    root = disk.write_folder(tmp_path, *disk.make_patches(2))
    for path in (root / "images").iterdir():
        with (
            pytest.warns(NotGeoreferencedWarning),
            rasterio.open(path, "w", driver="PNG", count=3, height=16, width=16, dtype="uint16") as target,
        ):
            target.write(values)
    np.testing.assert_array_equal(opened(root)[0]["image"].numpy(), values.astype(np.float32))


@pytest.mark.parametrize(
    ("background", "landslide", "hidden"),
    [
        ((0, 0, 0, 255), (255, 255, 255, 255), False),
        ((255, 255, 255, 255), (255, 0, 0, 255), False),
        ((0, 0, 0, 0), (128, 128, 128, 255), False),
        ((255, 0, 0, 255), (0, 0, 0, 255), True),
        ((255, 0, 0, 255), (255, 255, 255, 255), True),
        ((255, 255, 255, 255), (0, 0, 0, 255), True),
        ((200, 60, 0, 255), (0, 90, 200, 0), True),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_that_draws_another_value_as_background_is_refused(
    disk, tmp_path, suffix, background, landslide, hidden
):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, suffix=suffix)
    driver = "GTiff" if suffix == ".tif" else "PNG"
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        path.unlink()
        written(path, masks[index], palette={0: background, 1: landslide}, driver=driver)
    if hidden and suffix == ".tif" and 0 in (background[3], landslide[3]):
        pytest.skip("GeoTIFF does not store the opacity of its palette")
    if not hidden:
        np.testing.assert_array_equal(opened(root)[1]["mask"].numpy(), masks[1])
        return
    with pytest.raises(DataError, match=r"the palette draws value 0 .* so 0 may be the landslide.*mask_values=1,0"):
        opened(root)
    np.testing.assert_array_equal(opened(root, mask_values="1,0")[1]["mask"].numpy(), 1 - masks[1])


def test_a_mask_in_which_0_is_white_is_refused(disk, tmp_path):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        written(path, masks[index] * 255, photometric="MINISWHITE")
    with pytest.raises(DataError, match=r"value 0 in the colour \(255, 255, 255\) and value 255 in black"):
        opened(root)


def test_palette_is_class_ids_in_a_mask_and_colours_in_an_image(disk, tmp_path):
    _, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, *disk.make_patches(2))
    palette = [10, 20, 30, 200, 100, 50]
    for folder in ("images", "masks"):
        for index, path in enumerate(sorted((root / folder).iterdir())):
            picture = Image.new("P", (16, 16))
            picture.putdata(masks[index].ravel().tolist())
            picture.putpalette(palette)
            picture.save(path)
    sample = opened(root)[1]
    np.testing.assert_array_equal(sample["mask"].numpy(), masks[1])
    expected = np.array(palette, dtype=np.float32).reshape(2, 3)[masks[1]]
    np.testing.assert_array_equal(sample["image"].numpy(), np.moveaxis(expected, -1, 0))


def test_transparent_pixels_are_missing(disk, tmp_path):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, masks)
    for index, path in enumerate(sorted((root / "images").iterdir())):
        alpha = np.full((16, 16), 255, np.uint8)
        alpha[:4] = 0
        Image.fromarray(np.dstack([*images[index], alpha])).save(path)
    dataset = opened(root)
    assert len(dataset.bands) == 3
    sample = dataset[0]
    assert sample["image"][:, :4].isnan().all()
    assert not sample["image"][:, 4:].isnan().any()
    assert (sample["mask"][:4] == IGNORE).all()
    assert "images: 128 pixels are missing and are ignored" in dataset.split_notes


def test_names_units_nodata_and_pixel_size_are_read_from_a_tiff(disk, tmp_path):
    from affine import Affine

    images, masks = disk.make_patches(3, 2, dtype="float32")
    images[0, 1, 5, 6] = -9999
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, path in enumerate(sorted((root / "images").iterdir())):
        disk.write_tiff(
            path,
            images[index],
            names=("slope", "NDVI"),
            units=("degree", ""),
            nodata=-9999.0,
            crs="EPSG:32643",
            transform=Affine(10, 0, 5e5, 0, -10, 4e6),
            compress="lzw",
        )
    dataset = opened(root)
    assert dataset.bands == (Band("slope", "degree", nodata=-9999.0), Band("NDVI", "unknown", nodata=-9999.0))
    assert dataset.pixel_size == 10.0
    sample = dataset[0]
    assert sample["image"].isnan().nonzero().tolist() == [[1, 5, 6]]
    assert (sample["mask"] == IGNORE).nonzero().tolist() == [[5, 6]]


def test_nodata_rule_all_keeps_pixels_that_miss_one_band(disk, tmp_path):
    def holes(images, masks):
        images[:] = np.maximum(images, 1)
        images[:, 0, 2, 2] = 0
        images[:, :, 3, 3] = 0

    images, masks = disk.make_patches(3)
    holes(images, masks)
    root = disk.write_folder(tmp_path, images, masks)
    any_band = opened(root, nodata=0)
    all_bands = opened(root, nodata="0", nodata_rule="all")
    assert (any_band[0]["mask"] == IGNORE).nonzero().tolist() == [[2, 2], [3, 3]]
    assert (all_bands[0]["mask"] == IGNORE).nonzero().tolist() == [[3, 3]]
    assert all_bands[0]["image"].isnan().sum() == 4


def test_scale_and_offset_tags_are_applied(disk, tmp_path):
    import rasterio

    images, masks = disk.make_patches(3, 2, dtype="uint16")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for path in sorted((root / "images").iterdir()):
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets, target.nodata = (1e-4, 2.0), (0.0, -100.0), 0
    dataset = opened(root)
    expected = images[1].astype(np.float64) * np.array([1e-4, 2.0])[:, None, None] - np.array([0, 100])[:, None, None]
    expected[images[1] == 0] = np.nan
    np.testing.assert_allclose(dataset[1]["image"].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_missing_code_without_a_tag_is_missing_and_warned_of(disk, tmp_path, suffix, dtype):
    images, masks = disk.make_patches(4, 2, dtype=dtype)
    images[2, 1, 4:6, 7] = -9999
    root = disk.write_folder(tmp_path, images, masks, suffix=suffix)
    with pytest.warns(DataWarning, match=r"-9999.* counts as missing, although no nodata tag says so"):
        dataset = opened(root)
    assert dataset[2]["image"].isnan().nonzero().tolist() == [[1, 4, 7], [1, 5, 7]]
    assert (dataset[2]["mask"] == IGNORE).nonzero().tolist() == [[4, 7], [5, 7]]
    np.testing.assert_array_equal(dataset[0]["image"].numpy(), images[0].astype(np.float32))
    assert any("-9999" in note for note in dataset.split_notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert opened(root, nodata=-9999)[2]["image"].isnan().sum() == 2


def placed(disk, root, images, masks, **mask_options):
    from affine import Affine

    for index in range(len(images)):
        options = {"crs": "EPSG:32643", "transform": Affine(10, 0, 5e5 + 160 * index, 0, -10, 4e6)}
        disk.write_tiff(root / "images" / f"tile_00{index}.tif", images[index], **options)
        moved = {name: value(index) if callable(value) else value for name, value in mask_options.items()}
        disk.write_tiff(root / "masks" / f"tile_00{index}.tif", masks[index], **{**options, **moved})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda affine: {"transform": lambda i: affine(10, 0, 5e5 + 160 * i + 80, 0, -10, 4e6)}, "lies 8 pixels east"),
        (lambda affine: {"transform": lambda i: affine(20, 0, 5e5 + 160 * i, 0, -20, 4e6)}, "has pixels of 20 x 20"),
        (lambda affine: {"crs": "EPSG:32644"}, "a different coordinate system"),
    ],
)
def test_a_mask_at_another_place_is_refused(disk, tmp_path, change, complaint):
    from affine import Affine

    images, masks = disk.make_patches(3, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    placed(disk, root, images, masks)
    assert opened(root).pixel_size is not None
    placed(disk, root, images, masks, **change(Affine))
    with pytest.raises(DataError, match=rf"tile_000\.tif: the mask {complaint}|the mask has {complaint}"):
        opened(root)


def test_a_mask_with_south_up_is_turned_and_warned_of(disk, tmp_path):
    from affine import Affine

    images, masks = disk.make_patches(3, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    south = {"transform": lambda i: Affine(10, 0, 5e5 + 160 * i, 0, 10, 4e6 - 160)}
    placed(disk, root, images, masks[:, ::-1], **south)
    with pytest.warns(
        DataWarning, match="3 masks are stored with south up or mirrored, and were reoriented to north up"
    ):
        dataset = opened(root)
    np.testing.assert_array_equal(dataset[1]["mask"].numpy(), masks[1])


def test_patches_of_different_pixel_sizes_are_warned_of(disk, tmp_path):
    from affine import Affine

    images, masks = disk.make_patches(3, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, side in enumerate((10, 10, 20)):
        place = Affine(side, 0, 5e5, 0, -side, 4e6)
        for kind, values in (("images", images), ("masks", masks)):
            path = root / kind / f"tile_00{index}.tif"
            disk.write_tiff(path, values[index], crs="EPSG:32643", transform=place)
    with pytest.warns(DataWarning, match=r"different sizes on the ground, from 10(\.\d+)? to 20(\.\d+)? m|from 9"):
        assert opened(root).pixel_size is None


def test_nan_is_missing_with_the_option(disk, tmp_path):
    images, masks = disk.make_patches(3, 4, dtype="float32")
    images[1, 2, 3, 4] = np.nan
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    dataset = opened(root, nodata="nan")
    assert dataset[1]["image"].isnan().nonzero().tolist() == [[2, 3, 4]]
    assert dataset[1]["mask"][3, 4] == IGNORE
    assert np.isnan(dataset.bands[0].nodata)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("bands_last", [False, True])
def test_the_order_of_axes_is_found_from_the_mask(disk, tmp_path, suffix, bands_last):
    images, masks = disk.make_patches(3, 7, (16, 20), "float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=suffix)
    for index, path in enumerate(sorted((root / "images").iterdir())):
        values = np.moveaxis(images[index], 0, -1) if bands_last else images[index]
        if suffix == ".npy":
            np.save(path, values)
        else:
            import h5py

            with h5py.File(path, "w") as file:
                file["img"] = values
    np.testing.assert_array_equal(opened(root)[2]["image"].numpy(), images[2])


def test_ambiguous_order_of_axes_is_refused_until_it_is_named(disk, tmp_path):
    images, masks = disk.make_patches(3, 16, (16, 16), "float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    with pytest.raises(DataError, match=r"tile_000\.npy: shape 16 x 16 x 16 fits .* layout=CHW or layout=HWC"):
        opened(root)
    np.testing.assert_array_equal(opened(root, layout="CHW")[0]["image"].numpy(), images[0])
    np.testing.assert_array_equal(opened(root, layout="HWC")[0]["image"].numpy(), np.moveaxis(images[0], -1, 0))


def test_hdf5_array_is_found_or_named(disk, tmp_path):
    images, masks = disk.make_patches(2, 4, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".h5")
    for index, path in enumerate(sorted((root / "images").iterdir())):
        disk.write_hdf5(path, images[index], key="group/reflectance")
    np.testing.assert_array_equal(opened(root)[0]["image"].numpy(), images[0])
    np.testing.assert_array_equal(opened(root, image_key="group/reflectance")[0]["image"].numpy(), images[0])
    with pytest.raises(DataError, match=r"tile_000\.h5: has no image array 'reflectance'.*group/reflectance"):
        opened(root, image_key="reflectance")


@pytest.mark.parametrize(
    ("folders", "names", "mask_names"),
    [
        (("images", "masks"), ["image_1", "image_2"], ["mask_1", "mask_2"]),
        (("img", "mask"), ["image_1", "image_2"], ["mask_1", "mask_2"]),
        (("image", "label"), ["a", "b"], ["a_label", "b_label"]),
        (("images", "annotations"), ["S1-7 img", "S1-8 img"], ["s1_7_MASK", "s1_8_MASK"]),
        (("Images", "Masks"), ["π_größe", "日本"], ["π_größe", "日本"]),
    ],
)
def test_folders_and_names_are_matched(disk, tmp_path, folders, names, mask_names):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path / "données", images, masks, folders=folders, names=names, mask_names=mask_names)
    dataset = opened(root)
    by_name = dict(zip(names, range(2), strict=True))
    for index, patch in enumerate(dataset.patches):
        np.testing.assert_array_equal(dataset[index]["mask"].numpy(), masks[by_name[patch.name]])


def test_folders_can_be_named_and_nested(disk, tmp_path):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, masks, folders=("s2/x", "truth/x"), names=["a", "b"])
    dataset = opened(root, images="s2", masks="truth")
    assert [patch.name for patch in dataset.patches] == ["x/a", "x/b"]


def test_hidden_and_foreign_files_are_left_alone(disk, tmp_path):
    root = disk.write_folder(tmp_path, *disk.make_patches(2))
    (root / "images" / ".DS_Store").write_bytes(b"x")
    (root / "images" / "._tile_000.png").write_bytes(b"x")
    (root / "images" / "tile_000.png.aux.xml").write_text("<x/>")
    (root / "masks" / "Thumbs.db").write_bytes(b"x")
    assert len(opened(root)) == 2


@pytest.mark.parametrize(
    ("raw", "options", "expected", "note"),
    [
        ([0, 1], {}, {0: 0, 1: 1}, "found: class ids"),
        ([0, 255], {}, {0: 0, 255: 1}, "found: only 0 and 255"),
        ([255], {}, {255: 1}, "found: only 0 and 255"),
        ([0, 1, 255], {}, {0: 0, 1: 1, 255: IGNORE}, "255 = ignored"),
        ([0, 1, 2, 3], {"landslide_class": "all"}, {0: 0, 1: 1, 2: 2, 3: 3}, "found: class ids 0 to 3"),
        ([1, 2], {"landslide_class": "all"}, {1: 1, 2: 2}, "found: class ids 0 to 2"),
        ([0, 7], {"mask_values": "0,7"}, {0: 0, 7: 1}, "as given"),
        ([0, 1, 2], {"mask_values": "0:0,1:1,2:1"}, {0: 0, 1: 1, 2: 1}, "as given"),
        ([0, 1, 9], {"ignore_value": 9}, {0: 0, 1: 1, 9: IGNORE}, "9 = ignored"),
        ([0, 128, 255], {"ignore_value": 128}, {0: 0, 128: IGNORE, 255: 1}, "128 = ignored"),
        ([0, 2], {"class_names": "none,old,new", "landslide_class": "old,new"}, {0: 0, 2: 2}, "2 = class 2"),
    ],
)
def test_mask_values_are_found_over_the_whole_set_and_reported(disk, tmp_path, raw, options, expected, note):
    images, _ = disk.make_patches(len(raw))
    # One value a mask: no single file shows the encoding.
    masks = np.stack([np.full((16, 16), value, np.uint8) for value in raw])
    dataset = opened(disk.write_folder(tmp_path, images, masks), **options)
    for index, value in enumerate(raw):
        assert (dataset[index]["mask"] == expected[value]).all()
    assert note in dataset.split_notes[0]
    classes = {value for value in expected.values() if value != IGNORE}
    assert len(dataset.class_names) == max(2, max(classes) + 1)


@pytest.mark.parametrize(
    ("options", "classes", "names", "note"),
    [
        (
            {"class_names": "background,landslide,water"},
            {0: 0, 1: 1, 2: 0},
            ("background", "landslide"),
            "landslide: landslide (class 1), by its name; counted as background: background, water",
        ),
        (
            {"class_names": "water,debris flow,field,rock_fall"},
            {0: 0, 1: 1, 2: 0, 3: 2},
            ("background", "debris flow", "rock_fall"),
            "landslide: debris flow (class 1), rock_fall (class 3), by their names; "
            "counted as background: water, field",
        ),
        (
            {"class_names": "field,waterfall,water", "landslide_class": "2"},
            {0: 0, 1: 0, 2: 1},
            ("background", "water"),
            "landslide: water (class 2), as given; counted as background: field, waterfall",
        ),
        (
            {"landslide_class": "class_2"},
            {0: 0, 1: 0, 2: 1},
            ("background", "class_2"),
            "landslide: class_2 (class 2), as given; counted as background: background, class_1",
        ),
        ({"landslide_class": "all"}, {0: 0, 1: 1, 2: 2}, ("background", "class_1", "class_2"), ""),
    ],
)
def test_the_landslide_class_is_chosen_and_reported(disk, tmp_path, options, classes, names, note):
    images, _ = disk.make_patches(4)
    raw = np.stack([np.full((16, 16), value, np.uint8) for value in (0, 1, 2, max(classes))])
    dataset = opened(disk.write_folder(tmp_path, images, raw), **options)
    assert dataset.class_names == names
    for index, value in enumerate((0, 1, 2, max(classes))):
        assert (dataset[index]["mask"] == classes[value]).all()
    assert dataset.split_notes[1] == note if note else dataset.split_notes[1].startswith("groups")


@pytest.mark.parametrize("names", ["landslide,background", "landslide,non-landslide", "slide,other"])
def test_a_landslide_that_is_named_first_becomes_class_1(disk, tmp_path, names):
    images, masks = disk.make_patches(4)
    plain = opened(disk.write_folder(tmp_path / "plain", images, masks))
    turned = opened(disk.write_folder(tmp_path / "turned", images, 1 - masks), class_names=names)
    assert turned.class_names[0] == names.split(",")[1]
    assert turned.split_notes[-1] == plain.split_notes[-1]
    for one, other in zip(plain, turned, strict=True):
        assert torch.equal(one["mask"], other["mask"])


def test_an_ambiguous_landslide_class_is_refused(disk, tmp_path):
    images, _ = disk.make_patches(3)
    raw = np.stack([np.full((16, 16), value, np.uint8) for value in (0, 1, 2)])
    root = disk.write_folder(tmp_path, images, raw)
    with pytest.raises(DataError, match=r"have 3 classes \(background, class_1, class_2\), and it is unknown.*=all"):
        opened(root)
    with pytest.raises(DataError, match=r"unknown which one is the landslide\. Choose it: landslide_class=waterfall"):
        opened(root, class_names="sea,waterfall,no landslide")
    with pytest.raises(UnknownNameError, match=r"unknown class 'landslid'\. Did you mean 'landslide'"):
        opened(root, class_names="sea,landslide,lake", landslide_class="landslid")
    with pytest.raises(ConfigError, match="every class is a landslide"):
        opened(root, landslide_class="0,1,2")


def test_a_palette_that_draws_the_background_in_colour_is_refused(disk, tmp_path):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks)
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        picture = Image.fromarray(1 - masks[index], mode="P")
        picture.putpalette([255, 0, 0, 0, 0, 0])
        picture.save(path)
    with pytest.raises(DataError, match=r"value 0 in the colour \(255, 0, 0\) and value 1 in black.*mask_values=1,0"):
        opened(root)
    np.testing.assert_array_equal(opened(root, mask_values="1,0")[1]["mask"].numpy(), masks[1])
    np.testing.assert_array_equal(opened(root, mask_values="0,1")[1]["mask"].numpy(), 1 - masks[1])


def test_names_pair_by_a_pattern(disk, tmp_path):
    images, masks = disk.make_patches(12)
    names = [f"ImageT_{index}" for index in range(12)]
    root = disk.write_folder(tmp_path, images, masks, names=names, mask_names=[f"MaskT_{index}" for index in range(12)])
    with pytest.raises(DataError, match=r"12 of 12 images have no mask: ImageT_0.*pair_pattern"):
        opened(root)
    dataset = opened(root, pair_pattern=r"T_(\d+)$")
    for index, patch in enumerate(dataset.patches):
        number = int(patch.name.removeprefix("ImageT_"))
        np.testing.assert_array_equal(dataset[index]["mask"].numpy(), masks[number])
    with pytest.raises(ConfigError, match="has no group in parentheses"):
        opened(root, pair_pattern="T_")
    with pytest.raises(DataError, match=r"does not match 'ImageT_0'"):
        opened(root, pair_pattern=r"MaskT_(\d+)")
    with pytest.raises(DataError, match=r"both reduce to '1'"):
        opened(root, pair_pattern=r"T_(\d)")


def test_three_bands_of_bytes_are_colours_and_three_of_numbers_are_not(disk, tmp_path):
    colours = opened(disk.write_folder(tmp_path / "bytes", *disk.make_patches(2), suffix=".tif"))
    assert [band.name for band in colours.bands] == ["red", "green", "blue"]
    numbers = opened(disk.write_folder(tmp_path / "floats", *disk.make_patches(2, 3, dtype="float32"), suffix=".tif"))
    assert [band.name for band in numbers.bands] == ["band_1", "band_2", "band_3"]


@pytest.mark.parametrize(
    ("dtype", "tag", "hidden"), [("uint8", 255, 255), ("int16", -1, -1), ("float32", np.nan, np.nan), ("uint8", 0, 0)]
)
def test_nodata_tag_of_a_mask_is_ignored_unless_it_is_the_background(disk, tmp_path, dtype, tag, hidden):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, mask_suffix=".tif")
    for index in range(3):
        values = masks[index].astype(dtype)
        values[9] = hidden
        disk.write_tiff(root / "masks" / f"tile_00{index}.tif", values, nodata=tag)
    mask = opened(root)[1]["mask"]
    assert (mask[9] == (0 if tag == 0 else IGNORE)).all()
    np.testing.assert_array_equal(mask[:9].numpy(), masks[1][:9])


def test_nodata_tag_on_what_may_be_the_landslide_must_be_settled(disk, tmp_path):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, masks * 255, mask_suffix=".tif")
    for index in range(2):
        disk.write_tiff(root / "masks" / f"tile_00{index}.tif", masks[index] * 255, nodata=255)
    with pytest.raises(
        DataError, match=r"255 is nodata according to the TIFF tag and the only mask value besides 0.*mask_values=0,255"
    ):
        opened(root)
    np.testing.assert_array_equal(opened(root, mask_values="0,255")[1]["mask"].numpy(), masks[1])


def test_masks_of_other_dtypes_and_axes_are_read(disk, tmp_path):
    images, masks = disk.make_patches(3)
    root = disk.write_folder(tmp_path, images, masks, mask_suffix=".npy")
    paths = sorted((root / "masks").iterdir())
    np.save(paths[0], masks[0].astype(bool))
    np.save(paths[1], masks[1].astype(np.float64)[None])
    np.save(paths[2], masks[2].astype(np.int64)[..., None])
    dataset = opened(root)
    for index in range(3):
        np.testing.assert_array_equal(dataset[index]["mask"].numpy(), masks[index])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]),
    suffix=st.sampled_from([".npy", ".tif", ".h5"]),
    coding=st.sampled_from([(0, 1, 255), (0, 255, 128), (0, 7, 9), (3, 1, 2), (1, 0, 2), (0, 30_000, 5), (0, 1, -1)]),
)
def test_counts_do_not_depend_on_dtype_and_coding_of_the_masks(disk, tmp_path, seed, dtype, suffix, coding):
    limits = np.iinfo(dtype)
    assume(all(limits.min <= value <= limits.max for value in coding))
    images, masks = disk.make_patches(3, seed=seed)
    rng = np.random.default_rng(seed)
    masks[rng.random(masks.shape) < 0.1] = 2
    guessed = torch.from_numpy(rng.random(masks.shape) < 0.3)
    expected = Counts.from_masks(guessed, torch.from_numpy(np.where(masks == 2, IGNORE, masks)))
    background, landslide, ignored = coding
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    disk.write_folder(root, images, np.array(coding)[masks].astype(dtype), mask_suffix=suffix)
    dataset = opened(root, mask_values=f"{background},{landslide}", ignore_value=ignored)
    found = Counts.from_masks(guessed, torch.stack([dataset[index]["mask"] for index in range(3)]))
    assert to_plain(found) == to_plain(expected)


def test_grey_mask_saved_as_rgb_is_read(disk, tmp_path):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, np.repeat(masks[:, None] * 255, 3, axis=1))
    np.testing.assert_array_equal(opened(root)[1]["mask"].numpy(), masks[1])


def test_bands_are_named_by_the_user(disk, tmp_path):
    root = disk.write_folder(tmp_path, *disk.make_patches(2))
    dataset = opened(root, bands="nir, swir,slope")
    assert [band.name for band in dataset.bands] == ["nir", "swir", "slope"]
    assert {band.unit for band in dataset.bands} == {"unknown"}
    slope = Band("slope", "degree", 0.0, 90.0)
    assert opened(root, bands=["nir", "swir", slope], nodata=255).bands[2] == Band("slope", "degree", 0.0, 90.0, 255.0)
    with pytest.raises(ConfigError, match=r"2 bands are named, but the images have 3"):
        opened(root, bands="a,b")
    with pytest.raises(ConfigError, match=r"two bands are called 'a'"):
        opened(root, bands="a,a,b")


def test_what_is_read_belongs_to_the_caller(disk, tmp_path):
    dataset = opened(disk.write_folder(tmp_path, *disk.make_patches(2)))
    before = dataset[0]["image"].clone(), dataset[0]["mask"].clone()
    image, mask = dataset.read(0)
    image[:], mask[:] = -1, 7
    assert torch.equal(dataset[0]["image"], before[0])
    assert torch.equal(dataset[0]["mask"], before[1])


def test_images_beyond_the_memory_limit_come_from_disk_and_are_the_same(disk, tmp_path, monkeypatch):
    images, masks = disk.make_patches(4, 7, dtype="float32")
    images[2, 0, 1, 1] = -1
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    kept, lean = opened(root, nodata=-1), opened(root, nodata=-1, memory_limit=0)
    assert kept._store.in_memory
    assert not lean._store.in_memory
    assert lean._store.memory_bytes == 4 * 16 * 16
    assert "mapped from disk" in str(lean)
    assert lean.fingerprint() == kept.fingerprint()
    for one, other in zip(kept, lean, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    (tmp_path / "taken").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "taken"))
    del lean
    with pytest.warns(DataWarning, match="decoded whenever it is read"):
        uncached = opened(root, nodata=-1, memory_limit=0)
    torch.testing.assert_close(kept[2], uncached[2], rtol=0, atol=0, equal_nan=True)


def test_splits_share_decoded_patches_until_a_file_changes(disk, tmp_path):
    images, masks = disk.make_patches(10)
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    done = []
    train = Folder(root, "train", split_by="random", progress=lambda *counts: done.append(counts))
    assert done == [(number, 10) for number in range(1, 11)]
    test = Folder(root, "test", split_by="random")
    assert test._store is train._store
    disk.write_npy(root / "masks" / "tile_000.npy", 1 - masks[0])
    changed = Folder(root, "test", split_by="random")
    assert changed._store is not train._store


def test_fingerprint_names_content_split_and_meaning_not_compression(disk, tmp_path):
    images, masks = disk.make_patches(10, 1)
    one = disk.write_folder(tmp_path / "one", images, masks)
    other = disk.write_folder(tmp_path / "other", images, masks, suffix=".npy")
    kept = {"split_by": "random", "bands": "grey"}
    first = Folder(one, **kept).fingerprint()
    assert len(first) == 64
    assert Folder(other, **kept).fingerprint() == first
    assert Folder(one, "test", **kept).fingerprint() != first
    assert Folder(one, **kept, seed=1).fingerprint() != first
    assert Folder(one, **{**kept, "bands": "nir"}).fingerprint() != first
    images[:, 0, 0, 0] += 1
    assert Folder(disk.write_folder(tmp_path / "third", images, masks), **kept).fingerprint() != first


def test_genuine_hdf5_patches_are_read(tmp_path, real_hdf5):
    import shutil

    import h5py

    (tmp_path / "mask").mkdir()
    shutil.copytree(real_hdf5, tmp_path / "img")
    # The test split of Landslide4Sense comes without masks, so these are drawn by hand.
    for path in sorted((tmp_path / "img").iterdir()):
        with h5py.File(tmp_path / "mask" / path.name.replace("image", "mask"), "w") as file:
            file["mask"] = np.eye(128, dtype=np.uint8)
    dataset = opened(tmp_path)
    assert len(dataset) == 14
    assert len(dataset.bands) == 14
    stack = torch.stack([sample["image"] for sample in dataset])
    assert stack.shape == (14, 14, 128, 128)
    # Band means that the data's README gives.
    published = [0.988, 1.023, 1.104, 1.229, 1.321, 1.118, 1.045, 1.067, 1.671, 4.055, 1.284, 1.414, 1.133, 1.641]
    np.testing.assert_allclose(stack.double().mean((0, 2, 3)), published, atol=6e-4)


def written(path, values, *, hidden=None, palette=None, **profile):
    """Write a TIFF or PNG with an internal mask or a palette."""
    import rasterio

    values = values if values.ndim == 3 else values[None]
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with (
        warnings.catch_warnings(),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **{"driver": "GTiff", **size, **profile}) as target,
    ):
        warnings.simplefilter("ignore")
        target.write(values)
        if hidden is not None:
            target.write_mask(np.where(hidden, 0, 255).astype(np.uint8))
        if palette is not None:
            target.write_colormap(1, palette)


def test_pixels_that_the_mask_of_a_mask_hides_are_ignored(disk, tmp_path):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    hidden = np.zeros((16, 16), bool)
    hidden[8:] = True
    values = masks[0].copy()
    values[8:] = 77
    written(root / "masks" / "tile_000.tif", values, hidden=hidden)
    dataset = opened(root)
    np.testing.assert_array_equal(dataset[0]["mask"].numpy(), np.where(hidden, IGNORE, masks[0]))
    np.testing.assert_array_equal(dataset[1]["mask"].numpy(), masks[1])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_of_a_mask_are_background_or_refused(disk, tmp_path, mode):
    images, masks = disk.make_patches(2)
    root = disk.write_folder(tmp_path, images, masks)
    colours = len(mode) - 1
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        values = masks[index] * 255
        Image.fromarray(np.dstack([values] * (colours + 1))).save(path)
    np.testing.assert_array_equal(opened(root)[0]["mask"].numpy(), masks[0])
    Image.fromarray(np.dstack([np.full_like(values, 255)] * colours + [values])).save(path)
    with pytest.raises(DataError, match=r"tile_001\.png: the mask has transparent pixels whose value is not 0"):
        opened(root)


def test_transforms_are_compared_without_a_coordinate_system_too(disk, tmp_path):
    images, masks = disk.make_patches(3, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    from affine import Affine

    placed(disk, root, images, masks, crs=None)
    np.testing.assert_array_equal(opened(root)[1]["mask"].numpy(), masks[1])
    placed(disk, root, images, masks, crs=None, transform=lambda i: Affine(10, 0, 5e5 + 160 * i + 5, 0, -10, 4e6))
    with pytest.raises(DataError, match=r"the mask lies 0\.5 pixels east"):
        opened(root)


@pytest.mark.parametrize("turned", ["images", "masks"])
def test_a_turned_file_needs_a_partner_with_a_place(disk, tmp_path, turned):
    from affine import Affine

    images, masks = disk.make_patches(2, 2, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, values in enumerate(images if turned == "images" else masks):
        path = root / turned / f"tile_00{index}.tif"
        disk.write_tiff(path, values, crs="EPSG:32643", transform=Affine(10, 0, 5e5, 0, 10, 4e6))
    role, other = ("image", "mask") if turned == "images" else ("mask", "image")
    with pytest.raises(DataError, match=f"the {role} is stored with south up .* its {other} is not georeferenced"):
        opened(root)


def test_a_tiff_image_with_a_palette_is_refused(disk, tmp_path):
    images, masks = disk.make_patches(2, 1)
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    written(root / "images" / "tile_001.tif", images[1], palette={7: (7, 0, 255, 255)})
    with pytest.raises(DataError, match=r"tile_001\.tif: is a picture with a palette"):
        opened(root)


def test_a_fourth_band_that_gdal_calls_alpha_is_refused(disk, tmp_path):
    images, masks = disk.make_patches(2, 4)
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for path, values in zip(sorted((root / "images").iterdir()), images, strict=True):
        written(path, values)
    with pytest.raises(DataError, match=r"tile_000\.tif: band 4 is declared as transparency \(alpha\), but holds"):
        opened(root)


def test_the_nodata_value_of_a_16_bit_grey_png_is_missing(disk, tmp_path):
    images, masks = disk.make_patches(2, 1, dtype="uint16")
    images[:, 0, :3] = 0
    root = disk.write_folder(tmp_path, images, masks)
    for path, values in zip(sorted((root / "images").iterdir()), images, strict=True):
        written(path, values, driver="PNG", nodata=0)
    sample = opened(root)[0]
    assert sample["image"][0, :3].isnan().all()
    np.testing.assert_array_equal(sample["image"][0, 3:].numpy(), images[0, 0, 3:])
    assert (sample["mask"][:3] == IGNORE).all()


@pytest.mark.parametrize("fill", [-3e38, -3.4028234663852886e38])
def test_a_fill_value_that_differs_from_the_tag_is_missing(disk, tmp_path, fill):
    images, masks = disk.make_patches(2, 2, dtype="float32")
    images[:, :, 0] = fill
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for path, values in zip(sorted((root / "images").iterdir()), images, strict=True):
        written(path, values, nodata=-3.4028234663852886e38)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        sample = opened(root)[0]
    assert sample["image"][:, 0].isnan().all()
    assert not sample["image"][:, 1:].isnan().any()


@pytest.mark.parametrize("scale", [None, 1e-4])
def test_fill_scale_and_offset_of_hdf5_are_applied(disk, tmp_path, scale):
    import h5py

    images, masks = disk.make_patches(2, 3, dtype="uint16")
    root = disk.write_folder(tmp_path, images, masks, suffix=".h5")
    for path in sorted((root / "images").iterdir()):
        with h5py.File(path, "r+") as file:
            file["img"][2, 3] = 65535
            file["img"].attrs["_FillValue"] = np.uint16(65535)
            if scale is not None:
                file["img"].attrs["scale_factor"], file["img"].attrs["add_offset"] = scale, -0.1
    sample = opened(root)[1]
    expected = images[1].astype(np.float64) if scale is None else images[1] * scale - 0.1
    expected[:, 2, 3] = np.nan
    np.testing.assert_allclose(sample["image"].numpy(), expected.astype(np.float32), rtol=1e-5)
    assert sample["mask"][2, 3] == IGNORE


def test_a_scale_of_hdf5_that_is_no_number_is_refused(disk, tmp_path):
    import h5py

    root = disk.write_folder(tmp_path, *disk.make_patches(2), suffix=".h5")
    with h5py.File(root / "images" / "tile_001.h5", "r+") as file:
        file["img"].attrs["scale_factor"] = "0.0001"
    with pytest.raises(DataError, match=r"tile_001\.h5: the attribute scale_factor of /img is not a number"):
        opened(root)


def test_bands_in_another_unit_are_refused(disk, tmp_path):
    images, masks = disk.make_patches(2, 1, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".tif")
    for index, unit in enumerate(("m", "ft")):
        disk.write_tiff(root / "images" / f"tile_00{index}.tif", images[index], names=["DEM"], units=[unit])
    with pytest.raises(DataError, match=r"tile_001\.tif: band 1 is in ft, but in tile_000\.tif it is in m"):
        opened(root)
