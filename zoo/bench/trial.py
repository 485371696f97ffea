"""One trial from open data to result: train, choose the threshold, count the test split, time, keep the bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.bench.config import SPLITS, TrialConfig
from zoo.bench.results import TrialResult
from zoo.bench.speed import count_gmac, measure_speed
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ResultError, ZooError
from zoo.evaluation.summary import summarise
from zoo.registry import Flag, catalogue, create_model
from zoo.training.bundle import Bundle
from zoo.training.environment import describe_environment
from zoo.training.evaluate import evaluate
from zoo.training.fit import Fitted, fit, seed_everything

StageReport = Callable[[str, int, int], None]
"""Called with a stage (``data``, ``train``, ``val``, ``test``, ``speed``), what is done of it, and how much it is."""


def run_trial(
    config: TrialConfig,
    folder: Path,
    report: StageReport,
    *,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> TrialResult:
    """Run one trial and keep its bundle under ``folder``; the caller keeps the result.

    Args:
        config: the trial.
        folder: the bundle's folder.
        report: told of progress.
        checkpoints: folder for the private resume state of the training; ``None`` for none.
        resume: go on from that state.

    Returns:
        A result whose status is ``ok``, ``failed``, ``out-of-memory`` or ``skipped``.

    Raises:
        KeyboardInterrupt: whatever else goes wrong becomes a failed result.
    """
    started = datetime.now(UTC)
    try:
        spec = catalogue().models.get(config.model)
        if Flag.NEEDS_RAIN in spec.flags:
            return TrialResult(config, "skipped", "needs rainfall series, and the data have none", {})
        measured = _measure(config, folder, report, checkpoints, resume)
    except torch.OutOfMemoryError as error:
        return TrialResult(config, "out-of-memory", _one_line(error), {})
    except MemoryError:
        return TrialResult(config, "out-of-memory", "out of memory", {})
    except ZooError as error:
        return TrialResult(config, "failed", str(error), {})
    except Exception as error:
        if "can't allocate memory" in str(error):
            return TrialResult(config, "out-of-memory", _one_line(error), {})
        import traceback

        return TrialResult(
            config, "failed", f"{type(error).__name__}: {_one_line(error)}", {"traceback": traceback.format_exc()}
        )
    measured["started"] = started.isoformat(timespec="seconds")
    return TrialResult(config, "ok", "", measured)


def _measure(
    config: TrialConfig, folder: Path, report: StageReport, checkpoints: Path | None, resume: bool
) -> dict[str, Any]:
    begun = time.perf_counter()
    device = torch.device(config.device)
    report("data", 0, 1)
    splits = {split: config.data.open(split) for split in SPLITS}
    for split, dataset in splits.items():
        if dataset.fingerprint() != config.fingerprints[split]:
            raise ZooError(f"the {split} split changed while the benchmark ran", where=config.data.label)
    data = make_data_module(splits, config)
    seed_everything(config.seed)
    train = splits["train"]
    model = create_model(config.model, len(train.bands), len(train.class_names), **config.options).to(device)
    opened = time.perf_counter()

    report("train", 0, data.steps)
    fitted = fit(
        model,
        data,
        config.recipe,
        seed=config.seed,
        device=device,
        on_step=lambda step, total, _loss: report("train", step, total),
        checkpoints=checkpoints,
        resume=resume,
    )
    trained = time.perf_counter()

    report("val", 0, len(splits["val"]))
    chosen = evaluate(
        fitted.predictor,
        fitted.compute_format,
        data.val_dataloader(),
        None,
        lambda n: report("val", n, len(splits["val"])),
    )
    report("test", 0, len(splits["test"]))
    test = evaluate(
        fitted.predictor,
        fitted.compute_format,
        data.test_dataloader(),
        chosen.threshold,
        lambda n: report("test", n, len(splits["test"])),
    )
    evaluated = time.perf_counter()

    report("speed", 0, 1)
    shape = tuple(splits["test"][0]["image"].shape)
    gmac = count_gmac(fitted.predictor.model, shape, device)
    speed = measure_speed(fitted.predictor.model, shape, device)
    timed = time.perf_counter()

    environment = describe_environment(device)
    metrics = summarise(test.counts, train.pixel_size)
    digest = _keep_bundle(config, splits, data, fitted, chosen.threshold, metrics, environment, folder)
    return {
        "data": {
            "name": config.data.label,
            "bands": [band.to_dict() for band in train.bands],
            "class_names": list(train.class_names),
            "pixel_size": train.pixel_size,
            "patch": list(shape),
            "patches": {split: len(dataset) for split, dataset in splits.items()},
            "split_notes": list(train.split_notes),
        },
        "threshold": chosen.threshold,
        "val": {"loss": _finite(chosen.loss), "histogram": chosen.histogram.to_dict(), "odds": chosen.odds.to_dict()},
        "test": {
            "names": [patch.name for patch in splits["test"].patches],
            "groups": [patch.group for patch in splits["test"].patches],
            "counts": test.counts.to_dict(),
            "objects": test.objects.to_dict(),
            "boundaries": test.boundaries.to_dict(),
            "histogram": test.histogram.to_dict(),
            "odds": test.odds.to_dict(),
            "loss": _finite(test.loss),
        },
        "training": {
            "steps": fitted.steps,
            "seconds": fitted.seconds,
            "format": fitted.compute_format.to_dict(),
            "curve": [list(point) for point in fitted.curve],
        },
        "parameters": count_parameters(fitted.predictor.model),
        "gmac": gmac,
        "speed": [sample.to_dict() for sample in speed],
        "seconds": {
            "data": opened - begun,
            "train": trained - opened,
            "evaluate": evaluated - trained,
            "speed": timed - evaluated,
        },
        "environment": environment,
        "weights_sha256": digest,
    }


def make_data_module(splits: dict[str, PatchDataset], config: TrialConfig) -> PatchDataModule:
    """The data module of a trial: the same batches for every model of a benchmark."""
    recipe = config.recipe
    height, width = splits["train"][0]["mask"].shape
    crop = None if recipe.crop is None else min(recipe.crop, height, width)
    return PatchDataModule(
        splits["train"],
        splits["val"],
        splits["test"],
        batch_size=recipe.batch_size,
        steps=recipe.total_steps(len(splits["train"])),
        augmentation=TrainingAugmentation(crop, symmetries=recipe.augment, seed=config.seed),
        seed=config.seed,
        device=config.device,
    )


def count_parameters(model: nn.Module) -> int:
    """Parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _keep_bundle(
    config: TrialConfig,
    splits: dict[str, PatchDataset],
    data: PatchDataModule,
    fitted: Fitted,
    threshold: float,
    metrics: dict[str, float | None],
    environment: dict[str, object],
    folder: Path,
) -> str:
    train = splits["train"]
    model = fitted.predictor.model
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise ResultError("the trained weights hold NaN or infinities", hint="Try a lower learning rate (--lr)")
    bundle = Bundle(
        model=config.model,
        options=config.options,
        bands=train.bands,
        statistics=data.statistics,
        compute_format=fitted.compute_format,
        class_names=train.class_names,
        threshold=threshold,
        metrics=metrics,
        data={**config.data.to_dict(), "fingerprints": config.fingerprints},
        recipe=config.recipe.to_dict(),
        seed=config.seed,
        environment=environment,
        state=model.state_dict(),
    )
    return bundle.save(folder)


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
