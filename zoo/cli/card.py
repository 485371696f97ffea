"""``zoo card``: the model card of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.bundle_source import bundle_argument, open_bundle
from zoo.cli.console import note, out, relative, warn
from zoo.cli.data_options import collect, data_options
from zoo.cli.progress import stage_progress
from zoo.cli.values import PATH
from zoo.errors import ConfigError


@click.command()
@bundle_argument
@data_options(None)
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True,
    help="Split of --data to measure and to show.",
)  # fmt: skip
@click.option("--notes", type=PATH, metavar="FILE", help="TOML file with what you want to add.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
def card(
    bundle: str,
    sha256: str | None,
    data: str | None,
    split: str,
    notes: Path | None,
    device: str,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Write README.md, the model card, beside BUNDLE, as the Hugging Face hub shows it.

    \b
    zoo card runs/unet
    zoo card runs/unet --data patches/ --group-column scene --test-groups S2
    zoo card runs/unet --data patches/ --notes notes.toml

    The card says what the model takes, how it was trained and how well it does, with intervals. With --data, it shows
    the worst and the typical patches, and their figures are recorded in the bundle. docs/how_to/card.md lists the
    fields of --notes.
    """
    from zoo.cli.opening import data_warnings

    model = open_bundle(bundle, sha256, device)
    if model.folder is None:
        hint = f"Copy it first: zoo pull {bundle} --out runs/copy"
        raise ConfigError("a card is written into a bundle folder of yours", where=bundle, hint=hint)
    with data_warnings(), stage_progress("reading the data") as show:
        path = model.write_card(data=data, split=split, notes=notes, progress=show, **collect(data_options, **given))
    out().print(model.quality(), markup=False)
    for text in model.quality_warnings():
        warn(text)
    note(f"model card in {relative(path)}")
