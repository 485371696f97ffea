"""Headers of thousands of patch files, kept so that only new and changed files are opened again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.datasets.sen12landslides.netcdf import Header, read_header
from zoo.errors import DataError, ZooError
from zoo.files import cache_folder, write_json_atomic

_VERSION = 1


def read_headers(files: Mapping[str, Path], progress: Callable[[int, int], None] | None = None) -> dict[str, Header]:
    """Read the header of each file.

    What was read is kept in zoo's cache folder, keyed by the name, size and time of change of each file.

    Args:
        files: files by patch name.
        progress: called with the number of files opened and of those to open.

    Raises:
        DataError: naming the file that is damaged or gone.
    """
    place = _place(files)
    known = _load(place)
    headers: dict[str, Header] = {}
    entries: dict[str, Any] = {}
    todo = []
    for name, path in files.items():
        try:
            state = path.stat()
        except OSError as error:
            raise DataError("the file is missing", where=path, hint="Copy or unpack it again") from error
        stamp = [str(path), state.st_size, state.st_mtime_ns]
        entry = known.get(name)
        if entry is not None and entry["stamp"] == stamp:
            headers[name] = _header(entry["header"])
            entries[name] = entry
        else:
            todo.append((name, path, stamp))
    for done, (name, path, stamp) in enumerate(todo, start=1):
        headers[name] = read_header(path)
        entries[name] = {"stamp": stamp, "header": asdict(headers[name])}
        if progress is not None:
            progress(done, len(todo))
    if todo:
        # A cache folder that cannot be written to costs time at the next opening, and nothing else.
        with suppress(ZooError):
            write_json_atomic(place, {"version": _VERSION, "patches": entries})
    return {name: headers[name] for name in files}


def _place(files: Mapping[str, Path]) -> Path:
    folders = sorted({str(path.parent.resolve()) for path in files.values()})
    key = hashlib.sha256("\n".join(folders).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return cache_folder("datasets") / "headers" / f"sen12landslides-{key}.json"


def _load(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        known: dict[str, Any] = found["patches"] if found["version"] == _VERSION else {}
        for entry in known.values():
            _header(entry["header"]), entry["stamp"]
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _header(values: Mapping[str, Any]) -> Header:
    lists = {key: tuple(values[key]) for key in ("times", "order", "events")}
    return Header(**{**values, **lists})
