"""``zoo export``: write a model as a file for use without zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from zoo.api.export import ExportPrecision, export_formats
from zoo.cli.console import note, print_json, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.cli.opening import download_progress, sha256_option
from zoo.cli.values import AS_JSON, PATH, POSITIVE

if TYPE_CHECKING:
    from zoo.api.export import Exported


@click.command()
@click.argument("source", metavar="MODEL|BUNDLE")
@sha256_option
@click.option("--to", type=click.Choice(export_formats()), required=True, help="Format of the file.")
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="FILE",
    help="The file; it ends in .onnx, .xml (OpenVINO, with a .bin next to it), .pt2 (torch.export) or a plugin's "
    "suffix.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(ExportPrecision)),
    default="fp32",
    show_default=True,
    help="A precision below fp32 is kept only if it predicts the same masks on real patches.",
)
@click.option("--opset", type=int, default=18, show_default=True, help="ONNX opset, 13 to 20.")
@click.option("--for", "reader", type=click.Choice(["deepness"]), help="Write the ONNX file that QGIS Deepness reads.")
@click.option(
    "--tile-size", type=click.IntRange(1), help="Deepness: height and width of a tile.  [default: those of a patch]"
)
@click.option(
    "--pixel-size",
    type=POSITIVE,
    help="Deepness: pixel size in metres.  [default: that of the data]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of an untrained MODEL; repeatable."
)
@click.option("--in-channels", type=click.IntRange(1), help="Bands of an untrained MODEL.  [default: 7]")
@click.option("--classes", type=click.IntRange(1), help="Classes of an untrained MODEL.  [default: 2]")
@click.option("--seed", type=click.IntRange(0), help="Random seed of an untrained MODEL's weights.  [default: 0]")
@data_options(None)
@AS_JSON
def export(
    source: str, options: tuple[str, ...], data: str | None, as_json: bool, data_options: tuple[str, ...], **given: Any
) -> None:
    """Write a trained BUNDLE, or a MODEL with fresh weights, as one file.

    \b
    zoo export runs/unet --to onnx --out landslides.onnx
    zoo export runs/unet --to openvino --precision int8 --out landslides.xml
    zoo export runs/unet --to onnx --for deepness --out qgis.onnx

    The file takes images in the units of its bands and normalises them inside; any batch, height and width. Before it
    is kept, it is reopened and compared with the model on random images and on real patches (the bundle's own or those
    of --data).
    """
    from zoo.api.export import export as export_file
    from zoo.cli.opening import open_split
    from zoo.datasets import DataSource

    own = ("to", "out", "precision", "opset", "reader", "tile_size", "pixel_size", "overwrite", "sha256")
    settings = {name: given.pop(name) for name in (*own, "in_channels", "classes", "seed")}
    changed = collect(data_options, **given)
    with download_progress() as show:
        done = export_file(
            source,
            options=parse_assignments(options, "--option"),
            data=None if data is None else DataSource.parse(data, changed),
            data_options=changed,
            open_splits=lambda where, splits: {split: open_split(where, split) for split in splits},
            note=note,
            warn=warn,
            progress=show,
            **settings,
        )
    if as_json:
        print_json(_figures(done))
    else:
        note(str(done))


def _figures(done: Exported) -> dict[str, object]:
    metadata, config, report = done.subject.metadata, done.config, done.report
    return {
        "file": str(config.path),
        "model": metadata.model,
        "trained": metadata.trained,
        "format": config.to,
        "precision": config.precision,
        "bytes": report.bytes,
        "random_difference": report.random,
        "split": report.split or None,
        "real": None if report.real is None else report.real.figures(),
        "note": report.note or None,
    }
