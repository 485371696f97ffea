"""Batches: as many as asked, always full, every patch once a pass, the same for any number of workers."""

from __future__ import annotations

from collections import Counter

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.datamodule import Draws, GroupDraws, PatchDataModule, _balance_weights
from zoo.datasets.folder import Folder
from zoo.errors import ConfigError


@pytest.fixture
def splits(disk, tmp_path):
    """12, 4 and 4 patches of 7 bands; the first pixel identifies each patch."""
    images, masks = disk.make_patches(20, 7, dtype="float32")
    images[:, 0] = torch.arange(20)[:, None, None]
    root = disk.write_folder(tmp_path, images, masks, suffix=".npy")
    return {split: Folder(root, split, split_by="random") for split in ("train", "val", "test")}


def stream(loader):
    return [{key: value.clone() for key, value in batch.items()} for batch in loader]


def same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        for key in one:
            assert torch.equal(one[key], other[key])


@given(st.integers(1, 30), st.integers(1, 90), st.integers(0, 2**32), st.integers(0, 100))
def test_draws_show_every_patch_once_a_pass(patches, draws, seed, start):
    found = list(Draws(patches, draws, seed, start))
    assert [draw for draw, _ in found] == list(range(start, start + draws))
    passes = Counter((draw // patches, index) for draw, index in found)
    assert set(passes.values()) == {1}
    assert {index for _, index in found} <= set(range(patches))
    # Taking up the stream anywhere gives the rest of it.
    middle = draws // 2
    assert list(Draws(patches, draws - middle, seed, start + middle)) == found[middle:]


def test_draws_go_on_in_the_next_epoch_and_passes_differ():
    sampler = Draws(5, 10, seed=0)
    first, second = list(sampler), list(sampler)
    assert first + second == list(Draws(5, 20, seed=0))
    orders = {tuple(index for _, index in (first + second)[start : start + 5]) for start in range(0, 20, 5)}
    assert len(orders) > 1


def test_balanced_draws_show_small_groups_as_often_as_large_ones():
    groups = ["large"] * 90 + ["small"] * 10
    for balance, expected in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        found = list(Draws(100, 20_000, seed=3, weights=_balance_weights(groups, balance)))
        small = sum(index >= 90 for _, index in found) / len(found)
        assert small == pytest.approx(expected, abs=0.02)
        rest = list(Draws(100, 19_000, seed=3, start=1_000, weights=_balance_weights(groups, balance)))
        assert rest == found[1_000:], "a resumed training draws the same patches"


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**32), st.integers(0, 9))
def test_a_batch_of_one_group_has_no_patch_of_another(batch_size, batches, seed, first):
    groups = ["large"] * 30 + ["small"] * 7
    draw = lambda count, start: list(  # noqa: E731
        GroupDraws(groups, count * batch_size, batch_size, seed=seed, start=start * batch_size, balance=0.5)
    )
    found = draw(batches, first)
    assert [number for number, _ in found] == list(range(first * batch_size, (first + batches) * batch_size))
    for batch in range(batches):
        members = [index for _, index in found[batch * batch_size : (batch + 1) * batch_size]]
        assert len({groups[index] for index in members}) == 1
        size = Counter(groups)[groups[members[0]]]
        assert size < batch_size or len(set(members)) == batch_size
    assert found[batch_size:] == draw(batches - 1, first + 1), "a resumed training draws the same patches"


def test_batches_of_one_group_are_balanced_as_patches_are():
    groups = ["large"] * 90 + ["small"] * 10
    for balance, expected in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        found = list(GroupDraws(groups, 8 * 4000, 8, seed=3, balance=balance))
        assert sum(index >= 90 for _, index in found) / len(found) == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize("steps", [1, 3, 50])
@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_training_has_exactly_the_requested_steps_in_full_batches(splits, steps, batch_size):
    data = PatchDataModule(**splits, batch_size=batch_size, steps=steps, crop=8)
    loader = data.train_dataloader()
    batches = stream(loader)
    assert len(loader) == len(batches) == steps
    for batch in batches:
        assert batch["image"].shape == (batch_size, 7, 8, 8)
        assert batch["mask"].shape == (batch_size, 8, 8)


def test_without_steps_an_epoch_is_one_pass_of_full_batches(splits):
    data = PatchDataModule(**splits, batch_size=5)
    assert len(data.train_dataloader()) == 2
    assert len(PatchDataModule(**splits, batch_size=50).train_dataloader()) == 1


