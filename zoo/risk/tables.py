"""Tables of places with and without landslides: reading, checks and warnings about probable leakage."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError, first_line
from zoo.files import printable
from zoo.rasters.text_tables import PLAIN_NUMBER, TEXT_SUFFIXES, check_names, read_text_table, to_numbers
from zoo.risk.scores import auc

MISSING_CODES: tuple[float, ...] = (
    *(-99.0, -999.0, -9999.0, -99999.0, -32767.0, -32768.0),
    *(999.0, 9999.0, 99999.0, 32767.0, 65535.0),
)
"""Numbers that mark missing values if they are far from all other values; a note reports each one found."""

FLOAT_NODATA = 1e20
"""Magnitudes at or above this are nodata of float rasters, such as -3.4e38, 9.97e36 or 1e20 [O]."""

MAX_XLSX_BYTES = 256 * 2**20
"""Maximum unpacked size of an XLSX file in bytes; a million rows with ten columns have 200 MB."""

MAX_XLSX_CELLS = 20_000_000
MAX_EMPTY_ROWS = 10_000

_TRUE = {"1", "1.0", "true", "t", "yes", "y", "landslide", "presence"}
_FALSE = {"0", "0.0", "false", "f", "no", "n", "none", "absence"}
_MAX_CLASSES = 20
"""A whole-number column with at most this many values and a name such as "litho" contains classes."""
_HISTORY = re.compile(r"P_t-\d+")
"""Names of columns with rain a number of steps ago; they are kept even if a step was dry everywhere."""
_VECTOR = {".gpkg", ".shp", ".geojson", ".json", ".fgb"}
_CLASS_WORDS = (
    "litho",
    "geolog",
    "land_cover",
    "landcover",
    "lulc",
    "landuse",
    "land_use",
    "soil",
    "class",
    "aspect_c",
)
_LATITUDE = re.compile(r"lat(itude)?|breite|.*[_ ]lat", re.IGNORECASE)
_LONGITUDE = re.compile(r"lon(g|gitude)?|l[aä]nge|.*[_ ]lon", re.IGNORECASE)
_EASTING = re.compile(r"(.*_)?x|(.*[_ ])?(easting|east)|utm_?e", re.IGNORECASE)
_NORTHING = re.compile(r"(.*_)?y|(.*[_ ])?(northing|north)|utm_?n", re.IGNORECASE)
_GROUPED = re.compile(r"[-+]?(\d{1,3}([,. '’\u00a0\u202f]\d{3})+([.,]\d+)?|\d+,\d+)")
"""Numbers with group separators or a decimal comma, which are not classes."""
_ROW_NUMBER = re.compile(
    r"(unnamed: ?\d+|index|id|gid|fid|objectid|ogc_fid|rowid|row|no|nr|\.\.\.1)(_\d+)?", re.IGNORECASE
)
_WITH_UNIT = re.compile(r"[<>~≈]?\s*[-+]?\d+([.,]\d+)?\s*(%|°|‰|m|mm|cm|km|ft|deg|degrees?)?", re.IGNORECASE)
"""Numbers with a unit or a comparison sign, which are not classes."""
_TYPOGRAPHIC = re.compile(r"'?[-+−–]?\d+([.·]\d+)?")
"""Numbers with a minus or a raised point of typography, or an apostrophe, by which spreadsheets mark text."""

_MAX_REPEATED_SHARE = 0.01
"""Share of repeated rows above which a warning is given [O]."""


@dataclass(frozen=True)
class RiskTable:
    """Places as rows, with features, a label and, where known, coordinates and groups.

    Attributes:
        features: one column per feature; numbers are float64 with NaN where missing, classes are of category dtype.
        labels: int64 (N,), 1 where there is a landslide.
        coordinates: float64 (N, 2), x and y in metres; None if unknown.
        groups: region or event of each row, (N,); None if unknown.
        notes: findings and decisions during reading, as sentences.
        warnings: reasons to doubt results on this table, as sentences.
        rows: row in the file of each place, from 0, (N,); None for the same order. Places are ordered by content, so
            that scores do not depend on the order of the file.
    """

    features: pd.DataFrame
    labels: NDArray[np.int64]
    coordinates: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, order: NDArray[np.int64]) -> RiskTable:
        """Return the table with the rows of ``order``."""
        return replace(
            self,
            features=self.features.iloc[order].reset_index(drop=True),
            labels=self.labels[order],
            coordinates=None if self.coordinates is None else self.coordinates[order],
            groups=None if self.groups is None else self.groups[order],
            rows=None if self.rows is None else self.rows[order],
        )


def read_table(
    table: str | os.PathLike[str] | pd.DataFrame,
    label: str,
    *,
    drop: Sequence[str] = (),
    coords: tuple[str, str] | None = None,
    crs: str | None = None,
    group: str | None = None,
    categorical: Sequence[str] | None = None,
    missing: Sequence[float] = MISSING_CODES,
) -> RiskTable:
    """Read a table of places.

    Args:
        table: CSV, Parquet, XLSX, or a vector file of points or polygons (GeoPackage, Shapefile, GeoJSON); or a
            DataFrame with one row per place.
        label: column that marks landslides: 0 and 1, true and false, yes and no.
        drop: columns that are not features.
        coords: columns with x and y (longitude and latitude), in metres or degrees; a vector file has its geometry.
        crs: coordinate system of ``coords``, such as "EPSG:32643"; ``None`` for degrees in WGS 84, or metres without a
            known system.
        group: column with the region or event.
        categorical: columns with classes in addition to text columns; None for whole numbers in columns with names such
            as "litho".
        missing: numbers that mark missing values; those in :data:`MISSING_CODES` only if far from other values.

    Raises:
        DataError: if the file is missing, damaged or empty, the label is not binary or has only one value, a column
            contains infinities or has the name of another, coordinates are swapped, or no feature is left.
        UnknownNameError: if a column does not exist; the message suggests similar names.
        ConfigError: if the file type is not supported.
    """
    found: list[str] = []
    if isinstance(table, pd.DataFrame):
        frame, places, where = table, None, Path("table")
    else:
        where = Path(table)
        frame, places = load_frame(where, found)
    if frame.empty:
        raise DataError("has no rows", where=where)
    columns = [str(column).strip() for column in frame.columns]
    frame = frame.set_axis(pd.Index(columns), axis=1).reset_index(drop=True)
    check_names(columns, where)
    for name in (label, *drop, *(coords or ()), *([group] if group else ()), *(categorical or ())):
        if name not in columns:
            raise UnknownNameError("column", name, columns, where=where)
    if label in (*(coords or ()), group):
        raise ConfigError(f"column {label!r} is the label but is also used for coordinates or groups", where=where)
    labels, kept = read_labels(frame[label], where, label, found)
    frame = frame.loc[kept]
    coordinates = None if places is None else places[kept]
    if coords is not None:
        coordinates = _coordinates(frame, coords, crs, missing, where, found)
    groups = None if group is None else read_groups(frame[group], group, found)
    used = {label, *drop, *(coords or ()), *([group] if group else ())}
    features = _features(frame[[name for name in columns if name not in used]], categorical, missing, where, found)
    features = features.reset_index(drop=True)
    warnings = tuple(_leakage_warnings(features, labels))
    warnings += tuple(_repetition_warnings(features, labels, coordinates))
    warnings += tuple(_contradiction_warnings(features, labels, coordinates, groups))
    if coordinates is not None:
        warnings += tuple(_far_warnings(coordinates, np.flatnonzero(kept)))
    else:
        warnings += tuple(_place_warnings(list(features.columns)))
    read = RiskTable(features, labels, coordinates, groups, tuple(found), warnings, np.flatnonzero(kept))
    return read.take(_canonical_order(features, labels, coordinates, groups))


def _canonical_order(
    features: pd.DataFrame,
    labels: NDArray[np.int64],
    coordinates: NDArray[np.float64] | None,
    groups: NDArray[Any] | None,
) -> NDArray[np.int64]:
    """Order rows by a hash of their content, so that a table with shuffled rows has the same folds and scores."""
    content = features.assign(**{"\0label": labels})
    if coordinates is not None:
        content = content.assign(**{"\0x": coordinates[:, 0], "\0y": coordinates[:, 1]})
    if groups is not None:
        content = content.assign(**{"\0group": groups})
    return np.argsort(pd.util.hash_pandas_object(content, index=False).to_numpy(), kind="stable")


def load_frame(path: Path, notes: list[str]) -> tuple[pd.DataFrame, NDArray[np.float64] | None]:
    """Return the raw rows of a table file, and the locations of a vector file; see :func:`read_table`."""
    if not path.exists():
        raise DataError("there is no such file", where=path)
    if path.is_dir():
        raise DataError("is a folder, not a table", where=path)
    suffix = path.suffix.lower()
    try:
        if suffix in TEXT_SUFFIXES:
            return read_text_table(path, notes), None
        if suffix == ".parquet":
            return pd.read_parquet(path), None
        if suffix == ".xlsx":
            return _read_xlsx(path, notes), None
        if suffix in _VECTOR:
            from zoo.rasters.vectors import read_features

            return read_features(path)
    except ZooError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"reading it needs {error.name}", where=path, hint="Install it: pip install 'landslide-zoo[risk]'"
        ) from error
    except Exception as error:
        # Damaged files raise almost any error: KeyError, IndexError, csv.Error, errors of XML and Arrow.
        raise DataError(
            "cannot be read as a table: it is empty, truncated or its format does not match its name",
            where=path,
            hint=f"Save it again ({first_line(error)})",
        ) from error
    raise ConfigError(
        f"tables of type {suffix or 'without a suffix'!r} cannot be read",
        where=path,
        hint="Use .csv, .tsv, .parquet, .xlsx, .gpkg, .shp or .geojson",
    )


def _read_xlsx(path: Path, notes: list[str]) -> pd.DataFrame:
    """Read the first sheet without pandas, which would rename repeated columns and unpack a zip bomb."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_XLSX_BYTES:
        raise DataError(
            f"has {unpacked / 2**20:,.0f} MiB unpacked, more than {MAX_XLSX_BYTES // 2**20} MiB",
            where=path,
            hint="Save large tables as CSV or Parquet",
        )
    with closing(load_workbook(path, read_only=True, data_only=True)) as book:
        sheets = book.worksheets
        rows = list(_rows(sheets[0], path, values_only=True))
        if len(sheets) > 1:
            notes.append(f"only sheet {sheets[0].title!r} was read, the first of {len(sheets)}")
    if any(cell is None for row in rows for cell in row):
        _check_formulas(path)
    rows = [row for row in rows if any(cell is not None for cell in row)]
    if not rows:
        raise DataError("has no rows", where=path)
    width = max(map(len, rows))
    names = [
        str(name) if name is not None else f"column {number}"
        for number, name in enumerate([*rows[0], *[None] * (width - len(rows[0]))], 1)
    ]
    check_names(names, path)
    return pd.DataFrame([[*row, *[None] * (width - len(row))] for row in rows[1:]], columns=names)


