"""Tables of places with and without landslides: read, checked, and told what is doubtful about them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from zoo.errors import ConfigError, DataError, UnknownNameError

MISSING_CODES: tuple[float, ...] = (-9999.0, -99999.0, -32768.0)
"""Numbers that stand for "not measured" when no smaller number is near them; named whenever they are found."""

_TRUE = {"1", "1.0", "true", "t", "yes", "y", "landslide", "presence"}
_FALSE = {"0", "0.0", "false", "f", "no", "n", "none", "absence"}
_FEW = 20
"""A whole-number column with at most this many values, whose name says so, is a set of classes."""
_HISTORY = re.compile(r"P_t-\d+")
"""Rain of so many steps ago; a step that was dry everywhere is still a step of the history."""
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


@dataclass(frozen=True)
class RiskTable:
    """Places as rows, with features, a label and, where known, coordinates and groups.

    Attributes:
        features: one column a feature; numbers are float64 with NaN where missing, classes are of category dtype.
        labels: int64 (N,), 1 where there is a landslide.
        coordinates: float64 (N, 2), x and y in metres; None when unknown.
        groups: region or event of each row, (N,); None when unknown.
        notes: what was found and decided while reading, in words.
        doubts: what makes a result on this table doubtful, in words.
    """

    features: pd.DataFrame
    labels: NDArray[np.int64]
    coordinates: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    notes: tuple[str, ...] = field(default=())
    doubts: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)


def read_table(
    path: str | os.PathLike[str],
    label: str,
    *,
    drop: Sequence[str] = (),
    coords: tuple[str, str] | None = None,
    group: str | None = None,
    categorical: Sequence[str] | None = None,
    missing: Sequence[float] = MISSING_CODES,
) -> RiskTable:
    """Read a table of places.

    Args:
        path: CSV, Parquet, XLSX, or any vector file of points or polygons (GeoPackage, Shapefile, GeoJSON).
        label: column that says where a landslide is: 0 and 1, true and false, yes and no.
        drop: columns that are no features.
        coords: columns with x and y, metres or degrees; a vector file has them in its geometry.
        group: column with the region or event.
        categorical: columns that hold classes; None for texts, and whole numbers under a name such as "litho".
        missing: numbers that stand for a missing value.

    Raises:
        DataError: if the file is missing, damaged or empty, the label is not binary or has one class only, a column
            holds infinities, or no feature is left.
        UnknownNameError: for a column that does not exist, with the nearest names.
        ConfigError: for a file of another kind.
    """
    path = Path(path)
    frame, geometry = _load(path)
    if frame.empty:
        raise DataError("holds no rows", where=path)
    columns = [str(column) for column in frame.columns]
    frame.columns = pd.Index(columns)
    repeated = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    if repeated:
        raise DataError(f"two columns are named {repeated[0]!r}", where=path, hint="Rename one of them")
    for name in (label, *drop, *(coords or ()), *([group] if group else ()), *(categorical or ())):
        if name not in columns:
            raise UnknownNameError("column", name, columns, where=path)
    notes: list[str] = []
    labels, kept = _labels(frame[label], path, label, notes)
    frame = frame.loc[kept].reset_index(drop=True)
    if geometry is not None:
        geometry = geometry[kept]
    coordinates = _coordinates(frame, coords, geometry, path, notes)
    groups = None if group is None else _groups(frame[group], group, notes)
    used = {label, *drop, *(coords or ()), *([group] if group else ())}
    features = _features(frame[[name for name in columns if name not in used]], categorical, missing, path, notes)
    return RiskTable(features, labels, coordinates, groups, tuple(notes), tuple(_suspicious(features, labels)))


def _load(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64] | None]:
    if not path.exists():
        raise DataError("there is no such file", where=path)
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_text,
        ".txt": _read_text,
        ".parquet": pd.read_parquet,
        ".xlsx": pd.read_excel,
    }
    if suffix not in readers and suffix not in _VECTOR:
        raise ConfigError(
            f"tables of kind {suffix or 'without a suffix'!r} cannot be read",
            where=path,
            hint="Use .csv, .parquet, .xlsx, .gpkg, .shp or .geojson",
        )
    try:
        return _load_vector(path) if suffix in _VECTOR else (readers[suffix](path), None)
    except ImportError as error:
        raise ConfigError(
            f"reading it needs {error.name}", where=path, hint="Install it: pip install 'landslide-zoo[risk]'"
        ) from error
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            "cannot be read as a table: it is empty, truncated or not what its name says",
            where=path,
            hint=f"Save it again ({reason})",
        ) from error


def _read_text(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
    # Excel writes semicolons wherever the comma is the decimal sign.
    separator = max(",;\t|", key=head.count)
    table: pd.DataFrame = pd.read_csv(
        path, sep=separator, decimal="," if separator == ";" else ".", encoding="utf-8-sig"
    )
    return table


def _load_vector(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64] | None]:
    from zoo.rasters.vectors import read_features

    return read_features(path)


def _labels(values: pd.Series, path: Path, name: str, notes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    words = values.astype(str).str.strip().str.lower()
    empty = (values.isna() | words.isin(["", "nan", "na"])).to_numpy()
    true, false = words.isin(_TRUE).to_numpy() & ~empty, words.isin(_FALSE).to_numpy() & ~empty
    strange = ~(true | false | empty)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        kinds = int(words[~empty].nunique())
        raise DataError(
            f"label {str(values.iloc[row])!r} in row {row + 1} is neither yes nor no; the column has {kinds} values",
            where=f"{path}, column {name!r}",
            hint="A label is 0 or 1, true or false, yes or no",
        )
    if empty.all():
        raise DataError("no row has a label", where=f"{path}, column {name!r}", hint="A label is 0 or 1, yes or no")
    if not true.any() or not false.any():
        which = "landslide" if true.any() else "place without one"
        raise DataError(
            f"every row is a {which}: nothing can be told apart",
            where=f"{path}, column {name!r}",
            hint="A table needs places with and without landslides",
        )
    if empty.any():
        notes.append(f"{int(empty.sum())} rows without a label left out")
    kept = ~empty
    return true[kept].astype(np.int64), kept


def _groups(values: pd.Series, name: str, notes: list[str]) -> NDArray[Any]:
    unknown = int(values.isna().sum())
    if unknown:
        notes.append(f"{unknown:,} rows without {name} are one group of their own")
    return np.asarray(values.astype(str))


def _coordinates(
    frame: pd.DataFrame,
    coords: tuple[str, str] | None,
    geometry: NDArray[np.float64] | None,
    path: Path,
    notes: list[str],
) -> NDArray[np.float64] | None:
    if coords is None:
        return geometry
    if coords[0] == coords[1]:
        raise ConfigError(f"x and y are both column {coords[0]!r}", where="option coords", hint="Write them as X,Y")
    columns = []
    for name in coords:
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(numbers)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"coordinate {str(frame[name].iloc[row])!r} in row {row + 1} is no number",
                where=f"{path}, column {name!r}",
                hint="Leave such rows out, or give other columns with --coords",
            )
        columns.append(numbers)
    x, y = columns
    if np.abs(x).max() <= 180 and np.abs(y).max() <= 90:
        # Equirectangular about the middle: within a region of some hundred kilometres it keeps distances to a percent.
        notes.append(f"{coords[0]} and {coords[1]} are taken for degrees, and distances are computed in metres")
        middle = np.radians((y.min() + y.max()) / 2)
        x, y = np.radians(x) * np.cos(middle) * 6_371_009.0, np.radians(y) * 6_371_009.0
    return np.column_stack([x, y])


def _features(
    frame: pd.DataFrame, categorical: Sequence[str] | None, missing: Sequence[float], path: Path, notes: list[str]
) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if _is_categorical(name, values, categorical):
            classes = _classes(values, missing)
            kinds = [str(kind) for kind in classes.cat.categories]
            if len(kinds) < 2:
                notes.append(f"{name}: left out, it is {f'{kinds[0]} everywhere' if kinds else 'empty'}")
                continue
            columns[name] = classes
            notes.append(f"{name}: {len(kinds)} classes")
            continue
        numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
        words = int((numbers.isna() & values.notna()).sum())
        if words:
            notes.append(f"{name}: {words} values that are no numbers are missing ones")
        numbers = _without_codes(name, numbers, missing, notes)
        infinite = np.isinf(numbers.to_numpy())
        if infinite.any():
            raise DataError(
                f"holds an infinity in row {int(np.flatnonzero(infinite)[0]) + 1}",
                where=f"{path}, column {name!r}",
                hint="Mark missing values as empty, or leave the column out with --drop",
            )
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
        raise DataError("no feature is left", where=path, hint="A feature is a column of numbers or classes that vary")
    return pd.DataFrame(columns)


def _is_categorical(name: str, values: pd.Series, categorical: Sequence[str] | None) -> bool:
    if categorical is not None:
        return name in categorical
    if is_bool_dtype(values):
        return False
    if not is_numeric_dtype(values):
        return bool(pd.to_numeric(values, errors="coerce").notna().sum() < 0.5 * values.notna().sum())
    known = values.dropna()
    whole = bool((known == known.round()).all())
    named = any(word in name.lower() for word in _CLASS_WORDS)
    return whole and named and known.nunique() <= _FEW


def _classes(values: pd.Series, missing: Sequence[float]) -> Any:
    if is_numeric_dtype(values):
        kept = values.where(~values.isin(list(missing)))
        return kept.map(lambda value: f"{value:g}", na_action="ignore").astype("category")
    return values.map(lambda value: str(value).strip(), na_action="ignore").astype("category")


def _without_codes(name: str, numbers: pd.Series, missing: Sequence[float], notes: list[str]) -> pd.Series:
    for code in missing:
        coded = numbers == code
        if not coded.any():
            continue
        others = numbers[~coded].dropna()
        # A code is far from everything measured; -9999 among values down to -12,000 may be one of them.
        if not others.empty and others.min() <= code <= others.max():
            notes.append(f"{name}: {int(coded.sum())} values of {code:g} are kept, since others lie on both sides")
            continue
        notes.append(f"{name}: {int(coded.sum())} values of {code:g} are missing ones")
        numbers = numbers.where(~coded)
    return numbers


def _suspicious(features: pd.DataFrame, labels: NDArray[np.int64]) -> list[str]:
    from zoo.risk.leakage import single_feature_auc

    doubts = []
    for name in features.columns:
        auc = single_feature_auc(features[name], labels)
        if auc >= 0.98:
            doubts.append(
                f"{name} alone tells landslides from the rest (AUC {auc:.3f}): it may have been measured on them. "
                f"Leave it out with --drop {name} unless it is known before a landslide"
            )
    return doubts
