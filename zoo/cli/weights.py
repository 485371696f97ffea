"""``zoo weights``: trained weights that have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.cli.catalogue import matching, print_title, shown
from zoo.cli.columns import print_columns
from zoo.cli.console import make_table, note, out, print_json
from zoo.cli.values import AS_JSON
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

    A name is taken wherever a bundle folder is. Weights that are not in an installed package are downloaded at their
    first use. docs/how_to/weights.md describes the other sources: a .zip, an https address, a hub repository.
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
        console.print(make_table(headings, [_row(one) for one in spec.figures], right=headings[1:]))
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
