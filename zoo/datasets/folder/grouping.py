"""Find the group, row and column of every patch of a folder, from a CSV table or from the file names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from zoo.datasets.base import Patch
from zoo.datasets.folder.pairing import compile_pattern, key_of
from zoo.errors import ConfigError, DataError, UnknownNameError, suggestion
from zoo.files import is_file
from zoo.rasters.text_tables import read_text_rows
from zoo.schema import read_json

GROUP_COLUMNS = ("scene", "event", "group", "region")
"""Group columns that are tried by default; the first that exists is used."""

PlaceUnit = Literal["auto", "patches", "pixels"]

_ROW_COLUMNS = ("row", "tile_row", "grid_row")
_COL_COLUMNS = ("col", "column", "tile_col", "grid_col")
_GRID_FILE = "patches.json"
MAX_COORDINATE = 2**31
_SPARSE = 8
"""Distance between nearest patches from which coordinates look like pixels: patches on a grid are 1 apart."""
_MIN_PATCHES_FOR_STEP = 6
"""With fewer patches, the step is unknown, so the unit of coordinates that look like pixels must be given [O]."""


@dataclass(frozen=True)
class Table:
    """A CSV file with one row per patch.

    Attributes:
        path: the file.
        columns: names of its columns.
        rows: its rows, each with its line number in the file.
        note: description of what is unusual about the file; "" if nothing is.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    note: str = ""


@dataclass(frozen=True)
class LocatedPatches:
    """The patches of a folder with their groups and locations.

    Attributes:
        patches: patches in the order of the given names.
        grouped: whether groups are known.
        reach: maximum distance on the grid at which patches touch.
        note: description of where groups and locations come from.
    """

    patches: tuple[Patch, ...]
    grouped: bool
    reach: int
    note: str


@dataclass(frozen=True)
class _PatchGrid:
    """Fields of ``patches.json``, written by ``zoo patches``, that are needed here; sizes in pixels."""

    size: int
    stride: int


def locate_patches(
    root: Path,
    names: Sequence[str],
    *,
    size: tuple[int, int],
    corners: Sequence[tuple[int, int]] | None = None,
    table: str | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    file_column: str | None = None,
    row_column: str | None = None,
    col_column: str | None = None,
    place_unit: PlaceUnit = "auto",
) -> LocatedPatches:
    """Find the group, row and column of every patch.

    A pattern is a regular expression that is searched for in the names. Its group "group" (or its first group) is the
    group of the patch; its groups "row" and "col" are the location. Without a pattern, a CSV file in ``root`` that
    names the files is used, if there is one. Without locations in either, the georeference of the images is used.

    Args:
        root: folder of the data set.
        names: names of the patches, unique.
        size: height and width of a patch in pixels.
        corners: row and column of the corner of each patch in pixels, from its georeference; None if unknown.
        table: name of the CSV file; None to detect it.
        group_column: column of the group; None for the first of :data:`GROUP_COLUMNS`.
        group_pattern: regular expression on the names.
        file_column: column of the file name; None to detect it.
        row_column: column of the row; None to detect it.
        col_column: column of the column; None to detect it.
        place_unit: unit of rows and columns; "auto" recognises pixels.

    Raises:
        ConfigError: if options contradict each other or the pattern is not a regular expression with a group.
        UnknownNameError: if a named column is not in the table.
        DataError: if the table is missing, ambiguous, or does not match the files, or the unit of rows and columns
            cannot be determined.
    """
    grid = _read_grid(root, size)
    if group_pattern is not None:
        if group_column is not None:
            raise ConfigError("groups come from a column or from a pattern, not from both")
        patches, how = _patches_from_pattern(names, group_pattern)
        grouped = True
    else:
        columns = {"group": group_column, "file": file_column, "row": row_column, "col": col_column}
        patches, grouped, how = _from_table(root, names, table, columns)
    if corners is not None and all(patch.row is None or patch.col is None for patch in patches):
        patches = [replace(patch, row=row, col=col) for patch, (row, col) in zip(patches, corners, strict=True)]
        how, place_unit, grid = f"{how}; locations from the georeference of the images", "pixels", None
    patches, reach, unit_note = _to_grid(patches, size, place_unit, grid)
    return LocatedPatches(
        tuple(patches), grouped, reach, "groups: " + ", ".join(part for part in (how, unit_note) if part)
    )


def _read_grid(root: Path, size: tuple[int, int]) -> _PatchGrid | None:
    """Return the grid that ``zoo patches`` cut, or None for patches from another source."""
    path = root / _GRID_FILE
    try:
        grid = read_json(path, _PatchGrid, what="file of zoo patches", error=DataError)
    except FileNotFoundError:
        return None
    if (grid.size, grid.size) != size or not grid.stride >= 1:
        raise DataError(
            f"says that patches have {grid.size} pixels per side and a stride of {grid.stride}, but the images have "
            f"{size[0]} x {size[1]} pixels",
            where=path,
            hint="Write the patches again with zoo patches, or remove the file if they come from elsewhere",
        )
    return grid


