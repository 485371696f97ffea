"""``zoo report``: print or write the report of a results folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.values import PATH, parse_names

if TYPE_CHECKING:
    from zoo.api.results import Results


@click.command()
@click.argument("folder", type=PATH)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "csv", "markdown", "json"]),
    default="terminal",
    show_default=True,
    help="Format of the table.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--columns",
    metavar="KEYS",
    help="Columns to show, separated by commas, such as dice,mcc,ece; all shows every column.",
)
@click.option("--baseline", metavar="MODEL", help="Model to compare with; by default unet, else the best one.")
@click.option(
    "--compare",
    "other",
    type=PATH,
    metavar="OTHER",
    help="Print what changed since the results in this folder, and whether it is more than noise.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with tables, charts and pictures to this file instead (docs/how_to/report.md).",
)
def report(
    folder: Path,
    form: str,
    as_json: bool,
    columns: str | None,
    baseline: str | None,
    other: Path | None,
    page: Path | None,
) -> None:
    """Print the table of the results in FOLDER, computed from its files.

    \b
    zoo report results
    zoo report results --columns dice,dice_interval,group,mcc,ece
    zoo report results --format markdown
    zoo report results --compare results-of-last-week
    zoo report results --html report.html

    Trials of different data, recipes or devices get separate tables. A result file that cannot be used is reported and
    skipped; the exit code is then 2.
    """
    import zoo
    from zoo.cli.console import note, relative, reserve_stdout
    from zoo.cli.tables import metric_warnings
    from zoo.errors import ConfigError
    from zoo.files import printable

    if as_json and form not in ("terminal", "json"):
        raise ConfigError(f"--json and --format {form} cannot be combined")
    form = "json" if as_json else form
    if form != "terminal":
        reserve_stdout()
    keys = parse_names(columns)
    if other is not None and (page is not None or keys is not None):
        raise ConfigError("--compare cannot be combined with --html or --columns", hint="Run two commands")
    if other is not None and form in ("csv", "markdown"):
        raise ConfigError(f"--compare cannot be combined with --format {form}", hint="Choose terminal or json")
    if page is not None and (form != "terminal" or keys is not None):
        raise ConfigError("--html cannot be combined with --columns, --json or --format", hint="Run two commands")
    with metric_warnings():
        results = zoo.read_results(folder, baseline=baseline)
        problems = list(results.problems)
        if page is not None:
            results.html(page)
            note(f"wrote {relative(page)} ({page.stat().st_size / 1e6:.1f} MB); it needs no other file")
        elif other is not None:
            earlier = zoo.read_results(other)
            problems += earlier.problems
            _compare(results, earlier, as_json=form == "json")
        else:
            _print(results, form, keys)
    for problem in problems:
        note(f"error: {printable(str(problem))}")
    if problems:
        click.get_current_context().exit(2)


def _print(results: Results, form: str, keys: Sequence[str] | None) -> None:
    from zoo.cli.console import out, print_result
    from zoo.cli.tables import print_leaderboard

    if form == "terminal":
        for board in results.leaderboards:
            print_leaderboard(board, out(), keys)
        return
    text = {"csv": results.csv, "json": results.json, "markdown": results.markdown}[form](keys)
    print_result(text)


def _compare(now: Results, before: Results, *, as_json: bool) -> None:
    from zoo.cli.console import note
    from zoo.cli.tables import print_changes

    for results in (now, before):
        if not results and results.problems:
            raise results.problems[0]
    print_changes(now.compare(before), as_json=as_json)
    if not as_json:
        note(
            f"pooled Dice of {now.folder} and {before.folder}, paired over the same test images; p corrected for all "
            "models. With one seed per side, the effect of the seed is unknown. FPS may vary from day to day"
        )
