"""Decoded patches kept on disk and mapped into memory, keyed by the content of the files they come from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import DataWarning
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


Decode = Callable[[int], tuple[NDArray[Any], NDArray[np.uint8]]]

_IMAGES, _MASKS, _ABOUT = "images.npy", "masks.npy", "about.json"


class PatchCache:
    """Decoded patches, mapped into memory: reading one is a copy out of the page cache.

    Args:
        folder: of a finished cache.

    Raises:
        OSError, ValueError: if its files are missing or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: NDArray[Any] = np.load(folder / _IMAGES, mmap_mode="r")
        self._masks: NDArray[np.uint8] = np.load(folder / _MASKS, mmap_mode="r")
        if len(self._images) != len(self._masks):
            raise ValueError("images and masks differ in number")

    def __len__(self) -> int:
        return len(self._images)

    def __reduce__(self) -> tuple[Callable[[Path], PatchCache], tuple[Path]]:
        # A worker process maps the files again; pickling a map would copy all that it shows.
        return PatchCache, (self._folder,)

    @property
    def images(self) -> NDArray[Any]:
        """All images, (N, C, H, W), in the dtype that :func:`open_cache` was given; read-only."""
        return self._images

    @property
    def masks(self) -> NDArray[np.uint8]:
        """All masks, uint8 (N, H, W); read-only."""
        return self._masks

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Give one patch, float32 (C, H, W) and uint8 (H, W); the caller owns both."""
        return np.array(self._images[index], dtype=np.float32), np.array(self._masks[index])


def open_cache(
    key: str,
    count: int,
    decode: Decode,
    *,
    slot: str,
    progress: Callable[[int, int], None] | None = None,
) -> PatchCache | None:
    """Give the cache ``key``; decode all patches into it first where there is none.

    It appears under its name when it is whole: a run that is killed leaves a folder that the next one clears away.

    Args:
        key: hexadecimal digest of everything that decides what the patches are.
        count: number of patches, at least 1.
        decode: gives image (C, H, W) and mask uint8 (H, W) by index; one shape and one dtype for all. Called from
            several threads.
        slot: what the patches are, whatever their content; an older cache of the same slot is removed.
        progress: called with the number of patches decoded and of all.

    Returns:
        The cache; None, with a :class:`DataWarning`, where it cannot be written: patches are then decoded when read.

    Raises:
        DataError: if patches differ in shape or dtype, or whatever ``decode`` raises.
    """
    home = cache_folder("patches")
    final = home / key
    with suppress(OSError, ValueError):
        return PatchCache(final)
    try:
        with _workplace(home, final) as folder:
            _write(folder, count, decode, progress)
            (folder / _ABOUT).write_text(json.dumps({"slot": slot, "patches": count}), encoding="utf-8")
        cache = PatchCache(final)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        warnings.warn(
            DataWarning(
                f"{home}: decoded patches cannot be kept here ({reason}), so they are decoded at every reading. "
                "Free some space, or set ZOO_CACHE to another folder"
            ),
            stacklevel=4,
        )
        return None
    _remove_older(home, final, slot)
    return cache


def _write(folder: Path, count: int, decode: Decode, progress: Callable[[int, int], None] | None) -> None:
    # Written in order and not through a map: on a full disk a map ends the process with a signal, a file with an error.
    with (folder / _IMAGES).open("wb") as images, (folder / _MASKS).open("wb") as masks:
        first: tuple[NDArray[Any], NDArray[np.uint8]] | None = None
        for done, (image, mask) in enumerate(_decoded(count, decode), 1):
            if first is None:
                first = image, mask
                _write_header(images, image, count)
                _write_header(masks, mask, count)
            for what, one, other in (("image", image, first[0]), ("mask", mask, first[1])):
                if one.shape != other.shape or one.dtype != other.dtype:
                    raise DataError(
                        f"the {what} of patch {done - 1} is {_words(one)}, and that of patch 0 is {_words(other)}",
                        hint="All patches of a data set have one size and one dtype",
                    )
            images.write(np.ascontiguousarray(image).data)
            masks.write(np.ascontiguousarray(mask).data)
            if progress is not None:
                progress(done, count)
        for file in (images, masks):
            file.flush()
            os.fsync(file.fileno())


def _decoded(count: int, decode: Decode) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    workers = min(8, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        try:
            # In slices, so that what waits to be written never holds more than a few patches.
            for start in range(0, count, 4 * workers):
                yield from pool.map(decode, range(start, min(count, start + 4 * workers)))
        finally:
            pool.shutdown(cancel_futures=True)


def _write_header(file: Any, one: NDArray[Any], count: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(one.dtype), "fortran_order": False, "shape": (count, *one.shape)}
    np.lib.format.write_array_header_2_0(file, header)


@contextmanager
def _workplace(home: Path, final: Path) -> Iterator[Path]:
    home.mkdir(parents=True, exist_ok=True)
    _clear_away(home)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=f".{socket.gethostname()}-{os.getpid()}-"))
    try:
        yield folder
        with suppress(OSError):
            # There only when it is damaged: a whole one would have been taken.
            shutil.rmtree(final)
        try:
            folder.rename(final)
        except OSError:
            # Another process was faster with the same content.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_away(home: Path) -> None:
    """Remove what processes of this machine left that are no longer there."""
    for folder in home.glob(f".{socket.gethostname()}-*"):
        process = folder.name.removeprefix(f".{socket.gethostname()}-").partition("-")[0]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove_older(home: Path, final: Path, slot: str) -> None:
    for about in home.glob(f"*/{_ABOUT}"):
        if about.parent == final:
            continue
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(about.read_text(encoding="utf-8")).get("slot") == slot:
                shutil.rmtree(about.parent, ignore_errors=True)


def _words(values: NDArray[Any]) -> str:
    return f"{' x '.join(map(str, values.shape))} {values.dtype}"
