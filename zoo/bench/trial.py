"""Run one trial, from opening the data to its result.

A trial trains a model, chooses the threshold on the validation split, evaluates on the test split and saves the bundle.
An adapted trial does not train: it adapts the bundle of another trial to the images of the test split.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from zoo.bench.config import TrialConfig
from zoo.bench.results import (
    DataSummary,
    SplitSizes,
    TestFigures,
    TrainingRecord,
    TrialMeasurements,
    TrialResult,
    ValidationFigures,
)
from zoo.bench.runner import TrialTask
from zoo.bench.samples import Pictures, Samples, choose_patches
from zoo.bench.speed import count_gmac, count_parameters
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import SPLITS, PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.datasets.splits import held_out_blocks
from zoo.deploy import raise_allocator_thresholds
from zoo.errors import ResultError, ZooError
from zoo.evaluation.columns import summarise
from zoo.evaluation.quality import MeasuredSplit, measure_split
from zoo.files import file_name, printable
from zoo.jobs import StageCallback, Work
from zoo.physics.bands import records_light
from zoo.registry import Flag, catalogue, create_model_for, plugin_errors, provider_of
from zoo.registry.plugins import OWN_DISTRIBUTION
from zoo.training.adaptation import adapt
from zoo.training.bundle import Bundle, Parent, TrainingData
from zoo.training.bundle_layout import AdaptationTarget, Environment
from zoo.training.compute import describe_environment, memory_format
from zoo.training.evaluate import Evaluation, evaluate, fit_calibration
from zoo.training.finetuning import Transfer, plan_transfer
from zoo.training.fit import Fitted, fit, is_trainable, seed_everything
from zoo.training.predictor import VIEWS
from zoo.training.recipes import JITTERS


def run_in_process(task: TrialTask, work: Work) -> TrialResult:
    """Run a trial in a separate process; see :func:`run_trial`."""
    # The process ends with the trial, so its allocator may be tuned for the trial.
    raise_allocator_thresholds()
    with plugin_errors():
        return run_trial(task, work)


def run_trial(task: TrialTask, work: Work) -> TrialResult:
    """Run one trial and save its bundle; the caller saves the result.

    Args:
        task: the trial.
        work: reports progress in the stages ``data``, ``resume`` (steps of earlier runs), ``train``, ``adapt``, ``val``
            and ``test``, and has the folders ``bundle`` for the bundle, ``state`` for the private resume state
            (optional), and for an adapted trial ``source`` with the bundle to start from.

    Returns:
        A result with status ``ok``, or ``skipped`` if the model needs data that are missing.

    Raises:
        Exception: any error in data, model or training.
    """
    config = task.config
    started = datetime.now(UTC)
    reason = skip_reason(config)
    if reason:
        return TrialResult(config, "skipped", f"needs {reason}, but the data have none")
    measurements, pictures = _adapted(task, work) if config.adapted else _trained(task, work)
    measurements = replace(
        measurements, started=started.isoformat(timespec="seconds"), provider=provider_of("model", config.model)
    )
    return TrialResult(config, "ok", "", measurements, task.attempts, pictures)


def open_splits_of(config: TrialConfig) -> dict[str, PatchDataset]:
    """Open the splits of a trial.

    Raises:
        ZooError: if the data are missing, or have changed since the benchmark started.
    """
    splits = config.data.open_splits(SPLITS)
    for split, dataset in splits.items():
        if dataset.fingerprint() != config.fingerprints[split]:
            raise ZooError(f"the {split} split changed during the benchmark", where=config.data.label)
    return splits


def skip_reason(config: TrialConfig) -> str:
    """Return what the model of a trial needs but its data lack, such as "the band dNDVI"; "" if nothing is missing.

    Raises:
        ZooError: if the data cannot be opened.
    """
    spec = catalogue().models.get(config.model)
    if Flag.NEEDS_RAIN in spec.flags:
        return "rainfall series"
    known = {band.name for band in config.data.open_splits(("test",))["test"].bands} if spec.needs_bands else set()
    lacking = [name for name in spec.needs_bands if name not in known]
    return f"the band{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}" if lacking else ""


def make_data_module(
    splits: dict[str, PatchDataset], config: TrialConfig, accumulate: int = 1, steps: int | None = None
) -> PatchDataModule:
    """Return the data module of a trial, which yields the same batches for every model of a benchmark.

    Args:
        splits: the splits by name.
        config: the trial.
        accumulate: number of parts into which a training batch is split.
        steps: number of optimiser steps; ``None`` for the number in the recipe.
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
        augmentation=TrainingAugmentation(
            crop,
            symmetries=recipe.augment,
            radiometric_bands=[place for place, band in enumerate(splits["train"].bands) if records_light(band)],
            seed=config.seed,
            **{name: getattr(recipe, name) for name in JITTERS},
        ),
        seed=config.seed,
        device=config.device,
        accumulate=accumulate,
        balance=recipe.balance,
        group_batches=recipe.group_batches,
    )


