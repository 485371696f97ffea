"""HR-GLDD: arrays in the exact published format, and damaged ones."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.datasets.base import DataWarning
from zoo.datasets.hrgldd import HRGLDD, check_array
from zoo.datasets.npy import map_npy
from zoo.errors import ConfigError, DataError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore:.*published:zoo.datasets.base.DataWarning")


def arrays(split: str = "train", count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(["train", "val", "test"].index(split))
    images = rng.random((count, 128, 128, 4), dtype=np.float32)
    masks = np.zeros((count, 128, 128, 1), np.float32)
    masks[:, 30:60, 40:80] = 1
    return images, masks


def write(root: Path, split: str = "train", count: int = 5) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    images, masks = arrays(split, count)
    np.save(root / f"{split}X.npy", images)
    np.save(root / f"{split}Y.npy", masks)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hrgldd") / "глобальный 滑坡"
    for split in ("train", "val", "test"):
        write(root, split)
    return root


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_samples_hold_what_the_arrays_hold(root, split, cache):
    data = HRGLDD(root, split, cache=cache)
    images, masks = arrays(split)
    assert len(data) == 5
    for index in range(5):
        sample = data[index]
        assert np.array_equal(sample["image"].numpy(), np.moveaxis(images[index], -1, 0))
        assert np.array_equal(sample["mask"].numpy(), masks[index, ..., 0])
    assert [band.name for band in data.bands] == ["red", "green", "blue", "nir"]
    assert {band.unit for band in data.bands} == {"unknown"}
    assert data.patches[3].name == f"{split}/3"
    assert data.pixel_size == 3.0
    assert any(note.startswith("leak:") for note in data.split_notes)


def test_splits_differ(root):
    assert len({HRGLDD(root, split).fingerprint() for split in ("train", "val", "test")}) == 3


def test_bands_and_their_order(root):
    images, _ = arrays()
    data = HRGLDD(root, bands="nir, Red")
    assert np.array_equal(data[1]["image"].numpy(), np.moveaxis(images[1][..., [3, 0]], -1, 0))
    data = HRGLDD(root, bands=["nir", "red"], order="bgrn")
    assert np.array_equal(data[1]["image"].numpy(), np.moveaxis(images[1][..., [3, 2]], -1, 0))
    swapped = HRGLDD(root, order="bgrn")
    assert [band.name for band in swapped.bands] == ["red", "green", "blue", "nir"]
    assert torch.equal(swapped[0]["image"][[2, 1, 0, 3]], HRGLDD(root)[0]["image"])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bands": "swir"}, UnknownNameError, "unknown band 'swir'"),
        ({"bands": "red,red"}, ConfigError, "name each band once"),
        ({"bands": []}, ConfigError, "name each band once"),
        ({"order": "rgb"}, ConfigError, "option order"),
        ({"split": "valid"}, UnknownNameError, "Did you mean 'val'"),
    ],
)
def test_options_that_make_no_sense(root, options, error, words):
    with pytest.raises(error, match=words):
        HRGLDD(root, **options)


def test_missing_files_are_named_with_their_source_and_folder(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"hrgldd was not found: .* has no trainX\.npy.*zenodo.org/records/718"):
        HRGLDD(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        HRGLDD()
    assert caught.value.where == str(tmp_path / "cache" / "datasets" / "hrgldd")
    np.save(tmp_path / "trainX.npy", arrays()[0])
    with pytest.raises(DataError, match=r"has no trainY\.npy"):
        HRGLDD(tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_pickled_objects_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    for name in ("trainX.npy", "trainY.npy"):
        kept = (tmp_path / name).read_bytes()
        np.save(tmp_path / name, np.array([Evil()] * 5, dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="contains Python objects \\(pickle\\), which are not loaded"):
            HRGLDD(tmp_path)
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(DataError, match="contains Python objects"):
            HRGLDD(tmp_path)
        (tmp_path / name).write_bytes(kept)
    assert not (tmp_path / "evil").exists()


def change(root: Path, name: str, how: str) -> None:
    path = root / name
    values = np.load(path)
    if how == "empty":
        path.write_bytes(b"")
    elif how == "head":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "text":
        path.write_text("<html>")
    else:
        edited = {
            "short": values[:-1],
            "none": values[:0],
            "bands": values[..., :3],
            "size": values[:, :64],
            "flat": values.reshape(-1),
            "axes": np.moveaxis(values, -1, 1),
            "words": np.full(values.shape, "x"),
            "complex": values.astype(complex),
            "255": values * 255,
            "half": values * 0.5,
            "zero": values * 0,
        }.get(how, values)
        if how in ("nan", "inf"):
            edited[2, 7, 9, 1 if name.endswith("X.npy") else 0] = float(how)
        np.save(path, edited)


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("trainX.npy", "empty", "is truncated or not an NPY file"),
        ("trainX.npy", "head", "its header is damaged"),
        ("trainX.npy", "text", "not an NPY file"),
        ("trainX.npy", "truncated", "is truncated: it has 1310847 of 1310848 bytes"),
        ("trainX.npy", "none", "5 masks"),
        ("trainX.npy", "short", r"trainX\.npy holds 4 images, but trainY\.npy holds 5 masks"),
        ("trainX.npy", "bands", "5 x 128 x 128 x 3 instead of N x 128 x 128 x 4"),
        ("trainX.npy", "size", "5 x 64 x 128 x 4 instead of"),
        ("trainX.npy", "axes", "5 x 4 x 128 x 128 instead of"),
        ("trainX.npy", "flat", "327680 instead of"),
        ("trainX.npy", "words", "not real numbers"),
        ("trainX.npy", "complex", "not real numbers"),
        ("trainX.npy", "nan", "patch 2: band green is not finite at row 7, column 9"),
        ("trainX.npy", "inf", "patch 2: band green is not finite at row 7, column 9"),
        ("trainY.npy", "truncated", "is truncated: it has"),
        ("trainY.npy", "short", "5 images"),
        ("trainY.npy", "255", "the mask holds 255 at row 30, column 40; expected 0 and 1"),
        ("trainY.npy", "half", "the mask holds 0.5"),
        ("trainY.npy", "nan", "patch 2: the mask holds nan at row 7, column 9"),
        ("trainY.npy", "zero", "no mask holds a landslide"),
    ],
)
def test_damaged_arrays_are_named(tmp_path, name, how, words):
    write(tmp_path)
    change(tmp_path, name, how)
    with pytest.raises(DataError, match=words) as caught:
        HRGLDD(tmp_path)
    assert caught.value.where in (str(tmp_path / name), str(tmp_path))


def test_empty_arrays(tmp_path):
    write(tmp_path, count=0)
    with pytest.raises(DataError, match="the array is empty"):
        HRGLDD(tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float64"])
def test_masks_of_other_dtypes_and_without_the_last_axis(tmp_path, dtype):
    write(tmp_path)
    masks = arrays()[1][..., 0].astype(dtype)
    np.save(tmp_path / "trainY.npy", np.asfortranarray(masks))
    assert np.array_equal(HRGLDD(tmp_path)[4]["mask"].numpy(), masks[4].astype(int))


def test_one_patch_is_read_without_the_rest(tmp_path):
    path = tmp_path / "big.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(200, 128, 128, 4)).flush()
    tracemalloc.start()
    header = check_array(path, (None, 128, 128, 4))
    assert header.shape[0] == 200
    assert np.array(map_npy(path, header)[150]).shape == (128, 128, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 128 * 128 * 4 * 4
    assert path.stat().st_size > 100 * peak


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    write(tmp_path)
    data = HRGLDD(tmp_path, cache=False)
    np.save(tmp_path / "trainX.npy", arrays()[0][:2])
    with pytest.raises(DataError, match=r"trainX\.npy: cannot be read .*The file changed while it was in use"):
        data[4]


def test_it_travels_to_a_worker_process(root):
    data = HRGLDD(root, cache=False)
    assert len(pickle.dumps(data)) < 100_000
    assert torch.equal(pickle.loads(pickle.dumps(data))[1]["image"], data[1]["image"])


def test_plot_shows_true_colours(root):
    data = HRGLDD(root, bands="nir,blue,green,red")
    assert data.plot(data[0]).axes[0].get_title() == "red, green, blue"


def test_fewer_patches_than_published_are_warned_of(root):
    with pytest.warns(DataWarning, match=r"5 patches, but 1119 were published"):
        HRGLDD(root)


def test_download_from_a_mirror(root, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    shutil.copytree(root, mirror / "zenodo.org" / "records" / "7189381" / "files")
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    data = HRGLDD(tmp_path / "root", "val", download=True)
    assert data.fingerprint() == HRGLDD(root, "val").fingerprint()
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["valX.npy", "valY.npy"]
    with pytest.warns(DataWarning, match="its published checksum is not known"):
        HRGLDD(tmp_path / "root", "val", checksum=True)
