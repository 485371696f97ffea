"""What a trial will take here: from a few steps of each model, or from what this machine took before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zoo.bench.config import Adapting, TrialConfig
from zoo.bench.results import FOLDER, TrialResult
from zoo.bench.worker import TrialContext, end_process, end_with_parent
from zoo.errors import ResultError, ZooError

STEPS = 2
"""Training steps that are timed, after one that is not."""
PATIENCE_S = 20.0
"""A first step that takes longer is believed as it is."""
LIMIT_S = 300.0
START_S = 2.0
"""Seconds from one trial to the next: a process, the data, the bundle."""


@dataclass(frozen=True)
class Cost:
    """What one trial of a model takes.

    Attributes:
        parameters: that training changes.
        gmac: of one patch of the test split.
        step_s: seconds of an optimiser step, batch and augmentation included.
        patch_s: seconds in which one patch is evaluated.
        source: ``measured now`` or ``earlier result``.
        error: why the trial cannot run; empty when it can.
    """

    parameters: int = 0
    gmac: float = math.nan
    step_s: float = math.nan
    patch_s: float = math.nan
    source: str = ""
    error: str = ""

    def seconds(self, config: TrialConfig, sizes: dict[str, int]) -> float:
        """Expected seconds of a trial.

        Args:
            config: the trial.
            sizes: patches of each split.
        """
        if config.adapted:
            return START_S + self.patch_s * sizes["test"] * _looks(config.adapting)
        evaluated = sizes["test"] + sizes["val"]
        recipe = config.recipe
        steps = recipe.total_steps(sizes["train"])
        if recipe.schedule == "plateau":
            evaluated += sizes["val"] * (steps // recipe.steps_a_pass(sizes["train"]))
        return START_S + self.step_s * steps + self.patch_s * evaluated


def _looks(adapting: Adapting) -> float:
    """How many times an adapted trial goes through the pixels of the test split: to adapt, and to measure."""
    if adapting.scales != "auto":
        return 2 * sum(scale**2 for scale in adapting.scales)
    from zoo.training.predictor import SCALE_CANDIDATES

    areas = [scale**2 for scale in SCALE_CANDIDATES]
    return sum(areas) + sum(areas) / len(areas)


def earlier_costs(folder: Path, threads: int, device_name: str) -> Callable[[TrialConfig], Cost | None]:
    """Costs by results of this machine in a folder: same model, recipe's batch, crop and precision, data's size.

    Args:
        folder: of results.
        threads: that a trial will have.
        device_name: as :func:`zoo.training.compute.describe_environment` gives it.
    """
    found: dict[str, Cost] = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            result = TrialResult.load(path)
        except ResultError:
            continue
        cost = _cost_of(result, threads, device_name)
        if cost is not None:
            found[_alike(result.config)] = cost
    return lambda config: found.get(_alike(config.plain))


def _cost_of(result: TrialResult, threads: int, device_name: str) -> Cost | None:
    measured = result.measured
    if not result.ok or result.config.adapted:
        return None
    environment, training = measured["environment"], measured["training"]
    steps = training["steps"] - (training.get("resumed_from") or 0)
    patches = sum(measured["data"]["patches"][split] for split in ("val", "test"))
    if (environment["threads"], environment["device_name"]) != (threads, device_name) or steps < 1:
        return None
    return Cost(
        measured["parameters"],
        measured["gmac"],
        training["seconds"] / steps,
        measured["seconds"]["evaluate"] / patches,
        "earlier result",
    )


def _alike(config: TrialConfig) -> str:
    recipe = config.recipe
    about = (recipe.batch_size, recipe.crop, recipe.precision, recipe.optimiser, recipe.loss, config.device)
    return repr((config.model, sorted(config.options.items()), sorted(config.fingerprints.items()), about))


def measure_cost(config: TrialConfig, threads: int | None, context: TrialContext) -> Cost:
    """Train a few steps and evaluate a batch in a process of its own; nothing is kept.

    Args:
        config: a trial that is not adapted.
        threads: of torch; ``None`` for its own choice.
        context: from :func:`zoo.bench.worker.trial_context`.

    Returns:
        The cost, or one whose ``error`` says why the trial would fail.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, config, threads), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(LIMIT_S):
            return Cost(error=f"{STEPS + 1} training steps take more than {LIMIT_S:g} s")
        cost = receiver.recv()
        assert isinstance(cost, Cost)
        return cost
    except EOFError:
        process.join()
        return Cost(error=f"a training step ends the process (exit code {process.exitcode}); is there enough memory?")
    finally:
        receiver.close()
        end_process(process)


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Seconds until the last of some trials is done, each started when one of ``jobs`` places is free."""
    places = [0.0] * jobs
    for one in seconds:
        places[places.index(min(places))] += one
    return max(places)


def _child(sender: Connection, config: TrialConfig, threads: int | None) -> None:
    import os
    import signal
    import threading

    import torch

    from zoo.deploy import raise_allocator_thresholds

    raise_allocator_thresholds()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        cost = _measure(config)
    except (torch.OutOfMemoryError, MemoryError):
        batch = config.recipe.batch_size
        cost = Cost(error=f"a training step of {batch} patches runs out of memory; the trial would halve it")
    except ZooError as error:
        cost = Cost(error=str(error))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        cost = Cost(error=f"{type(error).__name__}: {lines[0]}")
    sender.send(cost)
    sender.close()


def _measure(config: TrialConfig) -> Cost:
    import torch

    from zoo.bench.measured import count_parameters
    from zoo.bench.speed import count_gmac
    from zoo.bench.trial_data import make_data_module, open_splits_of
    from zoo.registry import create_model
    from zoo.training.compute import choose_format
    from zoo.training.fit import SegmentationTask, seed_everything
    from zoo.training.predictor import Predictor

    device = torch.device(config.device)
    splits = open_splits_of(config)
    data = make_data_module(splits, config, steps=STEPS + 1)
    seed_everything(config.seed)
    train = splits["train"]
    model = create_model(config.model, len(train.bands), len(train.class_names), **config.options)
    shape = tuple(splits["test"][0]["image"].shape)
    gmac = count_gmac(model, shape, torch.device("cpu"))
    predictor = Predictor(model, data.statistics.mean.tolist(), data.statistics.std.tolist()).to(device)
    form = None
    task = SegmentationTask(predictor, config.recipe, STEPS + 1)
    optimiser = task.configure_optimizers()["optimizer"]
    times: list[float] = []
    begun = time.perf_counter()
    for batch in data.train_dataloader():
        images, mask = batch["image"].to(device), batch["mask"].to(device)
        if form is None:
            form = choose_format(predictor, images, config.recipe.precision)
            predictor.to(memory_format=form.memory_format)
            begun = time.perf_counter()
        optimiser.zero_grad()
        with form.autocast(device):
            loss = task.loss(predictor(images.to(memory_format=form.memory_format)), mask)
        torch.autograd.backward(loss)
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if times[0] > PATIENCE_S:
            break
    assert form is not None
    predictor.eval()
    evaluated: list[float] = []
    with torch.inference_mode():
        for _ in range(2):
            begun = time.perf_counter()
            batch = next(iter(data.test_dataloader()))
            with form.autocast(device):
                logits = predictor(batch["image"].to(device, memory_format=form.memory_format))
            predictor.landslide_probability(logits).cpu()
            evaluated.append((time.perf_counter() - begun) / len(batch["mask"]))
            if evaluated[0] * len(batch["mask"]) > PATIENCE_S:
                break
    return Cost(count_parameters(model), gmac, min(times[1:] or times), min(evaluated), "measured now")


def speed_stage_seconds(costs: Sequence[Cost], rounds: int, seconds: float) -> float:
    """What the speed stage takes, roughly: two batch sizes a round, and the search of the first."""
    return sum(
        rounds * (2.0 + 2 * max(seconds, 7 * cost.patch_s)) + 4 * max(seconds, 30 * cost.patch_s)
        for cost in costs
        if not cost.error
    )


def as_json(config: TrialConfig, cost: Cost, seconds: float, steps: int) -> dict[str, Any]:
    """A row of the plan as plain JSON values."""
    figures = {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(cost).items()
    }
    return {
        "trial": config.file_stem,
        "label": config.label,
        "setting": config.setting,
        "seed": config.seed,
        "steps": 0 if config.adapted else steps,
        "seconds": None if math.isnan(seconds) else seconds,
        **figures,
    }
