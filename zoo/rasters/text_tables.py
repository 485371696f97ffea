"""Tables in text files: separator, encoding, decimal commas and column names."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TEXT_SUFFIXES = frozenset({".csv", ".txt", ".tsv"})

PLAIN_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")

MAX_COLUMNS = 5_000

_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t| ])"?', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
_THOUSANDS_SEPARATED = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
_THOUSANDS_POINTS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")


def check_names(columns: Sequence[str], where: object) -> None:
    """Reject repeated column names, names with control characters, and more than :data:`MAX_COLUMNS` columns.

    Raises:
        DataError: if the names are not valid.
    """
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"has {len(columns):,} columns, more than {MAX_COLUMNS:,}", where=where)
    seen: set[str] = set()
    for name in columns:
        if not name.isprintable():
            raise DataError(f"the column name {name!r} contains control characters", where=where, hint="Rename it")
        if name.strip() in seen:
            raise DataError(f"two columns are named {name.strip()!r}", where=where, hint="Rename one of them")
        seen.add(name.strip())


def read_text_table(path: Path, notes: list[str], *, as_text: bool = False) -> pd.DataFrame:
    """Read a table with a heading, separated by commas, semicolons, tabs, bars or spaces.

    Args:
        path: the file, in UTF-8, UTF-16 or Windows-1252.
        notes: list to which a sentence is appended for each decision.
        as_text: keep cells as text, empty where missing; decimal commas are still replaced by points.

    Raises:
        DataError: if the file cannot be opened, two columns have the same name, a row has fewer fields than the
            heading, or a comma may be a decimal or a thousands separator.
        Exception: any error that pandas raises for a damaged file.
    """
    import pandas as pd  # data sets read only rows, without pandas

    form = _form(path, notes)
    separator = form.separator
    rows = _rows(path, form)
    # pandas renames a repeated column silently.
    header = _header(rows, path)
    trailing = _end_in_separators(rows, header, path)
    layout: dict[str, Any] = {"index_col": False, "usecols": range(len(header))} if trailing else {}
    if as_text:
        layout |= {"dtype": str, "keep_default_na": False}
    # The default float parser of pandas reads beyond its table of powers and crashes for 1e3084000042.
    table: pd.DataFrame = pd.read_csv(
        path,
        sep=separator,
        skipinitialspace=separator == " ",
        skiprows=form.skipped_lines,
        encoding=form.encoding,
        encoding_errors="replace",
        float_precision="round_trip",
        **layout,
    )
    if as_text:
        table = table.fillna("")
    if separator == ",":
        return table
    table, converted = _with_decimal_commas(table, separator, path, notes)
    if converted:
        _check_points(_rows(path, form), path)
    return table


def read_text_rows(path: Path, notes: list[str]) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """Read the table that :func:`read_text_table` reads, as unchanged text and with the line number of every row.

    Returns:
        The names of the columns, and the number of the last line of each row with its cells by column.

    Raises:
        DataError: if the file cannot be opened or is empty, two columns have the same name, or a row is not valid CSV
            or has another number of fields than the heading.
    """
    rows = _rows(path, _form(path, notes))
    columns = tuple(name.strip() for name in _header(rows, path))
    if not columns:
        raise DataError("is empty", where=path)
    found = []
    for line, row in rows:
        cells = row[:-1] if len(row) == len(columns) + 1 and not row[-1] else row
        if len(cells) != len(columns):
            raise DataError(f"line {line} does not have {len(columns)} fields", where=path)
        found.append((line, dict(zip(columns, cells, strict=True))))
    return columns, found


def to_numbers(values: pd.Series) -> pd.Series:
    """Return float64, NaN where a value is not a number."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(values) or is_bool_dtype(values):
        return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan), index=values.index)
    # pd.to_numeric crashes at the same texts as the float parser of read_csv.
    return values.map(_to_number, na_action="ignore").astype(np.float64)


def _to_number(value: object) -> float:
    try:
        return math.nan if "_" in str(value) else float(str(value))
    except ValueError:
        return math.nan


class _Form(NamedTuple):
    encoding: str
    separator: str
    skipped_lines: int
    """Lines before the heading that are not part of the table."""


