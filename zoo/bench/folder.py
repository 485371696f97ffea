"""A results folder belongs to one benchmark, and to one process at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.bench.results import FOLDER
from zoo.errors import ResultError
from zoo.files import check_could_write, check_writable_folder, write_json_atomic

DESCRIPTION = "benchmark.json"
LOCK = ".lock"


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that holds the results of another benchmark.

    Args:
        folder: need not exist, and is not made.
        name: of the configuration; empty for trials that flags ask for.

    Raises:
        ZooError: if it holds something else, or cannot be written to.
    """
    check_could_write(folder)
    held = _name_of(folder)
    if held in (name, None):
        return
    what = f"the results of {held!r}" if held else "results of trials without a configuration"
    raise ResultError(f"holds {what}", where=folder, hint="Name another --out, or delete the folder")


@contextmanager
def claimed(folder: Path, about: dict[str, Any]) -> Iterator[None]:
    """Hold a results folder while trials run: described, and locked until this process ends, however it ends.

    Args:
        folder: of the results.
        about: the benchmark as plain JSON values, its ``name`` among them.

    Raises:
        ZooError: if it holds another benchmark, cannot be written to, or another process is at work there.
    """
    check_folder(folder, about["name"])
    check_writable_folder(folder)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle, folder)
        if about["name"]:
            write_json_atomic(folder / DESCRIPTION, about)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultError(
            "another zoo bench is at work here", where=folder, hint="Wait until it is done, or name another --out"
        ) from None
    except OSError:
        # Some network file systems know no locks; a benchmark there is not worth refusing.
        return


def _name_of(folder: Path) -> str | None:
    """Of the benchmark whose results a folder holds: empty for flags alone, ``None`` where it holds none."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return str(content["name"])
    except FileNotFoundError:
        return "" if any((folder / FOLDER).glob("*.json")) else None
    except (OSError, ValueError, KeyError, TypeError):
        return "?"
