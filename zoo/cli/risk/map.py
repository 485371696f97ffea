"""``zoo risk map``: the risk of every pixel of a stack, its class, and a picture of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.cli.risk.options import numbers, rain_option
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.physics.stability import Soil
    from zoo.rasters.stacks import Stack
    from zoo.risk.apply import MapReport, Rain
    from zoo.risk.index import RiskIndex
    from zoo.risk.region import Prepared


@click.command("map", short_help="Risk and class of every pixel of a stack.")
@click.argument("stack", type=click.Path(path_type=Path))
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The risk, a GeoTIFF.")
@click.option("--classes-out", type=click.Path(path_type=Path), help="Classes 1 low, 2 medium, 3 high, a GeoTIFF.")
@click.option("--picture", type=click.Path(path_type=Path), help="A picture of the classes, such as risk.png.")
@click.option("--weights", type=click.Path(path_type=Path), help="What zoo risk calibrate wrote; else Table 1.")
@click.option("--rain", metavar="P,D|FILE", help="Rain in mm/h and days, or a raster with bands intensity, duration.")
@click.option("--duration", type=float, metavar="DAYS", help="Days of rain, for a raster of the intensity alone.")
@click.option(
    "--classes", metavar="jenks|quantile|A,B", help="Other breaks than those of the weights; fitted to this scene."
)
@click.option("--model", metavar="NAME", help="Map a risk model instead, such as random_forest; fitted to --inventory.")
@click.option("--inventory", type=click.Path(path_type=Path), help="Landslides that --model is fitted to.")
@click.option("--layer", metavar="NAME", help="Layer of the inventory, when it has several.")
@click.option("--where", metavar="SQL", help="Condition on the inventory, such as 'Year_obs >= 2010'.")
@click.option("--buffer", type=float, metavar="METRES", help="Radius by which points and lines become areas.")
@click.option(
    "--safety", type=click.Path(path_type=Path), help="Write wetness and factor of safety under the rain, a GeoTIFF."
)
@click.option(
    "--soil", metavar="NAME=VALUE,...", help="Of --safety: cohesion (kPa), friction (degree), depth (m), conductivity."
)
@click.option("--title", help="Of the picture.")
@click.option(
    "--compress",
    type=click.Choice(["deflate", "zstd", "lzw", "none"]),
    default="deflate",
    show_default=True,
    help="Of the GeoTIFFs.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of pixels drawn for ranges, breaks and models.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
def map_command(stack: Path, target: Path, **given: Any) -> None:
    """Map the landslide risk of a stack: index, classes and picture.

    \b
    zoo risk map stack.tif --out risk.tif
    zoo risk map stack.tif --weights weights.json --rain 12,2 --out risk.tif --classes-out classes.tif \\
        --picture risk.png
    zoo risk map stack.tif --weights weights.json --rain rain.tif --out risk.tif
    zoo risk map stack.tif --model random_forest --inventory landslides.gpkg --out risk.tif --picture risk.png
    zoo risk map stack.tif --rain 12,2 --safety safety.tif --soil cohesion=4,friction=30 --out risk.tif

    Without --weights, Table 1 is scaled with the ranges of this scene, which compares slopes within it alone.
    Files appear when they are whole. docs/risk/map.md says what is in them. Exit code 0: done; 2: bad input.
    """
    from zoo.physics.stability import Soil
    from zoo.rasters.cog import check_output
    from zoo.rasters.map_frame import check_picture
    from zoo.rasters.reading import gdal_threads
    from zoo.rasters.stacks import Stack

    outputs = [one for one in (target, given["classes_out"], given["picture"], given["safety"]) if one is not None]
    inputs = [one for one in (stack, given["weights"], given["inventory"]) if one is not None]
    if len({one.absolute() for one in outputs}) < len(outputs):
        raise ConfigError("two outputs have one name", hint="Name a file for each")
    for one in outputs:
        check_output(one, inputs, overwrite=given["overwrite"])
    if given["picture"] is not None:
        check_picture(given["picture"])
    _check(given)
    numeric, rain_file = rain_option(given["rain"])
    if given["duration"] is not None and rain_file is None:
        raise ConfigError("--duration goes with a raster of rain", hint="Write numbers as --rain 12,2 (mm/h, days)")
    if given["safety"] is not None and numeric is None:
        raise ConfigError("--safety needs the rain as numbers", hint="Such as --rain 12,2 (mm/h, days)")
    soil = Soil() if given["soil"] is None else Soil.from_text(given["soil"])
    with gdal_threads(stack), ExitStack() as exits:
        opened = exits.enter_context(Stack(stack))
        prepared = _prepare(opened, given)
        rain = _rain(exits, opened, prepared.index, numeric, rain_file, given["duration"])
        for text in (*prepared.notes, *([] if given["model"] else [rain.words()])):
            note(f"  {text}")
        if given["safety"] is not None and numeric is not None:
            _safety(opened, given["safety"], soil, numeric)
        report = _map(opened, target, prepared, rain, given)
    _print(report, target, given)


def _check(given: dict[str, Any]) -> None:
    if given["soil"] is not None and given["safety"] is None:
        raise ConfigError("--soil is for --safety", hint="Name the file with --safety FILE")
    if given["model"] is None:
        for name in ("inventory", "layer", "where", "buffer"):
            if given[name] is not None:
                raise ConfigError(f"--{name} is for --model", hint="Fit the index with zoo risk calibrate")
        return
    if given["inventory"] is None:
        raise ConfigError("--model needs landslides to be fitted to", hint="Name them with --inventory")
    if given["weights"] is not None or given["duration"] is not None:
        raise ConfigError("--model takes neither --weights nor a raster of rain", hint="Leave one of them out")
    if given["rain"] is not None and given["safety"] is None:
        raise ConfigError("--model does not use rain", hint="Leave --rain out, or map the index")


def _prepare(stack: Stack, given: dict[str, Any]) -> Prepared:
    from zoo.risk.region import prepare_index, prepare_model

    classes: str | tuple[float, float] | None = given["classes"]
    if classes is not None and classes not in ("jenks", "quantile"):
        low, high = numbers(str(classes), "--classes", "jenks, quantile or 0.5,0.6", 2)
        classes = (low, high)
    with progress("drawing pixels") as show:
        if given["model"] is None:
            return prepare_index(stack, given["weights"], classes=classes, seed=given["seed"], progress=show)
        return prepare_model(
            stack,
            given["model"],
            given["inventory"],
            classes=classes,
            seed=given["seed"],
            layer=given["layer"],
            where=given["where"],
            buffer=given["buffer"],
            progress=show,
        )


def _rain(
    exits: ExitStack,
    stack: Stack,
    index: RiskIndex | None,
    numeric: tuple[float, float] | None,
    rain_file: Path | None,
    duration: float | None,
) -> Rain:
    from zoo.physics import RAIN_PRESETS
    from zoo.rasters.alignment import RainLayers
    from zoo.risk.apply import Rain

    if index is None:
        return Rain(RAIN_PRESETS["paper"], None)
    parameters, clip = index.index.rain_parameters, index.index.rain_clip
    if rain_file is not None:
        layers = exits.enter_context(RainLayers(rain_file, stack, duration))
        return Rain(parameters, clip, layers=layers)
    return Rain(parameters, clip, *(numeric or (None, None)))


def _map(stack: Stack, target: Path, prepared: Prepared, rain: Rain, given: dict[str, Any]) -> MapReport:
    from zoo.risk.apply import map_risk

    tags = {**prepared.tags, "RAIN_FACTOR": rain.words()} if given["model"] is None else dict(prepared.tags)
    with progress("mapping") as show:
        report = map_risk(
            stack,
            prepared.surface,
            prepared.breaks,
            rain,
            target,
            given["classes_out"],
            tags=tags,
            compress=given["compress"],
            progress=show,
        )
    if report.negative > 0 and rain.given:
        warn(
            f"the weighted sum is negative in {report.negative:.1%} of the pixels: more rain LOWERS the index there; "
            "a log-additive index (zoo risk calibrate --form log-additive) has no such pixels"
        )
    if given["picture"] is not None:
        _picture(stack, given, report, prepared, rain)
    return report


def _picture(stack: Stack, given: dict[str, Any], report: MapReport, prepared: Prepared, rain: Rain) -> None:
    from zoo.rasters.map_frame import save_picture
    from zoo.rasters.pixel_sample import extent_of
    from zoo.risk.map_picture import draw_map

    title = given["title"] or f"Landslide risk: {stack.tags.get('SCENE') or stack.path.stem}"
    if given["model"] is None and rain.given:
        title += f"\n{rain.words()}"
    figure = draw_map(
        report.preview,
        title=title,
        breaks=prepared.breaks,
        pixels=report.pixels,
        relief=report.relief,
        pixel_size=None if stack.pixel_size is None else stack.pixel_size * report.step,
        extent=extent_of(stack),
        crs=stack.crs,
        footnote=prepared.words,
    )
    save_picture(figure, given["picture"])


def _safety(stack: Stack, path: Path, soil: Soil, rain: tuple[float, float]) -> None:
    from zoo.risk.safety import map_safety

    unstable = map_safety(stack, path, rain, soil)
    note(f"factor of safety below 1 on {unstable:.1%} of the area, with one soil everywhere: {relative(path)}")


def _print(report: MapReport, target: Path, given: dict[str, Any]) -> None:
    from zoo.risk.classes import CLASS_NAMES

    known = int(report.pixels[1:].sum())
    areas = report.areas
    rows = [
        (
            name,
            "" if areas is None else f"{areas[number - 1]:,.3f}",
            f"{report.pixels[number] / known:.1%}",
            f"{report.pixels[number]:,}",
        )
        for number, name in enumerate(CLASS_NAMES, 1)
    ]
    headings = ("class", "km2", "share", "pixels")
    console = out()
    console.print(make_table(headings, rows, right=headings[1:]))
    if areas is None:
        note("the stack is not in metres with square pixels, so areas are not told")
    told = f"{report.pixels[0]:,} pixels have no data; the risk is {report.low:.3f} to {report.high:.3f}"
    note(told)
    files = [target, *(given[name] for name in ("classes_out", "picture") if given[name] is not None)]
    console.print(f"in {', '.join(relative(one) for one in files)}", markup=False)
