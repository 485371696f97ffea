"""``zoo polygons``: outline the landslides of a map, with another threshold or smallest area than the map's."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from zoo.cli.console import out, relative
from zoo.cli.progress import progress


@click.command()
@click.argument("probability", type=click.Path(path_type=Path))
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="slides.gpkg or slides.parquet.")
@click.option("--scene", multiple=True, metavar="FILE", help="Mapped raster, for the mean slope; may be repeated.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Landslide threshold; by default the map's.")
@click.option("--min-area", type=click.FloatRange(0), default=0.0, metavar="M2", help="Leave out smaller polygons.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def polygons(probability: Path, target: Path, **given: Any) -> None:
    """Outline the landslides in PROBABILITY, a map that zoo map wrote.

    \b
    zoo polygons prob.tif --out slides.gpkg
    zoo polygons prob.tif --scene terrain.tif --threshold 0.7 --min-area 1000 --out sure.parquet

    zoo map --polygons does the same while it maps. docs/how_to/map.md describes the file.
    """
    from zoo.errors import DataError
    from zoo.mapping.output import ProbabilityMap, map_polygons, polygon_summary
    from zoo.mapping.scene import Scene
    from zoo.rasters.cog import check_output
    from zoo.rasters.polygons import check_polygons

    check_polygons(target)
    check_output(target, [probability, *(Path(one) for one in given["scene"])], overwrite=given["overwrite"])
    with ExitStack() as exits:
        made = exits.enter_context(ProbabilityMap(probability))
        threshold = given["threshold"]
        if threshold is None:
            tag = made.stack.tags.get("THRESHOLD")
            if tag is None:
                raise DataError("has no threshold in its tags", where=probability, hint="Give one: --threshold 0.5")
            try:
                threshold = float(tag)
            except ValueError:
                threshold = math.nan
            if not 0 <= threshold <= 1:
                raise DataError(f"its threshold tag is {tag!r}", where=probability, hint="Give --threshold 0.5")
        scene = exits.enter_context(Scene(given["scene"], ())) if given["scene"] else None
        if scene is not None and (scene.shape != made.stack.shape or scene.mosaic.crs != made.stack.crs):
            raise DataError(
                "does not lie on the pixels of the map",
                where=given["scene"][0],
                hint="Name the rasters that were mapped",
            )
        with progress("outlining") as show:
            report = map_polygons(made, scene, target, threshold, min_area=given["min_area"], progress=show)
    out().print(f"{polygon_summary(report)}; in {relative(target)}", markup=False)
