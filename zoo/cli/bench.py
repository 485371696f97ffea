"""``zoo bench``: the main job."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import EXIT_TRIALS_FAILED
from zoo.cli.console import err, note, out, relative, warn
from zoo.cli.data_options import DATA_OPTIONS, collect, data_options, parse_assignments
from zoo.cli.recipe_options import OVERRIDES, recipe_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.bench.benchmark import Benchmark
    from zoo.bench.config import TrialConfig
    from zoo.bench.plan import Plan
    from zoo.bench.results import TrialResult


@click.command(short_help="Compare models on one data set, or run a benchmark's configuration.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run what a TOML file describes, such as those of benchmarks/; other options override it.",
)
@click.option(
    "--models",
    default="all",
    show_default=True,
    metavar="all|NAMES|PATTERN",
    help="Models, separated by commas; with --config, those of its models that are so labelled or named.",
)
@data_options("synthetic")
@recipe_options
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trials a model: seeds 0 to N-1.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Trials at once on a machine; threads are divided among them, and GPUs where there are several.",
)
@click.option("--ray", "address", metavar="HOST:PORT|auto", help="Run trials on a Ray cluster (docs/how_to/bench.md).")
@click.option("--speed/--no-speed", default=True, help="Time the models after the training.  [default: speed]")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would run and how long it takes, and stop.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder for results, weights and logs; a second call with the same options goes on where the first ended.  "
    "[default: results, with --config results/NAME]",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to this file as well.")
def bench(
    config_file: Path | None,
    device: str,
    jobs: int,
    address: str | None,
    dry_run: bool,
    folder: Path | None,
    json_file: Path | None,
    **given: Any,
) -> None:
    """Train and measure models on the same patches, steps and seeds, and print one table.

    \b
    zoo bench --models all
    zoo bench --models 'unet,*plus' --seeds 3 --out comparison
    zoo bench --data patches --group-column scene --train-groups S1 --test-groups S2,S3
    zoo bench --config benchmarks/table3_convolutions.toml --dry-run

    Every trial runs in its own process and leaves one result file and one bundle. What fails gets a row that says
    why; Ctrl-C keeps what is finished, and the same command goes on, also in the middle of a training. Exit code 0:
    all trials have figures; 1: some do not; 2: bad input.
    """
    from zoo.bench.results import check_folder, claimed
    from zoo.files import check_writable_folder

    context = click.get_current_context()
    overriding = {
        name for name in given if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    benchmark = _benchmark(config_file, overriding, given)
    folder = folder or (Path("results") / benchmark.name if benchmark.name else Path("results"))
    check_folder(folder, benchmark.name)
    if json_file is not None:
        check_writable_folder(json_file.parent)

    from zoo.jobs import prepare

    prepare("zoo.bench.trial")

    from zoo.cli.bench_plan import open_plan, print_plan

    with ExitStack() as stack:
        if address is not None:
            from zoo.jobs import connected

            stack.enter_context(connected(address))
        planned = open_plan(benchmark, device, address)
        if dry_run:
            context.exit(print_plan(planned, folder, jobs, on_cluster=address is not None, json_file=json_file))
        trials = planned.trials
        steps = " or ".join(map(str, sorted(set(planned.steps.values()))))
        note(
            f"recipe {benchmark.recipe.name}: {steps} steps of batch {benchmark.recipe.batch_size} for every model; "
            f"{len(trials)} trial{'s' if len(trials) > 1 else ''} on {trials[0].device}"
        )
        stack.enter_context(claimed(folder, benchmark.to_dict()))
        results = _run(planned, folder, jobs, address)
        if benchmark.speed:
            results = _time(results, folder, address)
    _report(results, trials, folder, json_file)
    if any(result.status in ("failed", "out-of-memory") for result in results):
        context.exit(EXIT_TRIALS_FAILED)


def _benchmark(config_file: Path | None, overriding: set[str], given: dict[str, Any]) -> Benchmark:
    """The file with what flags override, or what flags alone say."""
    from dataclasses import replace

    from zoo.bench.benchmark import Benchmark, ModelEntry, load_benchmark
    from zoo.bench.config import select_models
    from zoo.datasets.source import DataSource
    from zoo.errors import ConfigError
    from zoo.registry import catalogue, check_options

    recipe_changes = {name: given[name] for name in OVERRIDES}
    recipe_changes["loss_options"] = parse_assignments(given["loss_options"], "--loss-option") or None
    if given["steps"] is not None and given["epochs"] is not None:
        raise ConfigError("--steps and --epochs exclude each other")
    data_given = collect(given["data_options"], **{name: given[name] for name in DATA_OPTIONS})
    if config_file is None:
        entries = tuple(ModelEntry(name) for name in select_models(given["models"]))
        data = DataSource.parse(given["data"], data_given)
        plain = Benchmark("", "", entries, data, given["recipe"], {}, tuple(range(given["seeds"])))
        return replace(plain, speed=given["speed"]).with_recipe(None, recipe_changes)
    benchmark = load_benchmark(config_file)
    if "models" in overriding:
        benchmark = benchmark.selected(given["models"])
    if "data" in overriding:
        benchmark = replace(benchmark, data=DataSource.parse(given["data"], data_given))
    elif data_given:
        data = benchmark.data
        benchmark = replace(benchmark, data=DataSource(data.name, {**data.options, **data_given}))
    common = ("root", "transforms", "progress")
    options = {name: value for name, value in benchmark.data.options.items() if name not in common}
    check_options(catalogue().datasets.get(benchmark.data.name), options)
    if "seeds" in overriding:
        benchmark = replace(benchmark, seeds=tuple(range(given["seeds"])))
    if "speed" in overriding:
        benchmark = replace(benchmark, speed=given["speed"])
    return benchmark.with_recipe(given["recipe"] if "recipe" in overriding else None, recipe_changes)


def _run(planned: Plan, folder: Path, jobs: int, address: str | None) -> list[TrialResult]:
    from zoo.bench.results import TrialResult
    from zoo.bench.runner import Runner, gpus_here, threads_here
    from zoo.cli.bench_view import BenchView
    from zoo.jobs import Executor, JobProgress, LocalExecutor, RayExecutor

    def executor(progress: JobProgress) -> Executor[TrialResult]:
        if address is not None:
            return RayExecutor[TrialResult](address, jobs, progress)
        return LocalExecutor[TrialResult](jobs, progress, threads=threads_here(), gpus=gpus_here())

    trials = planned.trials
    view = BenchView(trials, err())
    try:
        with view:
            return Runner(folder, executor, planned.audits).run(trials, view)
    except KeyboardInterrupt:
        warn(f"stopped; {view.done} of {len(trials)} trials are finished, and the same command goes on from there")
        raise


def _time(results: Sequence[TrialResult], folder: Path, address: str | None) -> list[TrialResult]:
    from zoo.bench.speed_session import (
        SpeedReport,
        SpeedSubject,
        time_models,
        time_models_on_cluster,
        time_results,
    )
    from zoo.cli.progress import progress

    def measure(subjects: Sequence[SpeedSubject]) -> list[SpeedReport]:
        note(
            f"timing {len(subjects)} model{'s' if len(subjects) > 1 else ''} beside each other, each in fresh processes"
        )
        if address is not None:
            return time_models_on_cluster(address, subjects)
        with progress("timing") as bar:
            return time_models(subjects, progress=bar)

    try:
        timed = time_results(results, folder, measure)
    except KeyboardInterrupt:
        warn("stopped; all trials are finished, and the same command goes on with their speed")
        raise
    for text in dict.fromkeys(
        f"{result.config.plain.label}: speed not measured: {protocol.error}"
        for result in timed
        if (protocol := result.speed_protocol) is not None and protocol.error and not result.speed
    ):
        warn(text)
    return timed


def _report(
    results: Sequence[TrialResult], trials: Sequence[TrialConfig], folder: Path, json_file: Path | None
) -> None:
    from zoo.bench.leaderboard import make_leaderboards
    from zoo.bench.results import trial_files
    from zoo.bench.tables import as_json
    from zoo.cli.tables import print_leaderboard
    from zoo.files import write_text_atomic

    boards = make_leaderboards(results)
    for board in boards:
        print_leaderboard(board, out())
    others = len({path.stem for path in trial_files(folder)} - {config.file_stem for config in trials})
    if others and trials[0].benchmark:
        note(f"{relative(folder)} holds {others} more results, of an earlier form of this configuration")
    note(f"results, weights and logs are in {relative(folder)}; print the table again: zoo report {relative(folder)}")
    if json_file is not None:
        write_text_atomic(json_file, as_json(row for board in boards for row in board.rows))
