"""``zoo explain``: which channels and which ground a model's answer rests on, in one window of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from zoo.mapping.explanation import AskedWindow, Explanation
    from zoo.mapping.scene import Scene
    from zoo.training.bundle import Bundle


@click.command(short_help="Show which channels and which ground a model's answer rests on.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("scene", nargs=-1, required=True)
@click.option("--window", metavar="COL,ROW,WIDTH,HEIGHT", help="Window in pixels of the scene, from its upper left.")
@click.option("--at", metavar="X,Y", help="A place in the scene's coordinates, instead of --window.")
@click.option("--size", type=click.IntRange(8), default=128, show_default=True, help="Pixels along the window of --at.")
@click.option(
    "--context", type=click.IntRange(0, 256), default=32, show_default=True, help="Pixels around that the model sees."
)
@click.option("--truth", type=click.Path(path_type=Path), help="Landslides mapped by people: a vector file or a mask.")
@click.option("--together", multiple=True, metavar="A,B", help="Channels to leave out together; may be repeated.")
@click.option(
    "--cells", type=click.IntRange(2, 40), default=12, show_default=True, help="Squares along the window to hide."
)
@click.option(
    "--bands", metavar="A,B,...", help="Names of the scene's bands in order, when its file does not say them."
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the bundle's.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--out", "target", type=click.Path(path_type=Path), required=True, help="The picture, such as why.png.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Write every number to this file too.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
def explain(bundle: Path, scene: tuple[str, ...], target: Path, **given: Any) -> None:
    """Explain what BUNDLE says in a window of SCENE, as one picture and a table.

    \b
    zoo explain run scene.tif --window 512,1024,128,128 --out why.png
    zoo explain run scene.tif --at 437210,3791450 --truth slides.gpkg --json why.json --out why.png
    zoo explain run scene.tif --at 437210,3791450 --together NDVI,NDWI --out why.png

    Each channel in turn is replaced by its mean over the training data, and each square of ground by what is usual;
    what the answer loses is what rested on it. docs/how_to/explain.md says how to read it, and what it does not say.
    """
    from zoo.mapping.explanation import explain_window
    from zoo.mapping.scene import Scene
    from zoo.rasters.cog import check_output
    from zoo.rasters.map_frame import check_picture
    from zoo.training.bundle import Bundle
    from zoo.training.compute import resolve_device

    if (given["window"] is None) == (given["at"] is None):
        raise ConfigError("name the window", hint="Either --window COL,ROW,WIDTH,HEIGHT or --at X,Y")
    inputs = [Path(one) for one in scene] + ([given["truth"]] if given["truth"] else [])
    outputs = [target, *([given["record"]] if given["record"] else [])]
    if len({one.absolute() for one in outputs}) < len(outputs):
        raise ConfigError("two outputs have one name", hint="Name a file for each")
    for one in outputs:
        check_output(one, inputs, overwrite=given["overwrite"])
    check_picture(target)
    loaded = Bundle.load(bundle)
    threshold = loaded.threshold if given["threshold"] is None else given["threshold"]
    names = None if given["bands"] is None else [name.strip() for name in given["bands"].split(",")]
    predictor = loaded.predictor().to(resolve_device(given["device"]))
    with Scene(scene, loaded.bands, names=names) as opened:
        asked = _window(opened, given)
        smallest = int(getattr(predictor.model, "minimum_size", 1))
        if min(len(asked.seen_rows), len(asked.seen_columns)) < smallest:
            raise ConfigError(
                f"the window and its context are {len(asked.seen_columns)} x {len(asked.seen_rows)} pixels, and the "
                f"model needs {smallest} x {smallest}",
                hint="Ask for a larger --window, --size or --context",
            )
        image = opened.read(asked.seen_rows, asked.seen_columns)
        truth = None
        if given["truth"] is not None:
            from zoo.rasters.inventory import read_truth

            truth = read_truth(given["truth"], opened.mosaic, asked.place)
        try:
            with progress("hiding channels and ground") as show:
                found = explain_window(
                    predictor,
                    image,
                    loaded.bands,
                    asked.crop,
                    threshold,
                    truth=truth,
                    together=[[name.strip() for name in group.split(",")] for group in given["together"]],
                    cells=given["cells"],
                    progress=show,
                )
        except DataError as error:
            raise DataError(error.problem, where=scene[0], hint=error.hint) from error
        _write(opened, asked, image, found, truth, loaded, threshold, bundle, target, given["record"])
    _print(found, threshold)
    files = ", ".join(relative(one) for one in outputs)
    out().print(f"in {files}", markup=False)


def _window(scene: Scene, given: dict[str, Any]) -> AskedWindow:
    from zoo.mapping.explanation import ask_place, ask_window

    if given["window"] is not None:
        column, row, width, height = _numbers(given["window"], 4, "--window", "COL,ROW,WIDTH,HEIGHT in pixels", int)
        return ask_window(scene, column, row, width, height, given["context"])
    x, y = _numbers(given["at"], 2, "--at", "X,Y in the scene's coordinates", float)
    return ask_place(scene, x, y, given["size"], given["context"])


def _numbers(text: str, count: int, option: str, wanted: str, kind: Any) -> list[Any]:
    import math

    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ConfigError(f"{option} {text}", hint=f"Give {wanted}")
    return values


def _write(
    scene: Scene,
    asked: AskedWindow,
    image: Any,
    found: Explanation,
    truth: Any,
    bundle: Bundle,
    threshold: float,
    folder: Path,
    target: Path,
    record: Path | None,
) -> None:
    from zoo import __version__
    from zoo.files import write_json_atomic
    from zoo.mapping.explanation import to_record
    from zoo.mapping.explanation_picture import draw_explanation
    from zoo.rasters.ground import crs_name
    from zoo.rasters.map_frame import save_picture

    bounds = asked.bounds(scene)
    name = Path(scene.mosaic.paths[0]).stem
    place = f"columns {asked.columns.start}-{asked.columns.stop - 1}, rows {asked.rows.start}-{asked.rows.stop - 1}"
    figure = draw_explanation(
        found,
        image[:, asked.crop[0], asked.crop[1]],
        bundle.bands,
        bounds,
        scene.mosaic.crs,
        title=f"{bundle.model} ({folder.name}) on {name}, {place}",
        threshold=threshold,
        truth=truth,
    )
    save_picture(figure, target)
    if record is not None:
        about = {
            "bundle": str(folder),
            "model": bundle.model,
            "weights_sha256": bundle.weights_sha256,
            "scene": list(scene.mosaic.paths),
            "window": [asked.columns.start, asked.rows.start, len(asked.columns), len(asked.rows)],
            "bounds": list(bounds),
            "crs": crs_name(scene.mosaic.crs),
            "version": __version__,
        }
        write_json_atomic(record, {**about, **to_record(found, threshold)})


def _print(found: Explanation, threshold: float) -> None:
    from zoo.mapping.explanation import to_sentences
    from zoo.mapping.explanation_picture import channel_label

    with_truth = found.base.dice is not None
    rows = []
    ranked = sorted(found.channels, key=lambda one: one.change)
    for one in (*ranked, *found.together):
        cells = [channel_label(one), f"{one.probability:.3f}", f"{one.change:+.3f}", f"{one.logit_change:+.2f}"]
        rows.append((*cells, f"{one.kept:.3f}", *([f"{one.dice:.3f}"] if one.dice is not None else [])))
    headings = ("replaced", "probability", "change", "log-odds", "mask kept", *(["Dice"] if with_truth else []))
    out().print(make_table(headings, rows, right=headings[1:]))
    if found.base.dice is not None:
        note(f"Dice with all channels: {found.base.dice:.3f}")
    for sentence in to_sentences(found, threshold):
        note(sentence)
    if not found.attention:
        note("The model has no attention blocks, so there are no attention maps")
    if not found.landslide:
        warn("no pixel reaches the threshold, so all figures are means over the window")
