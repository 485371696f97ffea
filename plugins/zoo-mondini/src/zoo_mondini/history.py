"""Rainfall histories and slopes of a table: found by name, sorted, and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError

Missing: TypeAlias = Literal["refuse", "dry"]
MISSING: tuple[Missing, ...] = ("refuse", "dry")

MAX_RAIN_MM = 2000.0
"""Maximum rain of a step in mm. The record for a day is 1,825 mm (Foc-Foc, La Réunion, 1966; WMO) [S]."""

_LAG = re.compile(r"(?:p|rain)_t-(\d+)", re.IGNORECASE)


def rain_columns(names: Sequence[object]) -> list[str]:
    """Return the columns ``P_t-1``, ``P_t-2`` ... (or ``rain_t-1`` ...) among ``names``, latest first.

    Args:
        names: names of all columns, in any order. Their numbers count time steps backwards, from 0 or 1.

    Raises:
        DataError: if there are no such columns, two have the same step, or a step is missing.
    """
    found: dict[int, str] = {}
    for name in map(str, names):
        match = _LAG.fullmatch(name)
        if match is None:
            continue
        lag = int(match[1])
        if lag in found:
            raise DataError(f"columns {found[lag]!r} and {name!r} are the same hour", hint="Remove one of them")
        found[lag] = name
    if not found:
        raise DataError(
            "no rainfall history among the columns",
            hint="Name the hours before each row P_t-1, P_t-2 and so on, or give their names",
        )
    lags = sorted(found)
    first = min(lags[0], 1)
    absent = sorted(set(range(first, lags[-1] + 1)) - set(lags))
    if absent:
        raise DataError(
            f"the rainfall history ends at step {lags[-1]}, but step {absent[0]} is not among the columns "
            f"({len(absent)} left out)",
            hint="Put it back, of zeros if it was dry",
        )
    return [found[lag] for lag in lags]


def unsupported_reason(table: pd.DataFrame, slope: str | None = "slope") -> str | None:
    """Return why a table cannot be used, in one sentence, or None if it can.

    Args:
        table: a table with one row for each place and time.
        slope: column of the slope; None for no mask.
    """
    try:
        split_table(table, None, slope)
    except (DataError, UnknownNameError) as error:
        return str(error)
    return None


def split_table(
    table: Any, rain: Sequence[str] | None, slope: str | int | None, missing: Missing = "refuse"
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the rainfall histories and slopes of a table.

    Args:
        table: a DataFrame, or an array (N, columns) whose columns except the slope are rain, latest first.
        rain: names of the rain columns of a DataFrame, latest first; None to find them by name.
        slope: name or index of the slope in degrees; None if there is none.
        missing: whether NaN in the rain is an error or a dry step.

    Returns:
        rain float32 (N, T) in mm per step, and slope float32 (N,) in degrees or None.

    Raises:
        DataError: for a table without rain or rows, and for impossible rain or slope; the message names the row.
        UnknownNameError: for a column that does not exist.
        ConfigError: if ``rain`` or ``slope`` does not fit the kind of table.
    """
    if missing not in MISSING:
        raise UnknownNameError("way to handle missing rain", str(missing), MISSING)
    if isinstance(table, pd.DataFrame):
        history, angles, names = _from_frame(table, rain, slope)
    else:
        history, angles, names = _from_array(table, rain, slope)
    if not len(history):
        raise DataError("the table has no rows")
    if missing == "dry":
        history = np.nan_to_num(history, nan=0.0, posinf=np.inf, neginf=-np.inf)
    _check(history, names, 0.0, MAX_RAIN_MM, "mm of rain", "Rain is in mm per step. Missing hours: missing='dry'")
    if angles is not None:
        _check(angles[:, None], [str(slope)], 0.0, 90.0, "degrees of slope", "Slope is in degrees, 0 to 90")
    return history, angles


def _from_frame(
    table: pd.DataFrame, rain: Sequence[str] | None, slope: str | int | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[str]]:
    known = [str(column) for column in table.columns]
    names = rain_columns(known) if rain is None else list(rain)
    if not names:
        raise ConfigError("rain names no column")
    for name in names if slope is None else [*names, slope]:
        if not isinstance(name, str):
            raise ConfigError(f"slope {name!r} is not a column name", hint="A DataFrame has names: slope='slope'")
        if name not in known:
            raise UnknownNameError("column", name, known)
    history = _numbers(table[names], names)
    angles = None if slope is None else _numbers(table[[slope]], [str(slope)])[:, 0]
    return history, angles, names


def _from_array(
    table: Any, rain: Sequence[str] | None, slope: str | int | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[str]]:
    array = np.asarray(table)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(f"expected numbers of shape (rows, steps), got {array.dtype} {array.shape}")
    if rain is not None or isinstance(slope, str):
        raise ConfigError(
            "an array has no column names", hint="Give the slope's index, as in slope=-1, or slope=None without a mask"
        )
    array = array.astype(np.float32)
    width = array.shape[1]
    if slope is None:
        history, angles = array, None
    else:
        if not -width <= slope < width:
            raise ConfigError(f"slope index {slope} is outside the {width} columns")
        history, angles = np.delete(array, slope, axis=1), array[:, slope]
    if not history.shape[1]:
        raise DataError("the array has no column of rain")
    return history, angles, [f"step {step + 1}" for step in range(history.shape[1])]


def _numbers(table: pd.DataFrame, names: list[str]) -> NDArray[np.float32]:
    try:
        return table.to_numpy(dtype=np.float32, na_value=np.nan)
    except (TypeError, ValueError):
        for name in names:
            invalid = ~table[name].map(_is_number) & table[name].notna()
            if invalid.any():
                row = int(np.flatnonzero(invalid)[0])
                raise DataError(
                    f"{table[name].iloc[row]!r} in row {row + 1} is not a number", where=f"column {name!r}"
                ) from None
        raise


def _is_number(value: object) -> bool:
    # pd.to_numeric crashes at exponents beyond its table of powers, such as 1e3084000042.
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _check(values: NDArray[np.float32], names: list[str], low: float, high: float, what: str, hint: str) -> None:
    invalid = ~((values >= low) & (values <= high))
    if invalid.any():
        row, column = (int(index) for index in np.argwhere(invalid)[0])
        raise DataError(
            f"{values[row, column]:g} {what} in row {row + 1} ({int(invalid.sum())} such values)",
            where=f"column {names[column]!r}",
            hint=hint,
        )