def _patches_from_pattern(names: Sequence[str], pattern: str) -> tuple[list[Patch], str]:
    example = r"'^(S\d+)_' or '^(?P<group>S\d+)_(?P<row>\d+)_(?P<col>\d+)'"
    compiled = compile_pattern(pattern, "group_pattern", example)
    known = compiled.groupindex
    patches = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise DataError(
                f"the pattern {pattern!r} does not match {name!r}",
                where="option group_pattern",
                hint="The pattern is searched in the name of the image without its suffix",
            )
        group = match["group"] if "group" in known else match[1]
        if not group:
            raise DataError(f"the pattern {pattern!r} gives {name!r} no group", where="option group_pattern")
        row, col = (_integer(match[key] or "") if key in known else None for key in ("row", "col"))
        patches.append(Patch(name, group, row, col))
    if "row" not in known or "col" not in known:
        return [replace(patch, row=None, col=None) for patch in patches], f"group from the file names by {pattern!r}"
    return patches, f"group, row and column from the file names by {pattern!r}"


def _from_table(
    root: Path, names: Sequence[str], table: str | None, wanted: Mapping[str, str | None]
) -> tuple[list[Patch], bool, str]:
    """Return the patches, whether groups are known, and a description of their origin."""
    unknown = [Patch(name, "") for name in names], False, "none known"
    named = [column for column in wanted.values() if column is not None]
    found = _find_table(root, table, named)
    if found is None:
        return unknown
    for column in named:
        if column not in found.columns:
            raise UnknownNameError("column", column, found.columns, where=found.path)
    file_column = wanted["file"] or _file_column(found, names)
    if file_column is None:
        if table is None and not named:
            return unknown
        raise DataError(
            "no column names the image files",
            where=found.path,
            hint=f"One should contain names such as {names[0]!r}; name it with the option file_column",
        )
    rows = _match_rows(found, file_column, names)
    lower = {name.lower(): name for name in reversed(found.columns)}
    group_column = wanted["group"] or _first_column(lower, GROUP_COLUMNS)
    row_column = wanted["row"] or _first_column(lower, _ROW_COLUMNS)
    col_column = wanted["col"] or _first_column(lower, _COL_COLUMNS)
    if row_column is None or col_column is None:
        row_column = col_column = None
    patches = []
    for name, (line, row) in zip(names, rows, strict=True):
        group = "" if group_column is None else row[group_column].strip()
        if group_column is not None and not group:
            raise DataError(f"line {line}: column {group_column!r} is empty", where=found.path)
        place = [_parse_location(row, column, line, found.path) for column in (row_column, col_column)]
        patches.append(Patch(name, group, *place))
    parts = [found.note] if found.note else []
    if group_column is not None:
        parts.append(f"group from column {group_column!r}" + ("" if wanted["group"] else " (found by its name)"))
    if row_column is not None:
        parts.append(f"location from columns {row_column!r} and {col_column!r}")
    return patches, group_column is not None, f"{found.path.name}: " + (", ".join(parts) or "no group, no location")


