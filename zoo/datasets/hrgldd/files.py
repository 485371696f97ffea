"""Where the arrays of HR-GLDD are, and how a patch is read from one without reading the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from zoo.datasets.download import RemoteFile
from zoo.errors import DataError

SOURCE = "https://zenodo.org/records/7189381"
SPLITS = ("train", "val", "test")
PUBLISHED = {"train": 1119, "val": 284, "test": 355}
"""Patches of each split in the published arrays [S]."""
SIZE = 128
BANDS = 4
# The record's page gives an MD5 for each file; none could be looked up.
_NAMES = tuple(f"{split}{kind}" for split in SPLITS for kind in "XY")
FILES = {name: RemoteFile(f"{SOURCE}/files/{name}.npy", f"{name}.npy") for name in _NAMES}


def check_array(path: Path, shape: tuple[int | None, ...]) -> int:
    """Look at the head of an array, and at the length of its file.

    Args:
        path: an npy file.
        shape: expected; None for an axis of any length. A last axis of length 1 may be missing.

    Returns:
        Length of the first axis.

    Raises:
        DataError: if the file is damaged, holds Python objects or something that is no number, or is of another shape.
    """
    try:
        with path.open("rb") as handle:
            version = npy.read_magic(handle)
            if version not in {(1, 0), (2, 0)}:
                raise ValueError(f"version {version} of the format")
            head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            found, _, dtype = head(handle)
            begin = handle.tell()
        size = path.stat().st_size
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"this is no npy file ({error})", where=path, hint=f"Get it anew from {SOURCE}") from error
    if dtype.hasobject:
        raise DataError(
            "this file holds Python objects, which are never loaded: they could run any code",
            where=path,
            hint=f"Get it anew from {SOURCE}",
        )
    if dtype.kind not in "fiub":
        raise DataError(f"this array holds {dtype}, not numbers", where=path)
    full = (*found, 1) if len(found) == len(shape) - 1 and shape[-1] == 1 else found
    if len(full) != len(shape) or any(want not in (None, have) for have, want in zip(full, shape, strict=True)):
        raise DataError(
            f"this array is {_words(found)} instead of {_words(shape)}",
            where=path,
            hint="Rows are patches, then height, width and bands",
        )
    needed = begin + int(np.prod(found, dtype=np.int64)) * dtype.itemsize
    if size < needed:
        raise DataError(f"the file ends early: {size} of {needed} bytes", where=path, hint=f"Get it anew from {SOURCE}")
    return found[0]


def read_row(path: Path, index: int) -> NDArray[Any]:
    """Read one row of an array; nothing else of the file is read.

    Raises:
        DataError: if the file has changed since it was checked.
    """
    try:
        # Opened anew each time: a map is copied whole when a data loader sends the data set to its workers.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index])
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise DataError(f"row {index} cannot be read ({error})", where=path) from error


def _words(shape: tuple[int | None, ...]) -> str:
    return " x ".join("N" if length is None else str(length) for length in shape) or "a single value"
