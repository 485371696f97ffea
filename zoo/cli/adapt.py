"""``zoo adapt``: adapt a bundle to a region without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.data_options import collect, data_options
from zoo.cli.opening import bundle_argument, open_bundle
from zoo.cli.progress import stage_progress
from zoo.cli.values import AS_JSON, COUNT, PATH, parse_names, parse_numbers, parse_scales
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.training.bundle_layout import Adaptation


@click.command()
@bundle_argument
@data_options(None)
@click.option(
    "--split",
    type=click.Choice(["all", "train", "val", "test"]),
    default="all",
    show_default=True,
    help="Split to adapt to; all uses every image of a folder and needs no masks.",
)
@click.option("--groups", metavar="A,B", help="Adapt only to the patches of these scenes.")
@click.option(
    "--share",
    metavar="auto|0..1",
    default="auto",
    show_default=True,
    help="Weight of the target's statistics; auto chooses one per layer.",
)
@click.option(
    "--statistics",
    type=click.Choice(["layers", "bands", "both"]),
    default="layers",
    show_default=True,
    help="Statistics to re-estimate: those of the batch-norm layers, of the bands, or both.",
)
@click.option(
    "--scales",
    metavar="auto|X,X,...",
    default="1",
    show_default=True,
    help="Magnifications applied to every image, such as 1,1.5,2; auto chooses one.",
)
@click.option(
    "--evaluate",
    "measured",
    type=click.Choice(["train", "val", "test"]),
    help="Also evaluate both bundles on a split that has masks.",
)
@click.option("--patches", type=COUNT, help="Maximum number of patches in memory.  [default: 2 million pixels]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Random seed of the sample of patches.",
)
@click.option("--out", "folder", type=PATH, required=True, help="Folder of the new bundle.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle in --out.")
@AS_JSON
def adapt(
    bundle: str,
    sha256: str | None,
    data: str | None,
    split: Literal["all", "train", "val", "test"],
    groups: str | None,
    share: str,
    statistics: Literal["layers", "bands", "both"],
    scales: str,
    measured: str | None,
    patches: int | None,
    device: str,
    seed: int,
    folder: Path,
    overwrite: bool,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Re-estimate the normalisation statistics of BUNDLE on patches of another region, without labels.

    \b
    zoo adapt runs/unet --data new_region/ --out runs/adapted
    zoo adapt runs/unet --data patches/ --groups S2 --out runs/adapted --test-groups S2 --evaluate test
    zoo adapt runs/unet --data new_region/ --scales auto --out runs/adapted   # landslides may differ in size there

    A layer's statistics move only as far as their shift exceeds what the choice of images explains, and the threshold
    moves towards 0.5 by the mean share of the region. The weights stay unchanged. Figures measured on the images of the
    adaptation are transductive: report them as such. docs/how_to/adapt.md explains when adapting helps.
    """
    from zoo.api.trained_model import check_free
    from zoo.cli.opening import data_warnings
    from zoo.datasets import DataSource
    from zoo.files import check_writable_folder
    from zoo.schema import to_plain

    if data is None:
        raise ConfigError(
            "no target data are given", where="--data", hint="Give a folder with images of the new region"
        )
    weight = None if share == "auto" else parse_numbers(share, "--share", "0.5, or auto", count=1)[0]
    magnifications = parse_scales(scales)
    options = collect(data_options, **given)
    source = DataSource.parse(data, options)
    model = open_bundle(bundle, sha256, device)
    check_free(folder, overwrite=overwrite)
    check_writable_folder(folder)
    with data_warnings(), stage_progress("reading the target") as show:
        if measured is not None:
            # Find missing masks before the work starts.
            source.open(measured, lambda done, total: show("reading the data", done, total))
        adapted = model.adapt(
            source,
            split=split,
            groups=parse_names(groups),
            share=weight,
            statistics=statistics,
            scales=magnifications,
            patches=patches,
            seed=seed,
            progress=show,
            notify=warn,
        )
        figures: dict[str, Any] = {}
        if measured is not None:
            for name, one in (("plain", model), ("adapted", adapted)):
                found = one.evaluate(source, split=measured, progress=show)
                figures[name] = {key: value for key, value in found.figures.items() if key != "loss"}
    adapted.save(folder, overwrite=overwrite)
    assert adapted.adaptation is not None
    if as_json:
        record = {"threshold": adapted.bundle.threshold, **to_plain(adapted.adaptation)}
        print_json({"bundle": str(folder), **record, "evaluation": to_plain(figures)})
    else:
        _print(adapted.adaptation, figures)
        note(f"threshold: {model.bundle.threshold:.3g} original, {adapted.bundle.threshold:.3g} adapted")
        note(f"bundle written to {relative(folder)}; evaluate it: zoo evaluate {relative(folder)} --data ...")


def _print(adaptation: Adaptation, figures: dict[str, Any]) -> None:
    headings = ("layer", "distance", "by chance", "share of the target")
    several = len(adaptation.scales) > 1
    rows = [
        (
            f"{shift.layer} x{shift.scale:g}" if several else shift.layer,
            f"{shift.distance:.3f}",
            "unknown" if shift.chance is None else f"{shift.chance:.3f}",
            f"{shift.share:.2f}",
        )
        for shift in adaptation.shifts
    ]
    out().print(make_table(headings, rows, right=headings[1:]))
    if adaptation.scale_agreements:
        found = ", ".join(f"{value:.3f} at x{scale}" for scale, value in adaptation.scale_agreements.items())
        used = ", ".join(f"x{scale:g}" for scale in adaptation.scales)
        note(
            f"agreement of the masks with those of rotated and flipped images: {found}; images are magnified by {used}"
        )
    target = adaptation.target
    note(
        f"statistics of {target.used} of {target.patches} patches, without labels; distances in standard deviations "
        f"of the source; mean share, weighted by distance: {adaptation.share:.2f}"
    )
    if adaptation.predictions is not None:
        plain, adapted = adaptation.predictions.plain, adaptation.predictions.adapted
        note(f"classified as landslide: {plain.called_landslide:.2%} original, {adapted.called_landslide:.2%} adapted")
    if figures:
        columns = ("measured with labels", "original", "adapted")
        lines = [
            (name, _format_figure(value), _format_figure(figures["adapted"].get(name)))
            for name, value in figures["plain"].items()
        ]
        out().print(make_table(columns, lines, right=columns[1:]))


def _format_figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
