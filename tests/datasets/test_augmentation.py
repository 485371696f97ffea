"""Augmentation: any number of bands, image and mask moved together, units kept, the same draw for the same number."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import IGNORE
from zoo.errors import ConfigError


def coded(height=32, width=32, bands=3):
    """An image in which every pixel of every band is unique, and a mask that follows from it."""
    image = torch.arange(bands * height * width, dtype=torch.float32).reshape(bands, height, width)
    mask = (image[0].long() * 7 % 5 == 0).long()
    mask[image[0].long() % 11 == 3] = IGNORE
    return {"image": image, "mask": mask}


def follows(image):
    mask = (image[0].long() * 7 % 5 == 0).long()
    mask[image[0].long() % 11 == 3] = IGNORE
    return mask


@pytest.mark.parametrize("bands", [1, 3, 7, 14])
@pytest.mark.parametrize("crop", [None, 16, 32])
def test_image_and_mask_move_together_for_any_number_of_bands(bands, crop):
    augment = TrainingAugmentation(crop, seed=1)
    sample = coded(bands=bands)
    side = crop or 32
    for draw in range(30):
        out = augment(sample, draw)
        assert (out["image"].shape, out["image"].dtype) == ((bands, side, side), torch.float32)
        assert (out["mask"].shape, out["mask"].dtype) == ((side, side), torch.int64)
        assert torch.equal(out["mask"], follows(out["image"]))
        # Every band shows the same place.
        offsets = torch.arange(bands) * 32 * 32
        assert torch.equal(out["image"] - offsets[:, None, None], out["image"][:1].expand(bands, -1, -1))
        assert out["image"].is_contiguous()


def test_the_sample_is_not_changed():
    sample = coded()
    before = {key: value.clone() for key, value in sample.items()}
    out = TrainingAugmentation(16, gain=0.2, offset=0.2)({**sample, "name": "kept"}, 3)
    out["image"].zero_()
    assert torch.equal(sample["image"], before["image"])
    assert torch.equal(sample["mask"], before["mask"])
    assert out["name"] == "kept"


def test_all_eight_symmetries_occur_equally():
    augment = TrainingAugmentation(None)
    corners = [tuple(augment(coded(4, 4, 1), draw)["image"][0, [0, 0, 3], [0, 3, 0]].tolist()) for draw in range(800)]
    counts = {corner: corners.count(corner) for corner in set(corners)}
    assert len(counts) == 8
    assert min(counts.values()) > 60


def test_oblong_patches_keep_their_shape():
    augment = TrainingAugmentation(None)
    found = {tuple(augment(coded(4, 6, 1), draw)["image"].shape) for draw in range(50)}
    assert found == {(1, 4, 6)}
    corners = {float(augment(coded(4, 6, 1), draw)["image"][0, 0, 0]) for draw in range(50)}
    assert corners == {0.0, 5.0, 18.0, 23.0}


def test_symmetries_can_be_switched_off():
    assert torch.equal(TrainingAugmentation(None, symmetries=False)(coded(), 5)["image"], coded()["image"])


@pytest.mark.parametrize("bands", [1, 7])
@pytest.mark.parametrize("size", [(10, 40), (40, 10), (10, 10), (31, 32)])
def test_smaller_patches_are_padded_with_what_counts_nowhere(bands, size):
    augment = TrainingAugmentation(32)
    for draw in range(20):
        out = augment(coded(*size, bands), draw)
        missing = out["image"].isnan()
        assert out["image"].shape == (bands, 32, 32)
        assert int((~missing).sum()) == bands * min(size[0], 32) * min(size[1], 32)
        assert (out["mask"][missing[0]] == IGNORE).all()
        there = ~missing[0]
        assert torch.equal(out["mask"][there], follows(out["image"].nan_to_num())[there])


def lonely(row=20, col=5):
    mask = torch.zeros(64, 64, dtype=torch.int64)
    mask[row, col] = 1
    mask[:2] = IGNORE
    return {"image": torch.zeros(1, 64, 64), "mask": mask}


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.0, 0.15), (0.5, 0.42, 0.65), (1.0, 1.0, 1.0)])
def test_share_of_the_crops_that_show_a_landslide(share, least, most):
    # A random crop of 16 in 64 shows one given pixel in at most 256 of 49 x 49 places: about 4 %.
    augment = TrainingAugmentation(16, landslide_share=share)
    shown = np.mean([bool((augment(lonely(), draw)["mask"] == 1).any()) for draw in range(400)])
    assert least <= shown <= most


def test_patches_without_a_landslide_are_cropped_anywhere():
    augment = TrainingAugmentation(16, landslide_share=1.0)
    sample = coded(64, 64, 1)
    sample["mask"][:] = 0
    corners = {float(augment(sample, draw)["image"].min()) for draw in range(50)}
    assert len(corners) > 30


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 2**40))
def test_a_draw_depends_on_seed_and_number_alone(seed, draw):
    first = TrainingAugmentation(16, seed=seed, gain=0.1, offset=0.1)
    again = TrainingAugmentation(16, seed=seed, gain=0.1, offset=0.1)
    for other in (3, 1, 4):
        again(coded(), other)
    one, two = first(coded(), draw), again(coded(), draw)
    assert torch.equal(one["image"], two["image"])
    assert torch.equal(one["mask"], two["mask"])


def test_another_seed_or_draw_gives_another_crop():
    augment = TrainingAugmentation(16)
    draws = [augment(coded(), draw)["image"] for draw in range(20)]
    assert len({float(image[0, 0, 0]) for image in draws}) > 10
    other = TrainingAugmentation(16, seed=1)
    assert any(not torch.equal(image, other(coded(), draw)["image"]) for draw, image in enumerate(draws))


def test_units_are_kept_by_default():
    sample = {"image": 3000 + torch.rand(7, 32, 32), "mask": torch.zeros(32, 32, dtype=torch.int64)}
    out = TrainingAugmentation(None)(sample, 0)["image"]
    assert torch.equal(out.flatten(1).sort().values, sample["image"].flatten(1).sort().values)


def test_radiometric_changes_stay_in_their_range_bands_and_gaps():
    image = torch.full((3, 8, 8), 100.0)
    image[:, 0, 0] = torch.nan
    sample = {"image": image, "mask": torch.zeros(8, 8, dtype=torch.int64)}
    augment = TrainingAugmentation(None, symmetries=False, gain=0.1, radiometric_bands=(0, 2))
    outs = torch.stack([augment(sample, draw)["image"] for draw in range(200)])
    assert outs[:, :, 0, 0].isnan().all()
    values = outs[:, :, 1, 1]
    assert (values[:, 1] == 100).all()
    for band in (0, 2):
        assert 90 <= values[:, band].min() < 92
        assert 108 < values[:, band].max() <= 110.0001
    assert not torch.equal(values[:, 0], values[:, 2])


def test_offset_is_in_deviations_of_the_band():
    image = torch.randn(2, 32, 32) * torch.tensor([1.0, 50.0])[:, None, None]
    sample = {"image": image, "mask": torch.zeros(32, 32, dtype=torch.int64)}
    augment = TrainingAugmentation(None, symmetries=False, offset=0.5)
    shifts = torch.stack([(augment(sample, draw)["image"] - image).mean((1, 2)) for draw in range(100)])
    largest = shifts.abs().max(0).values / image.std((1, 2))
    assert ((largest > 0.4) & (largest < 0.51)).all()


def discs(size=64, radius=10):
    """A disc of class 1 in the middle, which the image shows as 1 on a slope of brightness."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mask = ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 <= radius**2).long()
    return {"image": torch.stack([mask.float(), columns / size]), "mask": mask}


