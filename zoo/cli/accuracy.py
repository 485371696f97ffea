"""``zoo accuracy``: accuracy and areas of a map from a sample of points, or the sample itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.progress import progress
from zoo.cli.values import AS_JSON, COUNT, PATH, PROBABILITY
from zoo.errors import ConfigError
from zoo.schema import to_plain

if TYPE_CHECKING:
    from zoo.evaluation.area_accuracy import AreaAccuracy


@click.command()
@click.argument("map", type=PATH)
@click.option("--samples", type=PATH, help="Points with the class on the ground.")
@click.option("--column", default="reference", show_default=True, help="Column with the class on the ground.")
@click.option("--draw", type=COUNT, metavar="N", help="Draw a sample of N points instead, and write it to --out.")
@click.option("--out", "target", type=PATH, help="With --draw: points.gpkg.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --draw: seed of the draw.")
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
        _print(found)
    for text in found.warnings():
        warn(text)


def _print(found: AreaAccuracy) -> None:
    console = out()
    names = found.classes
    console.print("error matrix in points, rows: map, columns: reference")
    rows = [(name, *map(str, row), str(row.sum())) for name, row in zip(names, found.counts, strict=True)]
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
