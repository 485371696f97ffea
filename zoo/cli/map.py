"""``zoo map``: the landslide probability of every pixel of a scene."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import note, out, relative, warn
from zoo.cli.progress import progress, stoppable
from zoo.errors import ConfigError, ResultError

if TYPE_CHECKING:
    from zoo.mapping import MapReport, ProbabilityClasses, Scene
    from zoo.training.bundle import Bundle


@click.command("map", short_help="Map the landslide probability of a scene of any size.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("scene", nargs=-1, required=True, metavar="SCENE...")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The probability, a GeoTIFF.")
@click.option("--classes", metavar="NAMES", help="Write classes too, such as low,medium,high, beside --out.")
@click.option("--breaks", metavar="P,P,...", help="Where each class but the first begins; else by the threshold.")
@click.option("--classes-out", type=click.Path(path_type=Path), help="Name of the classes; else OUT-classes.tif.")
@click.option("--polygons", type=click.Path(path_type=Path), help="Landslides as polygons: .gpkg or .parquet.")
@click.option("--least-area", type=click.FloatRange(0), metavar="M2", help="Leave out polygons below this area.")
@click.option("--picture", type=click.Path(path_type=Path), help="A picture of the map, such as map.png.")
@click.option("--title", help="Of the picture.")
@click.option("--mask", type=click.Path(path_type=Path), help="Polygons: map inside of them, nodata elsewhere.")
@click.option("--bands", metavar="NAMES", help="Names of the scene's bands in order, where its files do not say them.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the bundle's.")
@click.option("--tile", type=int, default=512, show_default=True, help="Pixels along the side of a tile.")
@click.option("--overlap", type=int, default=64, show_default=True, help="Pixels that neighbouring tiles share.")
@click.option("--tta", is_flag=True, help="Average over eight flips and rotations of each tile: eight times slower.")
@click.option(
    "--dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True,
    help="Probability in steps of 0.004, or in full.",
)  # fmt: skip
@click.option(
    "--compress", type=click.Choice(["deflate", "zstd", "lzw", "none"]), default="deflate", show_default=True,
    help="Of the GeoTIFFs.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Tiles computed at the same time; else one a core.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Tiles ready for a free thread.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
def map(bundle: Path, scene: tuple[str, ...], target: Path, **given: Any) -> None:
    """Map SCENE with BUNDLE, a folder that zoo train or zoo bench wrote.

    \b
    zoo map run scene.tif --out prob.tif
    zoo map run scene.tif --out prob.tif --classes low,medium,high --mask county.gpkg
    zoo map run scene.tif --out prob.tif --polygons slides.gpkg --least-area 500 --picture map.png
    zoo map run tiles/*.tif --out prob.tif --dtype float32 --tta

    SCENE is a raster of any size, a VRT, or several rasters of one pixel grid: side by side, or of different bands.
    Bands are found by name and unit. The map appears when it is whole; after Ctrl-C or a crash the same command goes on
    from the last finished block. docs/map.md says what is in it. Exit code 0: done; 2: bad input.
    """
    loaded = _load(bundle)

    from zoo.mapping import MapOptions, Scene, map_scene
    from zoo.rasters.areas import Area
    from zoo.rasters.map_writer import gdal_threads
    from zoo.training.environment import resolve_device

    device = resolve_device(given["device"])
    options = MapOptions(
        **{name: given[name] for name in ("tile", "overlap", "tta", "dtype", "compress", "threads", "batch")},
        device=device,
    )
    threshold = loaded.threshold if given["threshold"] is None else given["threshold"]
    classes, classes_out = _classes(given, threshold, target)
    _check_outputs(scene, [target, classes_out, given["polygons"], given["picture"]], given)
    predictor = loaded.predictor().to(device)
    names = None if given["bands"] is None else [one.strip() for one in given["bands"].split(",")]
    with ExitStack() as exits:
        exits.enter_context(stoppable())
        exits.enter_context(gdal_threads(scene[0]))
        opened = exits.enter_context(Scene(scene, loaded.bands, names=names))
        mask = None if given["mask"] is None else Area(given["mask"], opened.mosaic)
        try:
            with progress("mapping") as show:
                report = map_scene(
                    predictor,
                    opened,
                    target,
                    options,
                    threshold=threshold,
                    mask=mask,
                    classes=classes,
                    classes_out=classes_out,
                    tags={"MODEL": loaded.model, "WEIGHTS_SHA256": loaded.weights_sha256},
                    overwrite=given["overwrite"],
                    progress=lambda what, done, total: show(done, total),
                )
        except KeyboardInterrupt:
            warn("stopped; the same command goes on from the last finished block")
            raise
        _print(report, threshold)
        if given["polygons"] is not None or given["picture"] is not None:
            _make(opened, target, threshold, classes, given)


def _check_outputs(scene: tuple[str, ...], outputs: list[Path | None], given: dict[str, Any]) -> None:
    """Refuse names before hours of work are done for them."""
    from zoo.rasters.map_frame import check_picture
    from zoo.rasters.map_writer import check_output
    from zoo.rasters.polygons import check_polygons

    named = [path for path in outputs if path is not None]
    if len({path.absolute() for path in named}) < len(named):
        raise ConfigError("two outputs have one name", hint="Name a file for each")
    if given["least_area"] is not None and given["polygons"] is None:
        raise ConfigError("--least-area is for --polygons", hint="Name the file with --polygons slides.gpkg")
    if given["title"] is not None and given["picture"] is None:
        raise ConfigError("--title is for --picture", hint="Name the file with --picture map.png")
    if given["polygons"] is not None:
        check_polygons(given["polygons"])
        check_output(given["polygons"], [Path(path) for path in scene], overwrite=given["overwrite"])
    if given["picture"] is not None:
        check_picture(given["picture"])
        check_output(given["picture"], [Path(path) for path in scene], overwrite=given["overwrite"])


def _make(
    scene: Scene, target: Path, threshold: float, classes: ProbabilityClasses | None, given: dict[str, Any]
) -> None:
    """Polygons and picture of a finished map, which stays whatever becomes of them."""
    from zoo.cli.polygons import summary
    from zoo.mapping.made import MadeMap, map_picture, map_polygons

    found = ""
    with MadeMap(target) as made:
        if given["polygons"] is not None:
            with progress("outlining") as show:
                polygons = map_polygons(
                    made,
                    scene,
                    given["polygons"],
                    threshold,
                    least_area=given["least_area"] or 0.0,
                    classes=classes,
                    progress=show,
                )
            found = f"{polygons.polygons:,} polygons, {polygons.area / 1e6:,.3f} km²"
            out().print(f"{summary(polygons)}; in {relative(given['polygons'])}", markup=False)
        if given["picture"] is not None:
            map_picture(made, scene, given["picture"], threshold, title=given["title"] or "", found=found)
            out().print(f"in {relative(given['picture'])}", markup=False)


def _load(bundle: Path) -> Bundle:
    """Read the bundle; say how to get one where there is none."""
    from zoo.registry import catalogue

    name = str(bundle)
    if not bundle.exists() and name in catalogue().models:
        raise ConfigError(
            f"{name!r} is an architecture, and a map takes trained weights",
            hint=f"Train them first: zoo train {name} --data PATCHES --out run; then: zoo map run SCENE --out FILE",
        )
    if not (bundle / "bundle.json").exists():
        problem = "there is no such folder" if not bundle.exists() else "holds no bundle"
        raise ResultError(
            problem, where=bundle, hint="A bundle is a folder that zoo train writes: zoo train MODEL --out FOLDER"
        )

    from zoo.training.bundle import Bundle

    return Bundle.load(bundle)


def _classes(given: dict[str, Any], threshold: float, target: Path) -> tuple[ProbabilityClasses | None, Path | None]:
    from zoo.mapping import ProbabilityClasses

    if given["classes"] is None:
        if given["breaks"] is not None or given["classes_out"] is not None:
            raise ConfigError("--breaks and --classes-out are for --classes", hint="Such as --classes low,medium,high")
        return None, None
    names = tuple(one.strip() for one in given["classes"].split(","))
    path = given["classes_out"] or target.with_name(f"{target.stem}-classes{target.suffix}")
    if path.absolute() == target.absolute():
        raise ConfigError("two outputs have one name", where=path, hint="Name a file for each")
    if given["breaks"] is None:
        return ProbabilityClasses.from_threshold(names, threshold), path
    try:
        breaks = tuple(float(one) for one in given["breaks"].split(","))
    except ValueError:
        raise ConfigError(f"--breaks {given['breaks']} are no numbers", hint="Such as --breaks 0.2,0.5") from None
    return ProbabilityClasses(names, breaks), path


def _print(report: MapReport, threshold: float) -> None:
    def amount(pixels: int) -> str:
        area = report.area(pixels)
        share = pixels / report.mapped
        return f"{pixels:,} pixels ({share:.2%})" + ("" if area is None else f", {area:,.3f} km2")

    console = out()
    rows, columns = report.shape
    console.print(f"{rows} x {columns} pixels, {report.missing:,} without data")
    console.print(f"landslide probability from {threshold:g}: {amount(report.above)}")
    for name, pixels in report.class_pixels.items():
        console.print(f"  {name}: {amount(pixels)}", markup=False)
    files = [report.out, *([] if report.classes_out is None else [report.classes_out])]
    console.print(f"in {', '.join(relative(one) for one in files)}", markup=False)
    if report.resumed:
        note(f"{report.resumed} of {report.blocks} blocks were there from an earlier run")
