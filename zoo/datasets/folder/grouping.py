"""Where a folder's patches come from: group, row and column from a CSV table or from the file names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.datasets.base import Patch
from zoo.datasets.folder.pairing import key_of
from zoo.errors import ConfigError, DataError, UnknownNameError, suggestion

GROUP_COLUMNS = ("scene", "event", "group", "region")
"""Columns taken for the group when none is named, the first that is there."""

_ROW_COLUMNS = ("row", "tile_row", "grid_row")
_COL_COLUMNS = ("col", "column", "tile_col", "grid_col")

_CUT = "patches.json"
"""What ``zoo patches`` writes beside its patches: size and stride in pixels, among others."""


@dataclass(frozen=True)
class Table:
    """A CSV file with one row a patch.

    Attributes:
        path: the file.
        columns: its header.
        rows: its rows, each with its line in the file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


@dataclass(frozen=True)
class Origins:
    """The patches of a folder and what is known about where they lie.

    Attributes:
        patches: in the order of the names that were asked for.
        grouped: a column or pattern told the groups.
        note: how, in words.
    """

    patches: tuple[Patch, ...]
    grouped: bool
    note: str


def reach_of(root: Path) -> int:
    """Grid distance up to which patches touch: 1, and more where ``zoo patches`` let them overlap.

    Rows and columns count strides there, so that patches of 64 pixels every 32 still touch at a distance of 2.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        about = json.loads((root / _CUT).read_text(encoding="utf-8"))
        return max(1, -(-int(about["size"]) // int(about["stride"])))
    return 1


def find_origins(
    root: Path,
    names: Sequence[str],
    *,
    size: tuple[int, int],
    table: str | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    file_column: str | None = None,
    row_column: str | None = None,
    col_column: str | None = None,
) -> Origins:
    """Find group, row and column of every patch.

    A pattern is a regular expression searched in the name; its group "group" (or its first group) is the patch's
    group, its groups "row" and "col" its place. Without a pattern a CSV file in ``root`` is used, when there is one
    that names the files.

    Args:
        root: folder of the data set.
        names: names of the patches, unique.
        size: height and width of a patch in pixels, to tell places in pixels from places in patches.
        table: name of the CSV file; None to find it.
        group_column: column of the group; None for the first of GROUP_COLUMNS.
        group_pattern: regular expression on the names.
        file_column: column that names the file; None to find it.
        row_column: column of the row; None to find it.
        col_column: column of the column; None to find it.

    Raises:
        ConfigError: if options contradict each other or the pattern is no regular expression.
        UnknownNameError: if a named column is not in the table.
        DataError: if the table is missing, ambiguous, or does not agree with the files.
    """
    if group_pattern is not None:
        if group_column is not None:
            raise ConfigError("groups come from a column or from a pattern, not from both")
        return _from_pattern(names, group_pattern)
    wanted = [name for name in (group_column, file_column, row_column, col_column) if name is not None]
    found = _find_table(root, table, wanted)
    if found is None:
        return Origins(tuple(Patch(name, "") for name in names), False, "groups: none known")
    for name in wanted:
        if name not in found.columns:
            raise UnknownNameError("column", name, found.columns, where=found.path)
    column = file_column or _file_column(found, names)
    if column is None:
        if table is None and not wanted:
            return Origins(tuple(Patch(name, "") for name in names), False, "groups: none known")
        raise DataError(
            "no column names the image files",
            where=found.path,
            hint=f"One should hold names such as {names[0]!r}; say which with the option file_column",
        )
    rows = _rows_of(found, column, names)
    lower = {name.lower(): name for name in reversed(found.columns)}
    group_name = group_column or next((lower[name] for name in GROUP_COLUMNS if name in lower), None)
    row_name = row_column or next((lower[name] for name in _ROW_COLUMNS if name in lower), None)
    col_name = col_column or next((lower[name] for name in _COL_COLUMNS if name in lower), None)
    if row_name is None or col_name is None:
        row_name = col_name = None
    patches = []
    for name, (line, row) in zip(names, rows, strict=True):
        group = "" if group_name is None else row[group_name].strip()
        if group_name is not None and not group:
            raise DataError(f"line {line}: column {group_name!r} is empty", where=found.path)
        place_row = _place(row, row_name, line, found.path)
        place_col = _place(row, col_name, line, found.path)
        patches.append(Patch(name, group, place_row, place_col))
    parts = []
    if group_name is not None:
        parts.append(f"group from column {group_name!r}" + ("" if group_column else " (found by its name)"))
    if row_name is not None:
        parts.append(f"place from columns {row_name!r} and {col_name!r}")
        patches, step = _in_patches(patches, size)
        parts.append(step)
    note = f"groups: {found.path.name}: " + (", ".join(part for part in parts if part) or "no group, no place")
    return Origins(tuple(patches), group_name is not None, note)


def _from_pattern(names: Sequence[str], pattern: str) -> Origins:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{pattern!r} is no regular expression ({error})", where="option group_pattern") from error
    if compiled.groups == 0:
        raise ConfigError(
            f"{pattern!r} has no group in parentheses",
            where="option group_pattern",
            hint=r"Write for example '^(S\d+)_' or '^(?P<group>S\d+)_(?P<row>\d+)_(?P<col>\d+)'",
        )
    known = compiled.groupindex
    patches = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise DataError(
                f"the pattern {pattern!r} does not match {name!r}",
                where="option group_pattern",
                hint="It is searched in the name of the image without its suffix",
            )
        group = match["group"] if "group" in known else match[1]
        if not group:
            raise DataError(f"the pattern {pattern!r} gives {name!r} no group", where="option group_pattern")
        places = [_whole(match[key]) if key in known else None for key in ("row", "col")]
        patches.append(Patch(name, group, places[0], places[1]))
    placed = "row" in known and "col" in known
    if not placed:
        patches = [replace(patch, row=None, col=None) for patch in patches]
    words = "group, row and column" if placed else "group"
    return Origins(tuple(patches), True, f"groups: {words} from the file names by {pattern!r}")


def _find_table(root: Path, table: str | None, wanted: Sequence[str]) -> Table | None:
    if table is not None:
        path = root / table
        if not path.is_file():
            there = [found.name for found in root.glob("*.csv")]
            raise DataError(f"no table {table!r}", where=root, hint=suggestion(table, there))
        return _read_table(path)
    paths = sorted(path for path in root.glob("*.csv") if not path.name.startswith("."))
    tables = [_read_table(path) for path in paths]
    if wanted:
        if not tables:
            raise DataError(
                f"no CSV file with a column {wanted[0]!r}", where=root, hint="Name one with the option table"
            )
        having = [found for found in tables if set(wanted) <= set(found.columns)]
        if not having:
            if len(tables) == 1:
                return tables[0]
            columns = {column for found in tables for column in found.columns}
            raise UnknownNameError("column", wanted[0], columns, where=root)
        tables = having
    if len(tables) > 1:
        if not wanted:
            return None
        raise DataError(
            f"several tables fit: {', '.join(found.path.name for found in tables)}",
            where=root,
            hint="Name one with the option table",
        )
    return tables[0] if tables else None


def _read_table(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8", where=path, hint="Save it as UTF-8") from error
    except OSError as error:
        raise DataError("cannot be read", where=path, hint=error.strerror) from error
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = tuple(name.strip() for name in reader.fieldnames or ())
    if not columns:
        raise DataError("is empty", where=path)
    reader.fieldnames = list(columns)
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise DataError(f"line {reader.line_num} does not have {len(columns)} fields", where=path)
        rows.append((reader.line_num, row))
    if not rows:
        raise DataError("has a header and no rows", where=path)
    return Table(path, columns, tuple(rows))


def _file_column(table: Table, names: Sequence[str]) -> str | None:
    known = _spellings(names)
    hits = {column: sum(_owner(row[column], known) is not None for _, row in table.rows) for column in table.columns}
    best = max(table.columns, key=lambda column: hits[column])
    return best if hits[best] > 0 else None


def _rows_of(table: Table, column: str, names: Sequence[str]) -> list[tuple[int, Mapping[str, str]]]:
    known = _spellings(names)
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    strangers = []
    for line, row in table.rows:
        name = _owner(row[column], known)
        if name is None:
            strangers.append((line, row[column]))
        elif name in found:
            raise DataError(f"lines {found[name][0]} and {line} both describe {name!r}", where=table.path)
        else:
            found[name] = (line, row)
    missing = [name for name in names if name not in found]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing)} of {len(names)} images have no row: {shown}",
            where=table.path,
            hint=f"They are looked up in column {column!r} (option file_column)",
        )
    if strangers:
        line, value = strangers[0]
        raise DataError(
            f"{len(strangers)} of {len(table.rows)} rows name no image, the first at line {line}: {value!r}",
            where=table.path,
            hint="Copy the missing images, or remove the rows",
        )
    return [found[name] for name in names]


def _spellings(names: Sequence[str]) -> dict[str, str]:
    """Every way in which a table may write a name, the exact ones winning over the shortened ones."""
    known: dict[str, str] = {}
    for shorten in (key_of, lambda name: name.rsplit("/", 1)[-1], str):
        counted: dict[str, list[str]] = {}
        for name in names:
            counted.setdefault(shorten(name), []).append(name)
        known.update({short: owners[0] for short, owners in counted.items() if len(owners) == 1})
    return known


def _owner(value: str, known: Mapping[str, str]) -> str | None:
    spelling = _spelling(value)
    return known.get(spelling) or known.get(key_of(spelling))


def _spelling(value: str) -> str:
    text = value.strip().replace("\\", "/").removeprefix("./")
    path = re.sub(r"\.(png|jpe?g|tiff?|npy|h5|hdf5|he5)$", "", text, flags=re.IGNORECASE)
    return path.split("/", 1)[1] if path.startswith(("images/", "image/", "img/")) else path


def _place(row: Mapping[str, str], column: str | None, line: int, path: Path) -> int | None:
    if column is None or not row[column].strip():
        return None
    place = _whole(row[column])
    if place is None:
        raise DataError(f"line {line}: {row[column]!r} in column {column!r} is no whole number", where=path)
    return place


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _in_patches(patches: list[Patch], size: tuple[int, int]) -> tuple[list[Patch], str]:
    """Divide places that are given in pixels, all multiples of the patch size, by the patch size."""
    placed = [(patch.row, patch.col) for patch in patches if patch.row is not None and patch.col is not None]
    if not any(row or col for row, col in placed):
        return patches, ""
    height, width = size
    if any(row % height or col % width for row, col in placed):
        return patches, ""
    return [
        replace(patch, row=patch.row // height, col=patch.col // width)
        if patch.row is not None and patch.col is not None
        else patch
        for patch in patches
    ], f"in pixels, so divided by {height} and {width}"