def _first_column(lower: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((lower[name] for name in names if name in lower), None)


def _find_table(root: Path, table: str | None, wanted: Sequence[str]) -> Table | None:
    if table is not None:
        path = root / table
        if not is_file(path):
            present = [found.name for found in root.glob("*.csv")]
            raise DataError(f"no table {table!r}", where=root, hint=suggestion(table, present))
        return _read_table(path)
    paths = sorted(path for path in root.glob("*.csv") if not path.name.startswith("."))
    tables = [_read_table(path) for path in paths]
    if wanted:
        if not tables:
            raise DataError(
                f"no CSV file with a column {wanted[0]!r}", where=root, hint="Name the file with the option table"
            )
        matching = [found for found in tables if set(wanted) <= set(found.columns)]
        if not matching:
            if len(tables) == 1:
                return tables[0]
            columns = {column for found in tables for column in found.columns}
            raise UnknownNameError("column", wanted[0], columns, where=root)
        tables = matching
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
    notes: list[str] = []
    columns, rows = read_text_rows(path, notes)
    if not rows:
        raise DataError("has a header but no rows", where=path)
    return Table(path, columns, tuple(rows), ", ".join(notes))


def _file_column(table: Table, names: Sequence[str]) -> str | None:
    """Return the column that contains the most image names; None if none contains any."""
    known = _name_variants(names)
    hits = {column: sum(_owner(row[column], known) is not None for _, row in table.rows) for column in table.columns}
    best = max(table.columns, key=lambda column: hits[column])
    return best if hits[best] > 0 else None


def _match_rows(table: Table, column: str, names: Sequence[str]) -> list[tuple[int, Mapping[str, str]]]:
    """Return the row of each image."""
    known = _name_variants(names)
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    foreign = []
    for line, row in table.rows:
        name = _owner(row[column], known)
        if name is None:
            foreign.append((line, row[column]))
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
    if foreign:
        line, value = foreign[0]
        raise DataError(
            f"{len(foreign)} of {len(table.rows)} rows name no image, the first at line {line}: {value!r}",
            where=table.path,
            hint="Copy the missing images, or remove the rows",
        )
    return [found[name] for name in names]


def _name_variants(names: Sequence[str]) -> dict[str, str]:
    """Return all ways to write a name in a table; exact names take precedence over shortened ones."""
    known: dict[str, str] = {}
    for shorten in (key_of, lambda name: name.rsplit("/", 1)[-1], str):
        owners: dict[str, list[str]] = {}
        for name in names:
            owners.setdefault(shorten(name), []).append(name)
        known.update({short: full[0] for short, full in owners.items() if len(full) == 1})
    return known


def _owner(value: str, known: Mapping[str, str]) -> str | None:
    text = value.strip().replace("\\", "/").removeprefix("./")
    path = re.sub(r"\.(png|jpe?g|tiff?|npy|h5|hdf5|he5)$", "", text, flags=re.IGNORECASE)
    name = path.split("/", 1)[1] if path.startswith(("images/", "image/", "img/")) else path
    return known.get(name) or known.get(key_of(name))


def _parse_location(row: Mapping[str, str], column: str | None, line: int, path: Path) -> int | None:
    if column is None or not row[column].strip():
        return None
    place = _integer(row[column])
    if place is None:
        raise DataError(f"line {line}: {row[column]!r} in column {column!r} is not an integer", where=path)
    return place


def _integer(text: str) -> int | None:
    """Return an integer, even if written as ``1.0`` or with a decimal comma; None for anything else."""
    try:
        number = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < MAX_COORDINATE else None


def _to_grid(
    patches: list[Patch], size: tuple[int, int], unit: PlaceUnit, grid: _PatchGrid | None
) -> tuple[list[Patch], int, str]:
    """Convert locations to a grid; return the patches, the maximum distance at which they touch, and a note.

    Locations in patches are unchanged. Locations in pixels are divided by their common step, so that patches of 128
    pixels every 64 pixels touch up to a distance of 2.
    """
    if grid is not None and unit != "pixels":
        # ``zoo patches`` counts rows and columns in strides.
        return patches, max(1, -(-grid.size // grid.stride)), ""
    placed = [patch for patch in patches if patch.row is not None and patch.col is not None]
    steps = _common_steps(placed)
    if unit == "patches" or not placed:
        return patches, 1, ""
    multiple = all((patch.row or 0) % size[0] == 0 and (patch.col or 0) % size[1] == 0 for patch in placed)
    if unit == "auto" and not (multiple and any(patch.row or patch.col for patch in placed)):
        if not _are_pixel_coordinates(placed, size):
            return patches, 1, ""
        places = {(patch.group, patch.row, patch.col) for patch in placed}
        if max(steps) < _SPARSE or len(places) < _MIN_PATCHES_FOR_STEP:
            raise DataError(
                f"row and column look like pixels: the nearest of {len(placed)} patches are {_SPARSE} or more apart",
                where="option place_unit",
                hint="Pass place_unit=pixels or place_unit=patches",
            )
    down, across = (length if multiple else step or length for length, step in zip(size, steps, strict=True))
    first = (min(patch.row or 0 for patch in placed), min(patch.col or 0 for patch in placed))
    start = (0, 0) if multiple else first
    moved = [
        replace(patch, row=(patch.row - start[0]) // down, col=(patch.col - start[1]) // across)
        if patch.row is not None and patch.col is not None
        else patch
        for patch in patches
    ]
    reach = max(1, -(-size[0] // down), -(-size[1] // across))
    return moved, reach, f"in pixels, so divided by {down} and {across}"


def _common_steps(placed: Sequence[Patch]) -> tuple[int, int]:
    """Return the largest steps that divide all differences of rows and of columns within a group; 0 without any."""
    first: dict[str, Patch] = {}
    for patch in placed:
        first.setdefault(patch.group, patch)
    rows = ((patch.row or 0) - (first[patch.group].row or 0) for patch in placed)
    cols = ((patch.col or 0) - (first[patch.group].col or 0) for patch in placed)
    return math.gcd(*rows), math.gcd(*cols)


def _are_pixel_coordinates(placed: Sequence[Patch], size: tuple[int, int]) -> bool:
    """Return whether locations are so far apart, compared with a grid of patches, that they are probably pixels."""
    groups: dict[str, set[tuple[int, int]]] = {}
    for patch in placed:
        groups.setdefault(patch.group, set()).add((patch.row or 0, patch.col or 0))
    nearest, extent = [], 0
    for places in groups.values():
        if len(places) > 1:
            points = np.array(sorted(places), dtype=np.float64)
            distances = np.asarray(cKDTree(points).query(points, k=2, p=np.inf)[0])
            nearest.append(float(distances[:, 1].min()))
            extent = max(extent, int(np.ptp(points, axis=0).max()))
    return bool(nearest) and min(nearest) >= _SPARSE and extent >= min(size)
