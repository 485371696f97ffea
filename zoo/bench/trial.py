"""One trial from open data to result: train, choose the threshold, count the test split, keep the bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.bench.config import SPLITS, TrialConfig
from zoo.bench.results import TrialResult
from zoo.bench.samples import Pictures, Samples, choose_patches
from zoo.bench.speed import count_gmac
from zoo.bench.worker import TrialJob
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ResultError, ZooError
from zoo.evaluation.summary import summarise
from zoo.registry import Flag, catalogue, create_model
from zoo.training.bundle import Bundle
from zoo.training.environment import describe_environment
from zoo.training.evaluate import Evaluation, evaluate
from zoo.training.fit import Fitted, fit, seed_everything

StageReport = Callable[[str, int, int], None]
"""Called with a stage (``data``, ``train``, ``adapt``, ``val``, ``test``), what is done of it, and how much it is."""


def run_trial(job: TrialJob, report: StageReport, *, accumulate: int = 1) -> TrialResult:
    """Run one trial and keep its bundle; the caller keeps the result.

    Args:
        job: the trial and its folders.
        report: told of progress.
        accumulate: parts that a training batch is cut into.

    Returns:
        A result whose status is ``ok``, ``failed``, ``out-of-memory`` or ``skipped``.

    Raises:
        KeyboardInterrupt: whatever else goes wrong becomes a failed result.
    """
    config = job.config
    started = datetime.now(UTC)
    try:
        spec = catalogue().models.get(config.model)
        if Flag.NEEDS_RAIN in spec.flags:
            return TrialResult(config, "skipped", "needs rainfall series, and the data have none", {})
        measured = _adapted(job, report) if config.adapted else _trained(job, report, accumulate)
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


def _trained(job: TrialJob, report: StageReport, accumulate: int) -> dict[str, Any]:
    config = job.config
    begun = time.perf_counter()
    device = torch.device(config.device)
    report("data", 0, 1)
    splits = open_splits_of(config)
    data = make_data_module(splits, config, accumulate)
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
        checkpoints=job.state,
        resume=job.resume,
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

    shape = tuple(splits["test"][0]["image"].shape)
    environment = describe_environment(device)
    metrics = summarise(test.counts, train.pixel_size)
    digest = _keep_bundle(config, splits, data, fitted, chosen.threshold, metrics, environment, job.bundle)
    return {
        **_measured(config, splits, test, chosen.threshold),
        "val": {"loss": _finite(chosen.loss), "histogram": chosen.histogram.to_dict(), "odds": chosen.odds.to_dict()},
        "training": {
            "steps": fitted.steps,
            "seconds": fitted.seconds,
            "resumed_from": fitted.resumed_from,
            "batch": config.recipe.batch_size,
            "micro_batch": config.recipe.batch_size // accumulate,
            "format": fitted.compute_format.to_dict(),
            "curve": [list(point) for point in fitted.curve],
        },
        "parameters": count_parameters(fitted.predictor.model),
        "gmac": count_gmac(fitted.predictor.model, shape, device),
        "seconds": {
            "data": opened - begun,
            "train": trained - opened,
            "evaluate": evaluated - trained,
        },
        "environment": environment,
        "weights_sha256": digest,
    }


def _adapted(job: TrialJob, report: StageReport) -> dict[str, Any]:
    from zoo.training.adaptation import adapt

    config, begun = job.config, time.perf_counter()
    device = torch.device(config.device)
    if job.source is None:
        raise ZooError("an adapted trial starts from the bundle of a trained one, and none was given")
    report("data", 0, 1)
    splits = open_splits_of(config)
    source = Bundle.load(job.source)
    data = make_data_module(splits, config)
    opened = time.perf_counter()

    report("adapt", 0, 1)
    images = (batch["image"] for batch in data.test_dataloader())
    target = {**config.data.to_dict(), "split": "test", "fingerprint": config.fingerprints["test"]}
    told = partial(report, "adapt")
    bundle = adapt(source, images, device=device, seed=config.seed, target=target, progress=told)
    adapted = time.perf_counter()

    report("test", 0, len(splits["test"]))
    predictor = bundle.predictor().to(device).to(memory_format=bundle.compute_format.memory_format)
    test = evaluate(
        predictor,
        bundle.compute_format,
        data.test_dataloader(),
        bundle.threshold,
        lambda n: report("test", n, len(splits["test"])),
    )
    evaluated = time.perf_counter()
    shape = tuple(splits["test"][0]["image"].shape)
    metrics = summarise(test.counts, splits["test"].pixel_size)
    return {
        **_measured(config, splits, test, bundle.threshold),
        # The threshold is the trained model's; nothing is validated again.
        "val": {"loss": None},
        "adaptation": bundle.adaptation,
        "parameters": count_parameters(predictor.model),
        "gmac": count_gmac(predictor.model, shape, device),
        "seconds": {"data": opened - begun, "adapt": adapted - opened, "evaluate": evaluated - adapted},
        "environment": describe_environment(device),
        "weights_sha256": replace(bundle, metrics=metrics).save(job.bundle),
    }


def _measured(
    config: TrialConfig, splits: dict[str, PatchDataset], test: Evaluation, threshold: float
) -> dict[str, Any]:
    train, tested = splits["train"], splits["test"]
    chosen = choose_patches(test.counts.tp + test.counts.fn)
    return {
        "data": {
            "name": config.data.label,
            "bands": [band.to_dict() for band in train.bands],
            "class_names": list(train.class_names),
            "pixel_size": train.pixel_size,
            "patch": list(tested[0]["image"].shape),
            "patches": {split: len(dataset) for split, dataset in splits.items()},
            "split_notes": list(train.split_notes),
        },
        "threshold": threshold,
        "test": {
            "names": [patch.name for patch in tested.patches],
            "groups": [patch.group for patch in tested.patches],
            "counts": test.counts.to_dict(),
            "objects": test.objects.to_dict(),
            "boundaries": test.boundaries.to_dict(),
            "histogram": test.histogram.to_dict(),
            "odds": test.odds.to_dict(),
            "loss": _finite(test.loss),
        },
        "samples": Samples.take(chosen, test.masks).to_dict(),
        "pictures": Pictures.take(chosen, tested).to_dict(),
    }


def open_splits_of(config: TrialConfig) -> dict[str, PatchDataset]:
    """The splits of a trial, proved to be those that the benchmark began with.

    Raises:
        ZooError: if the data are absent, or changed since.
    """
    splits = {split: config.data.open(split) for split in SPLITS}
    for split, dataset in splits.items():
        if dataset.fingerprint() != config.fingerprints[split]:
            raise ZooError(f"the {split} split changed while the benchmark ran", where=config.data.label)
    return splits


def make_data_module(
    splits: dict[str, PatchDataset], config: TrialConfig, accumulate: int = 1, steps: int | None = None
) -> PatchDataModule:
    """The data module of a trial: the same batches for every model of a benchmark.

    Args:
        splits: by name.
        config: the trial.
        accumulate: parts that a training batch is cut into.
        steps: other than the recipe's.
    """
    recipe = config.recipe
    height, width = splits["train"][0]["mask"].shape
    crop = None if recipe.crop is None else min(recipe.crop, height, width)
    return PatchDataModule(
        splits["train"],
        splits["val"],
        splits["test"],
        batch_size=recipe.batch_size,
        steps=steps or recipe.total_steps(len(splits["train"])),
        augmentation=TrainingAugmentation(crop, symmetries=recipe.augment, seed=config.seed),
        seed=config.seed,
        device=config.device,
        accumulate=accumulate,
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
