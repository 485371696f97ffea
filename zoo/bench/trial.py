"""One trial from open data to result: train, choose the threshold, count the test split, keep the bundle."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from zoo.bench.adapted_trial import run_adapted
from zoo.bench.config import TrialConfig
from zoo.bench.measured import count_parameters, describe_test, finite
from zoo.bench.results import TrialResult
from zoo.bench.speed import count_gmac
from zoo.bench.trial_data import make_data_module, open_splits_of
from zoo.bench.worker import Progress, TrialJob
from zoo.datasets.base import PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ResultError, ZooError
from zoo.evaluation.columns import summarise
from zoo.registry import Flag, catalogue, create_model
from zoo.schema import to_plain
from zoo.training.bundle import Bundle, TrainingData
from zoo.training.compute import Environment, describe_environment
from zoo.training.evaluate import evaluate
from zoo.training.fit import Fitted, fit, seed_everything


def run_trial(job: TrialJob, report: Progress, *, accumulate: int = 1) -> TrialResult:
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
        measured = run_adapted(job, report) if config.adapted else _trained(job, report, accumulate)
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


def _trained(job: TrialJob, report: Progress, accumulate: int) -> dict[str, Any]:
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
        **describe_test(config, splits, test, chosen.threshold),
        "val": {
            "loss": finite(chosen.loss),
            "histogram": chosen.histogram.to_dict(),
            "odds": chosen.logit_histogram.to_dict(),
        },
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
        "environment": to_plain(environment),
        "weights_sha256": digest,
    }


def _keep_bundle(
    config: TrialConfig,
    splits: dict[str, PatchDataset],
    data: PatchDataModule,
    fitted: Fitted,
    threshold: float,
    metrics: dict[str, float | None],
    environment: Environment,
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
        data=TrainingData(config.data.name, config.data.options, config.fingerprints),
        recipe=config.recipe,
        seed=config.seed,
        environment=environment,
        state=model.state_dict(),
        pixel_size=train.pixel_size,
    )
    return bundle.save(folder)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
