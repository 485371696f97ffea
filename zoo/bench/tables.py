"""Leaderboards as terminal table, Markdown, CSV or JSON. All formats use the same table of columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.bench.leaderboard import FOOTNOTE, Leaderboard, Row, make_leaderboards
from zoo.bench.results import TrialResult
from zoo.evaluation.columns import BUILT_IN, UNDEFINED, Column, Value, choose_columns
from zoo.files import csv_text, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PAPER_COLUMNS = (
    ("dice", "Dice", "{:.3f}"),
    ("precision", "Precision", "{:.2f}"),
    ("recall", "Recall", "{:.2f}"),
    ("loss", "Loss", "{:.3f}"),
    ("fps", "FPS", "{:.1f}"),
    ("parameters_m", "Params (M)", "{}"),
)
"""Figures in the paper's tables: attribute of :class:`zoo.bench.paper.PaperRow`, heading, format."""
DROP_ORDER = (
    "fps_batch", "gmac", "base_rate", "balanced_accuracy", "accuracy", "loss", "mcc", "parameters", "dice_per_image",
    "precision", "recall", "fps", "dice_interval",
)  # fmt: skip
"""Default columns that are dropped on a narrow terminal, least important first."""
MAX_NAME_LENGTH = 40
COLUMN_GAP = 2


