"""The Bijie landslide data set, from pictures laid out as its authors publish them."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.datasets.base import IGNORE
from zoo.datasets.bijie import Bijie, cut, patch_spans
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def write_scene(root, name, height, width, *, kind="landslide", seed=0, dem=True):
    """One image, its mask, DEM and outline in pixels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    save(root / kind / "image" / f"{name}.png", image)
    if dem:
        save(root / kind / "dem" / f"{name}.png", rng.integers(0, 256, (height, width), dtype=np.uint8))
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    if kind == "landslide":
        save(root / kind / "mask" / f"{name}.png", mask)
        outline = root / kind / "polygon_coordinate" / f"{name}.txt"
        outline.parent.mkdir(parents=True, exist_ok=True)
        outline.write_text(f"{name}\n4\n1 1\n2 1\n2 2\n1 2\n")
    return image, mask // 255


def write_set(root, landslides=10, others=10, size=(60, 80)):
    for index in range(landslides):
        write_scene(root, f"df{index:03d}", *size, seed=index)
    for index in range(others):
        write_scene(root, f"no{index:03d}", *size, kind="non-landslide", seed=100 + index)
    return root


def only(root, name="landslide/df000", **options):
    """The patches of one image among nine others, in any split."""
    for split in ("train", "val", "test"):
        data = Bijie(root, split, cache=False, **options)
        indices = [index for index, patch in enumerate(data.patches) if patch.group == name]
        if indices:
            return data, indices
    raise AssertionError(name)


