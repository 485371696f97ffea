"""``zoo risk safety``: the probability that slopes fail under a rain when the soil is uncertain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.console import out, relative
from zoo.cli.progress import progress
from zoo.cli.risk import parse_rain
from zoo.cli.values import COUNT, PATH


@click.command()
@click.argument("stack", type=PATH)
@click.option("--out", "target", required=True, type=PATH, help="GeoTIFF of three bands.")
@click.option("--rain", required=True, metavar="P,D|FILE", help="Rain in mm/h and days, or a raster of zoo rain.")
@click.option("--duration", type=float, metavar="DAYS", help="Days of rain, for a raster of the intensity only.")
@click.option(
    "--soil",
    metavar="NAME=LOW:MODE:HIGH,...",
    help="cohesion (kPa), friction (degree), depth (m), conductivity (m/day), infiltration; one number is certain.",
)
@click.option("--draws", type=COUNT, default=1000, show_default=True, help="Number of random soils.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random soils.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def safety(stack: Path, target: Path, rain: str, soil: str | None, **given: Any) -> None:
    """Map the probability that each slope of STACK fails under a rain (Monte Carlo of the infinite slope).

    \b
    zoo stack --dem dem.tif --out stack.tif
    zoo risk safety stack.tif --rain 12,2 --out failure.tif
    zoo risk safety stack.tif --rain 12,2 --soil cohesion=1:3:8,friction=30 --out failure.tif
    zoo risk safety stack.tif --rain rain.tif --out failure.tif

    STACK has the bands slope and DEM. The file holds the probability of failure and the mean and standard deviation of
    the factor of safety. docs/how_to/uncertainty.md describes the model. Exit code 0: done; 2: bad input.
    """
    import zoo.risk
    from zoo.physics import SoilRange

    found = parse_rain(rain)
    assert found is not None
    with progress("drawing soils") as show:
        report = zoo.risk.safety(
            stack,
            target,
            rain=found,
            soil=None if soil is None else SoilRange.from_text(soil),
            progress=show,
            **given,
        )
    out().print(f"{report}; in {relative(report.out)}", markup=False)
