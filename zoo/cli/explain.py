"""``zoo explain``: which channels and which parts of the image a prediction depends on, in one window of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.opening import bundle_argument, open_bundle
from zoo.cli.progress import progress
from zoo.cli.values import PATH, PROBABILITY, parse_names, parse_numbers
from zoo.errors import ConfigError


@click.command()
@bundle_argument
@click.argument("scene", nargs=-1, required=True)
@click.option("--window", metavar="COL,ROW,WIDTH,HEIGHT", help="Window in pixels of the scene, from its upper left.")
@click.option("--at", metavar="X,Y", help="Centre of the window in the scene's coordinates, instead of --window.")
@click.option("--size", type=click.IntRange(8, 4096), default=128, show_default=True, help="Side of the --at window.")
@click.option(
    "--context", type=click.IntRange(0, 256), default=32, show_default=True, help="Pixels of context around the window."
)
@click.option("--truth", type=PATH, help="Reference landslides: a vector file or a mask.")
@click.option("--together", multiple=True, metavar="A,B", help="Channels to leave out together; may be repeated.")
@click.option(
    "--cells", type=click.IntRange(2, 40), default=12, show_default=True, help="Squares along each side of the window."
)
@click.option("--bands", metavar="A,B,...", help="Names of the scene's bands in order, if its files do not name them.")
@click.option("--threshold", type=PROBABILITY, help="Landslide threshold.  [default: the bundle's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--out", "target", type=PATH, required=True, help="The picture, such as why.png.")
@click.option("--json", "record", type=PATH, help="Also write all figures to this JSON file.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def explain(
    bundle: str, sha256: str | None, scene: tuple[str, ...], target: Path, record: Path | None, **given: Any
) -> None:
    """Explain the prediction of BUNDLE in a window of SCENE, as a picture and a table.

    \b
    zoo explain runs/unet scene.tif --window 512,1024,128,128 --out why.png
    zoo explain runs/unet scene.tif --at 437210,3791450 --truth slides.gpkg --json why.json --out why.png
    zoo explain runs/unet scene.tif --at 437210,3791450 --together NDVI,NDWI --out why.png

    Each channel and each square of the window is replaced in turn by its training mean, and the change in the
    prediction is measured. docs/how_to/explain.md explains how to read the result.
    """

    window, at = _window(given["window"]), None
    if given["at"] is not None:
        x, y = parse_numbers(given["at"], "--at", "437210,3791450", count=2)
        at = x, y
    model = open_bundle(bundle, sha256, given["device"])
    with progress("hiding channels and squares") as show:
        found = model.explain(
            scene,
            window=window,
            at=at,
            size=given["size"],
            context=given["context"],
            truth=given["truth"],
            together=[parse_names(group) or [] for group in given["together"]],
            cells=given["cells"],
            bands=parse_names(given["bands"]),
            threshold=given["threshold"],
            picture=target,
            record=record,
            overwrite=given["overwrite"],
            progress=show,
        )
    _print(found)
    files = [target, *([record] if record else [])]
    out().print(f"in {', '.join(map(relative, files))}", markup=False)


def _window(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    column, row, width, height = parse_numbers(text, "--window", "512,1024,128,128 (COL,ROW,WIDTH,HEIGHT)", count=4)
    if not all(one == int(one) for one in (column, row, width, height)):
        raise ConfigError(f"{text!r} is not in whole pixels", where="--window", hint="Such as 512,1024,128,128")
    return int(column), int(row), int(width), int(height)


def _print(found: Any) -> None:
    explanation = found.explanation
    with_truth = found.truth is not None
    rows = []
    for effect in explanation.ranked():
        cells = [effect.label, f"{effect.probability:.3f}", f"{effect.change:+.3f}", f"{effect.logit_change:+.2f}"]
        dice = "-" if effect.dice is None else f"{effect.dice:.3f}"
        rows.append((*cells, f"{effect.kept:.3f}", *([dice] if with_truth else [])))
    headings = ("replaced", "probability", "change", "log odds", "mask kept", *(["Dice"] if with_truth else []))
    out().print(make_table(headings, rows, right=headings[1:]))
    if explanation.base.dice is not None:
        note(f"Dice with all channels: {explanation.base.dice:.3f}")
    for sentence in found.sentences():
        note(sentence)
    for text in found.warnings:
        warn(text)
    if not explanation.attention:
        note("The model has no attention blocks, so there are no attention maps")
    if not explanation.landslide:
        warn("no pixel reaches the threshold, so all figures are means over the window")