@pytest.mark.parametrize("crop", [None, 48])
def test_scale_jitter_magnifies_image_and_mask_together(crop):
    augment = TrainingAugmentation(crop, scale_jitter=0.5, landslide_share=1.0, symmetries=False)
    side, areas = crop or 64, []
    for draw in range(100):
        sample = discs()
        out = augment(sample, draw)
        assert torch.equal(sample["image"], discs()["image"])
        assert (out["image"].shape, out["image"].dtype) == ((2, side, side), torch.float32)
        assert (out["mask"].shape, out["mask"].dtype) == ((side, side), torch.int64)
        assert set(out["mask"].unique().tolist()) <= {0, 1}, "the mask was interpolated"
        assert ((out["image"][0] > 0.5) == (out["mask"] == 1)).float().mean() > 0.98
        assert out["image"].isfinite().all(), "edges are mirrored, not missing"
        areas.append(int(out["mask"].sum()))
    whole = int(discs()["mask"].sum())
    assert min(areas) < whole / 1.5
    assert max(areas) > whole * 1.8
    assert max(areas) < whole * 1.5**2 * 1.1


@pytest.mark.parametrize("size", [(10, 40), (31, 32), (1, 3)])
def test_scale_jitter_takes_patches_of_any_shape(size):
    for crop, symmetries in ((None, True), (32, True), (32, False)):
        augment = TrainingAugmentation(crop, scale_jitter=3.0, symmetries=symmetries)
        for draw in range(20):
            out = augment(coded(*size), draw)
            assert tuple(out["mask"].shape) == tuple(out["image"].shape[1:]) == (size if crop is None else (32, 32))