class TestTiling:
    @given(st.integers(1, 700), st.integers(1, 300))
    def test_every_pixel_counts_once(self, length, size):
        parts = patch_spans(length, size)
        counted = np.zeros(length, int)
        for part in parts:
            counted[part.first : part.stop] += 1
            assert part.start <= part.first < part.stop <= part.start + size
            if length > size:
                assert part.start >= 0
                assert part.start + size <= length
        assert (counted == 1).all()
        assert len(parts) == -(-length // size)

    @settings(max_examples=60)
    @given(st.integers(1, 60), st.integers(1, 60), st.integers(3, 40))
    def test_patches_put_together_are_the_image(self, height, width, size):
        image = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
        labels = (np.arange(height * width).reshape(height, width) % 2).astype(np.uint8)
        total = 0
        for row in patch_spans(height, size):
            for col in patch_spans(width, size):
                patch = cut(image, row, col, size, np.nan, counting=False)[0]
                mask = cut(labels, row, col, size, IGNORE, counting=True)
                counts = mask != IGNORE
                values = patch[counts].astype(int)
                np.testing.assert_array_equal(values % 2, mask[counts])
                down, across = np.nonzero(counts)
                np.testing.assert_array_equal(values, (down + row.start) * width + across + col.start)
                total += int(counts.sum())
        assert total == height * width

    def test_small_images_are_centred(self):
        (part,) = patch_spans(5, 8)
        assert (part.start, part.first, part.stop) == (-1, 0, 5)


class TestReading:
    def test_padded(self, tmp_path):
        write_set(tmp_path)
        image, mask = write_scene(tmp_path, "df000", 61, 30, seed=7)
        data, (index,) = only(tmp_path, size=64)
        sample = data[index]
        assert sample["image"].shape == (3, 64, 64)
        np.testing.assert_array_equal(sample["image"][:, 1:62, 17:47], np.moveaxis(image, -1, 0))
        np.testing.assert_array_equal(sample["mask"][1:62, 17:47], mask)
        assert sample["image"][0].isnan().sum() == (sample["mask"] == IGNORE).sum() == 64 * 64 - 61 * 30
        assert (data.patches[index].row, data.patches[index].col) == (0, 0)
        assert [(band.name, band.unit) for band in data.bands] == [("red", "DN"), ("green", "DN"), ("blue", "DN")]
        assert data.pixel_size == 0.8

    def test_larger_images_give_several_patches_of_one_split(self, tmp_path):
        write_set(tmp_path)
        image, mask = write_scene(tmp_path, "df000", 100, 70, seed=7)
        data, indices = only(tmp_path, size=64)
        assert [data.patches[index].name for index in indices] == [
            f"landslide/df000_r{row}c{col}" for row in (0, 1) for col in (0, 1)
        ]
        masks = [data[index]["mask"].numpy() for index in indices]
        assert sum((part != IGNORE).sum() for part in masks) == 100 * 70
        assert sum((part == 1).sum() for part in masks) == mask.sum()
        assert not any(data[index]["image"].isnan().any() for index in indices)
        np.testing.assert_array_equal(data[indices[-1]]["image"][0], image[36:, 6:, 0])

    def test_dem(self, tmp_path):
        write_set(tmp_path)
        data, (index,) = only(tmp_path, size=80, include_dem=True)
        assert data.bands[3].unit == "unknown"
        expected = np.asarray(Image.open(tmp_path / "landslide/dem/df000.png"))
        np.testing.assert_array_equal(data[index]["image"][3, 10:70], expected)

    def test_sixteen_bit_dem(self, tmp_path):
        write_set(tmp_path)
        save(tmp_path / "landslide/dem/df000.png", np.full((60, 80), 1874, np.uint16))
        data, (index,) = only(tmp_path, size=80, include_dem=True)
        assert (data[index]["image"][3, 10:70] == 1874).all()

    def test_images_without_a_landslide(self, tmp_path):
        write_set(tmp_path)
        data, (index,) = only(tmp_path, "non-landslide/no003", size=80)
        assert set(data[index]["mask"].unique().tolist()) == {0, IGNORE}
        assert not any(patch.group.startswith("non") for patch in Bijie(tmp_path, negatives=False, cache=False).patches)

    def test_transparent_pixels_are_missing(self, tmp_path):
        write_set(tmp_path)
        values = np.full((60, 80, 4), 255, np.uint8)
        values[:2, :3, 3] = 0
        save(tmp_path / "landslide/image/df000.png", values)
        sample = (lambda data, indices: data[indices[0]])(*only(tmp_path, size=80))
        assert sample["image"][:, 10:12, :3].isnan().all()
        assert (sample["mask"][10:12, :3] == IGNORE).all()

    @pytest.mark.parametrize("kind", ["ones", "one bit", "palette", "three bands"])
    def test_masks_written_in_other_ways(self, tmp_path, kind):
        write_set(tmp_path)
        truth = np.zeros((60, 80), np.uint8)
        truth[5:9, 5:9] = 1
        path = tmp_path / "landslide/mask/df000.png"
        if kind == "ones":
            save(path, truth)
        elif kind == "one bit":
            save(path, truth.astype(bool))
        elif kind == "three bands":
            save(path, np.repeat(truth[..., None] * 255, 3, axis=2))
        else:
            # The palette turns the numbers round: what is seen counts, not the index.
            picture = Image.fromarray(1 - truth, mode="P")
            picture.putpalette([255, 255, 255, 0, 0, 0])
            picture.save(path)
        sample = (lambda data, indices: data[indices[0]])(*only(tmp_path, size=80))
        np.testing.assert_array_equal(sample["mask"][10:70], truth)

    def test_folder_in_the_archive(self, tmp_path):
        write_set(tmp_path / "Bijie-landslide-dataset")
        assert len(Bijie(tmp_path, cache=False)) == 12

    def test_through_the_cache(self, tmp_path):
        write_set(tmp_path / "毕节")
        first, again = Bijie(tmp_path / "毕节", size=64), Bijie(tmp_path / "毕节", size=64)
        assert first.fingerprint() == again.fingerprint()
        np.testing.assert_array_equal(again[0]["image"], Bijie(tmp_path / "毕节", size=64, cache=False)[0]["image"])
        assert Bijie(tmp_path / "毕节", size=32).fingerprint() != first.fingerprint()


class TestSplits:
    def test_shares_are_of_each_kind_and_disjoint(self, tmp_path):
        write_set(tmp_path)
        groups = {
            split: [p.group for p in Bijie(tmp_path, split, cache=False).patches] for split in ("train", "val", "test")
        }
        assert {split: len(names) for split, names in groups.items()} == {"train": 12, "val": 4, "test": 4}
        assert len({name for names in groups.values() for name in names}) == 20
        assert [sum(name.startswith("landslide/") for name in names) for names in groups.values()] == [6, 2, 2]
        assert groups["test"] != [p.group for p in Bijie(tmp_path, "test", seed=1, cache=False).patches]

    def test_notes_state_that_leaks_cannot_be_excluded(self, tmp_path):
        notes = Bijie(write_set(tmp_path), size=64, cache=False).split_notes
        assert any(note.startswith("leak: the locations of the images are not published") for note in notes)
        assert any("24 of 64 x 64 pixels from 12 images; 12 are padded, 12 give more" in note for note in notes)


class TestBadInput:
    def test_absent(self, tmp_path):
        with pytest.raises(DataError) as caught:
            Bijie(tmp_path / "nowhere")
        assert "landslide/image" in str(caught.value)
        assert "gpcv.whu.edu.cn/data/Bijie_pages.html" in str(caught.value)
        assert str(tmp_path / "nowhere") in str(caught.value)

    def test_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "kept"))
        with pytest.raises(DataError, match="kept/datasets/bijie"):
            Bijie()

    def test_folders_that_are_missing(self, tmp_path):
        write_scene(tmp_path, "df000", 20, 20, dem=False)
        with pytest.raises(DataError, match="has no non-landslide/image"):
            Bijie(tmp_path)
        with pytest.raises(DataError, match="has no landslide/dem"):
            Bijie(tmp_path, negatives=False, include_dem=True)
        (tmp_path / "non-landslide/image").mkdir(parents=True)
        with pytest.raises(DataError, match="holds no PNG"):
            Bijie(tmp_path)

    @pytest.mark.parametrize("folder", ["mask", "dem"])
    def test_image_without_its_mask_or_dem(self, tmp_path, folder):
        write_set(tmp_path)
        (tmp_path / "landslide" / folder / "df003.png").unlink()
        with pytest.raises(DataError, match=rf"df003\.png: this image has no {folder}"):
            Bijie(tmp_path, include_dem=True, cache=False)

    @pytest.mark.parametrize("folder", ["image", "mask", "dem"])
    @pytest.mark.parametrize("keep", [0, 60])
    def test_truncated(self, tmp_path, folder, keep):
        write_set(tmp_path)
        path = tmp_path / "landslide" / folder / "df000.png"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"df000\.png.*cannot be read as a PNG"):
            data, indices = only(tmp_path, include_dem=True)
            data[indices[0]]

    @pytest.mark.parametrize(
        ("folder", "values", "problem"),
        [
            ("image", np.zeros((60, 80), np.uint8), "has the mode L, but RGB as published"),
            ("mask", np.full((60, 80), 128, np.uint8), "the mask holds 128"),
            ("mask", np.arange(4800, dtype=np.uint8).reshape(60, 80) % 2 + 254, "the mask holds 254"),
            ("mask", np.zeros((60, 79), np.uint8), "60 x 79 pixels, but its image is 60 x 80"),
            ("mask", np.zeros((60, 80, 3), np.uint8) + np.array([255, 0, 0], np.uint8), "coloured"),
            ("dem", np.zeros((30, 40), np.uint8), "30 x 40 pixels.*does not resample"),
        ],
    )
    def test_not_as_published(self, tmp_path, folder, values, problem):
        write_set(tmp_path)
        save(tmp_path / "landslide" / folder / "df000.png", values)
        with pytest.raises(DataError, match=problem) as caught:
            data, indices = only(tmp_path, include_dem=True)
            data[indices[0]]
        assert f"{folder}/df000.png" in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"size": 8}, ConfigError),
            ({"size": "large"}, ConfigError),
            ({"fractions": "1,2"}, ConfigError),
            ({"fractions": "a,b,c"}, ConfigError),
            ({"negatives": "some"}, ZooError),
            ({"split": "all"}, UnknownNameError),
        ],
    )
    def test_options(self, tmp_path, options, error):
        write_set(tmp_path)
        with pytest.raises(error):
            Bijie(tmp_path, cache=False, **options)

    def test_empty_split(self, tmp_path):
        write_set(tmp_path, 1, 1)
        with pytest.raises(DataError, match="the val split is empty"):
            Bijie(tmp_path, "val", cache=False)


