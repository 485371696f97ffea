"""``zoo stack``: satellite bands, terrain and moisture become the paper's seven channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress, stoppable
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.physics.stability import Soil
    from zoo.rasters.layers import Sources
    from zoo.rasters.stacking import StackOptions, StackReport

Command = TypeVar("Command", bound=Callable[..., Any])

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"

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


@click.command(short_help="The paper's seven channels on one grid.")
@click.argument("safe", required=False, type=click.Path(path_type=Path))
@_band_options
@click.option(
    "--moisture", metavar="FILE|optram|ndmi|none", help="Soil moisture: a coarse product, or how to do without one."
)
@click.option("--moisture-range", metavar="LOW,HIGH", help="Dry and saturated value of the product, in its unit.")
@click.option("--rain", metavar="P,D", help="Rain in mm/h and days for the rainfall factor of the LSI.")
@click.option("--safety", is_flag=True, help="Add the channels wetness and factor_of_safety under --rain P,D.")
@click.option(
    "--soil", metavar="NAME=VALUE,...", help="Of --safety: cohesion (kPa), friction (degree), depth (m), conductivity."
)
@click.option("--baseline", metavar="05.09", help="Processing baseline of bands as ESA distributes them.")
@click.option("--offset", type=float, help="Added to the optical numbers: -1000, or 0 when it was removed already.")
@click.option("--scale", type=float, help="Reflectance of one optical number, such as 1e-4.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights and feature ranges of the LSI (JSON).")
@click.option("--save-weights", type=click.Path(path_type=Path), help="Write them with the ranges that were used.")
@click.option("--grid", "like", metavar="FILE", help="Take the grid of this raster as it is.")
@click.option("--crs", help="Project to this system, such as EPSG:32643.")
@click.option("--resolution", type=float, help="Side of a pixel, in units of the grid.")
@click.option("--bounds", metavar="L,B,R,T", help="Left, bottom, right, top, in coordinates of the grid.")
@click.option("--date", help="Date of the image, ISO.")
@click.option("--phase", type=click.Choice(["pre", "post"]), help="Before or after the landslides.")
@click.option("--scene", help="Name of the scene or event; data sets are split by it.")
@click.option(
    "--from-stac", nargs=2, metavar="BBOX DATES", help="West,south,east,north and first/last day: bands of a catalogue."
)
@click.option("--stac-url", default=EARTH_SEARCH, show_default=True, help="Address or file of the catalogue.")
@click.option("--stac-collection", default="sentinel-2-l2a", show_default=True, help="Its collection.")
@click.option(
    "--max-cloud", type=click.FloatRange(0, 100), default=30.0, show_default=True, help="Clouds of an image, per cent."
)
@click.option("--force", is_flag=True, help="Take red and NIR that look swapped as they are.")
@click.option("--overwrite", is_flag=True, help="Replace the output when it is there.")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The stack, a GeoTIFF.")
def stack(safe: Path | None, target: Path, **given: Any) -> None:
    """Put satellite bands, terrain and moisture on one grid: SMI, NDBI, NDVI, NDWI, slope, DEM, LSI.

    \b
    zoo stack --dem dem.tif --out terrain.tif
    zoo stack --dem dem.tif --rain 12,2 --safety --out terrain.tif
    zoo stack S2B_MSIL2A_20240611T054639_N0510_R048_T43SCT.SAFE --dem dem.tif --moisture optram --out stack.tif
    zoo stack --green B03.tif --red B04.tif --nir B08.tif --swir B11.tif --optram B12.tif --scl SCL.tif \\
        --baseline 05.09 --dem dem.tif --rain 12,2 --date 2024-06-11 --phase post --out stack.tif
    zoo stack --red mosaic.tif:1 --green mosaic.tif:2 --nir mosaic.tif:4 --crs EPSG:32646 --out indices.tif
    zoo stack --from-stac 73.4,34.1,73.6,34.3 2024-06-01/2024-06-30 --moisture ndmi --out stack.tif

    SAFE is a Sentinel-2 product, folder or zip; files named by options take the place of its own. What cannot be
    made of what is given is left out, and said so. Without --baseline or --offset, dark pixels tell whether the
    offset of Sentinel-2 is in the numbers still. docs/how_to/stack.md says what is in the file.
    """
    from zoo.rasters.stacking import build_stack

    with stoppable():
        options = _options(given)
        sources = _sources(safe, target, given, options.moisture)
        with progress("stack") as show:
            report = build_stack(sources, target, options, show)
    _print(report, options)


def _options(given: dict[str, Any]) -> StackOptions:
    from zoo.physics import IndexParameters
    from zoo.rasters.stacking import StackOptions

    moisture = given["moisture"]
    bounds = _numbers(given["bounds"], "--bounds", "left,bottom,right,top", 4)
    rain = _numbers(given["rain"], "--rain", "12,2 (mm/h, days)", 2)
    if rain is not None and min(rain) < 0:
        raise ConfigError(f"rain of {rain[0]:g} mm/h over {rain[1]:g} days", where="--rain", hint="Neither is negative")
    if given["soil"] is not None and not given["safety"]:
        raise ConfigError("--soil is for --safety", hint="Add --safety")
    span = _numbers(given["moisture_range"], "--moisture-range", "0,0.5", 2)
    if given["optram"] and moisture not in (None, "optram"):
        raise ConfigError("--moisture and --optram both say where the SMI comes from", hint="Give one of them")
    return StackOptions(
        moisture="optram" if given["optram"] else moisture if moisture in ("optram", "ndmi", "none") else None,
        moisture_range=None if span is None else (span[0], span[1]),
        rain=None if rain is None else (rain[0], rain[1]),
        index=IndexParameters() if given["weights"] is None else IndexParameters.load(given["weights"]),
        soil=_soil(given["soil"]) if given["safety"] else None,
        save_weights=given["save_weights"],
        like=given["like"],
        crs=given["crs"],
        resolution=given["resolution"],
        bounds=None if bounds is None else (bounds[0], bounds[1], bounds[2], bounds[3]),
        baseline=given["baseline"],
        offset=given["offset"],
        scale=given["scale"],
        phase=given["phase"] or "",
        force=given["force"],
        overwrite=given["overwrite"],
    )


def _soil(text: str | None) -> Soil:
    from zoo.physics.stability import Soil

    return Soil() if text is None else Soil.from_text(text)


def _sources(safe: Path | None, target: Path, given: dict[str, Any], moisture: str | None) -> Sources:
    from zoo.rasters.layers import Sources

    files = {}
    for name in _BANDS:
        if given[name]:
            role = "swir2" if name == "optram" else name
            files[role] = _band_file(given[name], optical=name in ("green", "red", "nir", "swir", "optram"))
    if given["moisture"] and moisture is None:
        files["moisture"] = _band_file(given["moisture"], optical=False)
    found = Sources({})
    if safe is not None:
        from zoo.rasters.safe import open_safe

        found = open_safe(safe)
    if given["from_stac"] is not None:
        found = found.merged(_fetch(given, target))
    date = _iso(given["date"])
    return found.merged(Sources(files, scene=given["scene"] or "", date=date))


def _fetch(given: dict[str, Any], target: Path) -> Sources:
    from zoo.rasters.stac import fetch_sources

    box, dates = given["from_stac"]
    bounds = _numbers(box, "--from-stac", "73.4,34.1,73.6,34.3", 4)
    assert bounds is not None
    folder = target.parent / f"{target.stem}-inputs"
    with progress("catalogue") as show:
        sources = fetch_sources(
            (bounds[0], bounds[1], bounds[2], bounds[3]),
            dates,
            folder,
            url=given["stac_url"],
            collection=given["stac_collection"],
            max_cloud=given["max_cloud"],
            progress=show,
        )
    note(f"bands of the catalogue are in {relative(folder)}")
    return sources


def _band_file(text: str, *, optical: bool) -> Any:
    """``FILE`` or ``FILE:BAND``; scale and offset of optical files are not known yet."""
    from zoo.rasters.layers import BandFile

    path, colon, band = text.rpartition(":")
    if not colon or not band.isdigit() or not path or Path(text).exists():
        path, band = text, "1"
    return BandFile(path, int(band), offset=None, scale=None) if optical else BandFile(path, int(band))


def _numbers(text: str | None, option: str, example: str, count: int) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{text!r} is not {count} numbers", where=option, hint=f"Write it like {example}")
    return numbers


def _iso(text: str | None) -> str:
    if text is None:
        return ""
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError(f"{text!r} is no date", where="--date", hint="Write it like 2024-06-11") from None


def _print(report: StackReport, options: StackOptions) -> None:
    for text in report.notes:
        note(f"  {text}")
    for text in report.warnings:
        warn(text)
    rows = [
        (
            name,
            f"{one.minimum:.4g}",
            f"{one.mean:.4g}",
            f"{one.maximum:.4g}",
            f"{one.std:.4g}",
            f"{one.valid_percent:.1f} %",
            report.sources[name],
        )
        for name, one in report.statistics.items()
    ]
    console = out()
    columns = ("channel", "min", "mean", "max", "std", "valid", "made of")
    console.print(make_table(columns, rows, right=columns[1:6]))
    for name, why in report.missing.items():
        note(f"not made: {name} ({why})")
    height, width = report.shape
    told = f"{width} x {height} px of {report.resolution:.6g} {report.unit}, {report.crs}"
    console.print(f"{relative(report.path)}: {told}", markup=False)
    if options.save_weights is not None:
        if report.index is None:
            warn("no weights were written: there is no LSI whose ranges they would hold")
        else:
            note(f"weights and ranges are in {relative(options.save_weights)}")
