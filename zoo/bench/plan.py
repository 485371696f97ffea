"""Plan a benchmark: open its data, list its trials, and estimate the time of each on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from zoo.bench.benchmark import Benchmark, Setting, settings_of
from zoo.bench.config import AdaptationSettings, TrialConfig
from zoo.bench.results import SplitSizes, TrialResult, trial_files, valid_result
from zoo.bench.runner import default_threads
from zoo.bench.speed import count_gmac, count_parameters
from zoo.bench.speed_session import DEFAULT_PROCESSES, DEFAULT_SECONDS, session_of
from zoo.bench.trial import make_data_module, open_splits_of, skip_reason
from zoo.datasets.audit import AuditSummary, cached_summary
from zoo.datasets.base import SPLITS, PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, DataError, ResultError
from zoo.jobs import Job, Work, connected, run_job
from zoo.registry import Flag, catalogue, create_model_for, plugin_errors
from zoo.schema import to_plain
from zoo.training.adaptation import CHOOSING_PIXELS, MAX_PIXELS
from zoo.training.bundle import Bundle, without_downloads
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.compute import (
    autocast,
    bf16_in_hardware,
    choose_format,
    describe_environment,
    memory_format,
    resolve_device,
)
from zoo.training.finetuning import plan_transfer
from zoo.training.fit import SegmentationTask, is_trainable, seed_everything
from zoo.training.predictor import SCALE_CANDIDATES, VIEWS, Predictor

STEPS = 2
"""Number of timed training steps, after one untimed step."""
MAX_FIRST_STEP_S = 20.0
"""If the first step takes longer than this, in seconds, its time is used as the estimate."""
LIMIT_S = 300.0
"""Time limit in seconds for measuring one model."""
START_S = 2.0
"""Overhead between two trials in seconds: process, data, bundle."""
TYPICAL_GMAC = 12.0
"""Relative cost of a model whose spec states none; that of the U-Net is 8."""
COUNTING_GMAC = 0.5
"""Relative cost of reading a patch and counting its pixels [O]."""
UPDATE_GMAC = 3.0
"""Relative cost of updating a million weights once, measured on built-in models with two cores [O]."""
DATA_SHARE = 0.03
"""Share of a trial spent on starting the process and opening the data [O]."""

CostSource = Literal["", "measured now", "earlier result", "skipped", "no such device here"]


@dataclass(frozen=True)
class Plan:
    """A benchmark whose data have been opened.

    Attributes:
        benchmark: the benchmark.
        trials: trials of all settings, in execution order.
        sizes: number of patches in each split, by setting.
        steps: optimiser steps of a training run, by setting.
        audits: findings of the audit of the splits, by setting.
        pixels: pixels of a test patch, by setting.
    """

    benchmark: Benchmark
    trials: tuple[TrialConfig, ...]
    sizes: Mapping[str, SplitSizes]
    steps: Mapping[str, int]
    audits: Mapping[str, AuditSummary]
    pixels: Mapping[str, int]


OpenSplits = Callable[[DataSource], dict[str, PatchDataset]]
Audit = Callable[[Mapping[str, PatchDataset], Mapping[str, str]], AuditSummary]


def open_splits(source: DataSource) -> dict[str, PatchDataset]:
    """Open the three splits of a data set.

    Raises:
        ZooError: if the data are missing or damaged, or a split is empty.
    """
    splits = source.open_splits(SPLITS)
    for split, dataset in splits.items():
        if not len(dataset):
            raise DataError(f"the {split} split is empty", where=source.label, hint="Split the data differently")
    return splits


def audit_splits(splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
    """Return the findings of the audit of the splits; a failed audit does not stop the benchmark."""
    try:
        return cached_summary(splits, fingerprints)
    except Exception as error:
        return AuditSummary(None, f"not done ({error})")


def make_plan(
    benchmark: Benchmark,
    device: str,
    address: str | None = None,
    *,
    on_setting: Callable[[Setting], None] | None = None,
    open_data: OpenSplits = open_splits,
    audit: Audit = audit_splits,
) -> Plan:
    """Open the data of every setting, audit the splits and list the trials.

    Args:
        benchmark: the benchmark.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        address: address of a Ray cluster, whose devices are used instead of this machine's.
        on_setting: called before the data of a setting are opened.
        open_data: opens the splits of a data set; override it to show progress.
        audit: audits the splits; override it to show the verdict.

    Raises:
        ZooError: if data are missing, a split is empty, or the device does not exist.
    """
    place = str(resolve_device(device)) if address is None else device_on_cluster(address, device)
    trials: list[TrialConfig] = []
    sizes: dict[str, SplitSizes] = {}
    audits: dict[str, AuditSummary] = {}
    pixels: dict[str, int] = {}
    for setting in settings_of(benchmark):
        if on_setting is not None:
            on_setting(setting)
        splits = open_data(setting.data)
        sizes[setting.name] = SplitSizes(*(len(splits[split]) for split in SPLITS))
        pixels[setting.name] = splits["test"][0]["mask"].numel()
        fingerprints = {split: dataset.fingerprint() for split, dataset in splits.items()}
        audits[setting.name] = audit(splits, fingerprints)
        _check_parents(benchmark, splits["train"])
        trials += benchmark.trials(setting, fingerprints, place)
    steps = {name: benchmark.recipe.total_steps(found.train) for name, found in sizes.items()}
    return Plan(benchmark, tuple(trials), sizes, steps, audits, pixels)


def precision_problem(config: TrialConfig) -> str:
    """Return why the precision named in a recipe is slow on the device of a trial; empty if it is not.

    This checks the instructions of this machine's processor, even if the trial runs on a cluster.
    """
    if config.recipe.precision != "bf16" or config.device != "cpu" or bf16_in_hardware(torch.device("cpu")):
        return ""
    return (
        "this processor has no bfloat16 instructions and emulates them: training takes many times as long as with "
        "--precision auto or fp32"
    )


def _check_parents(benchmark: Benchmark, train: PatchDataset) -> None:
    """Reject initial weights that do not fit the model and the data, before anything is trained."""
    for entry in benchmark.models:
        if entry.start is not None:
            bundle = Bundle.load(entry.start.folder)
            plan_transfer(bundle, entry.options, train.bands, train.class_names, entry.start)


def device_on_cluster(address: str, name: str) -> str:
    """Return the device that ``name`` means on a Ray cluster; ``auto`` selects a GPU if the cluster has one.

    Raises:
        ConfigError: if the cluster does not have the device or cannot be used.
    """
    with connected(address) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"a cluster has no device {name!r}", where="--device", hint="Use auto, cpu or cuda")
    if name == "cuda" and not gpus:
        raise ConfigError("the cluster has no GPU", where="--device", hint="Use --device auto or cpu")
    return name


@dataclass(frozen=True)
class Cost:
    """Cost of the trials of one model.

    Attributes:
        parameters: number of trainable parameters.
        gmac: multiply-accumulates of one test patch in units of 1e9.
        step_s: seconds per optimiser step, including its batch and augmentation.
        patch_s: seconds to evaluate one patch.
        pixels: pixels of a patch.
        source: origin of the figures; empty if there are none.
        lacking: data that the model needs but that are missing, so that the benchmark skips it; empty if none.
        error: why the trial cannot run; empty if it can.
    """

    parameters: int = 0
    gmac: float = math.nan
    step_s: float = math.nan
    patch_s: float = math.nan
    pixels: int = 1
    source: CostSource = ""
    lacking: str = ""
    error: str = ""

    @property
    def can_run(self) -> bool:
        """Whether the trials can run, as far as is known."""
        return not self.error and not self.lacking

    def seconds(self, config: TrialConfig, sizes: SplitSizes) -> float:
        """Return the expected seconds of a trial.

        Args:
            config: the trial.
            sizes: number of patches in each split.
        """
        amounts = stage_amounts(config, sizes, self.pixels)
        return START_S + sum(
            amount * (self.step_s if stage == "train" else self.patch_s) for stage, amount in amounts.items()
        )


def stage_amounts(config: TrialConfig, sizes: SplitSizes, pixels: int) -> dict[str, float]:
    """Return the work in each stage of a trial: optimiser steps in ``train``, patches processed in the other stages.

    Args:
        config: the trial.
        sizes: number of patches in each split.
        pixels: pixels of a patch.
    """
    if config.adapted:
        sampled, few = (min(sizes.test, max(1, maximum // pixels)) for maximum in (MAX_PIXELS, CHOOSING_PIXELS))
        passes = _adaptation_passes(config.adapting)
        return {"adapt": few * passes[0] + sampled * passes[1], "test": sizes.test * passes[2]}
    recipe = config.recipe
    steps = recipe.total_steps(sizes.train)
    validations = 1 + (steps // recipe.steps_a_pass(sizes.train) if recipe.schedule == "plateau" else 0)
    return {"train": steps, "val": sizes.val * validations, "test": sizes.test}


def relative_costs(config: TrialConfig, sizes: SplitSizes, pixels: int) -> dict[str, float]:
    """Return the relative cost of each stage of a trial, computed from its arithmetic before anything is measured.

    Processing a patch costs its GMAC. A training step costs three times that for each patch of its batch, plus the
    update of the weights.

    Args:
        config: the trial.
        sizes: number of patches in each split.
        pixels: pixels of a patch.
    """
    spec = catalogue().models.get(config.model) if config.model in catalogue().models else None
    gmac, millions = TYPICAL_GMAC, 0.0
    if spec is not None and spec.gmac is not None and spec.parameters is not None:
        gmac, millions = spec.gmac, spec.parameters / 1e6
    recipe = config.recipe
    shown = 1.0 if recipe.crop is None else min(1.0, recipe.crop**2 / pixels)
    step = 3 * recipe.batch_size * shown * (COUNTING_GMAC + gmac) + UPDATE_GMAC * millions
    if spec is not None and Flag.UNTRAINED in spec.flags:
        step = 0.0
    costs = {
        stage: amount * (step if stage == "train" else COUNTING_GMAC + gmac)
        for stage, amount in stage_amounts(config, sizes, pixels).items()
    }
    return {"data": DATA_SHARE * sum(costs.values()), **costs}


def _adaptation_passes(adapting: AdaptationSettings) -> tuple[float, float, float]:
    """Return how often an adapted trial processes the pixels of three sets of patches.

    If all batches fit into memory together, one pass re-estimates all layers. Three more find the order of the layers
    and compare the predictions.

    Returns:
        Numbers for the patches that choose a magnification, the sample to adapt to, and the split to evaluate.
    """
    views = len(VIEWS) if adapting.tta else 1
    areas = [scale**2 for scale in (SCALE_CANDIDATES if adapting.scales == "auto" else adapting.scales)]
    if adapting.scales != "auto":
        return 0.0, 3 + sum(areas), sum(areas) * views
    # Every candidate adapts all layers and predicts three views of each image; one is adapted to the whole sample.
    mean = sum(areas) / len(areas)
    return sum(areas) * 4, 3 + mean, mean * views


@dataclass(frozen=True)
class PlannedTrial:
    """Trial of a plan.

    Attributes:
        config: the trial.
        cost: cost of its model.
        seconds: expected seconds; NaN if unknown.
        steps: optimiser steps; 0 for an adapted trial.
        done: whether the results folder already has its result.
    """

    config: TrialConfig
    cost: Cost
    seconds: float
    steps: int
    done: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as a row of plain JSON values."""
        figures = {name: _none_if_nan(value) for name, value in asdict(self.cost).items()}
        return {
            "trial": self.config.file_stem,
            "label": self.config.label,
            "setting": self.config.setting,
            "seed": self.config.seed,
            "steps": self.steps,
            "seconds": _none_if_nan(self.seconds),
            **figures,
            "skipped": bool(self.cost.lacking),
            "done": self.done,
        }


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a benchmark on this machine.

    Attributes:
        trials: all trials.
        seconds: seconds of the remaining trials; NaN if unknown.
        speed_seconds: seconds for timing the models afterwards.
        damaged: unusable results of earlier runs; their trials are repeated.
    """

    trials: tuple[PlannedTrial, ...]
    seconds: float
    speed_seconds: float
    damaged: tuple[ResultError, ...] = ()

    @property
    def problems(self) -> dict[str, str]:
        """Reasons why models cannot run, by label."""
        return {trial.config.plain.label: trial.cost.error for trial in self.trials if trial.cost.error}

    @property
    def to_run(self) -> int:
        """Number of trials that still have to run."""
        return sum(not trial.done and trial.cost.can_run for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        return {
            "seconds": _none_if_nan(self.seconds),
            "speed_seconds": _none_if_nan(self.speed_seconds),
            "trials": [to_plain(trial.to_dict()) for trial in self.trials],
        }


def estimate(
    plan: Plan, folder: Path, jobs: int = 1, progress: Callable[[int, int, TrialConfig], None] | None = None
) -> Estimate:
    """Estimate the time of the trials of a plan, from results in the folder or from a few training steps of each model.

    Nothing is written.

    Args:
        plan: the plan.
        folder: folder of the results; trials that have a result there are done.
        jobs: number of trials at a time.
        progress: called before a model is measured, with its number, the number of models, and one of its trials.
    """
    costs = _costs(plan, folder, jobs, progress)
    found, waits, damaged = [], [], []
    sessions: set[str | None] = set()
    for config in plan.trials:
        cost = costs[_model_of(config)]
        earlier = None
        try:
            earlier = valid_result(folder, config)
        except ResultError as error:
            damaged.append(error)
        seconds = cost.seconds(config, plan.sizes[config.setting])
        steps = 0 if config.adapted else plan.steps[config.setting]
        found.append(PlannedTrial(config, cost, seconds, steps, earlier is not None))
        sessions.add(session_of(earlier))
        if earlier is None and cost.can_run:
            waits.append(seconds)
    timed = len(sessions) == 1 and None not in sessions
    times = plan.benchmark.speed and not timed
    return Estimate(
        tuple(found),
        makespan(waits, jobs) if waits else 0.0,
        speed_stage_seconds(list(costs.values())) if times else 0.0,
        tuple(damaged),
    )


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Return the seconds until the last trial is done, if each starts when one of ``jobs`` slots becomes free."""
    places = [0.0] * jobs
    for duration in seconds:
        places[places.index(min(places))] += duration
    return max(places)


