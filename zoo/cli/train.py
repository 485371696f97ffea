"""``zoo train``: one model, kept as a bundle with its pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from zoo.cli.console import err, note, out, relative, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.cli.recipe_options import OVERRIDES, chosen_recipe, recipe_options


@click.command(short_help="Train one model and keep it as a bundle.")
@click.argument("model")
@data_options("synthetic")
@recipe_options
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the model; may be repeated.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order, augmentation.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the bundle, the result, the pictures and, while it trains, the resume state.",
)
@click.option("--resume", is_flag=True, help="Go on from the resume state in the folder, where there is one.")
def train(
    model: str,
    data: str,
    recipe: str,
    device: str,
    options: tuple[str, ...],
    seed: int,
    folder: Path,
    resume: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Train MODEL, measure it on the test split and write a bundle.

    \b
    zoo train enhanced_unet --out run
    zoo train segnet --option decoder=lite --recipe modern --out run
    zoo train unet --data patches --group-column scene --test-groups S2 --out run --resume

    OUT holds model.safetensors and bundle.json (the bundle), trials/ (the result, for zoo report), loss_curve.png
    and predictions.png. After Ctrl-C or a crash, --resume goes on from the last resume state.
    """
    from zoo.datasets.source import DataSource
    from zoo.errors import ConfigError
    from zoo.files import check_writable_folder
    from zoo.registry import catalogue, check_options

    overrides = {name: given.pop(name) for name in OVERRIDES}
    chosen = chosen_recipe(recipe, overrides)
    model_options = check_options(catalogue().models.get(model), parse_assignments(options, "--option"))
    source = DataSource.parse(data, collect(data_options, **given))
    check_writable_folder(folder)
    if (folder / "bundle.json").exists() and not resume:
        raise ConfigError("holds a bundle already", where=folder, hint="Name another --out, or delete the old bundle")

    from zoo.jobs import prepare, run_job

    prepare("zoo.bench.trial")

    from zoo.bench.config import TrialConfig
    from zoo.bench.leaderboard import Leaderboard, make_rows
    from zoo.bench.runner import result_of, trial_job
    from zoo.bench.speed_session import SpeedSettings, time_models, time_results
    from zoo.cli.audit import print_verdict
    from zoo.cli.bench_view import BenchView
    from zoo.cli.opening import open_splits
    from zoo.cli.tables import print_leaderboard
    from zoo.training.bundle import Bundle
    from zoo.training.compute import resolve_device
    from zoo.training.pictures import save_loss_curve, save_predictions

    place = str(resolve_device(device))
    splits = open_splits(source)
    fingerprints = {split: dataset.fingerprint() for split, dataset in splits.items()}
    found = print_verdict(splits, fingerprints)
    config = TrialConfig(model, model_options, source, fingerprints, chosen, seed, place)
    note(f"{config.label}: {chosen.total_steps(len(splits['train']))} steps of batch {chosen.batch_size} on {place}")
    state = folder / "resume" / config.key
    view = BenchView([config], err())
    try:
        with view:
            job = trial_job(config, bundle=folder, log=folder / "train.log", state=state, resume=resume)
            outcome = run_job(job, lambda stage, done, total: view.progress(config, stage, done, total))
            result = result_of(config, outcome)
    except KeyboardInterrupt:
        warn("stopped; the same command with --resume goes on from the last saved step")
        raise
    result = result.with_audit(found)
    result.save(folder)
    view.finished(config, result)
    (result,) = time_results([result], folder, partial(time_models, settings=SpeedSettings(rounds=1)))
    print_leaderboard(Leaderboard([result], make_rows([result])), out())
    if not result.ok:
        click.get_current_context().exit(1)
    bundle = Bundle.load(folder)
    curve = result.training.curve if result.training else ()
    save_loss_curve(curve, folder / "loss_curve.png", f"{config.label}, {chosen.name}")
    save_predictions(
        bundle.predictor(), bundle.compute_format, splits["test"], bundle.threshold, folder / "predictions.png"
    )
    _forget(state)
    note(f"bundle, result and pictures are in {relative(folder)}; measure again: zoo evaluate {relative(folder)}")


def _forget(state: Path) -> None:
    import shutil

    shutil.rmtree(state, ignore_errors=True)
    if state.parent.is_dir() and not any(state.parent.iterdir()):
        state.parent.rmdir()
