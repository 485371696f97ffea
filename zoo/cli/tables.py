"""Print leaderboards on the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from zoo.bench.leaderboard import FOOTNOTE, Leaderboard
from zoo.bench.tables import terminal_table
from zoo.cli.console import warn
from zoo.evaluation.columns import MetricWarning
from zoo.files import printable


def print_leaderboard(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> None:
    """Print what the trials share, the table, its warnings, and how its figures were averaged."""
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
    """Print each warning about a failed metric once, when the block ends."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MetricWarning)
        try:
            yield
        finally:
            texts = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, MetricWarning))
    for text in texts:
        warn(printable(text))
