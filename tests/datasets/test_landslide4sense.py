"""Landslide4Sense: files in the exact published format, genuine ones, and damaged ones."""

from __future__ import annotations

import csv
import hashlib
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from zoo.datasets import landslide4sense as module
from zoo.datasets.base import IGNORE, DataWarning
from zoo.datasets.builtin import LANDSLIDE4SENSE
from zoo.datasets.download import RemoteFile
from zoo.datasets.landslide4sense import DIVISORS, FOLDERS, NAMES, Landslide4Sense, calibrate, place_of
from zoo.datasets.splits import neighbour_pairs
from zoo.datasets.statistics import compute_statistics
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import slope_degrees

pytestmark = pytest.mark.filterwarnings("ignore:.*published:zoo.datasets.base.DataWarning")
SCENES = (1, 2, 3, 4, 42, 43, 44, 45, 3035, 3036, 3185, 3186, 3306, 3307)
MIRROR = {"train": "train", "val": "validation", "test": "test"}


def wetness_of(seed: int) -> np.ndarray:
    """Share of the way from the dry to the wet edge of OPTRAM, evenly between 0 and 1."""
    return np.random.default_rng(1000 + seed).random((128, 128))


def numbers_of(seed: int) -> np.ndarray:
    """Digital numbers, degrees and metres of a patch whose B12 lies between two known edges over NDVI."""
    rng = np.random.default_rng(seed)
    image = np.abs(rng.normal(1000, 200, (128, 128, 14)))
    greenness = rng.uniform(0.05, 0.8, (128, 128))
    image[..., 7] = rng.uniform(2000, 3500, (128, 128))
    image[..., 3] = image[..., 7] * (1 - greenness) / (1 + greenness)
    # STR = (1 - R)^2 / 2R, solved for the reflectance R.
    moist = 1 + 6 * greenness + wetness_of(seed) * (3 + 10 * greenness)
    image[..., 11] = 10_000 * (1 + moist - np.sqrt((1 + moist) ** 2 - 1))
    image[..., 9] = 9
    image[..., 12] = rng.integers(0, 60, (128, 128))
    image[..., 13] = 300 + 10 * seed + np.arange(128)[:, None]
    return np.rint(image)


def mask_of(seed: int) -> np.ndarray:
    mask = np.zeros((128, 128), np.uint8)
    mask[10 + seed % 30 : 60, 20:90] = 1
    return mask


def write_image(path: Path, values: np.ndarray, key: str = "img") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[key] = values
    return path