def test_picture(tmp_path):
    data = Bijie(write_set(tmp_path), cache=False)
    assert data.plot(data[0]).axes[0].get_title() == "red, green, blue"


class TestHostileFiles:
    @pytest.mark.parametrize("kind", ["JPEG", "TIFF", "GIF", "BMP", "EPS"])
    @pytest.mark.parametrize("folder", ["image", "mask"])
    def test_other_formats_under_the_name_of_a_png(self, tmp_path, kind, folder):
        write_set(tmp_path)
        picture = Image.fromarray(np.zeros((60, 80, 3), np.uint8))
        picture.save(tmp_path / "landslide" / folder / "df000.png", kind)
        with pytest.raises(DataError, match=r"df000\.png: cannot be read as a PNG"):
            data, indices = only(tmp_path)
            data[indices[0]]

    @pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
    def test_a_picture_that_claims_an_absurd_size(self, tmp_path, side):
        write_set(tmp_path)
        path = tmp_path / "landslide/image/df000.png"
        head = struct.pack(">4sII5B", b"IHDR", side, side, 8, 2, 0, 0, 0)
        rest = path.read_bytes()[33:]
        head = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + rest)
        with pytest.raises(DataError, match=r"df000\.png: .*(far more than published|far more pixels)"):
            Bijie(tmp_path, size=16, cache=False)

    @settings(max_examples=150, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_damaged_bytes_are_read_or_refused_with_a_clear_message(self, tmp_path_factory, disk, seed):
        root = tmp_path_factory.getbasetemp() / "bijie"
        if not root.exists():
            write_set(root, 5, 0, size=(30, 40))
        path = root / "landslide/image/df000.png"
        sound = path.read_bytes()
        path.write_bytes(with_checksums(disk.mutate(sound, seed)))
        try:
            with suppress(ZooError):
                data, indices = only(root, size=40, negatives=False)
                data[indices[0]]
        finally:
            path.write_bytes(sound)


def with_checksums(content: bytes) -> bytes:
    """A damaged PNG whose chunks have the right checksums, so that more than these is tested."""
    fixed, place = bytearray(content), 8
    while place + 12 <= len(fixed):
        end = place + 8 + struct.unpack(">I", fixed[place : place + 4])[0]
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[place + 4 : end]))
        place = end + 4
    return bytes(fixed)
