"""The Lightning module: one training step, one validation step, the recipe's optimiser and schedule."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from zoo.errors import ZooError
from zoo.registry import catalogue
from zoo.training.predictor import Predictor
from zoo.training.recipes import Recipe
from zoo.training.schedule import warmup_cosine


class DivergedError(ZooError):
    """The loss is no longer a finite number."""


class SegmentationTask(pl.LightningModule):
    """Trains a :class:`Predictor` by a :class:`Recipe`.

    Args:
        predictor: the model with its normalisation.
        recipe: optimiser, schedule and loss.
        total_steps: optimiser steps of the whole run, for the schedule.
        batches_a_pass: training batches between two validations, for the plateau schedule.
        ignore_index: mask value of pixels that count nowhere.
    """

    def __init__(
        self, predictor: Predictor, recipe: Recipe, total_steps: int, batches_a_pass: int = 1, ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.recipe = recipe
        self.total_steps = total_steps
        self.batches_a_pass = batches_a_pass
        self.loss = catalogue().losses.get(recipe.loss).resolve()(ignore_index=ignore_index)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The recipe's loss on one batch.

        Raises:
            DivergedError: if the loss is NaN or infinite, with the step at which it happened.
        """
        loss: Tensor = self.loss(self.predictor(batch["image"]), batch["mask"])
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss.item()} at step {self.global_step + 1} of {self.total_steps}",
                hint="Try a lower learning rate (--lr) or --precision fp32",
            )
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the recipe's loss on one validation batch; the plateau schedule watches it."""
        loss = self.loss(self.predictor(batch["image"]), batch["mask"])
        self.log("val_loss", loss, batch_size=len(batch["mask"]))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of the gradient to the recipe's ``clip``.

        Lightning's own clipping refuses fused optimisers, for the sake of float16 scaling, which no recipe uses.
        """
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.predictor.parameters(), self.recipe.clip)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, in Lightning's form."""
        recipe, parameters = self.recipe, self.predictor.parameters()
        optimiser: torch.optim.Optimizer
        if recipe.optimiser == "rmsprop":
            optimiser = torch.optim.RMSprop(
                parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum, foreach=True
            )
        else:
            optimiser = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        schedule: LRScheduler | ReduceLROnPlateau
        if recipe.schedule == "plateau":
            schedule = ReduceLROnPlateau(optimiser, "min", patience=5)
            watched = {
                "scheduler": schedule,
                "monitor": "val_loss",
                "interval": "step",
                "frequency": self.batches_a_pass,
            }
            return {"optimizer": optimiser, "lr_scheduler": watched}
        factor = warmup_cosine(self.total_steps, recipe.warmup, decay=recipe.schedule == "cosine")
        schedule = LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
