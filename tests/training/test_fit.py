"""Training learns, repeats itself, and goes on where it was stopped."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.datamodule import PatchDataModule
from zoo.datasets.source import DataSource
from zoo.errors import ModelError, ResultError
from zoo.registry import create_model
from zoo.training.evaluate import evaluate
from zoo.training.fit import DivergedError, Fitted, SegmentationTask, _ResumeState, fit, standardised
from zoo.training.predictor import Predictor
from zoo.training.recipes import Recipe, get_recipe

CPU = torch.device("cpu")
SMALL = {"widths": (4, 8, 8, 8, 8)}


class Dropped(nn.Module):
    """A small network whose training throws dice, and is interrupted in a batch if that is asked for."""

    def __init__(self, last_batch: int | None = None) -> None:
        super().__init__()
        self.left = last_batch
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise InterruptedError
        logits: torch.Tensor = self.body(x)
        return logits


def module(patches: Path, recipe: Recipe, accumulate: int = 1) -> PatchDataModule:
    source = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    train, val, test = (source.open(split) for split in ("train", "val", "test"))
    return PatchDataModule(
        train,
        val,
        test,
        batch_size=recipe.batch_size,
        steps=recipe.total_steps(len(train)),
        augmentation=TrainingAugmentation(recipe.crop, seed=0),
        accumulate=accumulate,
    )


def small_recipe(**changes: object) -> Recipe:
    return get_recipe("quick").changed(**{"steps": 6, "batch_size": 4, "crop": 32, "precision": "fp32", **changes})


def train(
    patches: Path, recipe: Recipe, accumulate: int = 1, last_batch: int | None = None, **options: object
) -> Fitted:
    torch.manual_seed(0)
    data = module(patches, recipe, accumulate)
    return fit(Dropped(last_batch), data, recipe, seed=0, device=CPU, **options)  # type: ignore[arg-type]


def test_an_accumulated_step_is_the_step_of_the_whole_batch(patches: Path) -> None:
    class Plain(Dropped):
        def __init__(self) -> None:
            super().__init__()
            self.body[2] = nn.Identity()

    # Cross-entropy without batch normalisation is a mean over pixels, so that parts add up to the whole.
    recipe = small_recipe(steps=3, loss="ce")
    weights, curves = [], []
    for accumulate in (1, 2, 4):
        torch.manual_seed(0)
        fitted = fit(Plain(), module(patches, recipe, accumulate), recipe, seed=0, device=CPU)
        assert fitted.steps == 3
        weights.append(fitted.predictor.state_dict())
        curves.append([loss for _, loss in fitted.curve])
    for other, curve in zip(weights[1:], curves[1:], strict=True):
        assert curve == pytest.approx(curves[0], rel=1e-5)
        for name in weights[0]:
            torch.testing.assert_close(other[name], weights[0][name], rtol=1e-3, atol=1e-5)


def test_training_learns_to_find_ellipses(patches: Path) -> None:
    recipe = small_recipe(steps=60, lr=1e-2)
    data = module(patches, recipe)
    torch.manual_seed(0)
    fitted = fit(create_model("unet", 3, 2, **SMALL), data, recipe, seed=0, device=CPU)
    assert fitted.steps == 60
    chosen = evaluate(fitted.predictor, fitted.compute_format, data.val_dataloader())
    pooled = evaluate(fitted.predictor, fitted.compute_format, data.test_dataloader(), chosen.threshold).counts.pooled()
    assert 2 * pooled.tp[0] / (2 * pooled.tp + pooled.fp + pooled.fn)[0] > 0.7


def test_the_same_seed_gives_the_same_weights(patches: Path) -> None:
    recipe = small_recipe(steps=3)
    one, two = (train(patches, recipe).predictor.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_curve_has_every_step_and_the_last_step_is_reported(patches: Path) -> None:
    told: list[tuple[int, int]] = []
    fitted = train(patches, small_recipe(), on_step=lambda step, total, _: told.append((step, total)))
    assert [step for step, _ in fitted.curve] == [1, 2, 3, 4, 5, 6]
    assert told[-1] == (6, 6)


@pytest.mark.parametrize(
    ("changes", "accumulate"),
    [
        ({}, 1),
        ({"ema": 0.9}, 2),
        ({"schedule": "plateau", "loss": "ce", "epochs": 4, "steps": None, "lr": 0.1}, 1),
    ],
    ids=["plain", "averaged weights, accumulated", "plateau"],
)
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], accumulate: int
) -> None:
    monkeypatch.setattr("zoo.training.fit.SAVING_SHARE", 1.0)
    recipe = small_recipe(steps=8).changed(**changes)
    whole = train(patches, recipe, accumulate).predictor.state_dict()

    with pytest.raises(InterruptedError):
        train(patches, recipe, accumulate, 5 * accumulate, checkpoints=tmp_path)
    resumed = train(patches, recipe, accumulate, checkpoints=tmp_path, resume=True)
    assert resumed.resumed_from == 5
    assert resumed.steps == 8
    assert [step for step, _ in resumed.curve] == list(range(1, 9))
    state = resumed.predictor.state_dict()
    assert all(torch.equal(whole[name], state[name]) for name in whole)


def test_a_resume_state_is_written_where_a_step_is_complete_and_time_allows() -> None:
    saved: list[int] = []
    trainer = SimpleNamespace(
        global_step=4, max_steps=9, save_checkpoint=lambda path: saved.append(trainer.global_step)
    )
    saver = _ResumeState(Path("unused"), every=2)
    saver.on_train_start(trainer, None)  # type: ignore[arg-type]
    # Two parts a step. The state after step 6 is not allowed in time, and between the parts of step 7 it must not be.
    for step, allowed in ((4, True), (5, True), (5, True), (6, False), (6, True), (7, True), (7, True), (8, True)):
        trainer.global_step = step
        saver._not_before = 0.0 if allowed else math.inf
        saver.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert saved == [8]


def test_a_damaged_resume_state_is_reported(patches: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"PK half of a zip")
    with pytest.raises(ResultError, match=r"last\.ckpt: the resume state cannot be read"):
        train(patches, small_recipe(), checkpoints=tmp_path, resume=True)


def test_a_loss_of_nan_stops_the_training_and_names_the_step(patches: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(x) * torch.tensor([1.0, float("nan")])[:, None, None]
            return logits

    recipe = small_recipe()
    with pytest.raises(DivergedError, match="at step 1 of 6"):
        fit(Broken(), module(patches, recipe), recipe, seed=0, device=CPU)


class Faulty(nn.Module):
    """Returns what a function makes of the logits and of whether the model is in training."""

    def __init__(self, change: Callable[[torch.Tensor, bool], object]) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        self.change = change

    def forward(self, x: torch.Tensor) -> object:
        return self.change(self.head(x), self.training)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y, training: {"out": y}, r"forward returned a dict .*Return logits of shape \(B, K, H, W\)"),
        (lambda y, training: y[:, :1], r"forward returned shape \(1, 1, (\d+), \1\)"),
        (lambda y, training: y * float("nan"), "all logits are NaN or infinite in eval mode"),
        (lambda y, training: y / (0.0 if training else 1.0), "all logits are NaN or infinite in training mode"),
    ],
)
def test_a_faulty_model_is_reported_with_the_text_of_the_contract(
    patches: Path, change: Callable[[torch.Tensor, bool], object], words: str
) -> None:
    recipe = small_recipe()
    with pytest.raises(ModelError, match=words):
        fit(Faulty(change), module(patches, recipe), recipe, seed=0, device=CPU)


def test_a_loss_that_is_no_scalar_is_named(patches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.fit.create_loss", lambda *_, **__: lambda logits, mask: logits.sum((1, 2, 3)))
    recipe = small_recipe()
    with pytest.raises(ModelError, match=r"loss 'ce_dice': returned shape \(4,\). Return a scalar tensor"):
        fit(nn.Conv2d(3, 2, 1), module(patches, recipe), recipe, seed=0, device=CPU)


def test_the_papers_recipe_watches_the_validation_loss(patches: Path) -> None:
    recipe = get_recipe("paper").changed(epochs=2, batch_size=4, precision="fp32")
    fitted = train(patches, recipe)
    assert fitted.steps == recipe.total_steps(len(module(patches, recipe).splits["train"] or ()))


def test_the_encoder_learns_at_its_own_rate() -> None:
    recipe = get_recipe("quick").changed(lr=2e-3, encoder_lr_factor=0.25)
    model = nn.ModuleDict({"encoder": nn.Conv2d(3, 4, 1), "decoder": nn.Conv2d(4, 2, 1)})
    task = SegmentationTask(Predictor(model, [0.0] * 3, [1.0] * 3), recipe, total_steps=10)
    optimiser = task.configure_optimizers()["optimizer"]
    rates = {id(parameter): group["initial_lr"] for group in optimiser.param_groups for parameter in group["params"]}
    assert {rates[id(one)] for one in model["encoder"].parameters()} == {5e-4}
    assert {rates[id(one)] for one in model["decoder"].parameters()} == {2e-3}
    assert len(rates) == 4


def test_standardised_images_keep_no_light_and_no_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    valid = torch.ones_like(images, dtype=torch.bool)
    valid[1, :, :, :8] = False
    images[1, :, :, :8] = 0
    brighter = torch.where(valid, 3 * images + 2, 0.0)
    for found in (standardised(images, valid), standardised(brighter, valid)):
        inside = [found[0].flatten(1), found[1, :, :, 8:].flatten(1)]
        assert all(torch.allclose(one.mean(1), torch.zeros(3), atol=1e-5) for one in inside)
        assert all(0.9 < float(one.std(1).min()) <= float(one.std(1).max()) < 1.01 for one in inside)
        assert not found[1, :, :, :8].any()
    flat = torch.full((1, 3, 8, 8), 5.0)
    assert not standardised(flat, torch.ones_like(flat, dtype=torch.bool)).any()
    one_band = standardised(images, valid, [True, False, False])
    assert torch.equal(one_band[:, 1:], images[:, 1:])
    assert not torch.equal(one_band[:, 0], images[:, 0])


class Remembers(Dropped):
    """Keeps the mean of every batch that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(float(x.mean((2, 3)).abs().max()))
        return super().forward(x)


