"""Read untrusted NPY files: limited by the size of the file, and without evaluating Python code.

``numpy.load`` parses the header of a file as a Python literal. In CPython 3.11 that fails at random when several
threads do it at once ("AST constructor recursion depth mismatch"), and a damaged header raises errors of many types.
The header of a plain array is simple enough for three regular expressions.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import shape_text
from zoo.errors import DataError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000
_DTYPE = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?[a-zA-Z]\d{0,4}(?:\[\w{1,4}\])?)['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d,\s]*)\)""")


@dataclass(frozen=True)
class NpyHeader:
    """Layout of the array in an NPY file.

    Attributes:
        shape: lengths of the axes.
        dtype: boolean, integer or real floating-point type.
        fortran_order: whether the first axis varies fastest.
        offset: position of the first value in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


def read_npy_header(path: str | os.PathLike[str], *, hint: str = "Copy it again") -> NpyHeader:
    """Read the header of an NPY file and check the length of the file.

    Args:
        path: the file.
        hint: what to do about a damaged file.

    Raises:
        DataError: if the file is missing, truncated, of another format, or contains no numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("the file is missing", where=path, hint=hint)
    try:
        with path.open("rb") as file:
            start = file.read(12)
            length, begin = int.from_bytes(start[8:10], "little"), 10
            if start[6:7] in (b"\x02", b"\x03"):
                length, begin = int.from_bytes(start[8:12], "little"), 12
            file.seek(begin)
            text = file.read(min(length, _MAX_HEADER_BYTES))
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path) from error
    if not start.startswith(_MAGIC):
        raise _format_error(start, path, hint)
    header = text.decode("latin-1").strip()
    dtype, order, shape = (pattern.search(header) for pattern in (_DTYPE, _ORDER, _SHAPE))
    inside = "" if shape is None else shape[1].strip().removesuffix(",")
    sides = [side.strip() for side in inside.split(",")] if inside else []
    complete = len(text) == length and header.startswith("{") and header.endswith("}")
    if not complete or order is None or shape is None or not all(side.isdecimal() and len(side) < 20 for side in sides):
        raise DataError("is truncated or not an NPY file (its header is damaged)", where=path, hint=hint)
    try:
        kind = None if dtype is None else np.dtype(dtype[1])
    except (TypeError, ValueError):
        kind = None
    if kind is not None and kind.hasobject:
        raise _format_error(b"\x80", path, hint)
    if kind is None or kind.kind not in "biuf":
        raise DataError(f"contains {'other' if kind is None else kind} values, not real numbers", where=path)
    found = NpyHeader(tuple(int(side) for side in sides), kind, order[1] == "True", begin + length)
    needed = found.offset + math.prod(found.shape) * kind.itemsize
    if size < needed:
        raise DataError(
            f"is truncated: it has {size} of {needed} bytes for {shape_text(found.shape)} {kind} values",
            where=path,
            hint=hint,
        )
    return found


def map_npy(path: str | os.PathLike[str], header: NpyHeader) -> NDArray[Any]:
    """Map an NPY file into memory, read-only.

    Raises:
        DataError: if the file has become shorter since its header was read.
    """
    order: Any = "F" if header.fortran_order else "C"
    if not math.prod(header.shape):
        return np.empty(header.shape, header.dtype)
    try:
        # A map always has at least one axis, so a single value is reshaped.
        return np.memmap(path, header.dtype, "r", header.offset, header.shape, order).reshape(header.shape, order=order)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, hint="The file changed while it was in use") from error


def read_npy(path: str | os.PathLike[str], *, hint: str = "Copy it again") -> NDArray[Any]:
    """Read a whole NPY file.

    Raises:
        DataError: as :func:`read_npy_header`.
    """
    return np.array(map_npy(path, read_npy_header(path, hint=hint)))


def _format_error(start: bytes, path: Path, hint: str) -> DataError:
    if start.startswith(b"PK"):
        return DataError("is an NPZ archive with the suffix of an NPY file", where=path)
    if start.startswith(b"\x80"):
        return DataError(
            "contains Python objects (pickle), which are not loaded because they can run code",
            where=path,
            hint="Save it again as a plain array: np.save(path, array.astype('float32'))",
        )
    return DataError("is truncated or not an NPY file", where=path, hint=hint)