def speed_stage_seconds(
    costs: Sequence[Cost], rounds: int = DEFAULT_PROCESSES, seconds: float = DEFAULT_SECONDS
) -> float:
    """Return the approximate seconds of the speed stage: two batch sizes per round, and the search in the first."""
    return sum(
        rounds * (2.0 + 2 * max(seconds, 6 * cost.patch_s)) + 3 * max(seconds, 8 * cost.patch_s)
        for cost in costs
        if cost.can_run
    )


def earlier_costs(folder: Path, threads: int, device_name: str) -> Callable[[TrialConfig], Cost | None]:
    """Return a function that gives a trial's cost from an earlier result of this machine, or ``None``.

    The result must have the same model, options, data, batch size, crop, precision, optimiser and loss.

    Args:
        folder: folder of the results.
        threads: number of threads that a trial will use.
        device_name: name of the device, as returned by :func:`zoo.training.compute.describe_environment`.
    """
    found: dict[str, Cost] = {}
    for path in trial_files(folder):
        try:
            result = TrialResult.load(path)
        except ResultError:
            continue
        cost = _cost_of(result, threads, device_name)
        if cost is not None:
            found[_workload(result.config)] = cost
    return lambda config: found.get(_workload(config.plain))


def measure_cost(config: TrialConfig, threads: int | None) -> Cost:
    """Train a few steps and evaluate a batch in a separate process.

    Args:
        config: a trial that is not adapted.
        threads: number of torch threads; ``None`` for torch's default.

    Returns:
        The cost; if the trial would fail, its ``error`` gives the reason.
    """
    job: Job[Cost] = Job("zoo.bench.plan:measure_cost_in_process", config, "cost", time_limit=LIMIT_S, threads=threads)
    outcome = run_job(job)
    if outcome.status == "ok" and outcome.value is not None:
        return outcome.value
    if outcome.status == "out-of-memory":
        batch = config.recipe.batch_size
        return Cost(error=f"a training step of {batch} patches runs out of memory; the trial would halve the batch")
    return Cost(error=outcome.error)


