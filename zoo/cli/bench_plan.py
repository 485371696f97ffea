"""Show what a benchmark will do before it is done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import EXIT_TRIALS_FAILED
from zoo.cli.console import err, make_table, note, out, relative

if TYPE_CHECKING:
    from zoo.bench.benchmark import Benchmark, Setting
    from zoo.bench.config import TrialConfig
    from zoo.bench.plan import Estimate, Plan, PlannedTrial

HEADINGS = ("model", "setting", "seed", "Par. (M)", "GMAC", "steps", "s/step", "expected", "from")


def open_plan(benchmark: Benchmark, device: str, address: str | None = None) -> Plan:
    """Open the data of every setting and print what they hold and whether the splits leak.

    Args:
        benchmark: the benchmark.
        device: device as the user named it.
        address: address of a Ray cluster, whose GPUs then count in place of this machine's.

    Raises:
        ZooError: if data are missing, a split is empty, or there is no such device.
    """
    from zoo.bench.plan import make_plan
    from zoo.cli.audit import print_verdict
    from zoo.cli.opening import open_splits

    def announce(setting: Setting) -> None:
        if setting.name:
            note(f"setting {setting.name}")

    return make_plan(benchmark, device, address, on_setting=announce, open_data=open_splits, audit=print_verdict)


def print_plan(planned: Plan, folder: Path, jobs: int, *, on_cluster: bool, json_file: Path | None) -> int:
    """Print the trials and their cost; return the exit code, which is 1 when some cannot run.

    Args:
        planned: the plan.
        folder: folder of the results; those that exist are counted.
        jobs: trials at a time.
        on_cluster: whether trials would run on other machines.
        json_file: file to write the plan to as well.
    """
    from zoo.bench.plan import estimate
    from zoo.cli.progress import progress
    from zoo.files import write_json_atomic

    with progress("measuring") as bar:

        def show(number: int, models: int, config: TrialConfig) -> None:
            bar(number, models)
            if not err().is_terminal:
                note(f"[{number + 1}/{models}] measuring a few steps of {config.label}")

        found = estimate(planned, folder, jobs, show)
    rows = [_row(trial) for trial in found.trials]
    used = [place for place in range(len(HEADINGS)) if place != 1 or any(row[1] for row in rows)]
    console = out()
    console.print()
    if planned.benchmark.title:
        console.print(planned.benchmark.title, style="bold", markup=False)
    headings, cells = [HEADINGS[place] for place in used], [[row[place] for place in used] for row in rows]
    console.print(make_table(headings, cells, right=HEADINGS[2:8]))
    for error in found.damaged:
        note(f"{error.where}: {error.problem}. Its trial will be repeated")
    for label, problem in found.problems.items():
        note(f"error: {label}: {problem}")
    console.print(f"\n{_summary(found, jobs, on_cluster)}")
    note("nothing was trained; 'measured now' takes a few training steps and a batch of evaluation")
    note(f"results would go to {relative(folder)}")
    if json_file is not None:
        write_json_atomic(json_file, found.to_dict())
    return EXIT_TRIALS_FAILED if found.problems else 0


def clock(seconds: float) -> str:
    """Return seconds as people write them: ``48 s``, ``12 min``, ``3 h 20 min``."""
    if math.isnan(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _row(trial: PlannedTrial) -> tuple[str, ...]:
    config, cost = trial.config, trial.cost
    return (
        config.label,
        config.setting,
        str(config.seed),
        _number(cost.parameters / 1e6, 2) if cost.parameters else "-",
        _number(cost.gmac, 2),
        "-" if config.adapted else str(trial.steps),
        "-" if config.adapted else _number(cost.step_s, 3),
        "done" if trial.done else "cannot run" if cost.error else clock(trial.seconds),
        cost.source,
    )


def _summary(found: Estimate, jobs: int, on_cluster: bool) -> str:
    several = f", {jobs} at a time" if jobs > 1 else ""
    ahead = f"{found.to_run} of {len(found.trials)} trials to run{several}"
    if math.isnan(found.seconds):
        return f"{ahead}; the time is unknown: this machine has no such device"
    where = "if they ran on this machine" if on_cluster else "on this machine"
    return f"{ahead}: about {clock(found.seconds)} {where}, and {clock(found.speed_seconds)} to time the models"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
