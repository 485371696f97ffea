"""Training one model by one recipe: what the benchmark, the command line and a notebook all call."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import nn

from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ResultError
from zoo.files import atomic_path
from zoo.training.precision import ComputeFormat, choose_format
from zoo.training.predictor import Predictor
from zoo.training.recipes import Recipe
from zoo.training.task import SegmentationTask

StepReport = Callable[[int, int, float], None]
LAST_CHECKPOINT = "last.ckpt"
CURVE_POINTS = 500


@dataclass(frozen=True)
class Fitted:
    """A trained predictor and how it got there.

    Attributes:
        predictor: in eval mode, on the device.
        steps: optimiser steps done, those before a resume included.
        seconds: of training in this process, the choice of the format left out.
        compute_format: number format and memory layout.
        curve: step and training loss, averaged over as many steps as keep it under 500 points.
    """

    predictor: Predictor
    steps: int
    seconds: float
    compute_format: ComputeFormat
    curve: list[tuple[int, float]]


def fit(
    model: nn.Module,
    data: PatchDataModule,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_step: StepReport | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> Fitted:
    """Train ``model`` on ``data`` by ``recipe``.

    Args:
        model: with fresh or pretrained weights; trained in place.
        data: its train loader gives the recipe's number of batches.
        recipe: everything else about training.
        seed: for dropout and whatever else the model draws.
        device: to train on.
        on_step: called with step, total steps and loss, at most a few hundred times.
        checkpoints: folder for the private resume state; ``None`` for none.
        resume: go on from the state in ``checkpoints``, if there is one.

    Raises:
        DivergedError: if the loss is no longer finite.
        ResultError: if the resume state cannot be read.
    """
    seed_everything(seed)
    total = data.steps
    predictor = Predictor(model, data.statistics.mean.tolist(), data.statistics.std.tolist()).to(device)
    state = None if checkpoints is None else checkpoints / LAST_CHECKPOINT
    resumed = _read_progress(state) if resume and state is not None and state.is_file() else None
    if resumed is None:
        example = next(iter(data.train_dataloader()))["image"].to(device)
        compute_format = choose_format(predictor, example, recipe.precision)
    else:
        data.first_step, compute_format = resumed
    predictor.to(memory_format=compute_format.memory_format)
    recorder = _Recorder(total, compute_format, on_step)
    callbacks: list[Callback] = [recorder]
    if recipe.ema is not None:
        # A decay that looks back over more than a tenth of a short run would still hold its random start [O].
        callbacks.append(EMAWeightAveraging(decay=min(recipe.ema, max(0.0, 1 - 10 / total))))
    every = max(1, min(200, total // 10))
    if checkpoints is not None:
        callbacks.append(
            ModelCheckpoint(
                checkpoints, filename="last", every_n_train_steps=every, save_top_k=1, enable_version_counter=False
            )
        )
    # One Lightning epoch is the whole run, so that any number of steps is exact; a pass is counted in steps.
    steps_a_pass = recipe.steps_a_pass(len(data.splits["train"] or ()))
    validates = recipe.schedule == "plateau"
    task = SegmentationTask(predictor, recipe, total, steps_a_pass)
    start = time.perf_counter()
    with _quiet():
        trainer = pl.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=compute_format.lightning_name,
            max_steps=total,
            max_epochs=-1,
            callbacks=callbacks,
            plugins=[_AtomicCheckpoints()],
            limit_val_batches=None if validates else 0,
            val_check_interval=min(steps_a_pass, total),
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=checkpoints is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=checkpoints,
        )
        trainer.fit(task, datamodule=data, ckpt_path=None if resumed is None else state, weights_only=True)
    seconds = time.perf_counter() - start
    return Fitted(predictor.to(device).eval(), trainer.global_step, seconds, compute_format, recorder.averaged())


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random, here and in the workers of data loaders."""
    pl.seed_everything(seed, workers=True, verbose=False)


class _Recorder(Callback):
    """Keeps the loss of every step, tells whoever listens, and travels in the checkpoint."""

    def __init__(self, total: int, compute_format: ComputeFormat, on_step: StepReport | None) -> None:
        self.total = total
        self.compute_format = compute_format
        self.on_step = on_step
        self.curve: list[tuple[int, float]] = []
        self._told = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(outputs["loss"])
        self.curve.append((trainer.global_step, loss))
        now = time.perf_counter()
        if self.on_step is not None and (now - self._told > 0.2 or trainer.global_step == self.total):
            self._told = now
            self.on_step(trainer.global_step, self.total, loss)

    def state_dict(self) -> dict[str, Any]:
        return {"curve": [list(point) for point in self.curve], "format": self.compute_format.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = [(int(step), float(loss)) for step, loss in state_dict["curve"]]

    def averaged(self) -> list[tuple[int, float]]:
        width = -(-len(self.curve) // CURVE_POINTS) or 1
        groups = [self.curve[first : first + width] for first in range(0, len(self.curve), width)]
        return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a kill in the middle of writing leaves as they were."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


def _read_progress(path: Path) -> tuple[int, ComputeFormat]:
    """Steps done and the format they were done in: another one would give other weights."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        recorder = next(callback for callback in state["callbacks"].values() if "curve" in callback)
        return int(state["global_step"]), ComputeFormat(**recorder["format"])
    except Exception as error:
        raise ResultError(
            f"the resume state cannot be read ({type(error).__name__})",
            where=path,
            hint="Delete it, or train without --resume, to start again",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's greetings: what a user should know is told by whoever called :func:`fit`."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
