"""The audit finds what was planted, and nothing between pictures that have nothing to do with each other."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import zoo
from zoo.datasets.audit import TouchedPatches, audit_splits, cached_summary
from zoo.datasets.base import Patch, PatchDataset
from zoo.datasets.folder import Folder
from zoo.errors import DataError, ZooError
from zoo.physics.bands import Band

SIZE = 128


class Held(PatchDataset):
    """Patches held in memory."""

    def __init__(
        self, images: Sequence[NDArray[Any]], masks: Sequence[NDArray[Any]] | None = None, patches: Any = None
    ) -> None:
        self.images = [np.asarray(image, np.float32) for image in images]
        self.masks = masks or [np.zeros(image.shape[1:], np.uint8) for image in images]
        self.bands = tuple(Band(f"b{band}", "1") for band in range(len(images[0]) if images else 1))
        self.patches = tuple(patches or [Patch(f"{id(self)}-{index}", "") for index in range(len(images))])
        self.split = "train"
        self.reads = 0

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        self.reads += 1
        return self.images[index].copy(), self.masks[index].copy()

    def _verify(self) -> None:
        pass

    def fingerprint(self) -> str:
        return "".join(f"{image.sum()}" for image in self.images)


def ground(seed: int, bands: int = 3, size: int = SIZE, roughness: float = 2.0) -> NDArray[np.float32]:
    """Texture as of hills: noise whose amplitude falls with frequency, alike but not equal in all bands."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.normal(size=(bands + 1, size, size))) / frequency ** (roughness / 2)
    fields = np.fft.ifft2(noise).real
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return (100 + 20 * (fields[:bands] * 0.5 + fields[bands])).astype(np.float32)


def kinds(train: Sequence[NDArray[Any]], test: Sequence[NDArray[Any]], **options: Any) -> list[tuple[str, int, int]]:
    """Kind, position in train and position in test of everything found."""
    one, other = Held(train), Held(test)
    found = audit_splits({"train": one, "test": other}, **options)
    ours, theirs = ([patch.name for patch in held.patches] for held in (one, other))
    return [(touch.kind, ours.index(touch.patches[0]), theirs.index(touch.patches[1])) for touch in found.pairs]


def as_jpeg(image: NDArray[np.float32], quality: int = 75) -> NDArray[np.float32]:
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(np.clip(image, 0, 255).astype(np.uint8), 0, -1)).save(file, "JPEG", quality=quality)
    return np.moveaxis(np.asarray(Image.open(file)), -1, 0).astype(np.float32)


COPIES = {
    "turned": lambda image: np.rot90(image, axes=(1, 2)),
    "rotated by 270": lambda image: np.rot90(image, 3, axes=(1, 2)),
    "reflected": lambda image: image[:, :, ::-1],
    "reflected and turned": lambda image: np.rot90(image[:, :, ::-1], axes=(1, 2)),
    "brightened": lambda image: 1.4 * image + 30,
    "one band brightened": lambda image: image * np.array([1.5, 1, 0.7])[:, None, None],
    "compressed": as_jpeg,
    "compressed, turned and darkened": lambda image: 0.6 * np.rot90(as_jpeg(image), 2, axes=(1, 2)),
    "noisy": lambda image: image + np.random.default_rng(9).normal(0, 4, image.shape),
    "gamma": lambda image: 255 * (np.clip(image, 0, 255) / 255) ** 0.7,
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_found_however_it_was_changed(change: Any) -> None:
    train = [ground(seed) for seed in range(6)]
    test = [ground(seed) for seed in range(10, 13)]
    test[1] = change(train[4])
    assert kinds(train, test) == [("similar", 4, 1)]


def test_equal_pixels_are_exact_whatever_their_name_nan_and_minus_zero() -> None:
    train = [ground(seed) for seed in range(3)]
    train[2][:, :4] = 0
    train[2][0, 50, 50] = np.nan
    copy = train[2].copy()
    copy[:, :4] = -0.0
    assert kinds(train, [ground(9), copy]) == [("exact", 2, 1)]


@pytest.mark.parametrize("shift", [(0, 40), (33, 0), (-21, 50), (64, -5)])
@pytest.mark.parametrize("bands", [1, 3, 14])
def test_an_overlap_is_found_at_its_shift_with_its_landslides(shift: tuple[int, int], bands: int) -> None:
    scene = ground(1, bands, 300)
    landslide = np.zeros((300, 300), np.uint8)
    landslide[100:110, 90:105] = 1
    row, col = 70 + shift[0], 60 + shift[1]
    cut = [np.s_[70 : 70 + SIZE, 60 : 60 + SIZE], np.s_[row : row + SIZE, col : col + SIZE]]
    train = Held([ground(2, bands), scene[:, *cut[0]]], [np.zeros((SIZE, SIZE), np.uint8), landslide[cut[0]]])
    test = Held([1.2 * scene[:, *cut[1]] + 5, ground(3, bands)], [landslide[cut[1]], np.zeros((SIZE, SIZE), np.uint8)])
    found = audit_splits({"train": train, "test": test})
    (touch,) = found.pairs
    assert (touch.kind, *touch.patches) == ("overlap", train.patches[1].name, test.patches[0].name)
    both = landslide[max(70, row) : min(70, row) + SIZE, max(60, col) : min(60, col) + SIZE].sum()
    assert touch.landslide_pixels == pytest.approx(both, abs=0.3 * both)
    numbers = [int(word) for word in touch.detail.split() if word.isdigit()]
    assert numbers == pytest.approx([abs(step) for step in shift if step], abs=2)
    assert audit_splits({"train": train, "test": test}, overlaps=False).pairs == ()


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 7]), st.sampled_from([16, 48, 128]), st.floats(0.0, 3.5))
def test_independent_textures_never_match(seed: int, bands: int, size: int, roughness: float) -> None:
    train = [ground(seed + index, bands, size, roughness) for index in range(8)]
    test = [ground(seed + 100 + index, bands, size, roughness) for index in range(8)]
    assert kinds(train, test) == []


