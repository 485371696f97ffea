"""``zoo risk map``: the risk and class of every pixel of a stack. ``zoo risk safety``: its probability of failure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.cli.risk import parse_breaks, parse_rain
from zoo.cli.values import BUFFER, COUNT, LAYER, PATH, WHERE

if TYPE_CHECKING:
    from zoo.risk import MapReport


@click.command("map", short_help="Map the risk index and its classes.")
@click.argument("stack", type=PATH)
@click.option("--out", "target", required=True, type=PATH, help="Risk, a GeoTIFF.")
@click.option("--classes-out", type=PATH, help="Classes 1 low, 2 medium, 3 high, a GeoTIFF.")
@click.option("--picture", type=PATH, help="Picture of the classes, such as risk.png.")
@click.option("--weights", type=PATH, help="Weights of zoo risk calibrate.  [default: Table 1]")
@click.option("--rain", metavar="P,D|FILE", help="Rain in mm/h and days, or a raster with bands intensity, duration.")
@click.option(
    "--duration", type=float, metavar="DAYS", help="Duration in days, for a raster that holds only the intensity."
)
@click.option(
    "--classes",
    metavar="jenks|quantile|scenario|A,B",
    help="Fit the class breaks to this scene: for the reference rain, or for --rain (scenario).  "
    "[default: of the weights]",
)
@click.option(
    "--model", metavar="NAME", help="Map a risk model instead, such as random_forest; it is fitted to --inventory."
)
@click.option("--inventory", type=PATH, help="Landslides that --model is fitted to.")
@LAYER
@WHERE
@BUFFER
@click.option("--safety", type=PATH, help="Wetness and factor of safety under the rain, a GeoTIFF.")
@click.option(
    "--soil", metavar="NAME=VALUE,...", help="Soil for --safety: cohesion (kPa), friction (degree), depth (m), ..."
)
@click.option("--title", help="Title of the picture.")
@click.option(
    "--compress",
    type=click.Choice(["deflate", "zstd", "lzw", "none"]),
    default="deflate",
    show_default=True,
    help="Compression of the GeoTIFFs.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Random seed for the sampled pixels and the model.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def map_command(stack: Path, target: Path, **given: Any) -> None:
    """Map the landslide risk of a stack: index, classes and picture.

    \b
    zoo risk map stack.tif --out risk.tif
    zoo risk map stack.tif --weights weights.json --rain 12,2 --out risk.tif --classes-out classes.tif \\
        --picture risk.png
    zoo risk map stack.tif --weights weights.json --rain rain.tif --out risk.tif
    zoo risk map stack.tif --model random_forest --inventory landslides.gpkg --out risk.tif --picture risk.png
    zoo risk map stack.tif --rain 12,2 --safety safety.tif --soil cohesion=4,friction=30 --out risk.tif

    Without --weights, Table 1 is scaled with the ranges of this scene, so the map only compares places within it.
    Files appear when they are complete. docs/how_to/risk_map.md describes them. Exit code 0: done; 2: bad input.
    """
    import zoo.risk
    from zoo.physics import Soil

    options = {
        **given,
        "rain": parse_rain(given["rain"]),
        "classes": parse_breaks(given["classes"], ("jenks", "quantile", "scenario")),
        "soil": None if given["soil"] is None else Soil.from_text(given["soil"]),
    }
    with progress("mapping") as show:
        report = zoo.risk.map(stack, target, **options, progress=show)
    _print(report)


def _print(report: MapReport) -> None:
    from zoo.risk.index import CLASS_NAMES

    for text in report.notes:
        note(f"  {text}")
    if report.safety is not None:
        note(f"  the factor of safety is below 1 on {report.safety:.1%} of the area, with the same soil everywhere")
    for text in report.warnings:
        warn(text)
    areas, dry = report.areas, report.dry
    headings = ["class", "km2", "share", "pixels"] + ([] if dry is None else ["reference rain", "change"])
    rows = []
    for number, name in enumerate(CLASS_NAMES):
        row = [
            name,
            "" if areas is None else f"{areas[number]:,.3f}",
            f"{report.shares[number]:.1%}",
            f"{report.pixels[number + 1]:,}",
        ]
        if dry is not None:
            row += [f"{dry[number]:.1%}", f"{report.shares[number] - dry[number]:+.1%}"]
        rows.append(row)
    console = out()
    console.print(make_table(headings, rows, right=headings[1:]))
    if areas is None:
        note("areas are unknown, because the stack has a local coordinate system")
    note(f"{report.pixels[0]:,} pixels have no data; the risk is {report.low:.3f} to {report.high:.3f}")
    console.print(f"written: {', '.join(relative(path) for path in report.files)}", markup=False)


@click.command()
@click.argument("stack", type=PATH)
@click.option("--out", "target", required=True, type=PATH, help="GeoTIFF of three bands.")
@click.option(
    "--rain", required=True, metavar="P,D|FILE", help="Rain in mm/h and days, or a raster that zoo rain wrote."
)
@click.option(
    "--duration", type=float, metavar="DAYS", help="Duration in days, for a raster that holds only the intensity."
)
@click.option(
    "--soil",
    metavar="NAME=LOW:MODE:HIGH,...",
    help="cohesion (kPa), friction (degree), depth (m), conductivity (m/day), infiltration; a single number is exact.",
)
@click.option("--draws", type=COUNT, default=1000, show_default=True, help="Number of random soils.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random soils.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def safety(stack: Path, target: Path, rain: str, soil: str | None, **given: Any) -> None:
    """Map the probability that each slope of STACK fails under a rain (Monte Carlo of the infinite slope).

    \b
    zoo stack --dem dem.tif --out stack.tif
    zoo risk safety stack.tif --rain 12,2 --out failure.tif
    zoo risk safety stack.tif --rain 12,2 --soil cohesion=1:3:8,friction=30 --out failure.tif
    zoo risk safety stack.tif --rain rain.tif --out failure.tif

    STACK has the bands slope and DEM. The file holds the probability of failure and the mean and standard deviation of
    the factor of safety. docs/how_to/uncertainty.md describes the model. Exit code 0: done; 2: bad input.
    """
    import zoo.risk
    from zoo.physics import SoilRange

    found = parse_rain(rain)
    assert found is not None
    with progress("drawing soils") as show:
        report = zoo.risk.safety(
            stack,
            target,
            rain=found,
            soil=None if soil is None else SoilRange.from_text(soil),
            progress=show,
            **given,
        )
    out().print(f"{report}; in {relative(report.out)}", markup=False)
