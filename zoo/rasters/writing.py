"""What goes wrong while GDAL writes, said in one sentence with the room that is left."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from zoo.files import unwritable
from zoo.rasters.reading import first_line


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what GDAL and the system raise inside into a ``ZooError`` about ``path``.

    Raises:
        ZooError: with GDAL's reason and the free space beside ``path``.
    """
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise unwritable(path, f"{reason}; {as_bytes(free_space(path.parent))} are free") from error


def working_folder(path: Path, within: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder on the disk of ``path``, so that what is made in it can be renamed into place.

    Args:
        path: of the file to come.
        within: a folder on the same disk to make it in; None for beside ``path``.

    Raises:
        ZooError: if it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=within or path.parent, prefix=f".{path.stem}-")
    except OSError as error:
        raise unwritable(path, error) from error


def check_room(path: Path, needed: float, folder: Path) -> None:
    """Refuse to begin what will not fit.

    Args:
        path: of the file to come, for the error.
        needed: bytes while it is made.
        folder: where it is made.

    Raises:
        ZooError: if fewer bytes are free there.
    """
    free = free_space(folder)
    if free < needed:
        raise unwritable(path, f"it needs about {as_bytes(needed)} while it is made, {as_bytes(free)} are free")


def free_space(folder: Path) -> int:
    """Bytes that are free where ``folder`` lies."""
    return shutil.disk_usage(folder).free


def as_bytes(count: float) -> str:
    """Bytes for people: ``1.2 GB``, ``34 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