def test_evaluation_gives_every_patch_once_whole_and_in_order(splits):
    data = PatchDataModule(**splits, batch_size=3, crop=8, eval_batch_size=3)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = stream(loader)
        assert [len(batch["mask"]) for batch in batches] == [3, 1]
        expected = torch.stack([sample["image"] for sample in splits[split]])
        assert torch.equal(torch.cat([batch["image"] for batch in batches]), expected)


def test_the_stream_is_the_same_for_any_number_of_workers(splits):
    options = {"batch_size": 4, "steps": 6, "crop": 8, "seed": 3}
    alone = stream(PatchDataModule(**splits, **options).train_dataloader())
    same(alone, stream(PatchDataModule(**splits, **options).train_dataloader()))
    same(alone, stream(PatchDataModule(**splits, **options, num_workers=2).train_dataloader()))
    other = stream(PatchDataModule(**splits, **{**options, "seed": 4}).train_dataloader())
    assert any(not torch.equal(one["image"], two["image"]) for one, two in zip(alone, other, strict=True))


def test_a_stopped_training_is_taken_up_where_it_was(splits):
    options = {"batch_size": 4, "crop": 8}
    whole = stream(PatchDataModule(**splits, **options, steps=6).train_dataloader())
    rest = stream(PatchDataModule(**splits, **options, steps=2, first_step=4).train_dataloader())
    same(whole[4:], rest)


def test_the_global_random_state_is_neither_used_nor_changed(splits):
    options = {"batch_size": 4, "steps": 3, "crop": 8}
    torch.manual_seed(0)
    one = stream(PatchDataModule(**splits, **options).train_dataloader())
    torch.manual_seed(99)
    same(one, stream(PatchDataModule(**splits, **options).train_dataloader()))


def test_augmentation_is_the_default_given_or_off(splits):
    assert PatchDataModule(**splits, crop=8, seed=5).augmentation.seed == 5
    own = TrainingAugmentation(4)
    assert PatchDataModule(**splits, augmentation=own).augmentation is own
    plain = PatchDataModule(**splits, augmentation=False, batch_size=12, steps=1)
    batch = stream(plain.train_dataloader())[0]
    expected = torch.stack([sample["image"] for sample in splits["train"]])
    order = batch["image"][:, 0, 0, 0].argsort()
    assert torch.equal(batch["image"][order], expected[expected[:, 0, 0, 0].argsort()])
    with pytest.raises(ConfigError, match="a crop needs the augmentation, which is off"):
        PatchDataModule(**splits, augmentation=False, crop=8)


def test_statistics_come_from_the_training_split_and_once(splits):
    data = PatchDataModule(**splits)
    expected = torch.stack([sample["image"][0] for sample in splits["train"]]).double()
    assert data.statistics.mean[0] == pytest.approx(float(expected.mean()))
    assert data.statistics.patches == 12
    assert data.statistics is data.statistics


def test_splits_that_do_not_fit_are_refused(splits, disk, tmp_path):
    with pytest.raises(ConfigError, match="the test split was passed as val"):
        PatchDataModule(splits["train"], splits["test"])
    root = disk.write_folder(tmp_path / "other", *disk.make_patches(10))
    rgb = Folder(root, "val", split_by="random")
    with pytest.raises(ConfigError, match="bands of val are red, green, blue, but those of train are band_1"):
        PatchDataModule(splits["train"], rgb)
    classes = Folder(tmp_path, "val", split_by="random", class_names="ground,slide")
    with pytest.raises(ConfigError, match="classes of val are"):
        PatchDataModule(splits["train"], classes)
    with pytest.raises(ConfigError, match="no test split was given"):
        PatchDataModule(splits["train"]).test_dataloader()


@pytest.mark.parametrize("option", ["batch_size", "steps", "eval_batch_size"])
def test_numbers_too_small_are_refused(splits, option):
    with pytest.raises(ConfigError, match=f"option {option}: {option} must be at least 1, not 0"):
        PatchDataModule(**splits, **{option: 0})


class Count(pl.LightningModule):
    """Counts what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = Counter()

    def training_step(self, batch, _):
        self.seen["train"] += len(batch["mask"])
        return self.weight.sum()

    def validation_step(self, batch, _):
        self.seen["val"] += len(batch["mask"])

    def test_step(self, batch):
        self.seen["test"] += len(batch["mask"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_takes_it_as_it_is(splits, tmp_path):
    task = Count()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    data = PatchDataModule(**splits, batch_size=5, steps=7, crop=8)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    assert trainer.global_step == 7
    assert task.seen == {"train": 35, "val": 4, "test": 4}
