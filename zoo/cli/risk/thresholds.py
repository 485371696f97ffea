"""``zoo risk events``: rain events of places with landslides. ``zoo risk thresholds``: thresholds fitted to them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from zoo.cli.console import make_table, note, out, relative
from zoo.cli.progress import progress
from zoo.cli.rain import rain_options
from zoo.cli.risk import name_pair
from zoo.cli.values import LAYER, PATH, WHERE, parse_numbers
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

    from zoo.risk import Thresholds


@click.command(short_help="Fit intensity-duration thresholds to rain events.")
@click.argument("source", nargs=-1, required=True, metavar="TABLE|RAIN...", type=PATH)
@click.option("--inventory", type=PATH, help="Landslides with dates; the inputs are then rain files, not a table.")
@click.option("--date-column", metavar="COLUMN", help="Column of --inventory with the day of each landslide.")
@click.option("--events", type=PATH, help="Also write the events of --inventory, a CSV file.")
@click.option(
    "--rain-columns",
    default="P,D",
    show_default=True,
    metavar="P,D",
    help="Columns with rain intensity (mm/h) and duration (days).",
)
@click.option("--label", metavar="COLUMN", help="Column that says whether an event had landslides.  [default: all had]")
@click.option("--group", metavar="COLUMN", help="Column of groups; the bootstrap draws whole groups.")
@click.option(
    "--probabilities",
    default="0.01,0.05,0.2,0.5",
    show_default=True,
    metavar="A,B",
    help="Shares of landslides below each threshold.",
)
@click.option("--repeats", type=click.IntRange(0), default=500, show_default=True, help="Number of bootstrap draws.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@rain_options
@click.option("--out", "target", type=PATH, help="Thresholds with intervals, a JSON file.")
@click.option("--picture", type=PATH, help="Picture of events, curves and bands.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def thresholds(source: tuple[Path, ...], target: Path | None, **given: Any) -> None:
    """Fit intensity-duration thresholds to TABLE, and compare them with published ones.

    \b
    zoo risk thresholds events.csv
    zoo risk thresholds events.csv --label landslide --group storm --out thresholds.json --picture thresholds.png
    zoo risk thresholds imerg/ --inventory slides.gpkg --date-column day --picture thresholds.png
    zoo risk thresholds rain/*.tif --inventory slides.gpkg --date-column day --events events.csv
    zoo risk calibrate stack.tif --inventory slides.gpkg --preset 4.9,0.61 --out weights.json

    TABLE is a CSV, Parquet or XLSX file with one row per rain event. With --inventory, RAIN is a rain time series or
    rasters that zoo rain wrote, and the table is that of zoo risk events. A fitted threshold leaves a given share of
    the landslides below it (frequentist, as in CTRL-T). With events without landslides, alpha, beta and P0 of the
    rainfall factor are fitted too. Exit code 0: done; 2: bad input.
    """
    import zoo.risk

    pair = name_pair(given.pop("rain_columns"), "--rain-columns")
    assert pair is not None
    shares = parse_numbers(given.pop("probabilities"), "--probabilities", "0.01,0.05")
    table, written = _table(source, given)
    found = zoo.risk.thresholds(table, rain_columns=pair, probabilities=shares, out=target, **given)
    _print(found)
    files = [one for one in (written, target, given["picture"]) if one is not None]
    if files:
        out().print(f"written: {', '.join(relative(path) for path in files)}", markup=False)


def _table(source: tuple[Path, ...], given: dict[str, Any]) -> tuple[Path | DataFrame, Path | None]:
    """Return the table of events, and its file if it is computed from rain; used options are removed from ``given``.

    Raises:
        ConfigError: if options of a table and of an inventory are mixed.
    """
    import zoo.risk

    inventory = given.pop("inventory")
    making = {name: given.pop(name) for name in ("date_column", "events", "rules", "reading")}
    if inventory is None:
        typed = click.get_current_context().get_parameter_source
        rain = [field.name for kind in (zoo.EventRules, zoo.RainReading) for field in fields(kind)]
        named = [name for name in ("date_column", "events", *rain) if typed(name) is not ParameterSource.DEFAULT]
        if named:
            option = f"--{named[0].replace('_', '-')}"
            raise ConfigError("applies only to rain with an inventory", where=option, hint="Add --inventory FILE")
        if len(source) > 1:
            raise ConfigError(f"{len(source)} tables are given", hint="Give one table, or rain with --inventory")
        return source[0], None
    column, written = making.pop("date_column"), making.pop("events")
    if column is None:
        raise ConfigError("an inventory needs --date-column", hint="Name the column with the day of each landslide")
    with progress("reading rain") as show:
        found = zoo.risk.events(
            list(source), inventory, column, out=written, overwrite=given["overwrite"], progress=show, **making
        )
    for text in found.notes:
        note(f"  {text}")
    given["label"], given["group"] = given["label"] or "landslide", given["group"] or "day"
    return found.events, written


def _print(found: Thresholds) -> None:
    for text in found.notes:
        note(f"  {text}")
    console = out()
    console.print(f"{found.landslides:,} events with landslides, {found.others:,} without", markup=False)
    rows = []
    for curve in found.curves:
        span = curve.scale_interval
        rows.append(
            (
                curve.name,
                f"{curve.scale:.4g}",
                "" if span is None else f"{span[0]:.4g} .. {span[1]:.4g}",
                f"{curve.exponent:.3g}",
                "" if curve.below is None else f"{curve.below:.1%}",
                "" if curve.false_alarms is None else f"{curve.false_alarms:.1%}",
            )
        )
    headings = ("threshold", "A", "95 % interval", "B", "landslides below", "others above")
    console.print(make_table(headings, rows, right=headings[1:]))
    note("I = A D^-B, mm/h and hours; as cumulated rain, E = A D^(1-B) mm")
    if found.exponent_interval is not None:
        low, high = found.exponent_interval
        note(f"95 % interval of B of the fitted thresholds: {low:.3g} .. {high:.3g}")
    if found.rain is not None:
        names = {"alpha": "alpha", "beta": "beta", "intensity": "P0"}
        parts = []
        for name, symbol in names.items():
            span = found.rain_intervals.get(name)
            interval = "" if span is None else f" [{span[0]:.3g}, {span[1]:.3g}]"
            parts.append(f"{symbol} {getattr(found.rain, name):.3g}{interval}")
        console.print(f"rainfall factor: {', '.join(parts)} mm/h at D0 = {found.rain.duration:g} day", markup=False)


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

    All events of each rain cell that holds a landslide are listed. Those in progress on the day of a landslide have the
    label 1. Exit code 0: done; 2: bad input.
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
