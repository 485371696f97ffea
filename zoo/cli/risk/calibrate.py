"""``zoo risk calibrate``: fit weights, scaling, rain and classes of the index to a stack and an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.cli.risk import parse_breaks, parse_rain
from zoo.cli.values import BUFFER, LAYER, PATH, WHERE, parse_numbers
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.risk import Calibration


@click.command(short_help="Fit weights and classes of the index to a stack and an inventory.")
@click.argument("stack", type=PATH)
@click.option("--inventory", required=True, type=PATH, help="Landslides: GeoPackage, Shapefile, GeoJSON.")
@click.option("--out", "target", required=True, type=PATH, help="Weights, a JSON file.")
@click.option(
    "--method",
    type=click.Choice(["logistic", "spearman", "expert"]),
    default="logistic",
    show_default=True,
    help="Origin of the weights; expert is Table 1.",
)
@click.option(
    "--form",
    type=click.Choice(["multiplicative", "log-additive"]),
    default="multiplicative",
    show_default=True,
    help="sigmoid(R_m S), or sigmoid(a + b S + g ln R_m).",
)
@click.option(
    "--signs",
    type=click.Choice(["paper", "free"]),
    default="paper",
    show_default=True,
    help="Keep the signs of Table 1, or allow any sign.",
)
@click.option(
    "--rain", metavar="P,D|FILE", help="Rain before the landslides: mm/h and days, or a raster to which R_m is fitted."
)
@click.option(
    "--duration", type=float, metavar="DAYS", help="Duration in days, for a raster that holds only the intensity."
)
@click.option(
    "--preset",
    default="paper",
    show_default=True,
    metavar="NAME|A,B",
    help="Rain parameters: paper, caine, guzzetti-global; or a threshold I = A D^-B of mm/h and hours.",
)
@click.option(
    "--annual-rain", type=float, metavar="MM", help="Mean annual rain, for a threshold A,B that is normalised by it."
)
@click.option("--classes", default="jenks", show_default=True, metavar="jenks|quantile|A,B", help="Class breaks.")
@click.option(
    "--scaler",
    type=click.Choice(["percentiles", "minmax"]),
    default="percentiles",
    show_default=True,
    help="Scale features to 0-1 with their 0.5 and 99.5 percentiles, or their extremes.",
)
@click.option("--samples", type=int, default=200_000, show_default=True, help="Pixels to draw of each class.")
@click.option("--block", type=float, metavar="METRES", help="Side of spatial blocks.  [default: a share of the region]")
@click.option("--repeats", type=click.IntRange(0), default=200, show_default=True, help="Number of bootstrap draws.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@LAYER
@WHERE
@BUFFER
@click.option("--curve", type=PATH, help="Write the success-rate curve to this CSV.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def calibrate(stack: Path, inventory: Path, target: Path, curve: Path | None, overwrite: bool, **given: Any) -> None:
    """Fit weights, scaling, rain and classes of the landslide risk index.

    \b
    zoo risk calibrate stack.tif --inventory landslides.gpkg --out weights.json
    zoo risk calibrate stack.tif --inventory slides.shp --where 'Year_obs >= 2010' --method spearman --out w.json
    zoo risk calibrate stack.tif --inventory slides.gpkg --rain rain.tif --form log-additive --out weights.json
    zoo risk map stack.tif --weights weights.json --rain 12,2 --out risk.tif --classes-out classes.tif

    Features are the bands SMI, NDBI, NDVI, NDWI, slope and DEM of the stack. The JSON holds everything that another
    region needs, and `zoo stack --weights` reads it too. Prints weights with 95 % intervals over spatial blocks, the
    AUC of held-out blocks, and the shares of the classes. Exit code 0: done; 2: bad input.
    """
    import zoo.risk
    from zoo.files import check_outputs
    from zoo.physics import threshold_rain
    from zoo.risk.weights import PAPER_SIGNS

    check_outputs((target, curve), (stack, inventory), overwrite=overwrite)
    preset, annual = given.pop("preset"), given.pop("annual_rain")
    if "," in preset:
        scale, exponent = parse_numbers(preset, "--preset", "14.82,0.39", count=2)
        preset = threshold_rain(scale, exponent, annual)
    elif annual is not None:
        raise ConfigError("--annual-rain needs a threshold", hint="Write it as --preset A,B")
    options = {
        **given,
        "preset": preset,
        "rain": parse_rain(given["rain"]),
        "classes": parse_breaks(given["classes"], ("jenks", "quantile")),
        "signs": PAPER_SIGNS if given["signs"] == "paper" else None,
    }
    with progress("drawing pixels") as show:
        found = zoo.risk.calibrate(stack, inventory, **options, progress=show)
    found.save(target)
    if curve is not None:
        _write_curve(found, curve)
    _print(found, target)


def _print(found: Calibration, target: Path) -> None:
    for text in found.notes:
        note(f"  {text}")
    for text in found.warnings:
        warn(text)
    console = out()
    index = found.index
    rows = []
    for name, weight in index.index.weights.items():
        span = index.index.ranges[name]
        low, high = index.intervals.get(name, (None, None))
        interval = "" if low is None or high is None else f"{low:+.3f} .. {high:+.3f}"
        rows.append((name, f"{weight:+.3f}", interval, f"{span.low:.4g} .. {span.high:.4g}"))
    console.print(make_table(("feature", "weight", "95 % interval", "scaled from"), rows, right=("weight",)))
    console.print()
    shares = [
        (share.name, f"{share.area:.1%}", f"{share.landslides:.1%}", f"{share.ratio:.2f}" if share.area else "")
        for share in found.shares
    ]
    headings = ("class", "area", "landslides", "density")
    console.print(make_table(headings, shares, right=headings[1:]))
    console.print(f"\n{found.auc_text()}", markup=False)
    breaks = index.classes
    assert breaks is not None
    console.print(f"classes ({breaks.method}): low to {breaks.low:.4g}, medium to {breaks.high:.4g}, high above")
    note(f"weights are in {relative(target)}; map them with: zoo risk map STACK --weights {relative(target)} --out ...")


def _write_curve(found: Calibration, path: Path) -> None:
    from zoo.files import write_text_atomic

    lines = [f"{area:.4f},{share:.6f}" for area, share in zip(*found.curve, strict=True)]
    write_text_atomic(path, "\n".join(["area_share,landslide_share", *lines]) + "\n")
