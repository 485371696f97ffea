"""Leaderboards on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from zoo.bench.fairness import doubts
from zoo.bench.leaderboard import Row
from zoo.bench.render import FOOTNOTE, audit_note, describe_setting, paper_note, terminal_table
from zoo.bench.results import TrialResult
from zoo.bench.uncertainty import describe_draws
from zoo.cli.console import warn


def print_leaderboard(results: Sequence[TrialResult], rows: Sequence[Row], console: Console) -> None:
    """Print what the trials share, the table, and how its figures were averaged."""
    console.print()
    console.print(Text(describe_setting(results), style="bold"))
    console.print(terminal_table(rows, console.width))
    for text in doubts(results):
        warn(text)
    leaks, audit = audit_note(results)
    if leaks:
        warn(audit)
    console.print()
    console.print(Text(FOOTNOTE, style="dim"))
    if any(row.intervals for row in rows):
        console.print(Text(describe_draws(results), style="dim"))
    if any(row.paper for row in rows):
        console.print(Text(paper_note(results), style="dim"))
    if audit and not leaks:
        console.print(Text(audit, style="dim"))
