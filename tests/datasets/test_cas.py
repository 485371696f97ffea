"""The CAS Landslide Dataset, from TIFFs laid out as its archives unpack."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio

from zoo.datasets.base import IGNORE, DataWarning
from zoo.datasets.builtin import CAS as SPEC
from zoo.datasets.cas import CAS, SUBSETS, subset_of_folder
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError

pytestmark = pytest.mark.filterwarnings("ignore:.*fewer images than were published")

PREFIXES = {"palu": "Palu", "Lombok": "Lombok", "Hokkaido Iburi-Tobu": "Hokkaido", "Wenchuan": "Wenchuan"}
DRONE = "Moxi town（UAV-1m）"


@pytest.fixture
def write(disk):
    """Write sub-datasets: small numbers of images, 512 x 512, LZW as satellite tools write them."""

    def tiff(path, values):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_tiff(path, values, compress="lzw")

    def subset(root, folder, count=3, seed=0):
        rng = np.random.default_rng(seed)
        for index in range(1, count + 1):
            name = f"{PREFIXES.get(folder, 'image')}{index:04d}.tif"
            # Blocks, so that files are small and quickly written.
            image = np.kron(rng.integers(0, 256, (3, 16, 16), dtype=np.uint8), np.ones((32, 32), np.uint8))
            mask = np.kron((rng.random((16, 16)) < 0.2).astype(np.uint8), np.ones((32, 32), np.uint8))
            tiff(root / folder / "img" / name, image)
            tiff(root / folder / "mask" / name, mask)
            tiff(root / folder / "label" / name, np.stack([mask * 255] * 3))
        return root

    def whole(root, folders=("palu", "Lombok", "Hokkaido Iburi-Tobu", "Wenchuan")):
        for seed, folder in enumerate(folders):
            subset(root, folder, seed=seed)
        return root

    subset.tiff, subset.whole = tiff, whole
    return subset


def only(root, **options):
    return CAS(
        root,
        "train",
        cache=False,
        **{"train_groups": "palu", "val_groups": "lombok", "test_groups": "hokkaido", **options},
    )


class TestSubsets:
    def test_numbers_add_up_to_the_papers(self):
        assert len(SUBSETS) == 16
        assert sum(subset.images for subset in SUBSETS) == 20_865
        assert len({subset.region for subset in SUBSETS}) == 9

    @pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: subset.name)
    def test_folders_are_known_in_either_spelling(self, subset):
        assert subset_of_folder(subset.folder) == subset
        assert subset_of_folder(subset.folder.replace("(", "（").replace(")", "）").upper()) == subset
        assert subset_of_folder(subset.name) == subset

    def test_other_names_are_not(self):
        assert subset_of_folder("masks") is None
        assert subset_of_folder("Moxitaidi") is None

    def test_towns_seen_twice_are_one_region(self, tmp_path, write):
        write.whole(tmp_path, ("palu", "Lombok", DRONE, "Moxitaidi (SAT)"))
        data = CAS(tmp_path, "train", cache=False, train_groups="moxi", val_groups="palu", test_groups="lombok")
        assert {patch.name.split("/")[0] for patch in data.patches} == {"moxi-town-uav-1m", "moxitaidi-sat"}
        assert data.pixel_size is None
        assert any("pixels: of 0.6, 1, 5 m" in note for note in data.split_notes)


class TestReading:
    def test_pixels(self, tmp_path, write):
        write.whole(tmp_path)
        rng = np.random.default_rng(5)
        image = rng.integers(0, 256, (3, 512, 512), dtype=np.uint8)
        mask = (rng.random((512, 512)) < 0.1).astype(np.uint8)
        write.tiff(tmp_path / "palu/img/Palu0002.tif", image)
        write.tiff(tmp_path / "palu/mask/Palu0002.tif", mask)
        data = only(tmp_path)
        assert [patch.name for patch in data.patches] == ["palu/Palu0001", "palu/Palu0002", "palu/Palu0003"]
        np.testing.assert_array_equal(data[1]["image"], image)
        np.testing.assert_array_equal(data[1]["mask"], mask)
        assert [band.name for band in data.bands] == ["red", "green", "blue"]
        assert data.plot(data[1]).axes[0].get_title() == "red, green, blue"

    def test_masks_of_0_and_255_and_of_three_equal_bands(self, tmp_path, write):
        write.whole(tmp_path)
        mask = np.zeros((512, 512), np.uint8)
        mask[:7] = 255
        write.tiff(tmp_path / "palu/mask/Palu0001.tif", np.stack([mask] * 3))
        assert only(tmp_path)[0]["mask"].sum() == 7 * 512

    def test_names_that_end_in_mask_and_other_endings(self, tmp_path, write):
        write.whole(tmp_path)
        folder = tmp_path / "palu/mask"
        (folder / "Palu0001.tif").rename(folder / "palu0001_mask.TIFF")
        assert len(only(tmp_path)) == 3

    def test_nodata_tag_and_alpha_are_missing(self, tmp_path, write, disk):
        write.whole(tmp_path)
        image = np.full((3, 512, 512), 9, np.uint8)
        image[:, :4] = 0
        image[0, 5] = 0
        disk.write_tiff(tmp_path / "palu/img/Palu0001.tif", image, nodata=0)
        alpha = np.full((4, 512, 512), 255, np.uint8)
        alpha[3, :2] = 0
        disk.write_tiff(tmp_path / "palu/img/Palu0002.tif", alpha, photometric="RGB", alpha="YES")
        data = only(tmp_path)
        for index, rows in enumerate((4, 2)):
            sample = data[index]
            assert sample["image"].isnan().sum() == 3 * rows * 512
            assert (sample["mask"] == IGNORE).sum() == rows * 512

    def test_folder_inside_the_folder_and_one_sub_dataset_alone(self, tmp_path, write):
        write.whole(tmp_path / "CAS" / "unpacked")
        assert len(only(tmp_path)) == 3
        alone = CAS(tmp_path / "CAS/unpacked/palu", "train", cache=False)
        assert {patch.group for patch in alone.patches} == {"palu"}
        assert alone.pixel_size == 5.0

    def test_through_the_cache(self, tmp_path, write):
        root = write.whole(tmp_path / "滑坡")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DataWarning)
            warnings.filterwarnings("ignore", category=PendingDeprecationWarning)  # affine 3, see pyproject.toml
            first, again = CAS(root), CAS(root)
            np.testing.assert_array_equal(again[0]["image"], CAS(root, cache=False)[0]["image"])
        assert first.fingerprint() == again.fingerprint()


class TestChoosing:
    def test_subsets_and_platform(self, tmp_path, write):
        write.whole(tmp_path, ("palu", "Lombok", DRONE, "Longxi River（UAV）"))
        drones = CAS(tmp_path, "train", platform="uav", cache=False)
        assert {patch.group for patch in drones.patches} <= {"moxi", "longxi"}
        some = CAS(tmp_path, "train", subsets="palu, longxi-uav", split_by="random", cache=False)
        assert {patch.group for patch in some.patches} <= {"palu", "longxi"}
        with pytest.raises(DataError, match="no sub-dataset of platform 'satellite'"):
            CAS(tmp_path, subsets=["longxi-uav"], platform="satellite")

    def test_whole_regions_where_there_are_three(self, tmp_path, write):
        write.whole(tmp_path)
        groups = [
            {patch.group for patch in CAS(tmp_path, split, cache=False).patches} for split in ("train", "val", "test")
        ]
        assert sum(map(len, groups)) == 4
        assert len(set.union(*groups)) == 4

    def test_at_random_where_there_are_not(self, tmp_path, write):
        write(tmp_path, "palu", 10)
        sizes = [len(CAS(tmp_path, split, cache=False)) for split in ("train", "val", "test")]
        assert sizes == [6, 2, 2]
        assert any(note.startswith("leak:") for note in CAS(tmp_path, cache=False).split_notes)

    def test_wenchuan_and_longxi_may_overlap(self, tmp_path, write):
        write.whole(tmp_path, ("palu", "Wenchuan", "Longxi River(SAT)"))
        assert any("Wenchuan earthquake" in note for note in CAS(tmp_path, cache=False).split_notes)

    @pytest.mark.filterwarnings("default:.*fewer images")
    def test_fewer_images_than_published(self, tmp_path, write):
        write.whole(tmp_path)
        with pytest.warns(DataWarning, match="palu 3 of 817"):
            CAS(tmp_path, cache=False)


class TestBadInput:
    def test_absent(self, tmp_path):
        with pytest.raises(DataError) as caught:
            CAS(tmp_path / "nowhere")
        text = str(caught.value)
        assert "10.5281/zenodo.10294997" in text
        assert "non-commercial" in text
        assert "unzip 'palu.zip' -d 'palu'" in text

    def test_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "kept"))
        with pytest.raises(DataError, match="kept/datasets/cas"):
            CAS()

    def test_a_sub_dataset_that_is_not_there(self, tmp_path, write):
        write(tmp_path, "palu")
        with pytest.raises(DataError, match=r"Jiuzhai valley \(UAV-0.2m\)/img"):
            CAS(tmp_path, subsets="palu,jiuzhai-uav-0.2m")
        with pytest.raises(UnknownNameError, match="Did you mean 'palu'"):
            CAS(tmp_path, subsets="pallu")

    def test_folder_of_another_name_and_two_of_one(self, tmp_path, write):
        write(tmp_path, "my slides")
        with pytest.raises(DataError, match="my slides: holds img and mask, but is not named after one"):
            CAS(tmp_path)
        (tmp_path / "my slides").rename(tmp_path / "Palu")
        write(tmp_path, "palu (2)")
        with pytest.raises(DataError, match="two folders are named after the sub-dataset 'palu'"):
            CAS(tmp_path)

    def test_missing_mask_and_no_images(self, tmp_path, write):
        write.whole(tmp_path)
        (tmp_path / "palu/mask/Palu0002.tif").unlink()
        with pytest.raises(DataError, match=r"Palu0002\.tif: no mask has this name \(1 of 3"):
            CAS(tmp_path)
        for path in (tmp_path / "palu/img").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"palu/img: holds no TIFF"):
            CAS(tmp_path)

    @pytest.mark.parametrize("folder", ["img", "mask"])
    @pytest.mark.parametrize("keep", [0, 200])
    def test_truncated(self, tmp_path, write, folder, keep):
        write.whole(tmp_path)
        path = tmp_path / "palu" / folder / "Palu0001.tif"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"Palu0001\.tif.*truncated"):
            only(tmp_path)[0]

    @pytest.mark.parametrize("folder", ["img", "mask"])
    def test_a_tiff_that_is_really_a_vrt_is_not_followed(self, tmp_path, write, folder):
        write.whole(tmp_path)
        path = tmp_path / "palu" / folder / "Palu0001.tif"
        other = path.with_name("Palu0002.tif")
        path.write_text(
            f'<VRTDataset rasterXSize="512" rasterYSize="512"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f"<SourceFilename>{other}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        with pytest.raises(DataError, match=r"Palu0001\.tif"):
            only(tmp_path)[0]

    def test_a_tiff_that_claims_an_absurd_size(self, tmp_path, write, disk):
        write.whole(tmp_path)
        path = tmp_path / "palu/img/Palu0001.tif"
        shape = {"count": 3, "height": 2**17, "width": 2**17, "dtype": "uint8", "nodata": 0}
        with rasterio.open(path, "w", driver="GTiff", **shape, sparse_ok=True, bigtiff="yes"):
            pass
        assert path.stat().st_size < 64 << 20
        with pytest.raises(DataError, match=r"Palu0001\.tif: .*far too large"):
            only(tmp_path)[0]

    def test_infinities_are_missing(self, tmp_path, write):
        write.whole(tmp_path)
        image = np.full((3, 512, 512), 0.5, np.float32)
        image[:, 0, :3] = np.inf
        write.tiff(tmp_path / "palu/img/Palu0001.tif", image)
        sample = only(tmp_path)[0]
        assert sample["image"][:, 0, :3].isnan().all()
        assert (sample["mask"] == IGNORE).sum() == 3

    @pytest.mark.parametrize(
        ("folder", "values", "problem"),
        [
            ("img", np.zeros((1, 512, 512), np.uint8), "has 1 bands of 512 x 512"),
            ("img", np.zeros((3, 256, 512), np.uint8), "has 3 bands of 256 x 512"),
            ("mask", np.zeros((256, 256), np.uint8), "the mask is 256 x 256"),
            ("mask", np.full((512, 512), 7, np.uint8), "the mask holds 7"),
            ("mask", np.arange(512 * 512, dtype=np.uint32).reshape(512, 512) % 3, "the mask holds 2"),
            ("mask", np.zeros((3, 512, 512), np.uint8) + np.array([[[9]], [[0]], [[0]]], np.uint8), "coloured"),
        ],
    )
    def test_not_as_published(self, tmp_path, write, folder, values, problem):
        write.whole(tmp_path)
        write.tiff(tmp_path / "palu" / folder / "Palu0001.tif", values)
        with pytest.raises(DataError, match=problem) as caught:
            only(tmp_path)[0]
        assert f"{folder}/Palu0001.tif" in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"platform": "balloon"}, ZooError),
            ({"split_by": "block"}, ZooError),
            ({"split_by": "random", "train_groups": "palu"}, ConfigError),
            ({"train_groups": "moon"}, UnknownNameError),
            ({"split": "all"}, UnknownNameError),
        ],
    )
    def test_options(self, tmp_path, write, options, error):
        write.whole(tmp_path)
        with pytest.raises(error):
            CAS(tmp_path, cache=False, **options)


def test_zoo_does_not_fetch_it():
    assert "download" not in [option.name for option in SPEC.options]
