"""``zoo map``: the landslide probability of a scene. ``zoo polygons`` and ``zoo accuracy``: what its map shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.opening import bundle_argument, open_bundle
from zoo.cli.progress import progress, stage_progress
from zoo.cli.values import AS_JSON, COUNT, PATH, PROBABILITY, FiniteFloat, parse_names, parse_numbers, parse_scales
from zoo.errors import ConfigError
from zoo.schema import to_plain

if TYPE_CHECKING:
    from zoo.evaluation.area_accuracy import AreaAccuracy


@click.command("map")
@bundle_argument
@click.argument("scene", nargs=-1, required=True, metavar="SCENE...")
@click.option("--out", "target", required=True, help="GeoTIFF of the probability, or a path that GDAL can write to.")
@click.option("--classes", metavar="NAMES", help="Also write classes, such as low,medium,high.")
@click.option("--breaks", metavar="P,P,...", help="Lower probability bound of each class except the first.")
@click.option("--classes-out", help="File of the classes.  [default: OUT-classes.tif]")
@click.option("--ensemble", multiple=True, metavar="BUNDLE", help="Map the mean with this bundle; may be repeated.")
@click.option(
    "--spread",
    metavar="FILE",
    help="File of the spread of --ensemble or --tta.  [default for ensembles: OUT-spread.tif]",
)
@click.option("--calibrated", is_flag=True, help="Apply the temperature that was fitted on the validation split.")
@click.option("--sets", metavar="FILE", help="Also write conformal prediction sets; needs --dtype float32.")
@click.option("--unlike", metavar="FILE", help="Also write the distance of each tile from the training data.")
@click.option("--polygons", metavar="FILE", help="Also write polygons: slides.gpkg or slides.parquet.")
@click.option("--min-area", type=FiniteFloat(0), metavar="M2", help="Leave out polygons below this area.")
@click.option("--picture", metavar="FILE", help="Also draw the map, such as map.png.")
@click.option("--title", help="Title of the picture.")
@click.option("--mask", type=PATH, help="Vector file of the area to map; nodata elsewhere.")
@click.option("--bands", metavar="NAMES", help="Names of the scene's bands in order, if its files do not name them.")
@click.option("--threshold", type=PROBABILITY, help="Landslide threshold.  [default: the bundle's]")
@click.option(
    "--any-pixel-size", is_flag=True, help="Map a scene whose pixel size differs from that of the training data."
)
@click.option("--resample", is_flag=True, help="Resample such a scene; the map gets the training data's pixel size.")
@click.option("--mask-clouds", is_flag=True, help="Leave bright white areas (clouds or snow) out of the map.")
@click.option(
    "--cloud-mask",
    metavar="FILE",
    help="Scene classification (SCL), or a raster of 0 and 1: leave clouds and snow out.",
)
@click.option("--tile", type=int, default=512, show_default=True, help="Side of a tile in pixels.")
@click.option("--overlap", type=int, default=64, show_default=True, help="Pixels that neighbouring tiles share.")
@click.option(
    "--tta", is_flag=True, help="Average over the eight flips and rotations of each tile: eight times slower."
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "auto"]), default="fp32", show_default=True,
    help="Precision of the model; bf16 is used only if at most 500 of a million mask pixels change.",
)  # fmt: skip
@click.option("--adapt", is_flag=True, help="Re-estimate the model's normalisation statistics on the scene first.")
@click.option(
    "--scales", metavar="auto|X,X,...",
    help="With --adapt: magnifications applied to every tile, such as 1,1.5,2; auto chooses one.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True,
    help="Probability in steps of 0.004 (uint8) or at full precision (float32).",
)  # fmt: skip
@click.option(
    "--compress", type=click.Choice(["deflate", "zstd", "lzw", "none"]), default="deflate", show_default=True,
    help="Compression of the GeoTIFFs.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Number of tiles computed at a time.  [default: torch's threads]"
)
@click.option(
    "--batch", type=click.IntRange(1, 1024), default=4, show_default=True, help="Number of tiles waiting for a thread."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--ray", "cluster", metavar="ADDRESS", help="Ray cluster to compute on; auto for this machine's.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def map(bundle: str, sha256: str | None, scene: tuple[str, ...], target: str, device: str, **given: Any) -> None:
    """Map SCENE with BUNDLE: a folder that zoo train wrote, weights that zoo weights lists, a .zip, or a URL.

    \b
    zoo map runs/unet scene.tif --out prob.tif
    zoo map runs/unet scene.tif --out prob.tif --classes low,medium,high --mask county.gpkg
    zoo map runs/unet scene.tif --out prob.tif --polygons slides.gpkg --min-area 500 --picture map.png
    zoo map runs/unet tiles/*.tif --out prob.tif --dtype float32 --tta
    zoo map runs/unet-s0 scene.tif --ensemble runs/unet-s1 --ensemble runs/unet-s2 --out prob.tif
    zoo map runs/rgb S2B_MSIL2A_20240611T054639_N0510_R048_T43SCT.SAFE --adapt --out prob.tif

    SCENE is a raster of any size, a VRT, or several rasters on one pixel grid: adjacent tiles, or different bands. For
    a bundle of red, green and blue it can also be a Sentinel-2 product (SAFE). Bands are matched by name and unit. The
    map appears when it is complete; after Ctrl-C or a crash the same command resumes from the last finished block.
    docs/how_to/map.md describes the files. Exit code 0: done; 2: bad input.
    """

    scales = None if given["scales"] is None else parse_scales(given["scales"])
    classes = None if given["classes"] is None else [name.strip() for name in given["classes"].split(",")]
    breaks = None if given["breaks"] is None else parse_numbers(given["breaks"], "--breaks", "0.2,0.5")
    # On a cluster, the GPU is for the workers.
    away = given["cluster"] is not None and device.startswith("cuda")
    model = open_bundle(bundle, sha256, "cpu" if away else device)
    out().print(model.quality(adapted=given["adapt"]), markup=False)
    with stage_progress("opening the scene") as show:
        try:
            report = model.map(
                scene,
                target,
                **{
                    **given,
                    "scales": scales,
                    "breaks": breaks,
                    "classes": classes,
                    "bands": parse_names(given["bands"]),
                    "min_area": given["min_area"] or 0.0,
                    "title": given["title"] or "",
                },
                cluster_gpus=away,
                progress=show,
                notify=lambda text: note(f"  {text}"),
                warn=warn,
            )
        except KeyboardInterrupt:
            warn("stopped; the same command resumes from the last finished block")
            raise
    console = out()
    for line in report.lines():
        console.print(line, markup=False)
    console.print(f"in {', '.join(report.files)}", markup=False)
    if report.polygons is not None:
        console.print(f"{report.polygons}; written to {relative(Path(given['polygons']))}", markup=False)
    if report.picture is not None:
        console.print(f"picture written to {relative(report.picture)}", markup=False)
    note(report.cost())
    if report.resumed:
        note(f"{report.resumed} of {report.blocks} blocks were finished by an earlier run")


@click.command()
@click.argument("probability", type=PATH)
@click.option("--out", "target", required=True, type=PATH, help="slides.gpkg or slides.parquet.")
@click.option("--scene", multiple=True, metavar="FILE", help="Mapped raster, for the mean slope; may be repeated.")
@click.option("--threshold", type=PROBABILITY, help="Landslide threshold; by default the map's.")
@click.option("--min-area", type=FiniteFloat(0), default=0.0, metavar="M2", help="Leave out smaller polygons.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def polygons(probability: Path, target: Path, **given: Any) -> None:
    """Outline the landslides in PROBABILITY, a map that zoo map wrote.

    \b
    zoo polygons prob.tif --out slides.gpkg
    zoo polygons prob.tif --scene terrain.tif --threshold 0.7 --min-area 1000 --out sure.parquet

    zoo map --polygons does the same while it maps. docs/how_to/map.md describes the file.
    """
    import zoo

    with progress("outlining") as show:
        report = zoo.polygons(probability, target, **given, progress=show)
    out().print(f"{report}; in {relative(target)}", markup=False)


@click.command()
@click.argument("map", type=PATH)
@click.option("--samples", type=PATH, help="Points with their reference class.")
@click.option("--column", default="reference", show_default=True, help="Column with the reference class.")
@click.option("--draw", type=COUNT, metavar="N", help="Draw a sample of N points instead, and write it to --out.")
@click.option("--out", "target", type=PATH, help="With --draw: points.gpkg.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --draw: random seed.")
@click.option("--threshold", type=PROBABILITY, help="Threshold of a probability map.  [default: the map's]")
@AS_JSON
@click.option("--overwrite", is_flag=True, help="With --draw: replace an existing file.")
def accuracy(
    map: Path,
    samples: Path | None,
    column: str,
    draw: int | None,
    target: Path | None,
    seed: int,
    threshold: float | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Estimate the accuracy of MAP and the true areas of its classes from a stratified random sample.

    \b
    zoo accuracy prob.tif --draw 300 --out points.gpkg
    zoo accuracy prob.tif --samples points.gpkg

    MAP is a raster of classes, or a probability that zoo map wrote. First draw the points. Then look at each point on
    the ground or in better images, and write its class into the column reference. The second command prints the error
    matrix, user's and producer's accuracy, and areas with 95 % intervals (Olofsson et al. 2014).
    docs/how_to/uncertainty.md describes the steps. Exit code 0: done; 2: bad input.
    """
    import zoo

    if (samples is None) == (draw is None) or (draw is None) != (target is None):
        raise ConfigError("Give either --samples points.gpkg, or --draw 300 --out points.gpkg", where="zoo accuracy")
    with progress(f"reading {map.name}") as show:
        if draw is not None and target is not None:
            drawn = zoo.draw_sample(
                map, target, draw, threshold=threshold, seed=seed, overwrite=overwrite, progress=show
            )
        elif samples is not None:
            found = zoo.accuracy(map, samples, column=column, threshold=threshold, progress=show)
    if target is not None:
        if as_json:
            print_json(drawn)
        else:
            out().print(", ".join(f"{count} points in {name}" for name, count in drawn.items()), markup=False)
        note(f"in {relative(target)}; write the class of each point into its column {column}")
        return
    if as_json:
        print_json({**to_plain(found), "area_interval_km2": found.area_intervals().tolist()})
    else:
        _print_accuracy(found)
    for text in found.warnings():
        warn(text)


def _print_accuracy(found: AreaAccuracy) -> None:
    console = out()
    names = found.classes
    console.print("error matrix in points, rows: map, columns: reference")
    rows = [
        (name, *(str(count) for count in row), str(row.sum())) for name, row in zip(names, found.counts, strict=True)
    ]
    console.print(make_table(("map", *names, "points"), rows, right=(*names, "points")))
    console.print("\nerror matrix in shares of the area")
    rows = [
        (name, *(f"{share:.4f}" for share in row), f"{row.sum():.4f}")
        for name, row in zip(names, found.shares, strict=True)
    ]
    console.print(make_table(("map", *names, "share"), rows, right=(*names, "share")))
    console.print("\naccuracy ± standard error, and areas with their 95 % interval")
    columns = ("class", "user's", "producer's", "mapped km2", "estimated km2", "95 %")
    rows = [
        (
            name,
            _with_error(found.users[place], found.users_error[place]),
            _with_error(found.producers[place], found.producers_error[place]),
            f"{found.mapped_km2[place]:,.4g}",
            f"{found.area_km2[place]:,.4g}",
            "{:,.4g} to {:,.4g}".format(*found.area_intervals()[place]),
        )
        for place, name in enumerate(names)
    ]
    console.print(make_table(columns, rows, right=columns[1:]))
    console.print(f"\noverall accuracy {_with_error(found.overall, found.overall_error)}")


def _with_error(value: float, error: float) -> str:
    return "-" if value != value else f"{value:.3f} ± {error:.3f}"
