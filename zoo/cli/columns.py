"""Print listings as plain columns. rich could do it too, but its import takes as long as the rest of the command."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

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
    line = GAP.join(
        f"{{:{'>' if heading in right else '<'}{width}}}" for heading, width in zip(headings, widths, strict=True)
    )
    click.secho(line.format(*headings).rstrip(), bold=True)
    lines = []
    for row in rows:
        if all(len(cell) <= width for cell, width in zip(row, widths, strict=True)):
            lines.append(line.format(*row).rstrip())
        else:
            cells = [
                [cell] if len(cell) <= width else textwrap.wrap(cell, width)
                for cell, width in zip(row, widths, strict=True)
            ]
            lines += [line.format(*parts).rstrip() for parts in zip_longest(*cells, fillvalue="")]
    if lines:
        click.echo("\n".join(lines))