def _trained(task: TrialTask, work: Work) -> tuple[TrialMeasurements, Pictures]:
    config, report = task.config, work.report
    begun = time.perf_counter()
    device = torch.device(config.device)
    report("data", 0, 1)
    splits = open_splits_of(config)
    data = make_data_module(splits, config, task.accumulate)
    train = splits["train"]
    parent, transfer = _parent(config, train, work) if config.fine_tuning is not None else (None, None)
    seed_everything(config.seed)
    model = create_model_for(config.model, train.bands, len(train.class_names), **config.options)
    if parent is not None and transfer is not None:
        transfer.load(model, parent)
    model.to(device)
    opened = time.perf_counter()

    trainable = is_trainable(model)
    if trainable:
        report("train", 0, data.steps)
    fitted = fit(
        model,
        data,
        config.recipe,
        seed=config.seed,
        device=device,
        on_step=lambda step, total, _loss: report("train", step, total),
        on_resume=partial(report, "resume"),
        checkpoints=work.folders.get("state"),
        resume=task.resume,
        transfer=transfer,
        recorded=task.recorded,
    )
    trained = time.perf_counter()
    # Nothing about an untrained model is chosen with labels.
    threshold = None if trainable else 0.5
    chosen = _evaluate(fitted, data.val_dataloader(), threshold, "val", len(splits["val"]), report)
    test = _evaluate(fitted, data.test_dataloader(), chosen.threshold, "test", len(splits["test"]), report)
    evaluated = time.perf_counter()

    environment = describe_environment(device)
    described = None if transfer is None else transfer.parent()
    folder, evaluations = work.folders["bundle"], (chosen, test)
    digest = _save_bundle(config, splits, data, fitted, evaluations, environment, described, folder)
    samples, pictures = _samples(test, splits["test"])
    recipe = config.recipe
    measurements = TrialMeasurements(
        data=_summarise_data(config, splits),
        threshold=chosen.threshold,
        test=_test_figures(splits["test"], test),
        samples=samples,
        val=ValidationFigures(_finite(chosen.loss), chosen.histogram, chosen.logit_histogram),
        training=TrainingRecord(
            steps=fitted.steps,
            seconds=fitted.seconds,
            resumed_from=fitted.resumed_from,
            batch=recipe.batch_size,
            micro_batch=recipe.batch_size // task.accumulate,
            format=fitted.compute_format,
            curve=tuple((step, loss) for step, loss in fitted.curve),
        )
        if trainable
        else None,
        parameters=count_parameters(fitted.predictor.model),
        gmac=count_gmac(fitted.predictor.model, _patch_shape(splits["test"]), device),
        seconds={"data": opened - begun, "train": trained - opened, "evaluate": evaluated - trained},
        environment=environment,
        weights_sha256=digest,
    )
    return measurements, pictures


def _parent(config: TrialConfig, train: PatchDataset, work: Work) -> tuple[Bundle, Transfer]:
    """Return the bundle that training starts from, and the weights that are copied from it."""
    assert config.fine_tuning is not None
    folder = work.folders["parent"]
    bundle = Bundle.load(folder)
    if bundle.weights_sha256 != config.fine_tuning.sha256:
        raise ResultError("the weights changed during the benchmark", where=config.fine_tuning.parent)
    return bundle, plan_transfer(bundle, config.options, train.bands, train.class_names, config.fine_tuning)


