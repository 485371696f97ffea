"""``zoo rain``: the rain event at one time, and the rain before it, on the grid of a stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from zoo import EventRules, RainReading
from zoo.cli.console import make_table, note, out, relative
from zoo.cli.progress import progress
from zoo.cli.values import PATH


def rain_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of rain events and of reading rain; the command gets them as ``rules`` and ``reading``."""

    @wraps(command)
    def with_records(**given: Any) -> None:
        records = [
            kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for kind in (EventRules, RainReading)
        ]
        command(rules=records[0], reading=records[1], **given)

    number = partial(click.option, type=float, show_default=True)
    options = (
        number("--dry-gap", default=EventRules.dry_gap, help="Hours without rain that end an event."),
        number(
            "--wet", default=EventRules.wet, help="Minimum rain of an hour or longer step, in mm, that counts as rain."
        ),
        number("--min-depth", default=EventRules.min_depth, help="Minimum rain of an event, in mm."),
        click.option("--variable", metavar="NAME", help="Variable or column of rain.  [default: a known name]"),
        click.option("--unit", metavar="UNIT", help="Unit of files that state none: mm, mm/h, mm/day, '0.1 mm', ..."),
        click.option(
            "--stamps",
            type=click.Choice(["start", "end"]),
            help="Whether a time marks the start or the end of its step, if the files do not say.",
        ),
        click.option(
            "--accumulation",
            type=click.Choice(["step", "day"]),
            help="Values per step (ERA5) or since 00 UTC (ERA5-Land).  [default: detected from the numbers]",
        ),
        click.option(
            "--time-zone", metavar="ZONE", help="Time zone of gauge tables without one, such as Asia/Karachi."
        ),
        click.option(
            "--gauges",
            type=click.Choice(["inverse-distance", "kriging"]),
            default=RainReading.gauges,
            show_default=True,
            help="How rain is interpolated between gauges.",
        ),
        number("--max-missing", default=RainReading.max_missing, help="Maximum share of missing hours."),
    )
    for option in reversed(options):
        with_records = option(with_records)
    return with_records


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--grid", required=True, type=PATH, help="The stack whose grid the rain is put on.")
@click.option("--out", "target", required=True, type=PATH, help="GeoTIFF of the rain.")
@click.option("--at", metavar="TIME", help="Time in UTC, such as 2024-06-11T12:00Z.  [default: the end of the rain]")
@rain_options
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def rain(files: tuple[Path, ...], grid: Path, target: Path, **given: Any) -> None:
    """Put rain from satellites, reanalyses or gauges on the grid of a stack.

    \b
    zoo rain imerg/*.HDF5 --grid stack.tif --out rain.tif
    zoo rain era5_land.nc --grid stack.tif --at 2024-06-11T12:00Z --out rain.tif
    zoo rain gauges.csv --unit mm --stamps end --time-zone Asia/Karachi --grid stack.tif --out rain.tif
    zoo risk map stack.tif --weights weights.json --rain rain.tif --out risk.tif

    FILES come from one product: IMERG (HDF5, NetCDF, GeoTIFF), ERA5 and ERA5-Land (NetCDF, GRIB), CHIRPS (NetCDF,
    GeoTIFF), any other longitude-latitude grid, or tables of gauges (CSV with time, longitude, latitude, rain). The
    bands are the intensity (mm/h) and duration (days) of the current event, and the rain before it (mm).
    docs/how_to/rain.md describes them. Exit code 0: done; 2: bad input.
    """
    from zoo.api.preparation import rain as lay_rain

    with progress("reading rain") as show:
        report = lay_rain(list(files), grid, target, **given, progress=show)
    for text in report.notes:
        note(f"  {text}")
    rows = [
        (name, unit, f"{low:.3g}", f"{mean:.3g}", f"{high:.3g}", f"{share:.1%}")
        for name, (unit, low, mean, high, share) in report.bands.items()
    ]
    columns = ("band", "unit", "min", "mean", "max", "known")
    console = out()
    console.print(make_table(columns, rows, right=columns[2:]))
    console.print(f"written: {relative(report.out)}", markup=False)
