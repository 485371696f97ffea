"""``zoo export``: a model as a file for programs that know nothing of zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import note, print_json, relative, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.errors import ConfigError, ZooError

if TYPE_CHECKING:
    from zoo.datasets.base import PatchDataset
    from zoo.deploy.export.run import ExportReport, Wish
    from zoo.deploy.export.subject import Subject

FORMATS = ("onnx", "openvino", "torch-export")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
TILE_SIZE = 256
"""Of QGIS Deepness where no patches say better."""


@click.command(short_help="Write a model as ONNX, OpenVINO or torch.export, for use without zoo.")
@click.argument("subject", metavar="MODEL|BUNDLE")
@click.option("--to", type=click.Choice(FORMATS), required=True, help="Format of the file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Ends in .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export).",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Anything below fp32 is kept only if it draws the same masks on real patches.",
)
@click.option("--opset", type=int, default=18, show_default=True, help="Of ONNX, 13 to 20.")
@click.option("--for", "reader", type=click.Choice(["deepness"]), help="Make the ONNX that QGIS Deepness reads.")
@click.option("--tile-size", type=click.IntRange(1), help="Pixels of a Deepness tile; by default those of a patch.")
@click.option(
    "--pixel-size", type=click.FloatRange(0, min_open=True), help="Metres, for Deepness, where data say none."
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of an untrained MODEL; repeatable.")
@click.option("--in-channels", type=click.IntRange(1), help="Bands of an untrained MODEL; 7 by default.")
@click.option("--classes", type=click.IntRange(1), help="Of an untrained MODEL; 2 by default.")
@click.option("--seed", type=click.IntRange(0), help="Of an untrained MODEL's weights; 0 by default.")
@data_options(None)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def export(
    subject: str,
    to: str,
    out: Path,
    precision: str,
    opset: int,
    reader: str | None,
    tile_size: int | None,
    pixel_size: float | None,
    overwrite: bool,
    options: tuple[str, ...],
    in_channels: int | None,
    classes: int | None,
    seed: int | None,
    data: str | None,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Write a trained BUNDLE, or a MODEL with fresh weights, as one file.

    \b
    zoo export run --to onnx --out landslides.onnx
    zoo export run --to openvino --precision int8 --out landslides.xml
    zoo export run --to onnx --for deepness --out qgis.onnx

    The file takes images in the units of its bands and normalises them inside; any batch, height and width. It is
    opened again and compared with the model on random images and on real patches, the bundle's own or those of
    --data, before it gets its name.
    """
    from zoo.deploy.export.files import check_format
    from zoo.deploy.export.run import Wish, check_wish
    from zoo.deploy.export.run import export as write
    from zoo.deploy.export.subject import find_subject
    from zoo.deploy.onnx_graph import check_opset
    from zoo.rasters.cog import check_output

    check_format(to, out, precision)
    check_opset(opset)
    if reader is None and (tile_size, pixel_size) != (None, None):
        raise ConfigError("--tile-size and --pixel-size are for --for deepness alone")
    check_output(out, [], overwrite=overwrite)
    fresh = {"in_channels": in_channels, "classes": classes, "seed": seed}
    chosen = {name: value for name, value in fresh.items() if value is not None}
    found = find_subject(subject, options=parse_assignments(options, "--option"), **chosen)
    if found.bundle is not None and (chosen or options):
        raise ConfigError(
            "--option, --in-channels, --classes and --seed are for an untrained model",
            where=subject,
            hint="A bundle knows its own",
        )
    if found.bundle is None:
        warn(f"{subject} has no trained weights: the file shows speed and shape, and its masks mean nothing")
    splits = _patches(found, data, collect(data_options, **given), precision)
    if reader is not None:
        tile_size = tile_size or (splits["test"][0]["mask"].shape[0] if splits else TILE_SIZE)
        pixel_size = pixel_size or (splits["test"].pixel_size if splits else None)
    wish = Wish(to, out, precision, opset, tile_size, pixel_size)
    check_wish(found, wish, splits)
    report = write(found, wish, splits, note)
    if as_json:
        print_json(_facts(found, wish, report))
    else:
        _tell(found, wish, report)


def _patches(
    found: Subject, data: str | None, options: dict[str, Any], precision: str
) -> dict[str, PatchDataset] | None:
    """Real patches: of --data, else the bundle's own where they are, else None."""
    from zoo.cli.opening import open_split
    from zoo.datasets.source import DataSource

    if data is not None:
        source = DataSource.parse(data, options)
    elif found.bundle is not None and (own := found.bundle.data.source) is not None:
        source = DataSource(own.name, {**own.options, **options})
    else:
        return None
    try:
        splits = {split: open_split(source, split) for split in _needed(precision)}
    except ZooError as error:
        if data is not None or precision != "fp32":
            raise
        warn(f"the bundle's own data are not to be had ({error}); compared on random images alone")
        return None
    if found.bundle is not None:
        for dataset in splits.values():
            found.bundle.check_bands(dataset.bands, source.label)
    elif len(splits["test"].bands) != len(found.description.bands):
        raise ConfigError(
            f"has {len(splits['test'].bands)} bands, and the model takes {len(found.description.bands)}",
            where=source.label,
            hint=f"Add --in-channels {len(splits['test'].bands)}",
        )
    return splits


def _needed(precision: str) -> tuple[str, ...]:
    return {"fp32": ("test",), "int8": ("test", "val", "train")}.get(precision, ("test", "val"))


def _tell(found: Subject, wish: Wish, report: ExportReport) -> None:
    about = found.description
    kind = "trained" if about.trained else "untrained"
    extra = f", opset {wish.opset}" if wish.to == "onnx" else ""
    note(f"{relative(wish.path)}: {kind} {about.model}, {wish.to} {wish.precision}{extra}, {report.bytes / 1e6:.1f} MB")
    sizes = ", ".join(f"{height}x{width}" for height, width in report.sizes)
    note(f"  random images of {sizes}: outputs within {report.random:.1e} of the largest")
    if report.real is not None:
        note(f"  {report.split} split: {report.real}")
    if report.note:
        note(f"  {report.note}")
    if wish.tile_size is not None:
        note(f"  for QGIS Deepness: tiles of {wish.tile_size} px, threshold {about.threshold:g}")
        if wish.pixel_size is None:
            warn("no pixel size is known: set the resolution in Deepness, or give --pixel-size")
        if round(about.threshold, 2) != about.threshold:
            warn(f"Deepness shows two decimals and may round the threshold {about.threshold:g}")
    if found.bundle is not None:
        note(f"  bands in order: {', '.join(f'{band.name} [{band.unit}]' for band in about.bands)}")


def _facts(found: Subject, wish: Wish, report: ExportReport) -> dict[str, object]:
    return {
        "file": str(wish.path),
        "model": found.description.model,
        "trained": found.description.trained,
        "format": wish.to,
        "precision": wish.precision,
        "bytes": report.bytes,
        "random_difference": report.random,
        "split": report.split or None,
        "real": None if report.real is None else report.real.to_dict(),
        "note": report.note or None,
    }
