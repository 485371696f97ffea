"""``zoo adapt``: a bundle for a region without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.data_options import collect, data_options, parse_names
from zoo.cli.progress import progress, stoppable
from zoo.cli.scales import parse_scales
from zoo.schema import to_plain

if TYPE_CHECKING:
    import torch

    from zoo.datasets.base import PatchDataset
    from zoo.training.bundle import Bundle


@click.command(short_help="Adapt a bundle to a region without labels.")
@click.argument("bundle", type=click.Path(path_type=Path))
@data_options(None)
@click.option(
    "--split",
    type=click.Choice(["all", "train", "val", "test"]),
    default="all",
    show_default=True,
    help="Patches to adapt to; all of a folder needs no masks and opens none.",
)
@click.option("--groups", metavar="A,B", help="Adapt to the patches of these scenes alone.")
@click.option(
    "--share",
    metavar="auto|0..1",
    default="auto",
    show_default=True,
    help="Of the target in the statistics; auto: as far as a shift exceeds chance, a layer its own.",
)
@click.option(
    "--statistics",
    "which",
    type=click.Choice(["layers", "bands", "both"]),
    default="layers",
    show_default=True,
    help="Of the batch-norm layers, of the bands, or both.",
)
@click.option(
    "--scales",
    metavar="auto|X,X,...",
    default="1",
    show_default=True,
    help="Magnifications at which every image is seen, such as 1,1.5,2; auto chooses one.",
)
@click.option(
    "--evaluate",
    "measured",
    type=click.Choice(["train", "val", "test"]),
    help="Also measure plain and adapted on a split that has labels.",
)
@click.option(
    "--patches", "limit", type=click.IntRange(1), help="Most patches to hold; by default as many as make 2 Mpixel."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sample of a large target.")
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def adapt(
    bundle: Path,
    data: str | None,
    split: str,
    groups: str | None,
    share: str,
    which: Literal["layers", "bands", "both"],
    scales: str,
    measured: str | None,
    limit: int | None,
    device: str,
    seed: int,
    folder: Path,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Re-estimate the normalisation statistics of BUNDLE on patches of another region, without labels.

    \b
    zoo adapt run --data new_region --out adapted
    zoo adapt run --data patches --groups S2 --out adapted --test-groups S2 --evaluate test
    zoo adapt run --data new_region --scales auto --out adapted   # landslides may be smaller there

    Each layer moves as far as its shift exceeds what the choice of images explains, and the command prints both.
    Weights and threshold stay. Figures on the very images that were adapted to are transductive: say so beside them.
    docs/how_to/adapt.md says when adapting helps and when it does not.
    """
    from zoo.cli.opening import open_split
    from zoo.datasets.source import DataSource
    from zoo.errors import ConfigError
    from zoo.files import check_writable_folder
    from zoo.training.adaptation import MOST_PIXELS
    from zoo.training.adaptation import adapt as adapt_bundle
    from zoo.training.adaptation_data import open_target
    from zoo.training.bundle import Bundle
    from zoo.training.compute import resolve_device

    if data is None:
        raise ConfigError("no target is named", where="--data", hint="Name a folder with images of the new region")
    wanted, magnifications = _share(share), parse_scales(scales)
    loaded = Bundle.load(bundle)
    source = DataSource.parse(data, collect(data_options, **given))
    if (folder / "bundle.json").exists():
        raise ConfigError("holds a bundle already", where=folder, hint="Name another --out, or delete the old bundle")
    check_writable_folder(folder)
    place = resolve_device(device)
    with stoppable(), progress("reading the target") as show:
        target = open_target(loaded, source, split, parse_names(groups), show)
    labelled = None if measured is None else open_split(source, measured)
    for text in target.warnings:
        warn(text)
    note(f"target {source.label}: {len(target)} patches, no label is read")
    with stoppable(), progress("adapting") as show:
        adapted = adapt_bundle(
            loaded,
            target.batches(),
            share=wanted,
            which=which,
            scales=magnifications,
            device=place,
            pixels=MOST_PIXELS if limit is None else limit * target.read(0)[0].size,
            seed=seed,
            target=target.record,
            progress=show,
        )
    adapted.save(folder)
    figures = {} if labelled is None else _measure(loaded, adapted, labelled, place)
    assert adapted.adaptation is not None
    if as_json:
        print_json({"bundle": str(folder), **to_plain(adapted.adaptation), "evaluation": figures})
    else:
        _show(to_plain(adapted.adaptation), figures)
        note(f"bundle in {relative(folder)}; measure it: zoo evaluate {relative(folder)} --data ...")


def _share(text: str) -> float | None:
    from zoo.errors import ConfigError

    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no share", where="--share", hint="Use auto, or a number from 0 to 1") from None


def _measure(plain: Bundle, adapted: Bundle, dataset: PatchDataset, device: torch.device) -> dict[str, Any]:
    """Figures of both bundles on patches with labels, at the frozen threshold."""
    from torch.utils.data import DataLoader

    from zoo.evaluation.columns import summarise
    from zoo.training.evaluate import evaluate

    plain.check_bands(dataset.bands, "the patches with labels")
    figures = {}
    for name, one in (("plain", plain), ("adapted", adapted)):
        loader = DataLoader(dataset, batch_size=plain.batch_size)
        found = evaluate(one.predictor().to(device), one.compute_format, loader, one.threshold)
        figures[name] = summarise(found.counts, dataset.pixel_size)
    return figures


def _show(adaptation: dict[str, Any], figures: dict[str, Any]) -> None:
    headings = ("layer", "distance", "by chance", "share of the target")
    several = len(adaptation["scales"]) > 1
    rows = [
        (
            f"{one['layer']} x{one['scale']:g}" if several else one["layer"],
            f"{one['distance']:.3f}",
            "unknown" if one["chance"] is None else f"{one['chance']:.3f}",
            f"{one['share']:.2f}",
        )
        for one in adaptation["shifts"]
    ]
    out().print(make_table(headings, rows, right=headings[1:]))
    if adaptation["scale_distances"]:
        told = ", ".join(f"{value:.3f} x{scale}" for scale, value in adaptation["scale_distances"].items())
        used = ", ".join(f"x{scale:g}" for scale in adaptation["scales"])
        note(f"distance of the middle layers by magnification: {told}; images are seen {used}")
    target, said = adaptation["target"], adaptation["predictions"]
    note(
        f"statistics over {target['used']} of {target['patches']} patches; distances in standard deviations of the "
        f"source; share where it matters {adaptation['share']:.2f}"
    )
    note(
        f"called landslide: {said['plain']['called_landslide']:.2%} plain, "
        f"{said['adapted']['called_landslide']:.2%} adapted"
    )
    if figures:
        columns = ("measured with labels", "plain", "adapted")
        lines = [(name, _text(value), _text(figures["adapted"].get(name))) for name, value in figures["plain"].items()]
        out().print(make_table(columns, lines, right=columns[1:]))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
