"""``zoo stack``: put satellite bands, terrain and moisture on one grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zoo.api.preparation import EARTH_SEARCH, inputs_folder
from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import stage_progress
from zoo.cli.values import PATH, FiniteFloat, parse_numbers
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.rasters.stacking import StackReport

Command = TypeVar("Command", bound=Callable[..., Any])

_BANDS = {
    "green": "Green reflectance (Sentinel-2: B03).",
    "red": "Red reflectance (B04).",
    "nir": "Near infrared reflectance (B08).",
    "swir": "Short-wave infrared at 1.6 micrometres (B11).",
    "dem": "Elevation in metres.",
    "optram": "Short-wave infrared at 2.2 micrometres (B12): SMI by OPTRAM.",
    "scl": "Scene classification (SCL): clouds and their shadows become nodata.",
    "rain_intensity": "Rain intensity in mm/h, as a raster.",
    "rain_duration": "Rain duration in days, as a raster.",
}


def _band_options(command: Command) -> Command:
    for name, text in reversed(_BANDS.items()):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, metavar="FILE[:BAND]", help=text)(command)
    return command


@click.command()
@click.argument("safe", required=False, type=PATH)
@click.option("--pre", type=PATH, help="Image before the landslides: product or folder of bands.")
@click.option("--post", type=PATH, help="Image after the landslides; with --pre, adds differences.")
@click.option("--s1", type=PATH, help="Folder with terrain-corrected Sentinel-1: VV, VH, ratio.")
@click.option("--s1-pre", type=PATH, help="The same before the landslides: adds log-ratios.")
@click.option("--s1-looks", type=float, help="Filter the speckle of --s1: its equivalent number of looks, such as 4.4.")
@_band_options
@click.option("--moisture", metavar="FILE|optram|ndmi|none", help="Soil moisture: a coarse product, or another source.")
@click.option("--moisture-range", metavar="LOW,HIGH", help="Dry and saturated value of the product, in its unit.")
@click.option("--rain", metavar="P,D", help="Rain in mm/h and days for the rainfall factor of the LSI.")
@click.option("--safety", is_flag=True, help="Add the channels wetness and factor_of_safety under --rain P,D.")
@click.option(
    "--soil",
    metavar="NAME=VALUE,...",
    help="Soil for --safety: cohesion (kPa), friction (degrees), depth (m), conductivity (m/day).",
)
@click.option("--baseline", metavar="05.09", help="Processing baseline of bands as ESA distributes them.")
@click.option(
    "--offset", type=float, help="Offset added to the digital numbers: -1000, or 0 if it was already removed."
)
@click.option("--scale", type=float, help="Scale from digital numbers to reflectance, such as 1e-4.")
@click.option("--weights", type=PATH, help="Weights and feature ranges of the LSI (JSON).")
@click.option("--save-weights", type=PATH, help="Write the weights with the ranges that were used.")
@click.option("--grid", metavar="FILE", help="Use the grid of this raster.")
@click.option("--crs", help="Project to this coordinate system, such as EPSG:32643.")
@click.option("--resolution", type=float, help="Side of a pixel, in units of the grid.")
@click.option("--bounds", metavar="L,B,R,T", help="Left, bottom, right, top, in coordinates of the grid.")
@click.option("--date", help="ISO date of the image; with two dates, of --post.")
@click.option("--pre-date", help="ISO date of --pre.")
@click.option(
    "--phase", type=click.Choice(["pre", "post"]), help="Whether the image is from before or after the landslides."
)
@click.option("--scene", help="Name of the scene or event; data sets are split by it.")
@click.option(
    "--from-stac", nargs=2, metavar="BBOX DATES", help="West,south,east,north and first/last day: fetch the bands."
)
@click.option(
    "--pre-dates", "stac_pre_dates", metavar="DATES", help="With --from-stac: days before the landslides; fetched too."
)
@click.option("--stac-url", default=EARTH_SEARCH, show_default=True, help="URL or file of the catalogue.")
@click.option("--stac-collection", default="sentinel-2-l2a", show_default=True, help="Collection of the catalogue.")
@click.option(
    "--max-cloud",
    type=FiniteFloat(0, 100),
    default=30.0,
    show_default=True,
    help="Maximum cloud cover of an image in per cent.",
)
@click.option("--coregister", is_flag=True, help="Align --pre with --post, and --s1-pre with --s1.")
@click.option("--force", is_flag=True, help="Accept bands that look swapped, and dates shifted by more than a pixel.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--out", "target", required=True, type=PATH, help="The stack, a GeoTIFF.")
def stack(safe: Path | None, target: Path, **given: Any) -> None:
    """Put satellite bands, terrain and moisture on one grid: SMI, NDBI, NDVI, NDWI, slope, DEM, LSI.

    \b
    zoo stack --dem dem.tif --out terrain.tif
    zoo stack --dem dem.tif --rain 12,2 --safety --out terrain.tif
    zoo stack S2B_MSIL2A_20240611T054639_N0510_R048_T43SCT.SAFE --dem dem.tif --moisture optram --out stack.tif
    zoo stack --green B03.tif --red B04.tif --nir B08.tif --swir B11.tif --optram B12.tif --scl SCL.tif \\
        --baseline 05.09 --dem dem.tif --rain 12,2 --date 2024-06-11 --phase post --out stack.tif
    zoo stack --red mosaic.tif:1 --green mosaic.tif:2 --nir mosaic.tif:4 --crs EPSG:32646 --out indices.tif
    zoo stack --pre S2A_MSIL2A_20240601T054641_N0510_R048_T43SCT.SAFE --post after/ --dem dem.tif --moisture none \\
        --out change.tif
    zoo stack --s1 s1_after/ --s1-pre s1_before/ --dem dem.tif --out radar.tif
    zoo stack --from-stac 73.4,34.1,73.6,34.3 2024-06-01/2024-06-30 --moisture ndmi --out stack.tif
    zoo stack --from-stac 73.4,34.1,73.6,34.3 2024-07-15/2024-08-15 --pre-dates 2024-05-01/2024-06-15 \\
        --coregister --out change.tif

    SAFE is a Sentinel-2 product, folder or zip; files named by options replace its own. --pre and --post are products,
    or folders with one file for each band (B04.tif, red.tif); they add dNDBI, dNDVI, dNDWI and dBSI. Channels
    that the inputs do not allow are left out and listed. Without --baseline or --offset, dark pixels show whether the
    digital numbers still contain the Sentinel-2 offset. docs/how_to/stack.md describes the file.
    """
    from zoo.api.preparation import stack as make_stack

    box, dates = given.pop("from_stac") or (None, None)
    keywords = {**given, **_moisture(given), **_soil(given), "stac_box": box}
    for name in ("optram", "safety"):
        del keywords[name]
    for name, option, example, count in (
        ("moisture_range", "--moisture-range", "0,0.5", 2),
        ("rain", "--rain", "12,2 (mm/h, days)", 2),
        ("bounds", "--bounds", "353000,3802000,363000,3812000 (left,bottom,right,top)", 4),
        ("stac_box", "--from-stac", "73.4,34.1,73.6,34.3", 4),
    ):
        text = keywords[name]
        keywords[name] = None if text is None else parse_numbers(text, option, example, count=count)
    with stage_progress("stack") as show:
        report = make_stack(target, safe, stac_dates=dates, progress=show, **keywords)
    if box is not None:
        note(f"the downloaded bands are in {relative(inputs_folder(target))}")
    _print(report, given["save_weights"])


def _moisture(given: dict[str, Any]) -> dict[str, Any]:
    if given["optram"] and given["moisture"] not in (None, "optram"):
        raise ConfigError("--moisture and --optram are both sources of the SMI", hint="Give one of them")
    return {"swir2": given["optram"], "moisture": "optram" if given["optram"] else given["moisture"]}


def _soil(given: dict[str, Any]) -> dict[str, Any]:
    from zoo.physics import Soil

    if given["soil"] is not None and not given["safety"]:
        raise ConfigError("--soil needs --safety", hint="Add --safety")
    if not given["safety"]:
        return {"soil": None}
    return {"soil": Soil() if given["soil"] is None else Soil.from_text(given["soil"])}


def _print(report: StackReport, save_weights: Path | None) -> None:
    for text in report.notes:
        note(f"  {text}")
    for text in report.warnings:
        warn(text)
    rows = [
        (
            name,
            f"{statistics.minimum:.4g}",
            f"{statistics.mean:.4g}",
            f"{statistics.maximum:.4g}",
            f"{statistics.std:.4g}",
            f"{statistics.valid_percent:.1f} %",
            report.sources[name],
        )
        for name, statistics in report.statistics.items()
    ]
    console = out()
    columns = ("channel", "min", "mean", "max", "std", "valid", "made of")
    console.print(make_table(columns, rows, right=columns[1:6]))
    for name, why in report.missing.items():
        note(f"not made: {name} ({why})")
    height, width = report.shape
    size = f"{width} x {height} px of {report.resolution:.6g} {report.unit}, {report.crs}"
    console.print(f"{relative(report.path)}: {size}", markup=False)
    if save_weights is not None:
        if report.index is None:
            warn("no weights were written, because there is no LSI")
        else:
            note(f"weights and ranges are in {relative(save_weights)}")
