"""Training of one model with one recipe, using Lightning."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ModelError, ResumeError, ZooError
from zoo.files import atomic_path
from zoo.jobs import ProgressCallback, ran_out_of_memory
from zoo.physics.bands import records_light
from zoo.registry import check_logits, create_loss
from zoo.training.bundle_layout import LAST_CHECKPOINT, ComputeFormat
from zoo.training.compute import choose_format, depthwise_in_float32, memory_format
from zoo.training.finetuning import Transfer
from zoo.training.predictor import Predictor
from zoo.training.recipes import Recipe

StepCallback = Callable[[int, int, float], None]
"""Called with the number of steps done, the total number of steps, and the loss."""
CURVE_POINTS = 500
MIN_CONTRAST = 0.08
"""Added to the deviation of an image in :func:`standardised`, in deviations of the training data, so that noise in an
image without contrast is not amplified [O]."""
SAVING_SHARE = 0.05
"""Maximum share of the time spent on writing the resume state, which is three times as large as the model [O]."""


class DivergedError(ModelError):
    """Raised when the loss is no longer finite."""


@dataclass(frozen=True)
class Fitted:
    """A trained predictor and how it was trained.

    Attributes:
        predictor: in eval mode, on the training device.
        steps: number of optimiser steps, including those before a resume.
        seconds: training time in this process, without the time for choosing the number format.
        compute_format: number format and memory layout.
        curve: step and training loss, averaged over enough steps to keep it under 500 points.
        resumed_from: step from which this process resumed; ``None`` if it started at the beginning.
    """

    predictor: Predictor
    steps: int
    seconds: float
    compute_format: ComputeFormat
    curve: list[tuple[int, float]]
    resumed_from: int | None = None


def fit(
    model: nn.Module,
    data: PatchDataModule,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_step: StepCallback | None = None,
    on_resume: ProgressCallback | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    transfer: Transfer | None = None,
    recorded: ComputeFormat | None = None,
) -> Fitted:
    """Train ``model`` on ``data`` with ``recipe``; calibrate a model without parameters.

    Every random number depends only on the seed and the batch number. A run that was interrupted and resumed therefore
    ends with bit-identical weights. With the precision ``auto``, it keeps the format that was chosen first.

    With ``data.accumulate`` above one, the gradients of that many parts of a batch are averaged before each step. The
    patches and the number of steps do not change. Operations over a whole batch do change: BatchNorm uses the
    statistics of a part, and a Dice loss is computed on a part.

    Args:
        model: model with random or pretrained weights; trained in place.
        data: data module whose training loader yields the number of batches that the recipe needs.
        recipe: all other training settings.
        seed: seed of dropout and of all other random numbers of the model.
        device: device to train on.
        on_step: called with step, total steps and loss, at most five times per second.
        on_resume: called once with the steps of earlier runs and the total, if the run resumes.
        checkpoints: folder for the private resume state; ``None`` for none.
        resume: whether to resume from the state in ``checkpoints``, if there is one.
        transfer: weights that ``model`` has from a bundle, with the layers to freeze and the learning rate of copied
            weights; ``None`` to train all weights in the same way.
        recorded: format of an earlier training of the same trial, which the precision ``auto`` keeps.

    Raises:
        DivergedError: if the loss is no longer finite.
        ResumeError: if the resume state cannot be read, or does not fit the model.
    """
    seed_everything(seed)
    total = data.steps
    predictor = Predictor(model, data.statistics.mean.tolist(), data.statistics.std.tolist()).to(device)
    if not is_trainable(model):
        return _calibrated(predictor, data, device)
    train = data.splits["train"]
    assert train is not None
    state = None if checkpoints is None else checkpoints / LAST_CHECKPOINT
    resumed = _read_progress(state) if resume and state is not None and state.is_file() else None
    if resumed is None:
        example = next(iter(data.train_dataloader()))["image"].to(device)
        _check_model(predictor, example[:1], len(train.class_names))
        compute_format = choose_format(predictor, example, recipe.precision, recorded=recorded)
    else:
        data.first_step, compute_format = resumed
        if on_resume is not None:
            on_resume(data.first_step, total)
    predictor.to(memory_format=memory_format(compute_format))
    recorder = _LossRecorder(total, data.accumulate, compute_format, on_step)
    callbacks: list[Callback] = [_ReseedPerBatch(seed, data.first_step * data.accumulate), recorder]
    if recipe.ema is not None:
        # A decay that averages over more than a tenth of a short run would still include the random start [O].
        callbacks.append(EMAWeightAveraging(decay=min(recipe.ema, max(0.0, 1 - 10 / total))))
    if state is not None:
        callbacks.append(_ResumeState(state, every=max(1, min(200, total // 10))))
    # The whole run is one Lightning epoch, so that any number of steps is exact; passes are counted in steps.
    steps_a_pass = recipe.steps_a_pass(len(train))
    light = [records_light(band) for band in train.bands]
    task = SegmentationTask(
        predictor, recipe, total, steps_a_pass * data.accumulate, transfer=transfer, radiometric=light
    )
    start = time.perf_counter()
    with _quiet_lightning(), depthwise_in_float32(model):
        trainer = pl.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=compute_format.lightning_name,
            max_steps=total,
            max_epochs=-1,
            accumulate_grad_batches=data.accumulate,
            callbacks=callbacks,
            plugins=[_AtomicCheckpoints()],
            limit_val_batches=None if recipe.schedule == "plateau" else 0,
            val_check_interval=min(steps_a_pass, total) * data.accumulate,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=checkpoints is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=checkpoints,
        )
        try:
            trainer.fit(task, datamodule=data, ckpt_path=None if resumed is None else state, weights_only=True)
        except Exception as error:
            if resumed is None or recorder.started or isinstance(error, ZooError) or ran_out_of_memory(error):
                raise
            raise _unusable(state, error) from error
    seconds = time.perf_counter() - start
    return Fitted(
        predictor.to(device).eval(),
        trainer.global_step,
        seconds,
        compute_format,
        recorder.averaged(),
        None if resumed is None else resumed[0],
    )


def is_trainable(model: nn.Module) -> bool:
    """Return whether a model has a parameter that training changes."""
    return any(parameter.requires_grad for parameter in model.parameters())


def _calibrated(predictor: Predictor, data: PatchDataModule, device: torch.device) -> Fitted:
    """Show the training images, without masks and augmentation, to a model without parameters."""
    start = time.perf_counter()
    calibrate: Any = getattr(predictor.model, "calibrate", None)
    images = data.splits["train"]
    if calibrate is not None and images is not None:
        calibrate(images[index]["image"].to(device) for index in range(len(images)))
    compute_format = ComputeFormat("fp32", channels_last=False)
    return Fitted(predictor.eval(), 0, time.perf_counter() - start, compute_format, [])


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random, here and in the workers of data loaders."""
    pl.seed_everything(seed, workers=True, verbose=False)


