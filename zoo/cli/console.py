"""Output of commands: tables for people, JSON for programs. Standard output holds only results.

rich is imported by the functions that need it, because `zoo models` does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.files import printable, printable_lines
from zoo.registry import Option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 200
"""Width of tables in a file or a pipe."""
_RESULTS = "zoo.results"
"""Key in ``click.Context.meta`` for the stream that :func:`reserve_stdout` reserves."""


def out() -> Console:
    """Return the console of standard output; if that is not a terminal, it is wide and without colours."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def err() -> Console:
    """Return the console of standard error, for progress, notes and warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def make_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """Return a table without frames.

    Args:
        columns: headings of the columns.
        rows: cells as strings.
        right: headings of right-aligned columns.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(printable(column)), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # Text instead of str, because rich would read square brackets in names and messages as markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def print_options(console: Console, options: Sequence[Option], usage: str) -> None:
    """Print the options of a model or data set and how to set them; print nothing if there are none."""
    if not options:
        return
    rows = [
        (option.name, _default(option), " | ".join(map(str, option.choices)) or option.kind, option.help)
        for option in options
    ]
    console.print(f"\n[bold]options[/bold]  ({usage})")
    console.print(make_table(("name", "default", "values", "description"), rows))


def _default(option: Option) -> str:
    return "required" if option.default is ... else str(option.default)


def reserve_stdout() -> None:
    """Reserve standard output for :func:`print_result` until the command ends.

    Other output, such as that of a model or plugin, goes to standard error, so that a program can read the result.
    """
    context = click.get_current_context()
    if _RESULTS not in context.meta:
        context.meta[_RESULTS] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))


def print_result(text: str) -> None:
    """Print the result of a command on standard output, even if it is reserved."""
    context = click.get_current_context(silent=True)
    stream = None if context is None else context.meta.get(_RESULTS)
    click.echo(text, file=stream, nl=not text.endswith("\n"))


def print_json(value: object) -> None:
    """Print ``value`` as indented JSON."""
    print_result(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Print a note on standard error; control characters in names become U+FFFD."""
    click.echo(printable_lines(text), err=True)


def warn(text: str) -> None:
    """Print a warning on standard error: something that may affect a result; see :func:`note`."""
    click.echo(click.style("warning: ", fg="yellow", bold=True) + printable_lines(text), err=True)


def relative(path: Path) -> str:
    """Return ``path`` relative to the working directory if it is inside it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
