"""The command ``zoo rain-table``."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.errors import ConfigError
from zoo.files import write_text_atomic


@click.command("rain-table")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="TABLE.csv")
@click.option("--rows", default=1000, show_default=True, help="Number of places.")
@click.option("--hours", default=72, show_default=True, help="Length of the rainfall histories.")
@click.option("--seed", default=0, show_default=True, help="Random seed; the same seed gives the same table.")
def rain_table(path: Path, rows: int, hours: int, seed: int) -> None:
    """Write a synthetic table of hourly rain, slope and landslides, to try risk models on.

    \b
    zoo rain-table rain.csv --rows 600 --hours 24
    zoo risk compare rain.csv --label landslide --coords x,y --models mondini,lsi_without_rain
    """
    from zoo_mondini.synthetic import make_histories

    if path.exists():
        raise ConfigError("already exists", where=path, hint="Name another file")
    table = make_histories(rows, hours=hours, seed=seed).drop(columns="probability")
    write_text_atomic(path, table.to_csv(index=False))
    click.echo(f"wrote {path}: {len(table)} rows, {table['landslide'].mean():.1%} of them landslides", err=True)
