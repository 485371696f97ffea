"""``zoo risk watch``: map the risk index at each time step under the rain of that time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.cli.rain import rain_options
from zoo.cli.risk import parse_breaks
from zoo.cli.values import COUNT, PATH
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.risk import WatchReport


@click.command(short_help="Map the index at each time step: alerts, catalogue, animation.")
@click.argument("stacks", nargs=-1, required=True, metavar="STACK...", type=PATH)
@click.option("--weights", type=PATH, help="Weights of zoo risk calibrate.  [default: Table 1]")
@click.option(
    "--rain",
    "files",
    required=True,
    multiple=True,
    metavar="FOLDER|FILE|PATTERN",
    help="Rain files, as for zoo rain, or a quoted pattern such as 'imerg/*.HDF5'; may be repeated.",
)
@click.option("--out", "target", required=True, type=PATH, help="Folder for the results.")
@click.option("--every", type=float, default=6.0, show_default=True, help="Hours from one step to the next.")
@click.option("--start", metavar="TIME", help="Time of the first step in UTC.  [default: the first with rain]")
@click.option("--districts", type=PATH, help="Polygons that get alerts.  [default: the whole stack]")
@click.option("--name", default="name", show_default=True, metavar="COLUMN", help="Attribute with their names.")
@click.option(
    "--alert-share", type=float, default=0.1, show_default=True, help="Share of the high class that raises an alert."
)
@click.option("--classes", metavar="jenks|quantile|A,B", help="Class breaks for all steps.  [default: of the weights]")
@rain_options
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of class breaks.")
@click.option(
    "--jobs", type=COUNT, default=1, show_default=True, help="With several stacks, number of counties at a time."
)
@click.option("--ray", "cluster", metavar="ADDRESS", help="Ray cluster for several stacks; auto for this machine's.")
def watch(stacks: tuple[Path, ...], files: tuple[str, ...], target: Path, **given: Any) -> None:
    """Map the risk index at each time step under the rain of that time.

    \b
    zoo risk watch stack.tif --weights weights.json --rain imerg/ --out watch
    zoo risk watch stack.tif --weights weights.json --rain 'imerg/*.HDF5' --every 3 --districts districts.gpkg \\
        --name district --out watch
    zoo risk watch hongya.tif emei.tif --weights 'weights/{name}.json' --rain imerg/ \\
        --jobs 2 --out watch

    The folder gets index.tif, classes.tif and map.png of each step, a STAC catalogue, alerts.csv, shares.csv and
    animation.gif. Steps that it already holds for the same rain are kept: run the same command again when new files
    arrive. With several stacks, each is a county with its own folder, and {name} in --weights and --districts is its
    name. Exit code 0: done; 2: bad input, or a county has no map.
    """
    import zoo.risk

    given["classes"] = parse_breaks(given["classes"], ("jenks", "quantile"))
    jobs, cluster = given.pop("jobs"), given.pop("cluster")
    if len(stacks) == 1 and cluster is None:
        with progress("mapping steps") as show:
            _print(zoo.risk.watch(stacks[0], list(files), target, **given, progress=show))
        return
    with progress("mapping counties") as show:
        found = zoo.risk.watch_counties(stacks, list(files), target, **given, jobs=jobs, cluster=cluster, progress=show)
    for name, outcome in found.items():
        out().print(name, markup=False)
        if outcome.value is None:
            warn(f"{name}: {outcome.error}")
        else:
            _print(outcome.value)
    failed = [name for name, outcome in found.items() if outcome.value is None]
    if failed:
        raise ZooError(f"{len(failed)} of {len(found)} counties have no map: {', '.join(failed)}")


def _print(report: WatchReport) -> None:
    for text in report.notes:
        note(f"  {text}")
    for text in report.warnings:
        warn(text)
    rows = [
        (
            alert.district,
            f"{alert.km2:,.1f}",
            alert.first or "none",
            f"{alert.highest[0]:.1%}",
            alert.highest[1],
            f"{alert.latest[0]:.1%}",
        )
        for alert in report.alerts
    ]
    console = out()
    columns = ("district", "km2", "first alert", "highest share", "at", "latest share")
    console.print(make_table(columns, rows, right=("km2", "highest share", "latest share")))
    console.print(f"{len(report.made)} steps mapped, {len(report.kept)} kept: {relative(report.folder)}", markup=False)
