"""Batches made on a device: the same patches whether they are kept there or not, augmented with their masks."""

from __future__ import annotations

from collections import Counter

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.datasets.augmentation import DeviceAugmentation, TrainingAugmentation
from zoo.datasets.base import IGNORE
from zoo.datasets.datamodule import PatchDataModule, fits_on_device
from zoo.datasets.folder import Folder

CPU = torch.device("cpu")


@pytest.fixture
def splits(disk, tmp_path):
    images, masks = disk.make_patches(20, 7, dtype="float32")
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    return {split: Folder(root, split, split_by="random") for split in ("train", "val", "test")}


def stream(loader):
    return [{key: value.clone() for key, value in batch.items()} for batch in loader]


def same(ones, others):
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert {key: value.dtype for key, value in one.items()} == {key: value.dtype for key, value in other.items()}
        assert all(torch.equal(one[key], other[key]) for key in one)


def on_device(splits, *, kept: bool, **options):
    """The batches of a GPU; a device other than the CPU assembles them whether patches are kept or not."""
    data = PatchDataModule(**splits, resident=kept, **options)
    data.device = CPU if kept else _NotHost("cpu")
    return data


class _NotHost:
    """Stands for a GPU: everything goes through the code of one, and tensors stay where tests can run."""

    def __init__(self, name):
        self.type = "elsewhere"
        self.place = torch.device(name)


@pytest.fixture(autouse=True)
def a_device_that_is_the_host(monkeypatch):
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *a, **k: to(self, *(x.place if isinstance(x, _NotHost) else x for x in a), **k)
    )


def test_evaluation_is_the_same_as_from_a_loader(splits):
    plain = PatchDataModule(**splits, eval_batch_size=3)
    for kept in (True, False):
        data = on_device(splits, kept=kept, eval_batch_size=3)
        same(stream(data.val_dataloader()), stream(plain.val_dataloader()))
        same(stream(data.test_dataloader()), stream(plain.test_dataloader()))
        assert len(data.val_dataloader()) == 2


def test_training_is_the_same_kept_or_not_and_can_be_taken_up(splits):
    options = {"batch_size": 5, "crop": 8, "seed": 3}
    whole = stream(on_device(splits, kept=True, steps=6, **options).train_dataloader())
    assert [tuple(batch["image"].shape) for batch in whole] == [(5, 7, 8, 8)] * 6
    same(whole, stream(on_device(splits, kept=False, steps=6, **options).train_dataloader()))
    same(whole, stream(on_device(splits, kept=False, steps=6, num_workers=2, **options).train_dataloader()))
    same(whole[4:], stream(on_device(splits, kept=True, steps=2, first_step=4, **options).train_dataloader()))


def test_without_augmentation_patches_are_unchanged(splits):
    data = on_device(splits, kept=True, augmentation=False, batch_size=12, steps=1)
    (batch,) = stream(data.train_dataloader())
    found = Counter(image.numpy().tobytes() for image in batch["image"])
    assert found == Counter(splits["train"][index]["image"].numpy().tobytes() for index in range(12))


def test_lightning_trains_on_them(splits):
    class Task(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(7, 2, 1)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.layer(batch["image"]), batch["mask"], ignore_index=IGNORE)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    data = on_device(splits, kept=True, batch_size=4, steps=3, crop=8)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Task(), datamodule=data)
    assert trainer.global_step == 3


def test_only_a_gpu_keeps_patches_by_itself(splits):
    assert not fits_on_device(splits["train"], CPU)
    assert PatchDataModule(**splits)._on_device is False


def patch(size=(12, 12), bands=3):
    """A patch whose last band holds its mask, with a landslide, a nodata corner and an ignored one."""
    rng = np.random.default_rng(0)
    mask = np.zeros(size, np.uint8)
    mask[2:4, 3:5] = 1
    mask[-1, -1] = IGNORE
    image = rng.normal(size=(bands, *size)).astype(np.float32)
    image[-1] = mask
    image[:, 0, 0] = np.nan
    mask[0, 0] = IGNORE
    return torch.from_numpy(image), torch.from_numpy(mask), mask


@given(draw=st.integers(0, 10**6), crop=st.sampled_from([None, 1, 5, 12, 17]), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_image_and_mask_move_together(draw, crop, share):
    image, mask, classes = patch()
    before = image.clone()
    out, moved = DeviceAugmentation(TrainingAugmentation(crop, landslide_share=share))(image, mask, classes, draw)
    side = 12 if crop is None else crop
    assert out.shape == (3, side, side)
    assert moved.shape == (side, side)
    known = out[-1].isfinite()
    assert torch.equal(out[-1][known].to(torch.uint8), moved[known])
    assert (moved[~known] == IGNORE).all(), "nodata and padding count nowhere"
    assert torch.equal(torch.nan_to_num(image), torch.nan_to_num(before)), "the kept patch was written into"
    if crop is not None and share == 1:
        assert (moved == 1).any()


def test_all_eight_symmetries_come_and_equally_often():
    image, mask, classes = patch(bands=2)
    augment = DeviceAugmentation(TrainingAugmentation(None))
    found = Counter(
        torch.nan_to_num(augment(image, mask, classes, draw)[0], nan=99.0).numpy().tobytes() for draw in range(1600)
    )
    assert len(found) == 8
    assert min(found.values()) > 140


def test_an_oblong_patch_keeps_its_sides():
    image, mask, classes = patch((8, 12))
    augment = DeviceAugmentation(TrainingAugmentation(None))
    shapes = {tuple(augment(image, mask, classes, draw)[0].shape) for draw in range(40)}
    assert shapes == {(3, 8, 12)}


def test_gain_and_offset_change_the_bands_that_they_may_and_keep_nodata():
    image, mask, classes = patch()
    settings = TrainingAugmentation(None, symmetries=False, gain=0.2, offset=0.5, radiometric_bands=[0])
    out, _ = DeviceAugmentation(settings)(image, mask, classes, 7)
    assert torch.equal(out[1:].nan_to_num(), image[1:].nan_to_num())
    assert out[:, 0, 0].isnan().all()
    known = image[0].isfinite()
    slope, shift = np.polyfit(image[0][known].numpy(), out[0][known].numpy(), 1)
    assert 0.8 <= slope <= 1.2
    assert slope != pytest.approx(1, abs=1e-4)
    assert abs(shift) <= 0.5 * float(image[0][known].std(correction=0)) + 1e-5


def test_magnification_and_gamma_on_a_device():
    image, mask, classes = patch((24, 24))
    image[-1] = mask == 1
    settings = TrainingAugmentation(None, symmetries=False, scale_jitter=0.5, gamma=0.3, landslide_share=1.0)
    augment = DeviceAugmentation(settings)
    shares = []
    for draw in range(40):
        out, moved = augment(image, mask, classes, draw)
        assert (out.shape, moved.shape, moved.dtype) == ((3, 24, 24), (24, 24), torch.uint8)
        assert torch.equal(augment(image, mask, classes, draw)[1], moved)
        known = out[-1].isfinite()
        assert ((out[-1] > 0.5) == (moved == 1))[known].float().mean() > 0.85
        shares.append(float((moved == 1).float().mean()))
    assert len(set(shares)) > 4
