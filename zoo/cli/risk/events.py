"""``zoo risk events``: rain events with and without landslides, from files of rain and an inventory with dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.console import note, out, relative
from zoo.cli.progress import progress
from zoo.cli.rain import rain_options
from zoo.cli.values import LAYER, PATH, WHERE


@click.command(short_help="List the rain events of places with dated landslides.")
@click.argument("files", nargs=-1, required=True)
@click.option("--inventory", required=True, type=PATH, help="Points or polygons of landslides.")
@click.option("--date-column", required=True, metavar="COLUMN", help="Column with the day of each landslide.")
@click.option("--out", "target", required=True, type=PATH, help="The events, a CSV file.")
@LAYER
@WHERE
@rain_options
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def events(files: tuple[str, ...], inventory: Path, date_column: str, target: Path, **given: Any) -> None:
    """List the rain events of places with landslides, from FILES of rain and an inventory with dates.

    \b
    zoo risk events imerg/ --inventory slides.gpkg --date-column day --out events.csv
    zoo risk thresholds events.csv --label landslide --group day --picture thresholds.png

    All events of each rain cell that holds a landslide are listed. Those that were under way on the day of a
    landslide have the label 1. Exit code 0: done; 2: bad input.
    """
    import zoo.risk

    with progress("reading rain") as show:
        found = zoo.risk.events(list(files), inventory, date_column, out=target, **given, progress=show)
    for text in found.notes:
        note(f"  {text}")
    table = found.events
    out().print(
        f"{len(table):,} events in {table[['longitude', 'latitude']].drop_duplicates().shape[0]:,} cells, "
        f"{int(table['landslide'].sum()):,} of them with {int(table['landslides'].sum()):,} landslides",
        markup=False,
    )
    out().print(f"written: {relative(target)}", markup=False)
