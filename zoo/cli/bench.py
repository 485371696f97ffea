"""``zoo bench``: compare models, or estimate the time of a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import EXIT_TRIALS_FAILED
from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.data_options import DATA_OPTIONS, collect, data_options, parse_assignments
from zoo.cli.progress import prepare_threads
from zoo.cli.recipe_options import OVERRIDES, recipe_options
from zoo.cli.values import PATH

if TYPE_CHECKING:
    from zoo.api.benchmark import BenchmarkPlan
    from zoo.api.results import Results
    from zoo.bench.plan import Estimate, PlannedTrial

PLAN_HEADINGS = ("model", "setting", "seed", "Par. (M)", "GMAC", "steps", "s/step", "expected", "from")


@click.command()
@click.option(
    "--config",
    type=PATH,
    metavar="FILE",
    help="TOML file that describes the benchmark, such as those of benchmarks/; other options override it.",
)
@click.option(
    "--models",
    default="all",
    show_default=True,
    metavar="all|NAMES|PATTERN",
    help="Models, separated by commas; with --config, labels, names or patterns that choose some of its models.",
)
@data_options("synthetic")
@recipe_options
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Trials per model: seeds 0 to N-1."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Concurrent trials per machine; its threads and GPUs are divided among them.",
)
@click.option("--ray", metavar="HOST:PORT|auto", help="Run trials on a Ray cluster (docs/how_to/bench.md).")
@click.option("--speed/--no-speed", default=True, help="Time the models after training.  [default: speed]")
@click.option(
    "--dry-run", is_flag=True, help="Check the input, print the trials and the time they would take, and exit."
)
@click.option(
    "--out",
    "folder",
    type=PATH,
    help="Folder for results, weights and logs; the same command continues an interrupted benchmark there.  "
    "[default: results; with --config results/NAME]",
)
@click.option("--json", "json_file", type=PATH, help="Write the rows to this file as well.")
def bench(
    config: Path | None,
    device: str,
    jobs: int,
    ray: str | None,
    dry_run: bool,
    folder: Path | None,
    json_file: Path | None,
    **given: Any,
) -> None:
    """Train and measure models on the same patches, steps and seeds, and print one table.

    \b
    zoo bench --models all
    zoo bench --models 'unet,*plus' --seeds 3 --out results/unets
    zoo bench --data patches --group-column scene --train-groups S1 --test-groups S2,S3
    zoo bench --config benchmarks/table3_convolutions.toml --dry-run

    Every trial runs in its own process and writes one result file and one bundle. A trial that fails gets a row with
    the reason. Ctrl-C keeps finished trials; the same command resumes, even in the middle of a training run. Exit code
    0: all trials have figures; 1: some do not; 2: bad input.
    """
    from zoo.api.benchmark import plan_benchmark
    from zoo.cli.bench_view import TerminalView
    from zoo.files import check_outputs

    context = click.get_current_context()

    def chosen(name: str) -> Any:
        """Return the value of an option; ``None`` if the configuration sets it and the user did not give it."""
        given_by_user = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        return given[name] if config is None or given_by_user else None

    check_outputs([json_file], [] if config is None else [config], overwrite=True)
    prepare_threads()
    view = TerminalView()
    plan = plan_benchmark(
        chosen("models"),
        chosen("data"),
        config=config,
        data_options=collect(given["data_options"], **{name: given[name] for name in DATA_OPTIONS}),
        recipe=chosen("recipe"),
        recipe_options=_recipe_changes(given),
        seeds=chosen("seeds"),
        out=folder,
        jobs=jobs,
        ray=ray,
        device=device,
        speed=chosen("speed"),
        view=view,
    )
    if dry_run:
        found = plan.estimate()
        view.stop()
        _print_estimate(plan, found, json_file)
        context.exit(EXIT_TRIALS_FAILED if found.problems else 0)
    results = plan.run()
    view.stop()
    _print_results(plan, results, json_file)
    if any(result.status in ("failed", "out-of-memory") for result in results):
        context.exit(EXIT_TRIALS_FAILED)


def _recipe_changes(given: dict[str, Any]) -> dict[str, Any]:
    loss_options = parse_assignments(given["loss_options"], "--loss-option")
    return {**{name: given[name] for name in OVERRIDES}, "loss_options": loss_options or None}


def _print_results(plan: BenchmarkPlan, results: Results, json_file: Path | None) -> None:
    from zoo.cli.tables import metric_warnings, print_leaderboard
    from zoo.files import write_text_atomic

    for text in dict.fromkeys(
        f"{result.config.plain.label}: speed not measured: {protocol.error}"
        for result in results
        if (protocol := result.speed_protocol) is not None and protocol.error and not result.speed
    ):
        warn(text)
    with metric_warnings():
        for board in results.leaderboards:
            print_leaderboard(board, out())
    place = relative(plan.folder)
    if plan.other_results and plan.benchmark.name:
        note(f"results from an earlier version of this configuration in {place}: {plan.other_results}")
    note(f"results, weights and logs are in {place}; print the table again: zoo report {place}")
    if json_file is not None:
        write_text_atomic(json_file, results.json())


def _print_estimate(plan: BenchmarkPlan, found: Estimate, json_file: Path | None) -> None:
    """Print the trials of a plan and the time that they take."""
    from zoo.files import write_json_atomic

    rows = [_plan_row(trial) for trial in found.trials]
    used = [place for place in range(len(PLAN_HEADINGS)) if place != 1 or any(row[1] for row in rows)]
    console = out()
    console.print()
    if plan.benchmark.title:
        console.print(plan.benchmark.title, style="bold", markup=False)
    headings, cells = [PLAN_HEADINGS[place] for place in used], [[row[place] for place in used] for row in rows]
    console.print(make_table(headings, cells, right=PLAN_HEADINGS[2:8]))
    for error in found.damaged:
        note(f"the trial of {error.where} will be repeated: {error.problem}")
    for label, problem in found.problems.items():
        note(f"error: {label}: {problem}")
    several = f", {plan.jobs} at a time" if plan.jobs > 1 else ""
    ahead = f"{found.to_run} of {len(found.trials)} trials to run{several}"
    where = "on this machine" if plan.ray is None else "if they ran on this machine"
    if math.isnan(found.seconds):
        console.print(f"\n{ahead}; the time is unknown: this machine has no such device")
    else:
        speed = _duration(found.speed_seconds)
        console.print(f"\n{ahead}: about {_duration(found.seconds)} {where}, and {speed} to time the models")
    note("nothing was trained; 'measured now' means timed over a few training steps and one batch of evaluation")
    note(f"results would go to {relative(plan.folder)}")
    if json_file is not None:
        write_json_atomic(json_file, found.to_dict())


def _plan_row(trial: PlannedTrial) -> tuple[str, ...]:
    config, cost = trial.config, trial.cost
    return (
        config.label,
        config.setting,
        str(config.seed),
        _number(cost.parameters / 1e6, 2) if cost.parameters else "-",
        _number(cost.gmac, 2),
        "-" if config.adapted else str(trial.steps),
        "-" if config.adapted else _number(cost.step_s, 3),
        "done" if trial.done else "cannot run" if cost.error else _duration(trial.seconds),
        f"{cost.source}: needs {cost.lacking}" if cost.lacking else cost.source,
    )


def _duration(seconds: float) -> str:
    """Format seconds in readable units: ``48 s``, ``12 min``, ``3 h 20 min``."""
    if math.isnan(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
