"""``zoo weights``, ``zoo pull``, ``zoo push`` and ``zoo card``: list, download, upload and describe trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.catalogue import matching, print_columns, print_title, shown
from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.data_options import collect, data_options
from zoo.cli.opening import bundle_argument, data_warnings, download_progress, open_bundle, sha256_option
from zoo.cli.progress import stage_progress
from zoo.cli.values import AS_JSON, PATH
from zoo.errors import ConfigError
from zoo.registry import catalogue, provider_of

if TYPE_CHECKING:
    from zoo.registry import MeasuredFigures, WeightsSpec


@click.command()
@click.argument("words", nargs=-1, metavar="[PATTERN] | show NAME")
@AS_JSON
def weights(words: tuple[str, ...], as_json: bool) -> None:
    """List the trained weights whose name matches PATTERN (such as 'unet/*'), or show everything about one of them.

    \b
    zoo weights
    zoo weights show unet/landslide4sense-rgb
    zoo map unet/landslide4sense-rgb scene.tif --out map.tif

    A name works wherever a bundle folder does. Weights that are not in an installed package are downloaded on first
    use. docs/how_to/weights.md describes the other sources: a .zip, an https address, a hub repository.
    """
    table = catalogue().weights
    one = shown(words, table, "zoo weights show unet/landslide4sense-rgb", "zoo weights 'unet/*'")
    if one is not None:
        _show(one, as_json)
        return
    specs = matching(words, table)
    if as_json:
        print_json([{**spec.to_dict(), "provider": table.provider(spec.name)} for spec in specs])
        return
    headings = ("weights", "bands", "pixel", "size (MB)", "Dice", "summary", "provider")
    rows = [
        (
            spec.name,
            ", ".join(name for name, _ in spec.bands),
            _metres(spec.pixel_size),
            _megabytes(spec.size),
            _figure(spec.figures[0].dice) if spec.figures else "",
            spec.summary,
            table.provider(spec.name),
        )
        for spec in specs
    ]
    print_columns(headings, rows, right=("size (MB)", "Dice"))
    if not specs:
        note("No installed package registers weights. In a checkout of zoo, run: pip install ./plugins/zoo-weights")


def _show(spec: WeightsSpec, as_json: bool) -> None:
    provider = provider_of("weights", spec.name)
    if as_json:
        print_json({**spec.to_dict(), "provider": provider.plugin})
        return
    console = out()
    print_title(console, spec)
    options = ", ".join(f"{name}={value}" for name, value in spec.options.items())
    facts = [
        ("model", f"{spec.model} ({options})" if options else spec.model),
        ("bands", ", ".join(f"{name} [{unit}]" for name, unit in spec.bands)),
        ("pixel size", _metres(spec.pixel_size) or "unknown"),
        ("classes", ", ".join(spec.class_names)),
        ("threshold", f"{spec.threshold:.6g}"),
        ("training data", spec.data or "not stated"),
        ("licence", spec.licence or "not stated"),
        ("size", "unknown" if spec.size is None else f"{spec.size:,} bytes"),
        ("sha256", spec.sha256 or "not stated"),
        ("location", spec.location),
        ("provider", f"{provider.plugin} {provider.version}".rstrip()),
    ]
    console.print(make_table(("", ""), facts))
    if spec.figures:
        headings = ("measured on", "patches", "Dice", "95 % interval", "precision", "recall", "IoU")
        console.print()
        console.print(make_table(headings, [_row(figure) for figure in spec.figures], right=headings[1:]))
    if spec.limits:
        console.print("\n[bold]known limits[/bold]")
        for text in spec.limits:
            console.print(f"- {text}", markup=False)
    console.print(f"\nuse it: zoo map {spec.name} scene.tif --out map.tif", markup=False)


def _row(figures: MeasuredFigures) -> tuple[str, ...]:
    low_high = figures.dice_interval
    return (
        ", ".join(filter(None, (figures.data, figures.split, figures.group, "adapted" if figures.adapted else ""))),
        f"{figures.patches:,}" if figures.patches else "",
        _figure(figures.dice),
        "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}",
        *(_figure(value) for value in (figures.precision, figures.recall, figures.iou)),
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _metres(size: float | None) -> str:
    return "" if size is None else f"{size:g} m"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


@click.command()
@click.argument("bundle")
@click.argument("target", metavar="hf://OWNER/REPO")
@click.option("--private", is_flag=True, help="Create the repository as private.")
@click.option("--message", default="", help="First line of the commit.")
def push(bundle: str, target: str, private: bool, message: str) -> None:
    """Upload BUNDLE to a model repository of the Hugging Face hub, as one commit.

    \b
    zoo push runs/unet hf://survey/landslides
    zoo push runs/unet hf://survey/landslides@candidate --private

    The commit holds model.safetensors, bundle.json, README.md (the model card) and its pictures. The repository is
    created if it does not exist. Log in first: hf auth login, or set HF_TOKEN. HF_ENDPOINT names another hub.
    """
    from zoo.api.weights import push as push_bundle

    note(f"uploading to {target}")
    done = push_bundle(bundle, target, private=private, message=message, notify=warn)
    click.echo(done.address)
    note(f"{len(done.files)} files, {done.bytes / 1e6:.1f} MB: {', '.join(done.files)}")
    note(f"page: {done.url}")
    note(f"this address always refers to these files: zoo map {done.address} scene.tif --out map.tif")


@click.command()
@click.argument("source")
@sha256_option
@click.option("--out", metavar="FOLDER", help="Also copy the bundle to this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle in --out.")
def pull(source: str, sha256: str | None, out: str | None, overwrite: bool) -> None:
    """Download the bundle SOURCE: weights of zoo weights, a .zip, an https address, or hf://owner/repo[@revision].

    \b
    zoo pull hf://survey/landslides --out runs/survey
    zoo pull 'https://example.org/unet.zip#sha256=...'

    Commands that take a bundle download it themselves. Use pull to get the files before you go offline, or to look at
    them. The folder is printed.
    """
    from zoo.api.weights import pull as pull_bundle

    with download_progress() as show:
        done = pull_bundle(source, out, sha256=sha256, overwrite=overwrite, progress=show, notify=note)
    click.echo(relative(done.folder))
    if done.address:
        note(f"this address always refers to these files: {done.address}")


@click.command()
@bundle_argument
@data_options(None)
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True,
    help="Split of --data to evaluate on and to show.",
)  # fmt: skip
@click.option("--notes", type=PATH, metavar="FILE", help="TOML file with your notes.")
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
    """Write README.md, the model card that the Hugging Face hub shows, into the folder of BUNDLE.

    \b
    zoo card runs/unet
    zoo card runs/unet --data patches/ --group-column scene --test-groups S2
    zoo card runs/unet --data patches/ --notes notes.toml

    The card states the model's inputs, how it was trained and how well it performs, with intervals. With --data, it
    shows the worst and typical patches, and the figures are recorded in the bundle. docs/how_to/card.md lists the
    fields of --notes.
    """
    model = open_bundle(bundle, sha256, device)
    if model.folder is None:
        hint = f"Copy it first: zoo pull {bundle} --out runs/copy"
        raise ConfigError("a card can be written only into a local bundle folder of yours", where=bundle, hint=hint)
    with data_warnings(), stage_progress("reading the data") as show:
        options = collect(data_options, **given)
        path = model.write_card(data=data, split=split, notes=notes, progress=show, data_options=options)
    out().print(model.quality(), markup=False)
    for text in model.quality_warnings():
        warn(text)
    note(f"model card in {relative(path)}")