def test_gamma_keeps_range_order_gaps_and_the_bands_that_it_may_not_change():
    image = 50 + 100 * torch.rand(3, 16, 16)
    image[:, 0, 0] = torch.nan
    augment = TrainingAugmentation(None, symmetries=False, gamma=0.5, radiometric_bands=(0, 2))
    means = []
    for draw in range(60):
        out = augment({"image": image, "mask": torch.zeros(16, 16, dtype=torch.int64)}, draw)["image"]
        assert torch.equal(out[1].nan_to_num(), image[1].nan_to_num())
        assert out[:, 0, 0].isnan().all()
        known = image[0].isfinite()
        assert torch.equal(out[0][known].argsort(), image[0][known].argsort())
        torch.testing.assert_close(out[0][known].aminmax(), image[0][known].aminmax())
        means.append(float(out[0][known].mean() - image[0][known].mean()))
    assert min(means) < -5
    assert max(means) > 5


def test_half_of_the_brightness_is_common_to_all_bands():
    sample = {"image": torch.full((2, 4, 4), 100.0), "mask": torch.zeros(4, 4, dtype=torch.int64)}
    augment = TrainingAugmentation(None, symmetries=False, gain=0.2)
    changes = np.array([augment(sample, draw)["image"][:, 0, 0].numpy() for draw in range(400)])
    assert np.corrcoef(changes.T)[0, 1] == pytest.approx(0.5, abs=0.1)


def test_constant_and_missing_bands_survive_every_change():
    image = torch.stack([torch.full((8, 8), 7.0), torch.full((8, 8), torch.nan)])
    augment = TrainingAugmentation(4, gain=0.2, offset=1.0, gamma=1.0, scale_jitter=1.0)
    out = augment({"image": image, "mask": torch.zeros(8, 8, dtype=torch.int64)}, 0)["image"]
    assert out[0].isfinite().all()
    assert out[1].isnan().all()


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 0},
        {"landslide_share": 1.5},
        {"gain": 1.0},
        {"gain": -0.1},
        {"offset": float("nan")},
        {"gamma": -0.1},
        {"scale_jitter": float("inf")},
    ],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        TrainingAugmentation(**options)


def test_importing_albumentations_uses_no_network():
    code = (
        "import urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "import zoo.datasets.augmentation"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