def _check_formulas(path: Path) -> None:
    """Reject formulas without a saved value, which would be read as missing.

    Raises:
        DataError: if there is one, as in a file that a program wrote and no spreadsheet opened.
    """
    from openpyxl import load_workbook

    with ExitStack() as exits:
        books = [
            exits.enter_context(closing(load_workbook(path, read_only=True, data_only=saved)))
            for saved in (True, False)
        ]
        for values, formulas in zip(*(_rows(book.worksheets[0], path) for book in books), strict=True):
            for value, formula in zip(values, formulas, strict=True):
                # A formula whose saved result is an empty text has the data type "str".
                if formula.data_type == "f" and value.value is None and value.data_type != "str":
                    raise DataError(
                        f"cell {formula.coordinate} holds a formula without a saved value",
                        where=path,
                        hint="Open the file in a spreadsheet program and save it, so that the values are stored",
                    )


def _rows(sheet: Any, path: Path, *, values_only: bool = False) -> Iterator[tuple[Any, ...]]:
    # A sparse sheet of a few bytes can declare huge dimensions, and reading would fill all cells.
    sheet.reset_dimensions()
    cells, empty = 0, 0
    for row in sheet.iter_rows(values_only=values_only):
        cells += len(row)
        empty = 0 if any((cell if values_only else cell.value) is not None for cell in row) else empty + 1
        if cells > MAX_XLSX_CELLS or empty > MAX_EMPTY_ROWS:
            raise DataError(
                f"has more than {MAX_XLSX_CELLS:,} cells or {MAX_EMPTY_ROWS:,} empty rows in a row",
                where=path,
                hint="Save large tables as CSV or Parquet",
            )
        yield row


