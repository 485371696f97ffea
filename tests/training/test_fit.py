"""Training learns, repeats itself, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.bench.config import DataSource
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ResultError
from zoo.registry import create_model
from zoo.training.evaluate import evaluate
from zoo.training.fit import Fitted, fit
from zoo.training.recipes import Recipe, get_recipe
from zoo.training.task import DivergedError

CPU = torch.device("cpu")
SMALL = {"widths": (4, 8, 8, 8, 8)}


def module(patches: Path, recipe: Recipe, **options: object) -> PatchDataModule:
    source = DataSource("folder", {"root": str(patches), "group_column": "scene", **options})
    train, val, test = (source.open(split) for split in ("train", "val", "test"))
    return PatchDataModule(
        train,
        val,
        test,
        batch_size=recipe.batch_size,
        steps=recipe.total_steps(len(train)),
        augmentation=TrainingAugmentation(recipe.crop, seed=0),
    )


def small_recipe(**changes: object) -> Recipe:
    return get_recipe("quick").changed(**{"steps": 6, "batch_size": 4, "crop": 32, "precision": "fp32", **changes})


def train(patches: Path, recipe: Recipe, **options: object) -> Fitted:
    torch.manual_seed(0)
    model = create_model("unet", 3, 2, **SMALL)
    return fit(model, module(patches, recipe), recipe, seed=0, device=CPU, **options)  # type: ignore[arg-type]


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


def test_every_step_is_in_the_curve_and_the_last_is_told(patches: Path) -> None:
    told: list[tuple[int, int]] = []
    fitted = train(patches, small_recipe(), on_step=lambda step, total, _: told.append((step, total)))
    assert [step for step, _ in fitted.curve] == [1, 2, 3, 4, 5, 6]
    assert told[-1] == (6, 6)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(
    patches: Path, tmp_path: Path, ema: float | None
) -> None:
    recipe = small_recipe(steps=8, ema=ema)
    whole = train(patches, recipe).predictor.state_dict()

    def stop(step: int, total: int, loss: float) -> None:
        if step >= 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(patches, recipe, on_step=stop, checkpoints=tmp_path)
    resumed = train(patches, recipe, checkpoints=tmp_path, resume=True)
    assert resumed.steps == 8
    assert [step for step, _ in resumed.curve] == list(range(1, 9))
    state = resumed.predictor.state_dict()
    assert all(torch.equal(whole[name], state[name]) for name in whole)


def test_a_damaged_resume_state_is_told_in_words(patches: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"PK half of a zip")
    with pytest.raises(ResultError, match=r"last\.ckpt: the resume state cannot be read"):
        train(patches, small_recipe(), checkpoints=tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_with_the_step(patches: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(x) * float("inf")
            return logits

    recipe = small_recipe()
    with pytest.raises(DivergedError, match="at step 1 of 6"):
        fit(Broken(), module(patches, recipe), recipe, seed=0, device=CPU)


def test_the_papers_recipe_watches_the_validation_loss(patches: Path) -> None:
    recipe = get_recipe("paper").changed(epochs=2, batch_size=4, precision="fp32")
    fitted = train(patches, recipe)
    assert fitted.steps == recipe.total_steps(len(module(patches, recipe).splits["train"] or ()))