def _evaluate(
    fitted: Fitted,
    batches: Iterable[dict[str, Any]],
    threshold: float | None,
    stage: str,
    total: int,
    report: StageCallback,
) -> Evaluation:
    report(stage, 0, total)
    return evaluate(
        fitted.predictor, fitted.compute_format, batches, threshold, lambda done: report(stage, done, total)
    )


def _save_bundle(
    config: TrialConfig,
    splits: dict[str, PatchDataset],
    data: PatchDataModule,
    fitted: Fitted,
    evaluations: tuple[Evaluation, Evaluation],
    environment: Environment,
    parent: Parent | None,
    folder: Path,
) -> str:
    """Write the bundle with the evaluations of the validation and test splits; return the sha256 of its weights."""
    train, (chosen, test) = splits["train"], evaluations
    provider = provider_of("dataset", config.data.name)
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
        threshold=test.threshold,
        metrics=summarise(test.counts, train.pixel_size),
        data=TrainingData(
            config.data.name,
            config.data.options,
            config.fingerprints,
            train.licence,
            train.citation,
            provider=None if provider.distribution == OWN_DISTRIBUTION else provider,
        ),
        recipe=config.recipe if is_trainable(model) else None,
        seed=config.seed,
        environment=environment,
        state=model.state_dict(),
        pixel_size=train.pixel_size,
        evaluations=_quality(config, test, splits["test"], range(len(splits["test"])), chosen),
        parent=parent,
    )
    return bundle.save(folder)


def _quality(
    config: TrialConfig,
    found: Evaluation,
    dataset: PatchDataset,
    places: Sequence[int],
    validation: Evaluation | None = None,
) -> tuple[MeasuredSplit, ...]:
    """Return the figures of test patches that a bundle records; for an adapted model, omit ``validation``."""
    return measure_split(
        found.counts,
        [printable(dataset.patches[place].group) for place in places],
        threshold=found.threshold,
        data=config.data.label,
        split_sha256=config.fingerprints["test"],
        adapted=validation is None,
        calibration=fit_calibration(found, validation, held_out_blocks([dataset.patches[place] for place in places])),
    )


# Adapted trials


@dataclass(frozen=True)
class _Region:
    """Test patches to which a model is adapted together: one group, or all patches, without name and folder."""

    name: str | None
    places: list[int]
    patches: Subset[Any]
    folder: str


def _adapted(task: TrialTask, work: Work) -> tuple[TrialMeasurements, Pictures]:
    """Adapt to each region, evaluate there and save the bundles."""
    config, begun = task.config, time.perf_counter()
    device = torch.device(config.device)
    work.report("data", 0, 1)
    splits = open_splits_of(config)
    test = splits["test"]
    source = Bundle.load(work.folders["source"])
    opened = time.perf_counter()

    regions = _regions(config, test)
    bundles: list[Bundle] = []
    parts: list[Evaluation] = []
    gmac = adapting = 0.0
    for number, region in enumerate(regions):
        start = time.perf_counter()
        report = partial(_report_adapting, work.report, number, len(regions))
        bundle = _adapt(source, region, config, device, report)
        adapting += time.perf_counter() - start
        predictor = bundle.predictor().to(device).to(memory_format=memory_format(bundle.compute_format))
        on_batch = partial(_report_tested, work.report, sum(map(len, parts)), len(test))
        parts.append(
            evaluate(
                predictor,
                bundle.compute_format,
                _batches(region, config),
                bundle.threshold,
                on_batch=on_batch,
                tta=config.adapting.tta,
            )
        )
        # Regions may use different magnifications; this is the mean cost of a patch.
        views = len(VIEWS) if config.adapting.tta else 1
        gmac += views * count_gmac(predictor.model, _patch_shape(test), device) * len(region.places) / len(test)
        bundles.append(bundle)
    evaluation = Evaluation.concatenate(parts, [region.places for region in regions])
    evaluated = time.perf_counter()

    digests = [
        replace(
            bundle,
            metrics=summarise(part.counts, test.pixel_size),
            evaluations=_quality(config, part, test, region.places),
        ).save(work.folders["bundle"] / region.folder)
        for bundle, part, region in zip(bundles, parts, regions, strict=True)
    ]
    samples, pictures = _samples(evaluation, test)
    measurements = TrialMeasurements(
        data=_summarise_data(config, splits),
        # The validation split is not evaluated again.
        threshold=evaluation.threshold,
        test=_test_figures(test, evaluation),
        samples=samples,
        adaptations=tuple(bundle.adaptation for bundle in bundles if bundle.adaptation is not None),
        parameters=count_parameters(source.predictor().model),
        gmac=gmac,
        seconds={"data": opened - begun, "adapt": adapting, "evaluate": evaluated - opened - adapting},
        environment=describe_environment(device),
        weights_sha256=digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
    )
    return measurements, pictures


