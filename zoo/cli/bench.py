"""``zoo bench``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli import EXIT_TRIALS_FAILED
from zoo.cli.console import err, note, out, relative, warn
from zoo.cli.data_options import collect, data_options
from zoo.cli.recipe_options import OVERRIDES, chosen_recipe, recipe_options


@click.command(short_help="Compare models on one data set.")
@click.option(
    "--models", default="all", show_default=True, metavar="all|NAMES|PATTERN", help="Models, separated by commas."
)
@data_options("synthetic")
@recipe_options
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trials a model: seeds 0 to N-1.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder for results, weights and logs; a second call with the same options goes on where the first ended.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to this file as well.")
def bench(
    models: str,
    data: str,
    recipe: str,
    device: str,
    seeds: int,
    folder: Path,
    json_file: Path | None,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Train and measure models on the same patches, steps and seeds, and print one table.

    \b
    zoo bench --models all
    zoo bench --models 'unet,*plus' --seeds 3 --out comparison
    zoo bench --data patches --group-column scene --train-groups S1 --test-groups S2,S3

    Every trial runs in its own process and leaves one result file and one bundle. What fails gets a row that says
    why; Ctrl-C keeps what is finished. Exit code 0: all trials have figures; 1: some do not; 2: bad input.
    """
    from zoo.bench.config import DataSource, select_models
    from zoo.files import check_writable_folder

    overrides = {name: given.pop(name) for name in OVERRIDES}
    names = select_models(models)
    chosen = chosen_recipe(recipe, overrides)
    source = DataSource.parse(data, collect(data_options, **given))
    check_writable_folder(folder)
    if json_file is not None:
        check_writable_folder(json_file.parent)

    from zoo.bench.worker import trial_context

    trial_context()

    from zoo.bench.config import TrialConfig
    from zoo.bench.leaderboard import make_rows
    from zoo.bench.render import as_json
    from zoo.bench.runner import Runner
    from zoo.cli.audit import print_verdict
    from zoo.cli.bench_view import BenchView
    from zoo.cli.opening import open_splits
    from zoo.cli.tables import print_leaderboard
    from zoo.files import write_text_atomic
    from zoo.training.environment import resolve_device

    place = str(resolve_device(device))
    splits = open_splits(source)
    fingerprints = {split: dataset.fingerprint() for split, dataset in splits.items()}
    print_verdict(splits, fingerprints)
    trials = [
        TrialConfig(name, {}, source, fingerprints, chosen, seed, place) for seed in range(seeds) for name in names
    ]
    steps = chosen.total_steps(len(splits["train"]))
    note(
        f"recipe {chosen.name}: {steps} steps of batch {chosen.batch_size} for every model; "
        f"{len(trials)} trial{'s' if len(trials) > 1 else ''} on {place}"
    )
    view = BenchView(trials, err())
    try:
        with view:
            results = Runner(folder).run(trials, view)
    except KeyboardInterrupt:
        warn(f"stopped; {view.done} of {len(trials)} trials are finished, and the same command goes on from there")
        raise
    rows = make_rows(results)
    print_leaderboard(results, rows, out())
    note(f"results, weights and logs are in {relative(folder)}; print the table again: zoo report {relative(folder)}")
    if json_file is not None:
        write_text_atomic(json_file, as_json(rows))
    if any(result.status in ("failed", "out-of-memory") for result in results):
        click.get_current_context().exit(EXIT_TRIALS_FAILED)
