"""Patch files of Sen12Landslides, read with h5py: NetCDF-4 is HDF5 with named dimensions."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

_AGAIN = "Copy or unpack it again"
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SINCE = re.compile(r"(second|minute|hour|day)s? since (\d{4}-\d{1,2}-\d{1,2})(?:[T ](\d{1,2}:\d{2}(?::\d{2})?))?")


@dataclass(frozen=True)
class Header:
    """What a patch file says about itself, without its pixels.

    Attributes:
        times: ISO dates of the acquisitions, ascending.
        order: position in the file of each of ``times``.
        events: ISO dates of the events whose landslides are in the mask, ascending, each once.
        annotated: landslides are mapped here.
        undated: a mapped landslide has no date.
        x: smallest x coordinate of the patch, metres in ``crs``; None when the file has none.
        y: largest y coordinate, likewise.
        step: side of a pixel in metres; None likewise.
        crs: "EPSG:32632", "" when the file does not say.
    """

    times: tuple[str, ...]
    order: tuple[int, ...]
    events: tuple[str, ...]
    annotated: bool
    undated: bool
    x: float | None
    y: float | None
    step: float | None
    crs: str


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open a patch file for reading.

    Raises:
        DataError: if the file is missing, truncated or no NetCDF-4, or turns out to be while it is read.
    """
    if not Path(path).is_file():
        raise DataError("the file is missing", where=path, hint=_AGAIN)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DataError(
            "cannot be read as NetCDF-4: it is truncated or not what its name says", where=path, hint=_AGAIN
        ) from error


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read dates, events and place of a patch.

    Raises:
        DataError: as :func:`opened`; if the file has no times, or dates that are none.
    """
    with opened(path) as file:
        times = _times(file, path)
        order = np.argsort(times, kind="stable")
        dates = [part.strip() for part in _text(file, "event_date").split(",") if part.strip()]
        events = sorted({_event(part, path) for part in dates if part != "None"})
        annotated = _text(file, "annotated") == "True"
        x, y = _coordinate(file, "x"), _coordinate(file, "y")
        return Header(
            times=tuple(str(times[index].astype("datetime64[D]")) for index in order),
            order=tuple(int(index) for index in order),
            events=tuple(events),
            annotated=annotated,
            undated="None" in dates or (annotated and not events),
            x=None if x is None else float(x.min()),
            y=None if y is None else float(y.max()),
            step=None if x is None else float(abs(x[-1] - x[0]) / (len(x) - 1)),
            crs=_text(file, "crs"),
        )


def read_layer(file: h5py.File, name: str, time: int) -> NDArray[np.float32]:
    """Read one variable at one time.

    The order of the dimensions is taken from their names: the authors' code writes (time, y, x), their documentation
    prints (time, x, y). Fill values become NaN; ``scale_factor`` and ``add_offset`` are applied where there are any.

    Args:
        file: an open patch file.
        name: of the variable.
        time: position along the time dimension, as in the file.

    Returns:
        float32 (y, x), rows as the y coordinate runs.

    Raises:
        DataError: if the variable is missing or lies on other dimensions.
    """
    variable = _variable(file, name)
    axes = _axes(variable)
    if sorted(axes) != ["time", "x", "y"]:
        raise DataError(
            f"variable {name!r} lies on ({', '.join(axes)}), not on time, y and x", where=file.filename, hint=_AGAIN
        )
    raw = variable[tuple(time if axis == "time" else slice(None) for axis in axes)]
    layer = np.asarray(raw, dtype=np.float32)
    for key in ("_FillValue", "missing_value"):
        if key in variable.attrs:
            layer[np.isin(raw, np.atleast_1d(variable.attrs[key]))] = np.nan
    layer = layer * _number(variable, "scale_factor", 1.0) + _number(variable, "add_offset", 0.0)
    return layer if axes.index("y") < axes.index("x") else np.ascontiguousarray(layer.T)


def read_mask(file: h5py.File, times: int) -> NDArray[np.uint8]:
    """Read the mask, which is the same at every time.

    Args:
        file: an open patch file.
        times: how many there are.

    Returns:
        uint8 (y, x) of 0 and 1.

    Raises:
        DataError: if the mask is missing, changes with time or holds other values.
    """
    first = read_layer(file, "MASK", 0)
    odd = sorted(set(np.unique(first).tolist()) - {0.0, 1.0})
    if odd:
        raise DataError(f"the mask holds {odd[0]:g}, and not only 0 and 1", where=file.filename, hint=_AGAIN)
    for time in range(1, times):
        if not np.array_equal(first, read_layer(file, "MASK", time)):
            raise DataError(
                f"the mask at time {time} differs from that at time 0; as published it is one for all dates",
                where=file.filename,
                hint=_AGAIN,
            )
    return first.astype(np.uint8)


def check_times(headers: dict[str, Header]) -> int:
    """Give the number of dates that all patches have.

    Raises:
        DataError: if they differ, naming a patch with another number than most.
    """
    counts = Counter(len(header.times) for header in headers.values())
    usual = max(counts, key=lambda count: (counts[count], count))
    for name, header in headers.items():
        if len(header.times) != usual:
            raise DataError(
                f"has {len(header.times)} dates, and most patches have {usual}; all dates cannot be stacked",
                where=name,
                hint="Choose dates=post, pre or pre_post, or take the patch out of the folder",
            )
    return usual


def _variable(file: h5py.File, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = ", ".join(sorted(file)) or "nothing"
        raise DataError(f"holds no variable {name!r}", where=file.filename, hint=f"It holds {there}")
    return found


def _axes(variable: h5py.Dataset) -> list[str]:
    return [dim[0].name.rsplit("/", 1)[-1] if len(dim) else dim.label or "unnamed" for dim in variable.dims]


def _times(file: h5py.File, path: str | os.PathLike[str]) -> NDArray[np.datetime64]:
    variable = _variable(file, "time")
    units = _attribute(variable.attrs.get("units"))
    found = _SINCE.match(units)
    if found is None or variable.ndim != 1 or not len(variable):
        raise DataError(f"the times are no dates (units {units!r})", where=path, hint=_AGAIN)
    year, month, day = (int(part) for part in found[2].split("-"))
    clock = [int(part) for part in (found[3] or "0:0").split(":")]
    start = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "s") + np.timedelta64(
        clock[0] * 3600 + clock[1] * 60, "s"
    )
    seconds = np.round(np.asarray(variable[:], dtype=np.float64) * _UNITS[found[1]])
    if not np.isfinite(seconds).all():
        raise DataError("a time is missing", where=path, hint=_AGAIN)
    return np.asarray(start + seconds.astype("timedelta64[s]"))


def _event(text: str, path: str | os.PathLike[str]) -> str:
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError as error:
        raise DataError(f"attribute event_date is {text!r}, which is no date", where=path, hint=_AGAIN) from error


def _coordinate(file: h5py.File, name: str) -> NDArray[np.float64] | None:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or len(found) < 2:
        return None
    return np.asarray(found[:], dtype=np.float64)


def _text(file: h5py.File, key: str) -> str:
    return _attribute(file.attrs.get(key))


def _attribute(value: Any) -> str:
    """Text attributes come as str, bytes, arrays of one, or empty, as the library that wrote them has it."""
    if value is None or isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()


def _number(variable: h5py.Dataset, key: str, default: float) -> np.float32:
    value = variable.attrs.get(key, default)
    return np.float32(np.asarray(value).reshape(-1)[0])