def read_labels(
    values: pd.Series, where: object, name: str, notes: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return 0 and 1 for the rows with a label, and the mask of these rows."""
    texts = values.astype(str).str.strip().str.lower()
    empty = (values.isna() | texts.isin(["", "nan", "na"])).to_numpy()
    true, false = texts.isin(_TRUE).to_numpy() & ~empty, texts.isin(_FALSE).to_numpy() & ~empty
    other = ~(true | false | empty)
    place = f"{where}, column {name!r}"
    if other.any():
        row = int(np.flatnonzero(other)[0])
        kinds = int(texts[~empty].nunique())
        raise DataError(
            f"label {str(values.iloc[row])[:60]!r} in row {row + 1} is neither yes nor no; there are {kinds} values",
            where=place,
            hint="A label is 0 or 1, true or false, yes or no",
        )
    if empty.all():
        raise DataError("no row has a label", where=place, hint="A label is 0 or 1, yes or no")
    if not true.any() or not false.any():
        which = "landslide" if true.any() else "place without a landslide"
        raise DataError(
            f"every row is a {which}", where=place, hint="A table needs places with and places without landslides"
        )
    if empty.any():
        notes.append(f"{int(empty.sum())} rows without a label left out")
    kept = ~empty
    return true[kept].astype(np.int64), kept


def read_groups(values: pd.Series, name: str, notes: list[str]) -> NDArray[Any]:
    """Return the group of each row as text."""
    unknown = int(values.isna().sum())
    if unknown:
        notes.append(f"{unknown:,} rows without {name} form a separate group")
    return np.asarray(values.astype(str))


def _coordinates(
    frame: pd.DataFrame,
    coords: tuple[str, str],
    crs: str | None,
    missing: Sequence[float],
    where: object,
    notes: list[str],
) -> NDArray[np.float64]:
    if coords[0] == coords[1]:
        raise ConfigError(f"x and y are both column {coords[0]!r}", where="option coords", hint="Write them as X,Y")
    columns = []
    for name in coords:
        numbers = _without_codes(name, to_numbers(frame[name]), missing, []).to_numpy()
        invalid = ~np.isfinite(numbers)
        if invalid.any():
            text = str(frame[name][invalid].iloc[0])[:60]
            raise DataError(
                f"coordinate {text!r} in row {frame.index[invalid][0] + 1} is not a number or marks a missing value",
                where=f"{where}, column {name!r}",
                hint="Leave such rows out, or name other columns with --coords",
            )
        columns.append(numbers)
    x, y = columns
    _check_zeros(x, y, frame.index.to_numpy(), f"{where}, columns {coords[0]!r} and {coords[1]!r}", crs)
    if crs is not None:
        return metres_around(*_degrees(x, y, crs, where))
    if _LONGITUDE.fullmatch(coords[0]) and 180 < x.max() <= 360 and x.min() >= -180 and np.abs(y).max() <= 90:
        notes.append(f"{coords[0]}: longitudes from 180 to 360 degrees were read as -180 to 0")
        x = np.where(x > 180, x - 360, x)
    if max(np.abs(x).max(), np.abs(y).max()) > 180:
        notes.append(f"{coords[0]} and {coords[1]} are interpreted as metres on the ground (--crs sets their system)")
        return np.column_stack([x, y])
    named_swapped = bool(_LATITUDE.fullmatch(coords[0]) and _LONGITUDE.fullmatch(coords[1]))
    if named_swapped or np.abs(y).max() > 90:
        raise DataError(
            f"{coords[0]} and {coords[1]} look like latitude and longitude, in this order",
            where=where,
            hint=f"Write longitude first: --coords {coords[1]},{coords[0]}",
        )
    notes.append(f"{coords[0]} and {coords[1]} are read as degrees; distances are in metres on the ground")
    return metres_around(x, y)


def _check_zeros(
    x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.int64], where: str, crs: str | None
) -> None:
    """Reject missing coordinates that were written as zeros, and degrees mixed with metres."""
    from zoo.rasters.ground import zero_places

    small = (np.abs(x) <= 180) & (np.abs(y) <= 90)
    zeros = zero_places(x, y, degrees=crs is None and bool(small.all()))
    at_zero = zero_places(np.where(small, 0, x), np.where(small, 0, y), degrees=False) & ~small.all()
    for wrong, problem in (
        (zeros, "have the coordinates 0, 0, which means that they are missing"),
        (at_zero, "look like degrees, but the others like metres"),
    ):
        if wrong.any():
            first = int(rows[np.flatnonzero(wrong)[0]]) + 1
            raise DataError(
                f"{int(wrong.sum())} places, the first in row {first}, {problem}",
                where=where,
                hint="Correct them, or leave such rows out",
            )


def _degrees(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str, where: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude of coordinates in another system.

    Raises:
        ConfigError: if the system does not exist.
        DataError: if places are outside the area of the system.
    """
    import pyproj

    try:
        transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise ConfigError(f"unknown coordinate system {crs!r}", where="--crs", hint="Such as EPSG:32643") from error
    longitude, latitude = transformer.transform(x, y)
    if not (np.isfinite(longitude) & np.isfinite(latitude)).all():
        raise DataError(
            f"some places lie outside {crs}", where=where, hint="Give the coordinate system of --coords with --crs"
        )
    return longitude, latitude


def metres_around(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x and y in metres relative to the centre of places in degrees, float64 (N, 2).

    The projection is azimuthal equidistant (pyproj): distances within a region are accurate to 0.1 %, even across the
    antimeridian.
    """
    import pyproj

    if np.ptp(longitude) > 180:
        longitude = longitude % 360
    east, north = (float(values.min() + values.max()) / 2 for values in (longitude, latitude))
    projection = pyproj.Proj(proj="aeqd", lon_0=east, lat_0=north, ellps="WGS84")
    x, y = projection(longitude, latitude)
    return np.column_stack([x, y])


def _features(
    frame: pd.DataFrame, categorical: Sequence[str] | None, missing: Sequence[float], where: object, notes: list[str]
) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if not (categorical and name in categorical) and _numbers_rows(str(name), values):
            notes.append(f"{name}: left out, because it numbers the rows")
            continue
        if not (categorical and name in categorical):
            _check_plain_numbers(values, f"{where}, column {name!r}")
        if _is_categorical(name, values, categorical):
            classes = _classes(values, missing)
            kinds = [str(kind) for kind in classes.cat.categories]
            if len(kinds) < 2:
                notes.append(f"{name}: left out, it is {f'{printable(kinds[0])} everywhere' if kinds else 'empty'}")
                continue
            columns[name] = classes
            notes.append(f"{name}: {len(kinds)} classes")
            continue
        numbers = to_numbers(values)
        text_cells = int((numbers.isna() & values.notna()).sum())
        if text_cells:
            notes.append(f"{name}: {text_cells} values that are not numbers were set to missing")
        infinite = np.isinf(numbers.to_numpy())
        if infinite.any():
            raise DataError(
                f"has an infinite value in row {int(values.index[infinite][0]) + 1}",
                where=f"{where}, column {name!r}",
                hint="Leave missing cells empty, or leave the column out with --drop",
            )
        numbers = _without_codes(name, numbers, missing, notes)
        known = numbers.dropna()
        if known.empty or known.min() == known.max():
            if not known.empty and _HISTORY.fullmatch(name):
                columns[name] = numbers
                continue
            what = "empty" if known.empty else f"{known.iloc[0]:g} everywhere"
            notes.append(f"{name}: left out, it is {what}")
            continue
        columns[name] = numbers
    if not columns:
        raise DataError("no feature is left", where=where, hint="A feature is a column of varying numbers or classes")
    return pd.DataFrame(columns)


def _numbers_rows(name: str, values: pd.Series) -> bool:
    """Return whether a column is a table index or layer key: unique whole numbers under a typical name."""
    if not _ROW_NUMBER.fullmatch(name.strip()) or is_bool_dtype(values) or not is_numeric_dtype(values):
        return False
    return bool(values.notna().all() and values.is_unique and (values == values.round()).all())


def _check_plain_numbers(values: pd.Series, where: str) -> None:
    """Reject texts that are numbers in a local format or with a unit, which would count as classes.

    Raises:
        DataError: if half of the texts are numbers with group separators, a decimal comma or a unit.
    """
    if is_numeric_dtype(values):
        return
    texts = values.dropna().astype(str).str.strip()
    plain = texts.str.fullmatch(PLAIN_NUMBER)
    grouped = texts.str.fullmatch(_GROUPED) & ~plain
    measured = texts.str.fullmatch(_WITH_UNIT) & ~plain
    typeset = texts.str.fullmatch(_TYPOGRAPHIC) & ~plain
    for found, share, what in (
        (typeset, (typeset | plain).mean(), "a sign that is not part of a number"),
        (grouped, (grouped | plain).mean(), "group separators or a decimal comma"),
        (measured, measured.mean(), "a unit or a comparison sign"),
    ):
        if found.any() and share > 0.5:
            raise DataError(
                f"{texts[found].iloc[0][:60]!r} is a number with {what}",
                where=where,
                hint="Save the table with plain numbers such as -1234.5; --categorical names columns of classes",
            )


def _is_categorical(name: str, values: pd.Series, categorical: Sequence[str] | None) -> bool:
    if categorical is not None and name in categorical:
        return True
    if is_bool_dtype(values):
        return False
    if not is_numeric_dtype(values):
        return bool(to_numbers(values).notna().sum() < 0.5 * values.notna().sum())
    if categorical is not None:
        return False
    known = values.dropna()
    whole = bool((known == known.round()).all())
    named = any(word in name.lower() for word in _CLASS_WORDS)
    return whole and named and known.nunique() <= _MAX_CLASSES


def _classes(values: pd.Series, missing: Sequence[float]) -> Any:
    if is_numeric_dtype(values):
        kept = values.where(~values.isin([code for code in missing if code < 0]))
        return kept.map(lambda value: f"{value:g}", na_action="ignore").astype("category")
    return values.map(lambda value: str(value).strip(), na_action="ignore").astype("category")


def _without_codes(name: str, numbers: pd.Series, missing: Sequence[float], notes: list[str]) -> pd.Series:
    huge = numbers.abs() >= FLOAT_NODATA
    if huge.any():
        notes.append(f"{name}: {int(huge.sum())} values of {numbers[huge].iloc[0]:.4g} (nodata) were set to missing")
        numbers = numbers.where(~huge)
    # The farthest code first: -999 is isolated only after -9999 is gone.
    for code in sorted(missing, key=lambda value: -abs(value)):
        coded = numbers == code
        if not coded.any():
            continue
        others = numbers[~coded].dropna()
        # A code given by the user is valid regardless of the other values.
        if code in MISSING_CODES and not others.empty and not _isolated(code, others):
            if code < 0:
                both = others.min() < code < others.max()
                why = "others lie on both sides" if both else "they are not far from the others"
                notes.append(f"{name}: {int(coded.sum())} values of {code:g} are kept, because {why}")
            continue
        notes.append(f"{name}: {int(coded.sum())} values of {code:g} were set to missing")
        numbers = numbers.where(~coded)
    return numbers


def _isolated(code: float, others: pd.Series) -> bool:
    """Return whether a code is isolated from the other values.

    A negative code must be below non-negative numbers, or numbers ten times nearer to 0; other codes must be farther
    away than the range of the values.
    """
    low, high = float(others.min()), float(others.max())
    if low <= code <= high:
        return False
    if code <= -9999 or (code < 0 and code < 10 * min(low, 0)):
        return True
    return max(low - code, code - high) > high - low


def single_feature_auc(values: pd.Series, labels: NDArray[Any]) -> float:
    """Return the AUC of a single feature, 0.5..1, regardless of its direction.

    Classes are ranked by their own share of landslides, which favours classes with few rows; a column with as many
    classes as rows is therefore also reported, as intended.

    Args:
        values: numbers or classes, (N,); missing ones form a separate class, because missingness may be informative.
        labels: 0 and 1, (N,), both present.
    """
    truth = np.asarray(labels) == 1
    if isinstance(values.dtype, pd.CategoricalDtype):
        # Code -1 is a missing class.
        codes = values.cat.codes.to_numpy().astype(np.int64) + 1
        scores = np.bincount(codes, weights=truth)[codes] / np.bincount(codes)[codes]
    else:
        numbers = values.to_numpy(dtype=np.float64)
        low = np.nanmin(numbers) if np.isfinite(numbers).any() else 0.0
        scores = np.where(np.isnan(numbers), low - 1.0, numbers)
    area = auc(truth.astype(np.int64), scores)
    return max(area, 1 - area)


def _leakage_warnings(features: pd.DataFrame, labels: NDArray[np.int64]) -> list[str]:
    warnings = []
    for name in features.columns:
        area = single_feature_auc(features[name], labels)
        if area >= 0.98:
            warnings.append(
                f"{name} alone separates landslides from other places (AUC {area:.3f}). It may have been measured on "
                f"the landslides; leave it out with --drop {name} unless it is known before a landslide"
            )
    return warnings


def _repetition_warnings(
    features: pd.DataFrame, labels: NDArray[np.int64], coordinates: NDArray[np.float64] | None
) -> Iterator[str]:
    """Warn about repeated rows, whose copies may be in both training and test folds."""
    content = features.assign(**{"\0label": labels})
    if coordinates is not None:
        content = content.assign(**{"\0x": coordinates[:, 0], "\0y": coordinates[:, 1]})
    if repeated := repeated_rows(content):
        yield (
            f"{repeated:,} of {len(content):,} rows repeat another row, so the same place may be in training and test "
            "folds and scores are too high. Remove the repeated rows"
        )


def repeated_rows(content: pd.DataFrame) -> int:
    """Return the number of repeated rows; 0 if so few that they may be a coincidence."""
    repeated = int(content.duplicated().sum())
    return repeated if repeated >= max(_MAX_REPEATED_SHARE * len(content), 2) else 0


def _far_warnings(coordinates: NDArray[np.float64], rows: NDArray[np.int64]) -> Iterator[str]:
    """Warn about outlying places: one wrong place shifts all blocks, buffers and distances."""
    from zoo.rasters.ground import far_places

    far = far_places(coordinates)
    if far.any():
        away = np.linalg.norm(coordinates - np.median(coordinates, axis=0), axis=1)[far][0] / 1000
        yield (
            f"{int(far.sum())} places lie far from all others, the first in row {int(rows[far][0]) + 1}, "
            f"{away:,.0f} km from the middle. Correct their coordinates, or leave these rows out: "
            "blocks and buffers follow from the extent of all places"
        )


def _contradiction_warnings(
    features: pd.DataFrame,
    labels: NDArray[np.int64],
    coordinates: NDArray[np.float64] | None,
    groups: NDArray[Any] | None,
) -> Iterator[str]:
    """Warn about rows that differ only in their label; a place in several events may have several labels."""
    alike = {"features": features}
    if coordinates is not None:
        place = pd.DataFrame(coordinates)
        alike["coordinates"] = place if groups is None else place.assign(group=groups)
    counts = {}
    for what, content in alike.items():
        keys = pd.util.hash_pandas_object(content, index=False).to_numpy()
        counts[what] = int((pd.Series(labels).groupby(keys).transform("nunique") > 1).sum())
    found = " and ".join(f"{count:,} have the same {what}" for what, count in counts.items() if count)
    if found:
        yield (
            f"of {len(labels):,} rows, {found} as a row with the opposite label, so no model can distinguish them. "
            f"Correct the labels, or add what differs: a feature, the rain, or the event (--group)"
        )


def _place_warnings(names: Sequence[str]) -> Iterator[str]:
    """Warn about features that look like coordinates, from which a model learns where known landslides are."""
    for east, north in ((_LONGITUDE, _LATITUDE), (_EASTING, _NORTHING)):
        pair = [next(filter(pattern.fullmatch, names), None) for pattern in (east, north)]
        if all(pair):
            yield (
                f"{pair[0]} and {pair[1]} look like coordinates and are used as features, so models memorise known "
                f"places. Name them with --coords {pair[0]},{pair[1]}, or leave them out with --drop"
            )
