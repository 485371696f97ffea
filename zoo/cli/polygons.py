"""``zoo polygons``: outline the landslides of a map, with another threshold or smallest area than the map's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.console import out, relative
from zoo.cli.progress import progress
from zoo.cli.values import PATH


@click.command()
@click.argument("probability", type=PATH)
@click.option("--out", "target", required=True, type=PATH, help="slides.gpkg or slides.parquet.")
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
    import zoo

    with progress("outlining") as show:
        report = zoo.polygons(probability, target, **given, progress=show)
    out().print(f"{report}; in {relative(target)}", markup=False)
