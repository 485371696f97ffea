"""Content digests of files, computed once and remembered as long as the file system says that nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from zoo.errors import DataError, ZooError
from zoo.files import cache_folder, write_text_atomic

_Stamp: TypeAlias = tuple[int, int, int, int]

_SETTLED_NS = 2 * 10**9
"""A file that changed within this time of being read may change again without a new time stamp: the coarsest file
systems count in two seconds. Git calls such an entry racy, and does not trust it either."""


def digest_files(paths: Iterable[Path], progress: Callable[[int, int], None] | None = None) -> dict[Path, str]:
    """Give the sha256 of the bytes of each file.

    A digest is remembered with the file's size, inode, and times of change of content and of status; the last is set by
    the kernel alone, so that a file written anew in place, even with its old times put back, is read again.

    Args:
        paths: files; one that occurs twice is read once.
        progress: called with the number of files done and of all.

    Returns:
        Hexadecimal digests by path.

    Raises:
        DataError: for a file that cannot be read.
    """
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return {}
    memory = _memory_file(wanted)
    known = _recall(memory)
    digests: dict[Path, str] = {}
    unknown: list[Path] = []
    for path in wanted:
        entry = known.get(str(path))
        if entry is not None and entry[0] == _stamp(path):
            digests[path] = entry[1]
        else:
            unknown.append(path)
    if unknown:
        began = time.time_ns()
        stamps = {path: _stamp(path) for path in unknown}
        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            for done, (path, digest) in enumerate(zip(unknown, pool.map(_sha256, unknown), strict=True), 1):
                digests[path] = digest
                if progress is not None:
                    progress(len(wanted) - len(unknown) + done, len(wanted))
        settled = {
            str(path): (stamp, digests[path])
            for path, stamp in stamps.items()
            if max(stamp[1], stamp[2]) < began - _SETTLED_NS and stamp == _stamp(path)
        }
        if settled:
            _remember(memory, {**known, **settled})
    return {path: digests[path] for path in wanted}


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _memory_file(paths: list[Path]) -> Path:
    folder = os.path.commonpath([path.resolve().parent for path in paths])
    return cache_folder("digests") / f"{hashlib.sha256(folder.encode()).hexdigest()[:16]}.json"


def _recall(memory: Path) -> dict[str, tuple[_Stamp, str]]:
    try:
        entries = json.loads(memory.read_text(encoding="utf-8"))
        return {path: (_as_stamp(stamp), str(digest)) for path, (stamp, digest) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # What was remembered is only a saving of time.
        return {}


def _as_stamp(values: list[int]) -> _Stamp:
    size, modified, changed, inode = values
    return int(size), int(modified), int(changed), int(inode)


def _remember(memory: Path, entries: dict[str, tuple[_Stamp, str]]) -> None:
    try:
        write_text_atomic(memory, json.dumps(entries))
    except ZooError:
        # A cache folder that cannot be written to costs time at the next opening, and nothing else.
        return


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path)