def _regions(config: TrialConfig, test: PatchDataset) -> list[_Region]:
    if config.adapting.by == "split":
        everything = list(range(len(test)))
        return [_Region(None, everything, Subset(test, everything), "")]
    groups = [patch.group for patch in test.patches]
    found = []
    for number, name in enumerate(sorted(set(groups))):
        places = [place for place, group in enumerate(groups) if group == name]
        # The number distinguishes names that become equal when characters that file systems forbid are replaced.
        found.append(_Region(name, places, Subset(test, places), f"{number}-{file_name(name)}"))
    return found


def _adapt(
    source: Bundle, region: _Region, config: TrialConfig, device: torch.device, progress: Callable[[int, int], None]
) -> Bundle:
    target = AdaptationTarget(
        config.data.name,
        config.data.options,
        "test",
        group=region.name,
        fingerprint=config.fingerprints["test"],
    )
    try:
        return adapt(
            source,
            (batch["image"] for batch in _batches(region, config)),
            scales=config.adapting.scales,
            device=device,
            seed=config.seed,
            target=target,
            progress=progress,
        )
    except ZooError as error:
        if region.name is None:
            raise
        place = f"group {region.name!r}" if error.where is None else f"group {region.name!r}: {error.where}"
        raise ZooError(error.problem, where=place, hint=error.hint) from error


def _batches(region: _Region, config: TrialConfig) -> DataLoader[Any]:
    return DataLoader(region.patches, batch_size=config.recipe.batch_size)


def _report_adapting(report: StageCallback, number: int, regions: int, done: int, total: int) -> None:
    report("adapt", number * total + done, regions * total)


def _report_tested(report: StageCallback, before: int, total: int, done: int) -> None:
    report("test", before + done, total)


# Sections of the result that trained and adapted trials share


def _summarise_data(config: TrialConfig, splits: dict[str, PatchDataset]) -> DataSummary:
    train = splits["train"]
    return DataSummary(
        name=config.data.label,
        bands=tuple(train.bands),
        class_names=tuple(train.class_names),
        pixel_size=train.pixel_size,
        patch=_patch_shape(splits["test"]),
        patches=SplitSizes(len(train), len(splits["val"]), len(splits["test"])),
        split_notes=tuple(train.split_notes),
    )


def _test_figures(dataset: PatchDataset, test: Evaluation) -> TestFigures:
    return TestFigures(
        names=tuple(printable(patch.name) for patch in dataset.patches),
        groups=tuple(printable(patch.group) for patch in dataset.patches),
        counts=test.counts,
        objects=test.objects,
        boundaries=test.boundaries,
        histogram=test.histogram,
        odds=test.logit_histogram,
        loss=_finite(test.loss),
    )


def _samples(test: Evaluation, dataset: PatchDataset) -> tuple[Samples, Pictures]:
    """Return the predictions on the patches that the report shows, and the patches themselves."""
    chosen = choose_patches(test.counts.tp + test.counts.fn)
    return Samples.take(chosen, test.masks), Pictures.take(chosen, dataset)


def _patch_shape(dataset: PatchDataset) -> tuple[int, int, int]:
    channels, height, width = dataset[0]["image"].shape
    return int(channels), int(height), int(width)


def _finite(value: float) -> float | None:
    """Return the value, or ``None`` for NaN and infinities."""
    return value if value == value and abs(value) != float("inf") else None
