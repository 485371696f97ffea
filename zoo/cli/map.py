"""``zoo map``: the landslide probability of every pixel of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.bundle_source import bundle_argument, open_bundle
from zoo.cli.console import note, out, relative, warn
from zoo.cli.progress import stage_progress
from zoo.cli.values import PATH, PROBABILITY, FiniteFloat, parse_names, parse_numbers, parse_scales


@click.command("map")
@bundle_argument
@click.argument("scene", nargs=-1, required=True, metavar="SCENE...")
@click.option("--out", "target", required=True, help="GeoTIFF of the probability, or an address that GDAL can write.")
@click.option("--classes", metavar="NAMES", help="Also write classes, such as low,medium,high.")
@click.option("--breaks", metavar="P,P,...", help="Probability at which each class but the first begins.")
@click.option("--classes-out", help="File of the classes.  [default: OUT-classes.tif]")
@click.option("--ensemble", multiple=True, metavar="BUNDLE", help="Map the mean with this bundle; may be repeated.")
@click.option(
    "--spread", metavar="FILE", help="Spread of --ensemble or --tta.  [default for ensembles: OUT-spread.tif]"
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
@click.option("--any-pixel-size", is_flag=True, help="Map a scene with another pixel size than the training data.")
@click.option("--resample", is_flag=True, help="Resample such a scene; the map gets the training data's pixel size.")
@click.option("--mask-clouds", is_flag=True, help="Leave bright white regions, clouds or snow, out of the map.")
@click.option("--cloud-mask", metavar="FILE", help="Scene classes (SCL) or 0 and 1: leave clouds and snow out.")
@click.option("--tile", type=int, default=512, show_default=True, help="Side of a tile in pixels.")
@click.option("--overlap", type=int, default=64, show_default=True, help="Pixels that neighbouring tiles share.")
@click.option("--tta", is_flag=True, help="Average over eight flips and rotations of each tile: eight times slower.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "auto"]), default="fp32", show_default=True,
    help="Precision of the model; bf16 is used only if at most 500 of a million mask pixels change.",
)  # fmt: skip
@click.option("--adapt", is_flag=True, help="Re-estimate the model's normalisation statistics on the scene first.")
@click.option(
    "--scales", metavar="auto|X,X,...",
    help="With --adapt: magnifications at which every tile is seen, such as 1,1.5,2; auto chooses one.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True,
    help="Probability in steps of 0.004 (uint8) or in full (float32).",
)  # fmt: skip
@click.option(
    "--compress", type=click.Choice(["deflate", "zstd", "lzw", "none"]), default="deflate", show_default=True,
    help="Compression of the GeoTIFFs.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), help="Tiles computed at a time.  [default: torch's threads]")
@click.option("--batch", type=click.IntRange(1, 1024), default=4, show_default=True, help="Tiles waiting for a thread.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--ray", "cluster", metavar="ADDRESS", help="Ray cluster to compute on; auto for this machine's.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def map(bundle: str, sha256: str | None, scene: tuple[str, ...], target: str, device: str, **given: Any) -> None:
    """Map SCENE with BUNDLE: a folder that zoo train wrote, weights of zoo weights, a .zip, or an address.

    \b
    zoo map runs/unet scene.tif --out prob.tif
    zoo map runs/unet scene.tif --out prob.tif --classes low,medium,high --mask county.gpkg
    zoo map runs/unet scene.tif --out prob.tif --polygons slides.gpkg --min-area 500 --picture map.png
    zoo map runs/unet tiles/*.tif --out prob.tif --dtype float32 --tta
    zoo map runs/unet-s0 scene.tif --ensemble runs/unet-s1 --ensemble runs/unet-s2 --out prob.tif
    zoo map runs/rgb S2B_MSIL2A_20240611T054639_N0510_R048_T43SCT.SAFE --adapt --out prob.tif

    SCENE is a raster of any size, a VRT, or several rasters of one pixel grid, side by side or of different bands. For
    a bundle of red, green and blue it can be a Sentinel-2 product (SAFE) too. Bands are found by name and unit. The map
    appears when it is complete; after Ctrl-C or a crash the same command resumes from the last finished block.
    docs/how_to/map.md describes the files. Exit code 0: done; 2: bad input.
    """

    scales = None if given["scales"] is None else parse_scales(given["scales"])
    classes = None if given["classes"] is None else [name.strip() for name in given["classes"].split(",")]
    breaks = None if given["breaks"] is None else parse_numbers(given["breaks"], "--breaks", "0.2,0.5")
    # On a cluster, the workers need the GPU, not this machine.
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
        console.print(f"{report.polygons}; in {relative(Path(given['polygons']))}", markup=False)
    if report.picture is not None:
        console.print(f"picture in {relative(report.picture)}", markup=False)
    note(report.cost())
    if report.resumed:
        note(f"{report.resumed} of {report.blocks} blocks were finished by an earlier run")