@plugin_errors()
def measure_cost_in_process(config: TrialConfig, work: Work) -> Cost:
    """Measure the cost of a trial in this process; see :func:`measure_cost`."""
    device = torch.device(config.device)
    splits = open_splits_of(config)
    data = make_data_module(splits, config, steps=STEPS + 1)
    seed_everything(config.seed)
    train = splits["train"]
    options = without_downloads(config.model, config.options)
    model = create_model_for(config.model, train.bands, len(train.class_names), **options)
    channels, height, width = splits["test"][0]["image"].shape
    cost = Cost(
        count_parameters(model),
        count_gmac(model, (channels, height, width), torch.device("cpu")),
        pixels=height * width,
        source="measured now",
    )
    predictor = Predictor(model, data.statistics.mean.tolist(), data.statistics.std.tolist()).to(device)
    if not is_trainable(model):
        return replace(
            cost, step_s=0.0, patch_s=_evaluation_seconds(predictor, data, ComputeFormat("fp32", False), device)
        )
    form = None
    task = SegmentationTask(predictor, config.recipe, STEPS + 1)
    optimiser = task.configure_optimizers()["optimizer"]
    times: list[float] = []
    begun = time.perf_counter()
    for batch in data.train_dataloader():
        images, mask = batch["image"].to(device), batch["mask"].to(device)
        if form is None:
            form = choose_format(predictor, images, config.recipe.precision)
            predictor.to(memory_format=memory_format(form))
            begun = time.perf_counter()
        optimiser.zero_grad()
        with autocast(form, device):
            loss = task.loss(predictor(images.to(memory_format=memory_format(form))), mask)
        torch.autograd.backward(loss)
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if times[0] > MAX_FIRST_STEP_S:
            break
    assert form is not None
    return replace(cost, step_s=min(times[1:] or times), patch_s=_evaluation_seconds(predictor, data, form, device))


