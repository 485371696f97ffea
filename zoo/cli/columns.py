"""Print listings as plain columns. rich could do it too, but its import takes as long as the rest of the command."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

from zoo.files import printable

GAP = "  "
NARROWEST = 20
"""Smallest width of a folded column, however narrow the terminal."""


def print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under their headings; on a terminal the widest column is folded until the lines fit.

    Args:
        headings: headings of the columns.
        rows: cells as text.
        right: headings of the columns that are aligned to the right.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sys.stdout.isatty():
        widest = widths.index(max(widths))
        spare = shutil.get_terminal_size().columns - sum(widths) - len(GAP) * (len(widths) - 1)
        widths[widest] = max(min(NARROWEST, widths[widest]), widths[widest] + min(0, spare))
    click.secho(_line(headings, headings, widths, right), bold=True)
    for row in rows:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            click.echo(_line(headings, parts, widths, right))


def _line(headings: Sequence[str], cells: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> str:
    aligned = (
        cell.rjust(width) if heading in right else cell.ljust(width)
        for heading, cell, width in zip(headings, cells, widths, strict=True)
    )
    return GAP.join(aligned).rstrip()