def test_blank_patches_match_no_others() -> None:
    """Flat, missing, noise, one gradient, one edge, the same rim of a scene: alike, and no evidence of one place."""
    y, x = np.mgrid[:SIZE, :SIZE]

    def bland(seed: int) -> list[NDArray[Any]]:
        rng = np.random.default_rng(seed)
        return [
            np.full((1, SIZE, SIZE), 7.0),
            np.full((1, SIZE, SIZE), np.nan),
            rng.normal(size=(1, SIZE, SIZE)),
            (x + y)[None] + rng.normal(0, 3, (1, SIZE, SIZE)),
            100.0 * (x > 60)[None] + rng.normal(0, 3, (1, SIZE, SIZE)),
            ndimage.gaussian_filter(rng.normal(size=(1, SIZE, SIZE)), (0, 20, 20)),
            np.where(x + y > SIZE, ground(seed, 1), 0),
            np.where(x > 60, 255.0, 0)[None] + (rng.random((1, SIZE, SIZE)) < 0.001),
        ]

    train, test = Held(bland(1)), Held(bland(2))
    found = audit_splits({"train": train, "test": test})
    assert [touch.kind for touch in found.pairs] == []
    assert not found.leaks
    assert any("4 blank patches" in text for text in found.notes)


def blob(seed: int, size: int = 40) -> NDArray[np.bool_]:
    """One ragged landslide."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 2)
    y, x = np.mgrid[:size, :size] - size / 2
    labels, _ = ndimage.label(np.hypot(y, x) / 14 + 4 * field < 1)
    return np.asarray(labels == np.bincount(labels[labels > 0]).argmax())


def test_a_landslide_is_known_again_by_its_outline_at_another_date_and_place() -> None:
    masks = [np.zeros((SIZE, SIZE), np.uint8) for _ in range(4)]
    masks[0][10:50, 20:60] = blob(1)
    masks[1][60:100, 30:70] = blob(2)
    masks[2][40:80, 70:110] = np.rot90(blob(1))[:, ::-1]
    masks[3][:12, :12] = 1
    train = Held([ground(1), ground(2)], masks[:2])
    test = Held([ground(3), ground(4)], masks[2:])
    (touch,) = audit_splits({"train": train, "test": test}).pairs
    assert (touch.kind, touch.measure, touch.value) == ("landslide", "pixels", blob(1).sum())
    assert touch.patches == (train.patches[0].name, test.patches[0].name)


def test_plain_or_small_or_cut_outlines_name_no_landslide() -> None:
    masks = [np.zeros((SIZE, SIZE), np.uint8) for _ in range(2)]
    y, x = np.mgrid[:SIZE, :SIZE]
    for mask in masks:
        mask[5:9, 5:9] = mask[20:50, 20:60] = 1
        mask[np.hypot(y - 90, x - 30) < 5] = 1
        mask[:40, 88:] = blob(3)
        mask[0, 88:] = 1
    assert audit_splits({"train": Held([ground(1)], masks[:1]), "test": Held([ground(2)], masks[1:])}).pairs == ()


def placed(names: str, group: str, cells: list[tuple[int | None, int | None]]) -> list[Patch]:
    return [Patch(f"{names}{index}", group, *cell) for index, cell in enumerate(cells)]


def test_neighbours_are_counted_and_a_guarded_scene_is_only_reported() -> None:
    images = [ground(seed, size=32) for seed in range(6)]
    train = Held(images[:2], patches=placed("a", "S", [(0, 0), (0, 1)]))
    near = Held(images[2:4], patches=placed("b", "S", [(1, 2), (5, 5)]))
    far = Held(images[4:], patches=placed("c", "S", [(0, 3), (9, 9)]))
    found = audit_splits({"test": near, "train": train})
    assert [(touch.kind, *touch.patches, touch.distance) for touch in found.pairs] == [("neighbour", "a1", "b0", 1)]
    assert found.verdict() == "LEAK 1 of 2 test patches touch training patches"
    clean = audit_splits({"train": train, "test": far})
    (scene,) = clean.scenes
    assert (scene.scene, scene.patches, scene.distance, scene.leaks) == ("S", (2, 2), 2, False)
    assert not clean.leaks
    assert clean.verdict().startswith("no leak found between 2/2 patches (")


def test_a_shared_scene_without_locations_leaks_if_scenes_are_known() -> None:
    images = [ground(seed, size=32) for seed in range(5)]
    train = Held(images[:2], patches=placed("a", "S", [(0, 0), (None, None)]))
    test = Held(images[2:], patches=[*placed("b", "S", [(9, 9), (8, 8)]), Patch("t", "T")])
    found = audit_splits({"train": train, "test": test})
    assert found.scenes[0].leaks
    assert found.touched == (TouchedPatches("train", "test", "scene", 2), TouchedPatches("train", "test", "", 2))
    unknown = audit_splits({"train": Held(images[:2]), "test": Held(images[2:])})
    assert not unknown.leaks
    assert any("scenes are unknown" in text for text in unknown.notes)
    assert any("no patch has a known location" in text for text in unknown.notes)


def test_everything_goes_into_plain_json() -> None:
    image = ground(1)
    splits = {"train": Held([image]), "val": Held([ground(2)]), "test": Held([image, as_jpeg(image)])}
    values = json.loads(json.dumps(audit_splits(splits).to_json(), allow_nan=False))
    assert values["leaks"]
    assert values["patches"] == {"train": 1, "val": 1, "test": 2}
    assert [(pair["kind"], pair["splits"]) for pair in values["pairs"]] == [
        ("exact", ["train", "test"]),
        ("similar", ["train", "test"]),
    ]
    assert {"splits": ["train", "test"], "kind": "any", "patches": 2} in values["touched"]


def test_splits_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to audit"):
        audit_splits({"train": Held([])})
    with pytest.raises(DataError, match="different bands or sizes"):
        audit_splits({"train": Held([ground(1)]), "test": Held([ground(1, bands=2)])})
    assert not audit_splits({"train": Held([ground(1)]), "test": Held([])}).leaks


def test_a_verdict_is_cached_by_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    image = ground(1, size=32)
    splits = {"train": Held([image]), "test": Held([image])}
    prints = {"train": "one", "test": "two"}
    first = cached_summary(splits, prints)
    assert first.leaks
    assert first.verdict.startswith("LEAK 1 of 1 test patches")
    assert TouchedPatches("train", "test", "exact", 1) in first.touched
    reads = splits["train"].reads
    assert cached_summary(splits, prints) == first
    assert splits["train"].reads == reads
    others = {"train": Held([image]), "test": Held([ground(2, size=32)])}
    assert not cached_summary(others, {**prints, "test": "three"}).leaks
    for kept in (tmp_path / "audits").iterdir():
        kept.write_text("{")
    assert cached_summary(splits, prints) == first


def test_a_cache_that_cannot_be_written_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ZooError("cannot write here")

    monkeypatch.setattr("zoo.datasets.audit.leakage.write_json", refuse)
    splits = {"train": Held([ground(5, size=32)]), "test": Held([ground(6, size=32)])}
    assert not cached_summary(splits, {"train": "unwritable", "test": ""}).leaks


def test_the_audit_is_one_call_of_the_public_api(tmp_path: Path) -> None:
    image = np.moveaxis(ground(1, size=32), 0, -1).clip(0, 255).astype(np.uint8)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in range(6):
        mask = np.zeros((32, 32), np.uint8)
        mask[name : name + 4, 5:9] = 1
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    found = zoo.audit(tmp_path, data_options={"split_by": "random"})
    assert found.leaks
    assert repr(found) == f"<Audit: {found.verdict()}>"
    assert "exact: 1 of 1 test patches, against train (equal pixels)" in str(found)
    table = found.to_pandas()
    assert len(table) == len(found.pairs)
    assert set(table.kind) == {"exact"}
    assert zoo.audit({"train": Held([ground(1)])}).pairs == ()


REAL_SPLITS = {
    "random": ({"split_by": "random"}, True),
    "scenes": ({"group_column": "scene", "train_groups": "S1", "test_groups": "S2,S3,S4"}, False),
    "columns": ({"split_by": "column"}, False),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::zoo.datasets.splits.LeakageWarning")
@pytest.mark.parametrize(
    ("options", "leaks"),
    [
        pytest.param(*split, id=name, marks=[pytest.mark.nightly] * (name != "random"))
        for name, split in REAL_SPLITS.items()
    ],
)
def test_the_real_tiles_leak_at_random_and_not_in_scenes_or_guarded_columns(
    real_rgb: Path, options: dict[str, str], leaks: bool
) -> None:
    found = audit_splits({split: Folder(real_rgb, split, **options) for split in ("train", "val", "test")})
    assert found.leaks is leaks
    assert {touch.kind for touch in found.pairs} == ({"neighbour"} if leaks else set())
    if leaks:
        assert TouchedPatches("train", "test", "neighbour", 379) in found.touched
        assert found.verdict().startswith("LEAK 379 of 396 test patches touch training patches")
