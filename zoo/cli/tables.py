"""Print leaderboards and changes of results on the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from zoo.bench.changes import Change, changes_as_json
from zoo.bench.leaderboard import FOOTNOTE, Leaderboard
from zoo.bench.tables import terminal_table
from zoo.cli.console import make_table, out, print_result, warn
from zoo.evaluation.columns import MetricWarning
from zoo.evaluation.comparison import format_p
from zoo.files import printable


def print_leaderboard(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> None:
    """Print the common settings of the trials, the table, its warnings, and how its figures were averaged."""
    console.print()
    console.print(Text(printable(board.description), style="bold"))
    console.print(terminal_table(board, console.width, columns))
    for text in board.warnings:
        warn(printable(text))
    console.print()
    for text in (FOOTNOTE, *board.notes):
        console.print(Text(printable(text), style="dim"))


@contextmanager
def metric_warnings() -> Iterator[None]:
    """Print each warning about a failed metric once, at the end of the ``with`` block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MetricWarning)
        try:
            yield
        finally:
            texts = dict.fromkeys(
                str(warning.message) for warning in caught if issubclass(warning.category, MetricWarning)
            )
    for text in texts:
        warn(printable(text))


def print_changes(changes: Sequence[Change], *, as_json: bool = False) -> None:
    """Print what changed between two sets of results: a row for each model, or a JSON list."""
    if as_json:
        print_result(changes_as_json(changes))
        return
    headings = ("data", "model", "before", "now", "difference", "95 %", "p", "FPS", "verdict")
    rows = [_change_cells(change) for change in changes]
    out().print(make_table(headings, rows, right=headings[2:8]))


def _change_cells(change: Change) -> Sequence[str]:
    def text(value: float | None, pattern: str = "{:.3f}") -> str:
        return "-" if value is None else pattern.format(value)

    return (
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
