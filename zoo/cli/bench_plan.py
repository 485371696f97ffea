"""What a benchmark is going to do, found out and shown before it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import EXIT_TRIALS_FAILED
from zoo.cli.console import err, make_table, note, out, relative

if TYPE_CHECKING:
    from zoo.bench.benchmark import Benchmark
    from zoo.bench.config import TrialConfig
    from zoo.bench.estimate import Cost
    from zoo.bench.results import TrialResult
    from zoo.datasets.audit import AuditSummary

ROUNDS, SECONDS = 3, 0.5
"""Of the speed stage, as :func:`zoo.bench.speed_session.time_models` has them."""

SKIPPED = "skipped: needs rain"
NOT_HERE = "unknown: no such device here"


@dataclass(frozen=True)
class Planned:
    """A benchmark whose data have been opened.

    Attributes:
        benchmark: what was asked for.
        trials: of all settings, in the order to run them.
        sizes: patches of each split, by setting.
        steps: optimiser steps of a training, by setting.
        audits: what the splits know of each other, by setting.
    """

    benchmark: Benchmark
    trials: list[TrialConfig]
    sizes: dict[str, dict[str, int]]
    steps: dict[str, int]
    audits: dict[str, AuditSummary]


def open_settings(benchmark: Benchmark, device: str, address: str | None = None) -> Planned:
    """Open the data of every setting, tell what they hold and whether they leak, and list the trials.

    Args:
        benchmark: what to run.
        device: as the user named it.
        address: of a Ray cluster, whose GPUs then count instead of this machine's.

    Raises:
        ZooError: if data are absent, a split is empty, or there is no such device.
    """
    from zoo.bench.benchmark import settings_of
    from zoo.cli.audit import print_verdict
    from zoo.cli.opening import open_splits

    place = _device(device, address)
    trials: list[TrialConfig] = []
    sizes: dict[str, dict[str, int]] = {}
    audits: dict[str, AuditSummary] = {}
    settings = settings_of(benchmark)
    for setting in settings:
        if setting.name:
            note(f"setting {setting.name}")
        splits = open_splits(setting.data)
        sizes[setting.name] = {split: len(dataset) for split, dataset in splits.items()}
        fingerprints = {split: dataset.fingerprint() for split, dataset in splits.items()}
        audits[setting.name] = print_verdict(splits, fingerprints)
        trials += benchmark.trials(setting, fingerprints, place)
    recipe = benchmark.recipe
    steps = {name: recipe.total_steps(counts["train"]) for name, counts in sizes.items()}
    return Planned(benchmark, trials, sizes, steps, audits)


def print_plan(planned: Planned, folder: Path, jobs: int, *, on_cluster: bool, json_file: Path | None) -> int:
    """Print the trials and what they cost, and give the exit code: 1 when some cannot run.

    Args:
        planned: what would run.
        folder: of the results; those that are there already are counted.
        jobs: trials at once.
        on_cluster: whether trials would run on another machine than this one.
        json_file: to write the rows to as well.
    """
    from zoo.bench.estimate import as_json, makespan, speed_stage_seconds
    from zoo.files import write_json_atomic

    costs = _costs(planned, folder, jobs)
    rows, records, waits, problems = [], [], [], {}
    sessions: set[str | None] = set()
    for config in planned.trials:
        cost = costs[_model_of(config)]
        seconds = cost.seconds(config, planned.sizes[config.setting])
        earlier = _earlier(folder, config)
        done = earlier is not None
        sessions.add(None if earlier is None else earlier.measured.get("speed_protocol", {}).get("session"))
        if cost.error:
            problems[config.plain.label] = cost.error
        elif not done and cost.source != SKIPPED:
            waits.append(seconds)
        steps = planned.steps[config.setting]
        records.append({**as_json(config, cost, seconds, steps), "done": done})
        rows.append(
            (
                config.label,
                config.setting,
                str(config.seed),
                _number(cost.parameters / 1e6, 2) if cost.parameters else "-",
                _number(cost.gmac, 2),
                "-" if config.adapted else str(steps),
                "-" if config.adapted else _number(cost.step_s, 3),
                "done" if done else "cannot run" if cost.error else clock(seconds),
                cost.source,
            )
        )
    headings = ("model", "setting", "seed", "Par. (M)", "GMAC", "steps", "s a step", "expected", "from")
    used = [place for place in range(len(headings)) if place != 1 or any(row[1] for row in rows)]
    console = out()
    right = headings[2:8]
    console.print()
    if planned.benchmark.title:
        console.print(planned.benchmark.title, style="bold", markup=False)
    console.print(make_table([headings[p] for p in used], [[row[p] for p in used] for row in rows], right=right))
    for label, problem in problems.items():
        note(f"error: {label}: {problem}")
    total = makespan(waits, jobs) if waits else 0.0
    timed = len(sessions) == 1 and None not in sessions
    times = planned.benchmark.speed and not timed
    speed = speed_stage_seconds(list(costs.values()), ROUNDS, SECONDS) if times else 0.0
    ahead = f"{len(waits)} of {len(planned.trials)} trials to run"
    several = f", {jobs} at once" if jobs > 1 else ""
    where = "as if they ran on this machine" if on_cluster else "on this machine"
    if math.isnan(total):
        console.print(f"\n{ahead}{several}; how long cannot be told here: this machine has no such device")
    else:
        console.print(f"\n{ahead}{several}: about {clock(total)} {where}, and {clock(speed)} to time the models")
    note("nothing was trained; 'measured now' is by a few training steps and a batch of evaluation")
    note(f"results would go to {relative(folder)}")
    if json_file is not None:
        write_json_atomic(json_file, {"seconds": _known(total), "speed_seconds": _known(speed), "trials": records})
    return EXIT_TRIALS_FAILED if problems else 0


def clock(seconds: float) -> str:
    """Seconds as people say them: ``48 s``, ``12 min``, ``3 h 20 min``."""
    if math.isnan(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _earlier(folder: Path, config: TrialConfig) -> TrialResult | None:
    from zoo.bench.runner import good_result
    from zoo.errors import ResultError

    try:
        return good_result(folder, config)
    except ResultError as error:
        note(f"{error.where}: {error.problem}. Its trial will be done anew")
        return None


def _costs(planned: Planned, folder: Path, jobs: int) -> dict[str, Cost]:
    """Of every model, from results in the folder or measured now."""
    import torch

    from zoo.bench.estimate import Cost, earlier_costs, measure_cost
    from zoo.bench.executors import threads_here
    from zoo.bench.worker import trial_context
    from zoo.cli.progress import progress
    from zoo.registry import Flag, catalogue
    from zoo.training.compute import describe_environment

    threads = max(1, threads_here() // jobs)
    models = {_model_of(config): config.plain for config in planned.trials}
    device = torch.device(planned.trials[0].device)
    if device.type == "cuda" and not torch.cuda.is_available():
        return dict.fromkeys(models, Cost(source=NOT_HERE))
    described = describe_environment(device)
    earlier = earlier_costs(folder, threads, described.device_name)
    costs: dict[str, Cost] = {}
    context = trial_context()
    with progress("measuring") as bar:
        for number, (model, config) in enumerate(models.items()):
            bar(number, len(models))
            known = earlier(config)
            if known is not None:
                costs[model] = known
            elif Flag.NEEDS_RAIN in catalogue().models.get(config.model).flags:
                costs[model] = Cost(source=SKIPPED)
            else:
                if not err().is_terminal:
                    note(f"[{number + 1}/{len(models)}] measuring a few steps of {config.label}")
                costs[model] = measure_cost(config, threads, context)
    return costs


def _known(seconds: float) -> float | None:
    return None if math.isnan(seconds) else seconds


def _model_of(config: TrialConfig) -> str:
    return repr((config.model, sorted(config.options.items())))


def _device(device: str, address: str | None) -> str:
    from zoo.training.compute import resolve_device

    if address is None:
        return str(resolve_device(device))
    from zoo.bench.ray_executor import device_on_cluster

    return device_on_cluster(address, device)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