class SegmentationTask(pl.LightningModule):
    """Training and validation step of a :class:`Predictor`, with the recipe's optimiser and schedule.

    Args:
        predictor: the model with its normalisation.
        recipe: optimiser, schedule and loss.
        total_steps: number of optimiser steps of the whole run, for the schedule.
        batches_a_pass: number of training batches between two validations, for the plateau schedule.
        ignore_index: mask value of ignored pixels.
        transfer: layers to freeze and learning rate of copied weights, for fine-tuning; ``None`` to train all weights
            in the same way.
        radiometric: which bands record light, as one bool per band; ``recipe.standardise`` changes only these. ``None``
            for all.
    """

    def __init__(
        self,
        predictor: Predictor,
        recipe: Recipe,
        total_steps: int,
        batches_a_pass: int = 1,
        ignore_index: int = 255,
        *,
        transfer: Transfer | None = None,
        radiometric: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.recipe = recipe
        self.total_steps = total_steps
        self.batches_a_pass = batches_a_pass
        self.loss = create_loss(recipe.loss, ignore_index, **recipe.loss_options)
        self.transfer = transfer
        self.radiometric = radiometric
        if transfer is not None:
            for name, parameter in predictor.model.named_parameters():
                parameter.requires_grad_(name not in transfer.frozen)
            self.train()

    def train(self, mode: bool = True) -> SegmentationTask:
        """Set the training mode; frozen layers stay in eval mode, so that BatchNorm keeps its statistics."""
        super().train(mode)
        if self.transfer is not None:
            for layer in self.transfer.frozen_layers(self.predictor.model):
                layer.eval()
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the recipe's loss on one batch.

        Raises:
            DivergedError: if the loss is NaN or infinite; the message names the step.
        """
        images = self.predictor.normalise(batch["image"])
        # Standardise the whole batch or nothing, because batch normalisation would mix both kinds.
        if self.recipe.standardise and float(torch.rand(())) < self.recipe.standardise:
            images = standardised(images, batch["image"].isfinite(), self.radiometric)
        logits = self.predictor.model(images)
        loss = self.loss(logits, batch["mask"])
        if not isinstance(loss, Tensor) or loss.ndim:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ModelError(f"returned {found}", where=f"loss {self.recipe.loss!r}", hint="Return a scalar tensor")
        if not torch.isfinite(loss):
            if self.global_step == 0:
                _check_finite(logits, "in training mode")
            raise DivergedError(
                f"the loss became {loss.item()} at step {self.global_step + 1} of {self.total_steps}",
                hint="Try a lower learning rate (--lr) or --precision fp32",
            )
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the recipe's loss on one validation batch, for the plateau schedule."""
        loss = self.loss(self.predictor(batch["image"]), batch["mask"])
        self.log("val_loss", loss, batch_size=len(batch["mask"]))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient to the recipe's ``clip``.

        Lightning's own clipping refuses fused optimisers because of float16 scaling, which no recipe uses.
        """
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.predictor.parameters(), self.recipe.clip)

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimiser and schedule in Lightning's form."""
        recipe = self.recipe
        parameters = parameter_groups(self.predictor.model, recipe, self.transfer)
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


def standardised(images: Tensor, valid: Tensor, bands: Sequence[bool] | None = None) -> Tensor:
    """Scale each image to mean 0 and deviation 1 in each band, which removes its brightness and contrast.

    Args:
        images: normalised float32 ``(B, C, H, W)``, 0 where missing; not modified.
        valid: bool ``(B, C, H, W)``, false where a pixel is missing.
        bands: which bands are changed, one bool per band; ``None`` for all.

    Returns:
        Images of the same shape, 0 where missing. A band without contrast is only centred.
    """
    count = valid.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (images * valid).sum((2, 3), keepdim=True) / count
    centred = (images - mean) * valid
    deviation = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
    changed = centred / (deviation + MIN_CONTRAST)
    return changed if bands is None else torch.where(images.new_tensor(bands)[:, None, None] > 0, changed, images)


def parameter_groups(model: nn.Module, recipe: Recipe, transfer: Transfer | None = None) -> list[dict[str, Any]]:
    """Return the weights that training changes, grouped by learning rate.

    The rate is the recipe's ``lr``, multiplied by ``encoder_lr_factor`` for an encoder and by ``old_lr_factor`` for
    copied weights.

    Raises:
        ModelError: if the recipe has a factor for the encoder, but the model has no weight named encoder or backbone.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    encoder = {name for name, _ in model.named_parameters() if {"encoder", "backbone"} & set(name.split("."))}
    if recipe.encoder_lr_factor != 1 and not encoder:
        raise ModelError(
            "no weight has encoder or backbone in its name",
            where=type(model).__name__,
            hint="Train without encoder_lr_factor",
        )
    for name, parameter in model.named_parameters():
        if transfer is not None and name in transfer.frozen:
            continue
        rate = recipe.lr
        if name in encoder:
            rate *= recipe.encoder_lr_factor
        if transfer is not None and name not in transfer.fresh:
            rate *= transfer.settings.old_lr_factor
        groups.setdefault(rate, []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]


def warmup_cosine(total_steps: int, warmup: float, *, decay: bool = True) -> Callable[[int], float]:
    """Return a schedule with a linear rise from 1/100 to 1 and half a cosine down to 0 [S: Loshchilov & Hutter 2017].

    Args:
        total_steps: number of steps of the whole run.
        warmup: share of the steps during which the rate rises, in [0, 1).
        decay: whether the rate falls after the rise; otherwise it stays at 1.

    Returns:
        A function that maps the step, counted from 0, to a factor of the peak rate in [0, 1].
    """
    rising = math.ceil(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return 0.01 + 0.99 * (step + 1) / rising
        if not decay:
            return 1.0
        share = (step - rising) / max(1, total_steps - rising)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    return factor


class _ReseedPerBatch(Callback):
    """Reseeds the random generators for each batch, so that a resumed run draws the same dropout."""

    def __init__(self, seed: int, first_batch: int) -> None:
        self.seed = seed
        self.batch = first_batch

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(int(np.random.SeedSequence((self.seed, self.batch)).generate_state(1)[0]))
        self.batch += 1


class _ResumeState(Checkpoint):
    """Writes the resume state every ``every`` steps, and less often if writing takes long."""

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self._step = 0
        self._not_before = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Save only after a batch that completed a step: within a step, the gradients of its parts would be lost.
        completed, self._step = trainer.global_step > self._step, trainer.global_step
        begun = time.perf_counter()
        # The last step needs no resume state: the remaining work takes seconds.
        due = self._step % self.every == 0 and self._step < trainer.max_steps
        if not (completed and due) or begun < self._not_before:
            return
        trainer.save_checkpoint(self.path)
        ended = time.perf_counter()
        self._not_before = ended + (ended - begun) * (1 - SAVING_SHARE) / SAVING_SHARE


class _LossRecorder(Callback):
    """Records and reports the loss of every step; part of the resume state."""

    def __init__(
        self, total: int, accumulate: int, compute_format: ComputeFormat, on_step: StepCallback | None
    ) -> None:
        self.total = total
        self.accumulate = accumulate
        self.compute_format = compute_format
        self.on_step = on_step
        self.curve: list[tuple[int, float]] = []
        self.started = False
        self._parts: list[float] = []
        self._reported = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has restored the resume state.
        self.started = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning has already divided the loss of each part by the number of parts.
        self._parts.append(float(outputs["loss"]))
        if len(self._parts) < self.accumulate:
            return
        loss = sum(self._parts)
        self._parts = []
        self.curve.append((trainer.global_step, loss))
        now = time.perf_counter()
        if self.on_step is not None and (now - self._reported > 0.2 or trainer.global_step == self.total):
            self._reported = now
            self.on_step(trainer.global_step, self.total, loss)

    def state_dict(self) -> dict[str, Any]:
        return {"curve": [list(point) for point in self.curve], "format": asdict(self.compute_format)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = [(int(step), float(loss)) for step, loss in state_dict["curve"]]

    def averaged(self) -> list[tuple[int, float]]:
        width = -(-len(self.curve) // CURVE_POINTS) or 1
        groups = [self.curve[first : first + width] for first in range(0, len(self.curve), width)]
        return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint plugin that writes atomically, and not through the system's temporary folder as Lightning does."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # torch.save into a file hides the reason why a disk cannot be written.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())


def _read_progress(path: Path) -> tuple[int, ComputeFormat]:
    """Return the number of steps done and their number format; another format would give other weights."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        recorder = next(callback for callback in state["callbacks"].values() if "curve" in callback)
        return int(state["global_step"]), ComputeFormat(**recorder["format"])
    except Exception as error:
        raise _unusable(path, error) from error


def _unusable(path: Path | None, error: Exception) -> ResumeError:
    return ResumeError(
        f"the resume state cannot be read ({type(error).__name__})",
        where=path,
        hint="Delete it, or train without --resume, to start again",
    )


def _check_model(predictor: Predictor, images: Tensor, classes: int) -> None:
    """Check the output of a model before anything is timed or trained.

    Raises:
        ModelError: if it does not return logits, or none of them is finite.
    """
    with torch.no_grad():
        _check_finite(check_logits(predictor.eval()(images), images, classes), "in eval mode")
    predictor.train()


def _check_finite(logits: Tensor, when: str) -> None:
    if not bool(torch.isfinite(logits).any()):
        raise ModelError(
            f"all logits are NaN or infinite {when} before the first step",
            hint="Look for a logarithm, a square root or a division by zero in forward",
        )


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages; the caller of :func:`fit` reports progress."""
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
