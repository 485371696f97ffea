"""``zoo report``: the table again, from the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoo.bench.changes import Change
    from zoo.bench.results import TrialResult
    from zoo.errors import ResultError


@click.command(short_help="Print the table of a results folder again.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "csv", "markdown", "json"]),
    default="terminal",
    show_default=True,
    help="How to print it.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--baseline", metavar="MODEL", help="Compare with this model; by default unet, else the best.")
@click.option(
    "--compare",
    "other",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="Print what changed since the results in this folder, and whether it is more than noise.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write one page with tables, charts and pictures to this file, instead of printing a table (docs/report.md).",
)
def report(folder: Path, form: str, as_json: bool, baseline: str | None, other: Path | None, page: Path | None) -> None:
    """Print the table of the results in FOLDER, computed anew from its files.

    \b
    zoo report results
    zoo report results --format markdown
    zoo report results --compare results-of-last-week
    zoo report results --html report.html

    Trials of different data, recipes or devices get a table each. A result file that cannot be used is named, the
    others are printed all the same, and the exit code is 2.
    """
    from zoo.bench.results import load_results
    from zoo.cli.console import note

    form = "json" if as_json else form
    if page is not None:
        _check_page(page, other)
    results, problems = load_results(folder)
    if page is not None:
        _write_page(results, problems, page, baseline, folder)
    elif other is None:
        _print_tables(results, form, baseline, folder)
    else:
        from zoo.bench.changes import changes_as_json, compare_results

        earlier, more = load_results(other)
        problems += more
        if not results or not earlier:
            raise (more if results else problems)[0]
        changes = compare_results(results, earlier)
        if form == "json":
            click.echo(changes_as_json(changes), nl=False)
        else:
            _print_changes(changes, folder, other)
    for problem in problems:
        note(f"error: {problem}")
    if problems:
        click.get_current_context().exit(2)


def _check_page(page: Path, other: Path | None) -> None:
    from zoo.errors import ConfigError
    from zoo.files import check_could_write

    if other is not None:
        raise ConfigError("--html and --compare exclude each other", hint="Give two commands")
    check_could_write(page.parent)


def _write_page(
    results: Sequence[TrialResult], problems: Sequence[ResultError], page: Path, baseline: str | None, folder: Path
) -> None:
    from zoo.bench.page.document import render_page
    from zoo.cli.console import note, relative
    from zoo.files import write_text_atomic

    write_text_atomic(page, render_page(results, folder.resolve(), problems, baseline))
    note(f"wrote {relative(page)} ({page.stat().st_size / 1e6:.1f} MB); it needs no other file")


def _print_tables(results: Sequence[TrialResult], form: str, baseline: str | None, folder: Path) -> None:
    from zoo.bench.leaderboard import make_leaderboards
    from zoo.bench.tables import as_json as render_json
    from zoo.bench.tables import comma_separated, markdown_tables
    from zoo.cli.console import note, out
    from zoo.cli.tables import print_leaderboard

    if form == "markdown":
        click.echo(markdown_tables(results, baseline), nl=False)
        return
    boards = make_leaderboards(results, baseline)
    if form in ("json", "csv"):
        rows = [row for board in boards for row in board.rows]
        if len(boards) > 1:
            note(f"{len(boards)} settings are mixed in {folder}; the rows follow each other")
        click.echo(render_json(rows) if form == "json" else comma_separated(rows), nl=False)
    else:
        for board in boards:
            print_leaderboard(board, out())


def _print_changes(changes: Sequence[Change], folder: Path, other: Path) -> None:
    from zoo.cli.console import make_table, note, out
    from zoo.evaluation.comparison import format_p

    def text(value: float | None, pattern: str = "{:.3f}") -> str:
        return "-" if value is None else pattern.format(value)

    headings = ("data", "model", "before", "now", "difference", "95 %", "p", "FPS", "verdict")
    rows = [
        (
            change.data,
            change.model,
            text(change.before),
            text(change.now),
            text(change.difference, "{:+.3f}"),
            "-" if change.low is None else f"[{change.low:+.3f} {change.high:+.3f}]",
            "-" if change.p is None else format_p(change.p),
            text(change.speed, "x {:.2f}"),
            change.verdict,
        )
        for change in changes
    ]
    out().print(make_table(headings, rows, right=headings[2:8]))
    note(
        f"pooled Dice of {folder} beside {other}, paired over the same test images; p corrected for all "
        "models. One seed a side hides what another seed would change. FPS may differ by itself on another day"
    )
