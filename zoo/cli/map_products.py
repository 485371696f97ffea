"""What ``zoo map`` makes of a finished map when asked: polygons and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zoo.cli.console import relative, warn
from zoo.cli.progress import progress
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.mapping import ProbabilityClasses, Scene
    from zoo.rasters.polygons import PolygonReport

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--polygons", metavar="FILE", help="Landslides as polygons: slides.gpkg or slides.parquet."),
    click.option("--least-area", type=click.FloatRange(0), metavar="M2", help="Leave out polygons below this area."),
    click.option("--picture", metavar="FILE", help="A picture of the map, such as map.png."),
    click.option("--title", help="Of the picture."),
)


def product_options(command: Command) -> Command:
    """Add ``--polygons``, ``--picture`` and their companions to a click command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_products(given: dict[str, Any], inputs: Sequence[Path], taken: Iterable[Path]) -> None:
    """Refuse names and combinations before hours of work are done for them.

    Args:
        given: values of :func:`product_options`, and ``overwrite``.
        inputs: that must not be replaced.
        taken: names of the other outputs.

    Raises:
        ConfigError: saying what to name otherwise.
    """
    from zoo.rasters.cog import check_output
    from zoo.rasters.map_frame import check_picture
    from zoo.rasters.polygons import check_polygons
    from zoo.rasters.reading import is_remote

    if given["least_area"] is not None and given["polygons"] is None:
        raise ConfigError("--least-area is for --polygons", hint="Name the file with --polygons slides.gpkg")
    if given["title"] is not None and given["picture"] is None:
        raise ConfigError("--title is for --picture", hint="Name the file with --picture map.png")
    names = {one.absolute() for one in taken}
    for option, check in (("polygons", check_polygons), ("picture", check_picture)):
        if given[option] is None:
            continue
        if is_remote(given[option]):
            raise ConfigError(f"--{option} is written to a file here", where=given[option], hint="Copy it afterwards")
        path = Path(given[option])
        if path.absolute() in names:
            raise ConfigError("two outputs have one name", where=path, hint="Name a file for each")
        names.add(path.absolute())
        check(path)
        check_output(path, inputs, overwrite=given["overwrite"])


def make_products(
    target: Path, scene: Scene, threshold: float, classes: ProbabilityClasses | None, given: dict[str, Any]
) -> list[str]:
    """Write what was asked for of the map in ``target``, which stays whatever becomes of it.

    Returns:
        What to tell the user of it, in lines.

    Raises:
        ZooError: if a file cannot be written.
    """
    if given["polygons"] is None and given["picture"] is None:
        return []
    from zoo.mapping.output import MadeMap, map_picture, map_polygons

    told, found = [], ""
    try:
        with MadeMap(target) as made:
            if given["polygons"] is not None:
                path = Path(given["polygons"])
                with progress("outlining") as show:
                    report = map_polygons(
                        made,
                        scene,
                        path,
                        threshold,
                        least_area=given["least_area"] or 0.0,
                        classes=classes,
                        progress=show,
                    )
                found = f"{report.polygons:,} polygons, {report.area / 1e6:,.3f} km²"
                told.append(f"{summary(report)}; in {relative(path)}")
            if given["picture"] is not None:
                map_picture(made, scene, Path(given["picture"]), threshold, title=given["title"] or "", found=found)
                told.append(f"picture in {relative(Path(given['picture']))}")
    except BaseException:
        warn(f"the map itself is whole, in {relative(target)}; outline it with: zoo polygons {relative(target)}")
        raise
    return told


def summary(report: PolygonReport) -> str:
    """What was outlined, in a line."""
    how = " on the ellipsoid" if report.geodesic else ""
    small = f"; {report.left_out:,} smaller ones left out" if report.left_out else ""
    return f"{report.polygons:,} polygons, {report.area / 1e6:,.3f} km2{how}{small}"
