"""A folder that is either whole or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ConfigError
from zoo.files import unwritable

MARK = "patches.json"
"""The file by which a folder is known as ours, so that no other is ever replaced."""


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it into place when the block ends without an error.

    On an error, Ctrl-C included, the temporary folder is removed and ``path`` is untouched.

    Args:
        path: the folder to make; an empty one may exist.
        overwrite: replace a folder that this function's caller made before, told by :data:`MARK`.

    Raises:
        ConfigError: if ``path`` exists and may not be replaced.
        ZooError: if the folder cannot be written, or the disk is full.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that is to be replaced
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        _put(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, before hours of work are spent on it.

    Raises:
        ConfigError: if ``path`` exists and may not be replaced.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError("is a file, and a folder is to be written", where=path)
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise ConfigError("exists already", where=path, hint="Name another folder, or replace it with --overwrite")
    if not (path / MARK).is_file():
        raise ConfigError(
            f"was not made by zoo patches (it has no {MARK}), so it is not replaced",
            where=path,
            hint="Name another folder, or remove it yourself",
        )


def _put(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = temporary.with_name(f"{temporary.name}-old")
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
