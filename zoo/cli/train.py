"""``zoo train``: train one model and save it as a bundle with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import err, note, out, relative, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.cli.opening import fetch_bundle
from zoo.cli.progress import prepare_threads
from zoo.cli.recipe_options import OVERRIDES, chosen_recipe, fine_tuning_options, recipe_options
from zoo.cli.values import PATH
from zoo.registry import Flag, catalogue

if TYPE_CHECKING:
    from zoo.bench.config import TrialConfig
    from zoo.bench.results import TrialResult
    from zoo.cli.bench_view import BenchView
    from zoo.datasets.audit import AuditSummary
    from zoo.training.finetuning import Transfer


@click.command()
@click.argument("model")
@data_options("synthetic")
@recipe_options
@fine_tuning_options
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the model; may be repeated.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Seed of the weights, the order of the patches and the augmentation.",
)  # fmt: skip
@click.option(
    "--out",
    "folder",
    type=PATH,
    required=True,
    help="Folder for the bundle, the result, the pictures and the resume state.",
)
@click.option("--speed/--no-speed", default=True, help="Time the model after training.  [default: speed]")
@click.option("--half", is_flag=True, help="Store the weights as float16: half the size, nearly the same figures.")
@click.option("--resume", is_flag=True, help="Resume from the resume state in --out; keep a finished run.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle in --out.")
def train(
    model: str,
    data: str,
    recipe: str,
    device: str,
    options: tuple[str, ...],
    parent: str | None,
    freeze: tuple[str, ...],
    old_lr_factor: float,
    seed: int,
    folder: Path,
    speed: bool,
    half: bool,
    resume: bool,
    overwrite: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Train MODEL, measure it on the test split and write a bundle.

    \b
    zoo train enhanced_unet --out runs/enhanced_unet
    zoo train segnet --option decoder=lite --recipe modern --out runs/segnet
    zoo train unet --data patches/ --group-column scene --test-groups S2 --out runs/unet --resume
    zoo train unet --loss focal --loss-option gamma=3 --out runs/focal
    zoo train unet --from runs/unet --freeze encoder --data my_patches/ --out runs/tuned

    --out holds model.safetensors and bundle.json (the bundle), trials/ (the result, for zoo report), loss_curve.png and
    predictions.png. After Ctrl-C or a crash, --resume continues from the last saved step.
    """
    from zoo.api.train import TrainingError
    from zoo.api.train import train as train_model
    from zoo.cli.opening import open_splits

    chosen = chosen_recipe(recipe, {name: given.pop(name) for name in OVERRIDES})
    if parent is not None:
        fetch_bundle(parent)
    prepare_threads()
    view = _TrainingView()
    try:
        trained = train_model(
            model,
            data,
            data_options=collect(data_options, **given),
            recipe=chosen,
            seed=seed,
            device=device,
            out=folder,
            options=parse_assignments(options, "--option"),
            half=half,
            resume=resume,
            from_=parent,
            freeze=freeze,
            old_lr_factor=old_lr_factor,
            overwrite=overwrite,
            speed=speed,
            progress=view.progress,
            open_splits=open_splits,
            on_open=view.opened,
            on_transfer=_print_transfer,
        )
    except KeyboardInterrupt:
        warn("stopped; the same command with --resume continues from the last saved step")
        raise
    except TrainingError as error:
        view.finish(error.result)
        click.get_current_context().exit(1)
    finally:
        view.close()
    assert trained.result is not None
    if view.config is None:
        note(f"already done: {relative(folder)} holds the finished run of this command (--overwrite trains again)")
    view.finish(trained.result)
    note(f"bundle, result and pictures are in {relative(folder)}; evaluate again: zoo evaluate {relative(folder)}")


def _print_transfer(transfer: Transfer) -> None:
    """Print which weights are copied, frozen and new."""
    note(f"starts from {transfer.settings.parent} (sha256 {transfer.settings.sha256[:12]})")
    for text in transfer.notes:
        note(text)
    for text in transfer.warnings:
        warn(text)


class _TrainingView:
    """View of the progress and the result of one training run."""

    def __init__(self) -> None:
        self.config: TrialConfig | None = None
        self._view: BenchView | None = None

    def opened(self, config: TrialConfig, splits: Any) -> AuditSummary:
        """Print what is trained and whether its splits leak, and start the progress display."""
        from zoo.cli.bench_view import BenchView, TerminalView, warn_of_precision

        audit = TerminalView().audit(splits, config.fingerprints)
        if Flag.UNTRAINED in catalogue().models.get(config.model).flags:
            note(f"{config.label}: not trained, because it has no parameters")
        else:
            steps = config.recipe.total_steps(len(splits["train"]))
            note(f"{config.label}: {steps} steps of batch {config.recipe.batch_size} on {config.device}")
            warn_of_precision(config)
        self.config, self._view = config, BenchView.of_run(config, splits, err())
        self._view.__enter__()
        return audit

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show progress."""
        if self._view is not None and self.config is not None:
            self._view.progress(self.config, stage, done, total)

    def close(self) -> None:
        """Stop the progress display."""
        if self._view is not None:
            self._view.__exit__(None, None, None)

    def finish(self, result: TrialResult) -> None:
        """Print the row of the leaderboard."""
        from zoo.api.results import Results
        from zoo.cli.tables import metric_warnings, print_leaderboard

        self.close()
        if self._view is not None and self.config is not None:
            self._view.finished(self.config, result)
        with metric_warnings():
            for board in Results([result]).leaderboards:
                print_leaderboard(board, out())