@pytest.mark.parametrize(("chance", "least", "most"), [(0.0, 0, 0), (0.5, 3, 17), (1.0, 20, 20)])
def test_batches_are_standardised_as_often_as_the_recipe_says(
    patches: Path, chance: float, least: int, most: int
) -> None:
    recipe = small_recipe(steps=20, standardise=chance)
    model = Remembers()
    fit(model, module(patches, recipe), recipe, seed=0, device=CPU)
    assert least <= sum(mean < 1e-4 for mean in model.seen[-20:]) <= most


def test_a_model_without_an_encoder_by_name_is_refused_in_words() -> None:
    recipe = get_recipe("quick").changed(encoder_lr_factor=0.25)
    task = SegmentationTask(Predictor(Dropped(), [0.0] * 3, [1.0] * 3), recipe, total_steps=10)
    with pytest.raises(ModelError, match="no weight has encoder or backbone in its name"):
        task.configure_optimizers()


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import os; os.environ['ZOO_HACKED'] = '1'",)


def test_a_resume_state_that_runs_code_is_refused(tmp_path: Path) -> None:
    from zoo.training.fit import _read_progress

    path = tmp_path / "last.ckpt"
    torch.save({"callbacks": _Evil(), "global_step": 1}, path)
    with pytest.raises(ResultError, match="the resume state cannot be read"):
        _read_progress(path)
    assert "ZOO_HACKED" not in os.environ