def _form(path: Path, notes: list[str]) -> _Form:
    encoding = _encoding(path)
    if encoding == "cp1252":
        notes.append("the file is not UTF-8; it was read as Windows-1252 (Latin-1)")
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        (number, head), (_, first) = next(lines, (0, "")), next(lines, (0, ""))
    # Excel reads the separator from such a line.
    if stated := _SEPARATOR_LINE.fullmatch(head.strip("\r\n")):
        return _Form(encoding, stated[1], number)
    # Excel writes semicolons if the comma is the decimal separator.
    separator = max(",;\t|", key=head.count)
    # A single column may have spaces in its name.
    spaced = separator not in head and len(head.split()) > 1 and len(first.split()) != 1
    return _Form(encoding, " " if spaced else separator, 0)


def _rows(path: Path, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, the heading first, each with the number of its last line."""
    with path.open(encoding=form.encoding, newline="", errors="replace") as file:
        rows = csv.reader(
            islice(file, form.skipped_lines, None), delimiter=form.separator, skipinitialspace=form.separator == " "
        )
        try:
            for row in rows:
                if row:
                    yield form.skipped_lines + rows.line_num, row
        except csv.Error as error:
            line = form.skipped_lines + rows.line_num
            raise DataError(f"line {line} is not valid CSV ({error})", where=path) from error


def _header(rows: Iterator[tuple[int, list[str]]], path: Path) -> list[str]:
    header = next(rows, (0, list[str]()))[1]
    check_names([name for name in header if name.strip()], path)
    return header


def _end_in_separators(rows: Iterator[tuple[int, list[str]]], header: list[str], path: Path) -> bool:
    """Return whether every row has one separator more than the header; pandas would shift all columns by one.

    Raises:
        DataError: if a row has fewer fields than the header, which pandas would fill with missing values.
    """
    needed = max((number for number, name in enumerate(header, 1) if name.strip()), default=0)
    trailing: set[bool] = set()
    for line, row in _without_long_cells(rows):
        if len(row) < needed and any(cell.strip() for cell in row):
            raise DataError(
                f"line {line} has {len(row)} fields, and the heading has {len(header)}",
                where=path,
                hint="Is the file truncated? An empty cell at the end of a row needs its separator too",
            )
        trailing.add(len(row) == len(header) + 1 and not row[-1])
    return trailing == {True}


def _without_long_cells(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows before the first cell that is longer than the reader allows, such as the outline of a polygon."""
    with suppress(DataError):
        yield from rows


def _encoding(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("cannot be read", where=path, hint=error.strerror) from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _check_points(rows: Iterator[tuple[int, list[str]]], path: Path) -> None:
    """Reject a column whose points may group thousands, because commas are the decimal signs of other columns.

    Raises:
        DataError: if the column has points, each of them before a group of three digits.
    """
    header = _header(rows, path)
    grouped: dict[str, str] = {}
    others: set[str] = set()
    for _, row in _without_long_cells(rows):
        for name, cell in zip(header, row, strict=False):
            if _THOUSANDS_POINTS.fullmatch(cell.strip()):
                grouped.setdefault(name, cell.strip())
            elif "." in cell:
                others.add(name)
    for name, cell in grouped.items():
        if name not in others:
            raise DataError(
                f"the point in {cell[:60]!r} may be a decimal sign or group thousands: other columns have commas",
                where=f"{path}, column {name!r}",
                hint="Save the table with decimal points and without group separators",
            )


def _with_decimal_commas(
    table: pd.DataFrame, separator: str, path: Path, notes: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with points as decimal signs, and the names of the columns that had commas."""
    from pandas.api.types import is_numeric_dtype

    converted = []
    for name in table.columns:
        texts = table[name].dropna()
        if is_numeric_dtype(texts) or texts.empty:
            continue
        texts = texts.astype(str).str.strip()
        texts = texts[texts != ""]
        commas = texts.str.fullmatch(_DECIMAL_COMMA)
        if not commas.any() or (commas | texts.str.fullmatch(PLAIN_NUMBER)).mean() < 0.5:
            continue
        # With semicolons, as Excel writes them, the comma is the decimal separator; otherwise it is ambiguous.
        if separator != ";" and texts[commas].str.fullmatch(_THOUSANDS_SEPARATED).all():
            raise DataError(
                f"the comma in {texts[commas].iloc[0][:60]!r} may be a decimal sign or group thousands",
                where=f"{path}, column {str(name)!r}",
                hint="Save the table with decimal points",
            )
        table[name] = table[name].astype(object).map(_with_point, na_action="ignore")
        converted.append(str(name))
    if converted:
        notes.append(f"commas were read as decimal signs in {', '.join(converted)}")
    return table, converted


def _with_point(text: object) -> str:
    return str(text).strip().replace(",", ".")