def write_split(root: Path, split: str = "train", numbers=(1, 2, 10, 42), layout="competition", masks=True) -> Path:
    if layout == "competition":
        images, labels = root / FOLDERS[split] / "img", root / FOLDERS[split] / "mask"
    else:
        images, labels = root / "images" / MIRROR[split], root / "annotations" / MIRROR[split]
    for number in numbers:
        write_image(images / f"image_{number}.h5", numbers_of(number) / np.array(list(DIVISORS.values())))
        if masks:
            write_image(labels / f"mask_{number}.h5", mask_of(number), "mask")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A training split; copied where a test damages it."""
    return write_split(tmp_path_factory.mktemp("l4s") / "Ländslide 滑坡")


@pytest.fixture
def copy(root, tmp_path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "copy"))


def first(root: Path, kind: str = "img") -> Path:
    return sorted((root / "TrainData" / kind).iterdir())[0]


def test_files_have_the_published_size(root):
    assert {path.stat().st_size for path in (root / "TrainData" / "img").iterdir()} == {1_837_056}
    assert {path.stat().st_size for path in (root / "TrainData" / "mask").iterdir()} == {18_432}


@pytest.mark.parametrize("cache", [True, False])
def test_samples_hold_what_the_files_hold(root, cache):
    data = Landslide4Sense(root, cache=cache)
    assert [patch.name for patch in data.patches] == [
        "train/image_1",
        "train/image_2",
        "train/image_10",
        "train/image_42",
    ]
    assert [(patch.group, patch.row, patch.col) for patch in data.patches] == [
        ("S1", 0, 0),
        ("S1", 0, 1),
        ("S1", 0, 9),
        ("S1", 1, 0),
    ]
    sample = data[2]
    assert sample["image"].shape == (14, 128, 128)
    assert sample["image"].dtype == torch.float32
    with h5py.File(root / "TrainData" / "img" / "image_10.h5") as file:
        expected = np.moveaxis(file["img"][...], -1, 0).astype(np.float32)
    assert np.array_equal(sample["image"].numpy(), expected)
    assert np.array_equal(sample["mask"].numpy(), mask_of(10))
    assert data.pixel_size == 10.0
    assert "as published" in " ".join(data.split_notes)


def test_both_layouts_hold_the_same_patches(root, tmp_path):
    mirror = write_split(tmp_path, layout="mirror")
    # The real mirror has five images among the masks of its training split.
    write_image(mirror / "annotations" / "train" / "image_1.h5", np.zeros(3))
    one, other = Landslide4Sense(root), Landslide4Sense(mirror)
    assert one.patches == other.patches
    assert one.fingerprint() == other.fingerprint()
    assert torch.equal(one[3]["image"], other[3]["image"])
    assert "mirror" in other.split_notes[0]


def test_bands_by_name_in_the_requested_order(root):
    everything = Landslide4Sense(root)[0]["image"]
    for bands in ("B4, b3,B2,dem", ["B4", "B3", "B2", "DEM"]):
        data = Landslide4Sense(root, bands=bands)
        assert [band.name for band in data.bands] == ["B4", "B3", "B2", "DEM"]
        assert torch.equal(data[0]["image"], everything[[3, 2, 1, 13]])


def test_published_units_are_not_reflectance(root):
    bands = Landslide4Sense(root).bands
    assert [band.name for band in bands] == list(NAMES) == list(LANDSLIDE4SENSE.channels)
    assert (bands[1].unit, bands[12].unit, bands[13].unit) == ("824.632 DN", "20.2923 degree", "772.831 m")


def test_physical_units(root):
    data = Landslide4Sense(root, units="physical")
    image = data[1]["image"].numpy()
    expected = np.moveaxis(numbers_of(2), -1, 0)
    assert np.allclose(image[:12], expected[:12] / 10_000, rtol=1e-6)
    assert np.array_equal(image[12:], expected[12:].astype(np.float32))
    assert {band.unit for band in data.bands[:12]} == {"1"}
    assert (data.bands[12].unit, data.bands[13].unit) == ("degree", "m")


def test_physical_units_are_refused_where_the_scaling_is_another(copy):
    path = first(copy)
    with h5py.File(path, "r+") as file:
        file["img"][..., 4] = file["img"][..., 4] * 1.001 + 0.0003
    with pytest.raises(DataError, match="band B5 is not scaled as in the published files") as caught:
        Landslide4Sense(copy, units="physical")
    assert caught.value.where == str(path)
    assert len(Landslide4Sense(copy)) == 4


def test_statistics_come_from_the_training_split(root):
    statistics = compute_statistics(Landslide4Sense(root, bands="B8,DEM"))
    values = np.stack([numbers_of(number)[..., 7] for number in (1, 2, 10, 42)]) / DIVISORS["B8"]
    assert statistics.bands[0].mean == pytest.approx(values.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bands": "B8A"}, ConfigError, "no B8A: the band after B9 is B10"),
        ({"bands": "B44"}, UnknownNameError, r"unknown band 'B44'.*Did you mean 'B4'"),
        ({"bands": ""}, UnknownNameError, "unknown band ''"),
        ({"bands": []}, ConfigError, "no bands"),
        ({"bands": "B4,B4"}, ConfigError, "B4 is named twice"),
        ({"units": "reflectance"}, ConfigError, "option units: .* Choose one of 'published', 'physical'"),
        ({"labels": "maybe"}, ConfigError, "option labels"),
        ({"split_by": "scene"}, ConfigError, "option split_by"),
        ({"split_by": "official", "train_groups": "S1"}, ConfigError, "scenes are named"),
        ({"train_groups": "S9", "test_groups": "S1"}, UnknownNameError, "unknown group 'S9'"),
        ({"split": "valid"}, UnknownNameError, r"unknown split 'valid'. Did you mean 'val'"),
        ({"split_by": "group", "guard": "x"}, ConfigError, "option guard: 'x' is not valid. Give an integer"),
    ],
)
def test_options_that_make_no_sense(root, options, error, words):
    with pytest.raises(error, match=words):
        Landslide4Sense(root, **options)


def test_missing_files_are_named_with_their_source_and_folder(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"landslide4sense was not found.*no TrainData/img.*zenodo.org/records/104632"):
        Landslide4Sense(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="landslide4sense was not found") as caught:
        Landslide4Sense()
    assert caught.value.where == str(tmp_path / "cache" / "datasets" / "landslide4sense")


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "text":
        path.write_text("<html>sign in</html>")
    elif how == "key":
        with h5py.File(path, "r+") as file:
            file.move("img" if "img" in file else "mask", "data")
    elif how == "group":
        path.unlink()
        with h5py.File(path, "w") as file:
            file.create_group("img" if path.name.startswith("image") else "mask")
    else:
        key = "img" if path.name.startswith("image") else "mask"
        with h5py.File(path, "r+") as file:
            values = file[key][...]
            del file[key]
            if how == "nan":
                values[3, 5, 9] = np.nan
            elif how == "bands":
                values = values[..., :13]
            elif how == "size":
                values = values[:64]
            elif how == "axes":
                values = np.moveaxis(values, -1, 0)
            elif how == "words":
                values = np.full(values.shape, b"x")
            elif how == "255":
                values = values * 255
            file[key] = values


@pytest.mark.parametrize(
    ("kind", "how", "words"),
    [
        ("img", "empty", "cannot be read as HDF5"),
        ("img", "truncated", "cannot be read as HDF5"),
        ("img", "text", "cannot be read as HDF5"),
        ("img", "key", "has no array 'img'. It holds data"),
        ("img", "group", "'img' is a group"),
        ("img", "bands", "128 x 128 x 13 instead of 128 x 128 x 14"),
        ("img", "axes", "14 x 128 x 128 instead of 128 x 128 x 14"),
        ("img", "size", "64 x 128 x 14 instead of"),
        ("img", "nan", "band B10 is not finite at row 3, column 5"),
        ("img", "words", "not real numbers"),
        ("mask", "empty", "cannot be read as HDF5"),
        ("mask", "truncated", "cannot be read as HDF5"),
        ("mask", "key", "has no array 'mask'. It holds data"),
        ("mask", "size", "64 x 128 instead of 128 x 128"),
        ("mask", "255", "the mask holds 255 at row 11, column 20; expected 0 and 1"),
    ],
)
def test_damaged_files_are_named(copy, kind, how, words):
    damage(first(copy, kind), how)
    with pytest.raises(DataError, match=words) as caught:
        Landslide4Sense(copy)
    assert caught.value.where == str(first(copy, kind))


def test_one_missing_mask_is_an_error_for_any_labels(copy):
    damage(copy / "TrainData" / "mask" / "mask_10.h5", "missing")
    for labels in ("required", "optional"):
        with pytest.raises(DataError, match=r"1 of 4 masks are missing; the first is mask_10.h5"):
            Landslide4Sense(copy, labels=labels)


def test_a_folder_without_images(copy):
    for path in (copy / "TrainData" / "img").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"there is no image_1\.h5"):
        Landslide4Sense(copy)


def test_two_images_of_one_number(copy):
    shutil.copy(first(copy), copy / "TrainData" / "img" / "image_01.h5")
    with pytest.raises(DataError, match="two images have the number 1"):
        Landslide4Sense(copy)


def test_a_split_without_masks(tmp_path):
    write_split(tmp_path, "test", masks=False)
    with pytest.raises(DataError, match=r"the test split has no masks here.*labels=optional"):
        Landslide4Sense(tmp_path, "test")
    data = Landslide4Sense(tmp_path, "test", labels="optional")
    assert data[0]["mask"].unique().tolist() == [IGNORE]
    assert "every pixel is ignored" in " ".join(data.split_notes)
    assert data.patches[0].group == "test"
    assert data.patches[0].row is None


def test_masks_without_a_landslide(tmp_path):
    for split in ("train", "val"):
        write_split(tmp_path, split, numbers=(1,))
        write_image(tmp_path / FOLDERS[split] / "mask" / "mask_1.h5", np.zeros((128, 128), np.uint8), "mask")
    with pytest.raises(DataError, match="no mask of the train split"):
        Landslide4Sense(tmp_path)
    with pytest.warns(DataWarning, match="Dice is not defined"):
        Landslide4Sense(tmp_path, "val")


def test_fewer_patches_than_published_are_warned_of(root):
    with pytest.warns(DataWarning, match="4 of the 3799 published train patches are present"):
        Landslide4Sense(root)


def test_places_agree_with_the_tiles_that_are_known(shared_data):
    with (shared_data / "landslide4sense_rgb" / "tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1980
    for row in rows:
        assert place_of(int(row["l4s_train_id"])) == (row["scene"], int(row["row"]), int(row["col"]))


def test_scenes_are_whole_grids():
    places = [place_of(number) for number in range(1, 3800)]
    assert len(set(places)) == 3799
    ends = {scene: (row, col) for scene, row, col in sorted(places)}
    assert ends == {"S1": (73, 40), "S2": (9, 14), "S3": (10, 10), "S4": (18, 25)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_split(tmp_path_factory.mktemp("scenes"), numbers=SCENES)


def test_splits_by_scene_do_not_share_one(scenes):
    options = {"train_groups": "S1", "val_groups": "S2", "test_groups": "S3,S4"}
    parts = {split: Landslide4Sense(scenes, split, **options).patches for split in ("train", "val", "test")}
    assert {split: {patch.group for patch in patches} for split, patches in parts.items()} == {
        "train": {"S1"},
        "val": {"S2"},
        "test": {"S3", "S4"},
    }
    assert sum(map(len, parts.values())) == 14


@pytest.mark.parametrize("manner", ["group", "block", "column", "random"])
def test_splits_of_the_training_patches_are_apart(scenes, manner):
    options = {"split_by": manner, "fractions": "2,1,1", "block": 1, "guard": 0}
    parts = [Landslide4Sense(scenes, split, **options) for split in ("train", "val", "test")]
    names = [{patch.name for patch in part.patches} for part in parts]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert set.union(*names) == {
        f"train/image_{n}" for n in (1, 2, 3, 4, 42, 43, 44, 45, 3035, 3036, 3185, 3186, 3306, 3307)
    }
    if manner == "group":
        assert not len(neighbour_pairs(parts[0].patches, parts[2].patches))
    assert len({part.fingerprint() for part in parts}) == 3


def index(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a - b) / (a + b)


def test_paper_channels(root):
    data = Landslide4Sense(root, bands="paper")
    assert [band.name for band in data.bands] == ["SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"]
    image = dict(zip((band.name for band in data.bands), data[2]["image"].numpy(), strict=True))
    raw = np.moveaxis(numbers_of(10), -1, 0)
    assert np.allclose(image["NDVI"], index(raw[7], raw[3]), atol=1e-6)
    assert np.allclose(image["NDWI"], index(raw[2], raw[7]), atol=1e-6)
    assert np.allclose(image["NDBI"], index(raw[10], raw[7]), atol=1e-6)
    assert np.array_equal(image["slope"], raw[12].astype(np.float32))
    assert np.array_equal(image["DEM"], raw[13].astype(np.float32))
    # The edges pass through the 5th and the 95th percentile.
    assert np.allclose(image["SMI"], np.clip((wetness_of(10) - 0.05) / 0.9, 0, 1), atol=0.05)
    ranges = calibrate(sorted((root / "TrainData" / "img").iterdir())).ranges
    scaled = {name: np.clip((image[name] - r.low) / (r.high - r.low), 0, 1) for name, r in ranges.items()}
    weights = {"slope": 0.25, "DEM": 0.15, "NDVI": -0.2, "NDWI": 0.2, "SMI": 0.1, "NDBI": 0.1}
    total = sum(weight * scaled[name] for name, weight in weights.items())
    assert np.allclose(image["LSI"], 1 / (1 + np.exp(-total)), atol=1e-5)


def test_paper_channels_of_a_test_patch_are_calibrated_on_training_alone(scenes, tmp_path):
    options = {"bands": "paper", "train_groups": "S1", "val_groups": "S2", "test_groups": "S3"}
    before = Landslide4Sense(scenes, "val", **options)
    changed = Path(shutil.copytree(scenes, tmp_path / "copy"))
    for number in (3185, 3186):
        values = numbers_of(number)
        values[..., 13] += 5000
        path = changed / "TrainData" / "img" / f"image_{number}.h5"
        path.unlink()
        write_image(path, values / np.array(list(DIVISORS.values())))
    after = Landslide4Sense(changed, "val", **options)
    assert torch.equal(before[0]["image"], after[0]["image"])
    everything = Landslide4Sense(changed, "train", bands="paper", split_by="official")
    assert not torch.equal(everything[8]["image"][-1], after[0]["image"][-1])


def test_paper_channels_need_the_training_split(tmp_path):
    write_split(tmp_path, "test")
    with pytest.raises(DataError, match="no TrainData/img"):
        Landslide4Sense(tmp_path, "test", bands="paper")


def test_a_changed_file_is_never_served_stale(copy):
    before = Landslide4Sense(copy)
    path = first(copy)
    with h5py.File(path, "r+") as file:
        file["img"][0, 0, 0] = 7.0
    after = Landslide4Sense(copy)
    assert float(after[0]["image"][0, 0, 0]) == 7.0
    assert before.fingerprint() != after.fingerprint()


def test_it_travels_to_a_worker_process(root):
    data = Landslide4Sense(root)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(data[1]["image"], again[1]["image"])


def test_transforms_and_plot(root):
    data = Landslide4Sense(root, transforms=lambda sample: {**sample, "seen": True})
    sample = data[-1]
    assert sample["seen"]
    figure = data.plot({**sample, "prediction": sample["mask"]}, suptitle="patch")
    assert [ax.get_title() for ax in figure.axes] == ["B4, B3, B2", "mask", "prediction"]
    assert len(data.bands) == 14
    narrow = Landslide4Sense(root, bands="B8")
    assert narrow.plot(narrow[0]).axes[0].get_title() == "B8"


def zipped(folder: Path, target: Path, top: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.h5")):
            archive.write(path, Path(top) / path.relative_to(folder))
    return target


@pytest.mark.parametrize("top", ["ValidData", "."])
def test_download_from_a_mirror(tmp_path, monkeypatch, top):
    write_split(tmp_path / "source", "val", numbers=(5, 6, 7, 8 + len(top)))
    mirror = tmp_path / "mirror"
    zipped(tmp_path / "source" / "ValidData", mirror / "zenodo.org/records/10463239/files/ValidData.zip", top)
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    seen = []
    data = Landslide4Sense(tmp_path / "root", "val", download=True, progress=lambda *counts: seen.append(counts))
    assert len(data) == 4
    assert seen[-1] == (4, 4)
    monkeypatch.delenv("ZOO_MIRROR")
    assert len(Landslide4Sense(tmp_path / "root", "val", download=True)) == 4
    with pytest.warns(DataWarning, match="its published checksum is not known"):
        Landslide4Sense(tmp_path / "root", "val", checksum=True)


def test_an_archive_that_is_not_the_published_one(root, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    archive = zipped(root / "TrainData", mirror / "zenodo.org/records/10463239/files/TrainData.zip", "TrainData")
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    with pytest.raises(DataError, match=r"md5 [0-9a-f]{32} instead of 408f09247e3dd256458bc2f6e9edbffb"):
        Landslide4Sense(tmp_path / "root", download=True)
    assert list((tmp_path / "root").iterdir()) == []
    shutil.copy(archive, tmp_path / "root" / "TrainData.zip")
    with pytest.raises(DataError, match="not the published file"):
        Landslide4Sense(tmp_path / "root", checksum=True)
    right = RemoteFile("https://x.org/a", "TrainData.zip", md5=hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(module.ARCHIVES, "train", right)
    # An archive that somebody put there is unpacked without being asked.
    assert len(Landslide4Sense(tmp_path / "root", checksum=True)) == 4


def test_an_archive_with_an_escape(tmp_path):
    with zipfile.ZipFile(tmp_path / "TrainData.zip", "w") as archive:
        archive.writestr("TrainData/../../evil", "x")
    with pytest.raises(DataError, match="would be written outside the folder"):
        Landslide4Sense(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["TrainData.zip"]


def test_genuine_files(shared_data):
    folder = shared_data / "landslide4sense_h5"
    data = Landslide4Sense(folder, "test", labels="optional")
    assert len(data) == 14
    means = torch.stack([data[index]["image"].mean((1, 2)) for index in range(14)]).mean(0)
    published = [0.988, 1.023, 1.104, 1.229, 1.321, 1.118, 1.045, 1.067, 1.671, 4.055, 1.284, 1.414, 1.133, 1.641]
    assert torch.allclose(means, torch.tensor(published), atol=6e-4)


def test_genuine_files_are_whole_numbers_over_the_divisors(shared_data):
    folder = shared_data / "landslide4sense_h5" / "TestData" / "img"
    values = np.stack([h5py.File(path)["img"][...] for path in sorted(folder.iterdir())]).reshape(-1, 14)
    for band, divisor in enumerate(DIVISORS.values()):
        numbers = np.unique(values[:, band]) * divisor
        assert np.abs(numbers - np.rint(numbers)).max() < 1e-9
        # No smaller divisor does: neighbouring values differ by exactly one.
        assert np.diff(np.rint(numbers)).min() == 1


def test_genuine_terrain_is_in_metres_and_degrees(shared_data):
    data = Landslide4Sense(
        shared_data / "landslide4sense_h5", "test", bands="slope,DEM", units="physical", labels="optional"
    )
    inner = slice(2, -2)
    for index in range(14):
        slope, dem = data[index]["image"].numpy().astype(np.float64)[:, inner, inner]
        ours = slope_degrees(dem, 10.0)
        kept = np.isfinite(ours)
        assert np.corrcoef(ours[kept], slope[kept])[0, 1] > 0.7
        assert ours[kept].mean() == pytest.approx(slope[kept].mean(), rel=0.2)


def test_genuine_paper_channels(shared_data, tmp_path):
    genuine = sorted((shared_data / "landslide4sense_h5" / "TestData" / "img").iterdir())
    for path in genuine:
        number = path.stem.removeprefix("image_")
        (tmp_path / "TrainData" / "img").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "TrainData" / "img" / path.name)
        write_image(tmp_path / "TrainData" / "mask" / f"mask_{number}.h5", mask_of(1), "mask")
    data = Landslide4Sense(tmp_path, bands="paper")
    images = np.stack([data[index]["image"].numpy() for index in range(14)])
    assert np.isfinite(images).mean() > 0.999
    for band, values in zip(data.bands, np.moveaxis(images, 1, 0), strict=True):
        assert np.nanmin(values) >= band.valid_min
        assert np.nanmax(values) <= band.valid_max
        assert np.nanstd(values) > 0.01
    assert 0.1 < np.nanmedian(images[:, 0]) < 0.9