def _evaluation_seconds(
    predictor: Predictor, data: PatchDataModule, form: ComputeFormat, device: torch.device
) -> float:
    """Return the seconds for reading and predicting one patch of the test split."""
    predictor.eval()
    evaluated: list[float] = []
    with torch.inference_mode():
        for _ in range(2):
            begun = time.perf_counter()
            batch = next(iter(data.test_dataloader()))
            with autocast(form, device):
                logits = predictor(batch["image"].to(device, memory_format=memory_format(form)))
            predictor.landslide_probability(logits).cpu()
            evaluated.append((time.perf_counter() - begun) / len(batch["mask"]))
            if evaluated[0] * len(batch["mask"]) > MAX_FIRST_STEP_S:
                break
    return min(evaluated)


def _costs(
    plan: Plan, folder: Path, jobs: int, progress: Callable[[int, int, TrialConfig], None] | None
) -> dict[str, Cost]:
    """Return the cost of every model."""
    threads = max(1, default_threads() // jobs)
    models = {_model_of(config): config.plain for config in plan.trials}
    device = torch.device(plan.trials[0].device)
    if device.type == "cuda" and not torch.cuda.is_available():
        return dict.fromkeys(models, Cost(source="no such device here"))
    earlier = earlier_costs(folder, threads, describe_environment(device).device_name)
    costs: dict[str, Cost] = {}
    for number, (model, config) in enumerate(models.items()):
        known = earlier(config)
        if known is not None:
            costs[model] = known
        elif config.model in catalogue().models and (reason := skip_reason(config)):
            costs[model] = Cost(source="skipped", lacking=reason)
        else:
            if progress is not None:
                progress(number, len(models), config)
            costs[model] = measure_cost(config, threads)
    return costs


def _cost_of(result: TrialResult, threads: int, device_name: str) -> Cost | None:
    training = result.training
    if not result.ok or training is None:
        return None
    steps = training.steps - (training.resumed_from or 0)
    same_machine = (result.environment.threads, result.environment.device_name) == (threads, device_name)
    if not same_machine or steps < 1 or result.measurements is None:
        return None
    _, height, width = result.data.patch
    evaluated = result.data.patches.val + result.data.patches.test
    return Cost(
        result.parameters,
        result.gmac,
        training.seconds / steps,
        result.measurements.seconds.get("evaluate", math.nan) / evaluated,
        pixels=height * width,
        source="earlier result",
    )


def _workload(config: TrialConfig) -> str:
    """Return text that is equal for trials with the same cost."""
    recipe = config.recipe
    settings = (recipe.batch_size, recipe.crop, recipe.precision, recipe.optimiser, recipe.loss, config.device)
    return repr((config.model, sorted(config.options.items()), sorted(config.fingerprints.items()), settings))


def _model_of(config: TrialConfig) -> str:
    return repr((config.model, sorted(config.options.items())))


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
