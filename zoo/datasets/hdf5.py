"""Read arrays from untrusted HDF5 and NetCDF-4 files: limited in size, and only from the file itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import shape_text
from zoo.errors import DataError, ZooError

COPY_HINT = "Copy or unpack it again"
MAX_BYTES = 2**31
"""Maximum size in bytes of an array [O]; the largest published one, 15 dates of one band, takes 0.5 MB."""
_DAMAGE_ERRORS = (
    *(OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError),
    *(ArithmeticError, EOFError, MemoryError, NotImplementedError),
)
"""Exceptions that h5py raises for damaged files, depending on where the damage is."""


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 or NetCDF-4 file for reading.

    Raises:
        DataError: if the file is missing, truncated, damaged or of another format, including damage found while it is
            read within the block.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("the file is missing", where=path, hint=COPY_HINT)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except ZooError:
        raise
    except _DAMAGE_ERRORS as error:
        raise DataError(
            "cannot be read as HDF5: the file is truncated, damaged or of another format", where=path, hint=COPY_HINT
        ) from error


def find_array(file: h5py.File, key: str, *, what: str = "array") -> h5py.Dataset:
    """Return an array of a file without reading it.

    HDF5 arrays can refer to data in other files. Such arrays are refused, because their data are not in the file.

    Args:
        file: the open file.
        key: name of the array.
        what: "array" or "variable", for messages.

    Raises:
        DataError: if there is no such array, its data are in another file, or it holds no numbers or too many.
    """
    place: Any = file
    for part in key.strip("/").split("/"):
        if not isinstance(place, h5py.Group):
            place = None
            break
        if isinstance(place.get(part, getlink=True), h5py.ExternalLink):
            raise _refuse_other_file(file, key, what)
        place = place.get(part)
    if not isinstance(place, h5py.Dataset):
        if place is not None:
            raise DataError(f"{key!r} is a group, not a list of numbers", where=file.filename, hint=COPY_HINT)
        names = ", ".join(sorted(file)[:20]) or "nothing"
        raise DataError(f"has no {what} {key!r}", where=file.filename, hint=f"It holds {names}")
    if place.is_virtual or place.external or place.file.filename != file.filename:
        raise _refuse_other_file(file, key, what)
    if place.dtype.kind not in "biuf":
        raise DataError(f"{what} {key!r} contains {place.dtype} values, not real numbers", where=file.filename)
    size = max(math.prod(place.shape or ()), math.prod(place.chunks or ())) * place.dtype.itemsize
    if size > MAX_BYTES:
        raise DataError(f"{what} {key!r} claims {size / 2**30:.3g} GiB, too much for a patch", where=file.filename)
    # HDF5 decompresses whole chunks. One pass of deflate expands to at most 1,032 bytes per byte.
    layout = place.id.get_create_plist()
    filters = [layout.get_filter(number)[0] for number in range(layout.get_nfilters())]
    if place.id.get_storage_size() > 2 * size + 2**20 or len(set(filters)) < len(filters):
        raise DataError(f"{what} {key!r} is packed like a decompression bomb", where=file.filename, hint=COPY_HINT)
    return place


def read_array(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read an array that must have the given shape.

    Raises:
        DataError: as :func:`open_hdf5` and :func:`find_array`, or if the shape differs.
    """
    with open_hdf5(path) as file:
        array = find_array(file, key)
        if array.shape != shape:
            raise DataError(f"array {key!r} is {shape_text(array.shape)} instead of {shape_text(shape)}", where=path)
        return np.asarray(array[...])


def _refuse_other_file(file: h5py.File, key: str, what: str) -> DataError:
    return DataError(
        f"{what} {key!r} points to another file, which is not followed",
        where=file.filename,
        hint="Write the values into the file itself",
    )