def shown_columns(rows: Sequence[Row], keys: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Return the columns of a table.

    Args:
        rows: rows of the table.
        keys: requested keys; ``None`` chooses the default columns, without those that compare rows if the rows are not
            compared, and the metrics of plugins that have a value.

    Raises:
        UnknownNameError: if there is no such column.
    """
    columns = choose_columns(keys)
    if keys is not None:
        return columns
    compared = any(row.intervals for row in rows)
    return tuple(
        column
        for column in columns
        if (compared or column.key not in ("dice_interval", "group"))
        and (column.key in BUILT_IN or any(row.value(column.key) is not None for row in rows))
    )


def terminal_table(board: Leaderboard, width: int, keys: Sequence[str] | None = None) -> RenderableType:
    """Return our figures with the paper's next to them, or below them if they do not fit.

    Args:
        board: the leaderboard.
        width: width of the terminal in characters; default columns that do not fit are dropped and named.
        keys: keys of the columns to show; ``None`` for the default columns.
    """
    from rich.console import Group
    from rich.text import Text

    columns, needed = _fitting(board.rows, shown_columns(board.rows, keys), width if keys is None else 10**6)
    left_out = [column.heading for column in shown_columns(board.rows, keys) if column not in columns]
    with_paper = [row for row in board.rows if row.paper is not None]
    beside = bool(with_paper) and needed + _paper_width(with_paper) <= width
    left, paper = _rich_table("model", columns), _rich_table("paper", ())
    for table, heading in ((left, "│ paper:"),) if beside else ((paper, "name in the paper"),):
        table.add_column(heading, overflow="fold")
        for _, figure, _ in PAPER_COLUMNS:
            table.add_column(figure, justify="right", no_wrap=True, style="dim")
    for row in board.rows:
        name = Text(printable(row.model))
        label = "" if row.paper is None else row.paper.label
        printed = [Text(f"│ {label}" if beside else label), *map(Text, _paper_cells(row))]
        left.add_row(name, *(Text(printable(row.text(column))) for column in columns), *(printed if beside else ()))
        if label:
            paper.add_row(name, *printed)
    parts: list[RenderableType] = [left]
    if left_out:
        parts.append(Text(f"left out to fit {width} characters: {', '.join(left_out)} (--columns chooses)", "dim"))
    if with_paper and not beside:
        parts += ["", paper]
    failures = [
        Text.assemble((f"{printable(row.model)}: {printable(row.status)}: ", "red"), printable(row.error))
        for row in board.rows
        if row.error
    ]
    if failures:
        parts += ["", *failures]
    return Group(*parts)


def plain_section(board: Leaderboard, width: int, keys: Sequence[str] | None = None) -> str:
    """Return a table as plain text with its description above, and its warnings and notes below."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False)
    console.print(terminal_table(board, width, keys))
    warnings = [f"warning: {text}" for text in board.warnings]
    below = "\n".join(printable(text) for text in (*warnings, FOOTNOTE, *board.notes))
    table = "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
    return f"{printable(board.description)}\n{table}\n\n{below}\n"


def markdown(board: Leaderboard, keys: Sequence[str] | None = None) -> str:
    """Return a GitHub table, with the paper's Dice, FPS and parameters in the last columns if they exist.

    Args:
        board: the leaderboard.
        keys: keys of the columns to show; ``None`` for the default columns.
    """
    columns = shown_columns(board.rows, keys)
    paper = ["dice", "fps", "parameters_m"] if keys is None else []
    names = {name: heading for name, heading, _ in PAPER_COLUMNS}
    headings = [column.heading for column in columns]
    headings += [f"paper: {names[name]}" if place == 0 else names[name] for place, name in enumerate(paper)]
    lines = [f"| model | {' | '.join([*headings, 'status'])} |", "|---" + "|---:" * len(headings) + "|---|"]
    for row in board.rows:
        figures = dict(zip(names, _paper_cells(row), strict=True))
        cells = [row.text(column) for column in columns]
        cells += [figures[name] or UNDEFINED for name in paper]
        status = row.status if not row.error else f"{row.status}: {row.error}"
        lines.append("| " + " | ".join([_markdown_code(row.model), *map(markdown_text, [*cells, status])]) + " |")
    return "\n".join(lines) + "\n"


def markdown_tables(
    results: Sequence[TrialResult], baseline: str | None = None, keys: Sequence[str] | None = None
) -> str:
    """Return the Markdown tables of all settings, each with its description, warnings and notes.

    Args:
        results: results of a folder.
        baseline: label of the model that others are compared with; by default that of the configuration, otherwise
            ``unet``.
        keys: keys of the columns to show; ``None`` for the default columns.
    """
    return "\n".join(markdown_section(board, keys) for board in make_leaderboards(results, baseline))


def markdown_section(board: Leaderboard, keys: Sequence[str] | None = None) -> str:
    """Return a Markdown table with its description above, and its warnings and notes below."""
    notes = [note for note in board.notes if note != board.paper_note]
    below = "\n\n".join(markdown_text(text) for text in (*board.warnings, *notes))
    return f"{markdown_text(board.description)}\n\n{markdown(board, keys)}\n{below}\n"


def records(rows: Iterable[Row], keys: Sequence[str] | None = None) -> list[dict[str, Value]]:
    """Return every row as a dictionary of unrounded values, for all columns or the chosen ones."""
    found = [row.to_dict() for row in rows]
    if keys is None:
        return found
    chosen = [column.key for column in choose_columns(keys)]
    return [
        {
            "model": record["model"],
            "status": record["status"],
            "error": record["error"],
            **{key: value for column in chosen for key, value in _with_ends(record, column).items()},
        }
        for record in found
    ]


def comma_separated(found: Sequence[Mapping[str, Value]]) -> str:
    """Return :func:`records` as CSV with a heading, unrounded numbers, and empty cells where a figure is undefined.

    Text that a spreadsheet would treat as a formula is prefixed with an apostrophe.
    """
    names = list(dict.fromkeys(name for record in found for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: csv_text(printable(value)) if isinstance(value, str) else value for name, value in record.items()}
        for record in found
    )
    return text.getvalue()


def as_json(found: Sequence[Mapping[str, Value]]) -> str:
    """Return :func:`records` as a JSON list."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def markdown_text(text: str) -> str:
    """Return text that Markdown shows literally: no HTML, links, images, code, emphasis or table cells."""
    text = printable(text)
    text = re.sub(r"([\\`*|~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return re.sub(r"\[(?=[^\]]*\]\s*[(\[:])", r"\\[", text)


def _markdown_code(text: str) -> str:
    """Return text as code in a table; backticks would end the code, so they become apostrophes."""
    return "`" + printable(text).replace("`", "'").replace("|", "\\|") + "`"


def _with_ends(record: dict[str, Value], key: str) -> dict[str, Value]:
    """Return the value of a column, or both ends of an interval."""
    if key == "dice_interval":
        return {name: record.get(name) for name in ("dice_low", "dice_high")}
    if key == "difference":
        names = ("baseline", "difference", "difference_low", "difference_high", "difference_p")
        return {name: record.get(name) for name in names}
    return {key: record.get(key)}


def _rich_table(first: str, columns: Iterable[Column]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    return table


def _fitting(rows: Sequence[Row], columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """Return the columns that fit a terminal, and the width of the resulting table."""
    kept = {
        column.key: max(len(column.heading), *(len(row.text(column)) for row in rows)) + COLUMN_GAP
        for column in columns
    }
    names = min(MAX_NAME_LENGTH, max(len(row.model) for row in rows))
    for key in DROP_ORDER:
        if names + sum(kept.values()) > width:
            kept.pop(key, None)
    return [column for column in columns if column.key in kept], names + sum(kept.values())


def _paper_width(rows: Sequence[Row]) -> int:
    labels = [len(row.paper.label) + 2 for row in rows if row.paper is not None]
    return max(8, *labels) + COLUMN_GAP + sum(max(6, len(heading)) + COLUMN_GAP for _, heading, _ in PAPER_COLUMNS)


def _paper_cells(row: Row) -> list[str]:
    if row.paper is None:
        return [""] * len(PAPER_COLUMNS)
    values = [(getattr(row.paper, name), pattern) for name, _, pattern in PAPER_COLUMNS]
    return ["" if value is None else pattern.format(value) for value, pattern in values]
