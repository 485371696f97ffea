"""Memory-mapped cache of decoded patches, keyed by the content of their source files."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import DataWarning, shape_text
from zoo.datasets.npy import map_npy, read_npy_header
from zoo.errors import DataError, ZooError
from zoo.files import cache_folder, write_text_atomic
from zoo.jobs import ProgressCallback
from zoo.schema import encode_json, read_json

Decode = Callable[[int], tuple[NDArray[Any], NDArray[np.uint8]]]
_Stamp: TypeAlias = tuple[int, int, int, int]

_RACY_NS = 2 * 10**9
"""A file that changed less than this before it was read may change again without a new timestamp: the coarsest
file systems have a resolution of two seconds. Git calls such an entry racy and does not trust it either."""
_IMAGES, _MASKS, _ABOUT = "images.npy", "masks.npy", "about.json"


def digest_files(paths: Iterable[Path], progress: ProgressCallback | None = None) -> dict[Path, str]:
    """Return the sha256 of the bytes of each file.

    Digests are stored with size, inode, modification time and status time of the file, and reused while all four are
    unchanged. Only the kernel sets the status time, so a file that is rewritten in place with its old modification time
    is read again.

    Args:
        paths: the files; duplicates are read once.
        progress: called with the number of files done and the total.

    Returns:
        Hexadecimal digests by path.

    Raises:
        DataError: if a file cannot be read.
    """
    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return {}
    store = _digest_store(wanted)
    known = _stored_digests(store)
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
            if max(stamp[1], stamp[2]) < began - _RACY_NS and stamp == _stamp(path)
        }
        if settled:
            # If the cache folder cannot be written, the only cost is time at the next opening.
            with suppress(ZooError):
                write_text_atomic(store, encode_json({**known, **settled}))
    return {path: digests[path] for path in wanted}


class PatchCache:
    """Decoded patches, mapped into memory: reading a patch is a copy from the page cache.

    Args:
        folder: folder of a complete cache.

    Raises:
        DataError: if its files are missing, damaged or inconsistent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: NDArray[Any] = map_npy(folder / _IMAGES, read_npy_header(folder / _IMAGES))
        self._masks: NDArray[np.uint8] = map_npy(folder / _MASKS, read_npy_header(folder / _MASKS))
        if self._images.ndim != 4 or self._masks.shape != (len(self._images), *self._images.shape[2:]):
            raise DataError("images and masks do not belong together", where=folder)

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self._images)

    def __reduce__(self) -> tuple[Callable[[Path], PatchCache], tuple[Path]]:
        # A worker process maps the files again; pickling a map would copy its whole content.
        return PatchCache, (self._folder,)

    @property
    def images(self) -> NDArray[Any]:
        """All images, (N, C, H, W), in the dtype to which they were decoded; read-only."""
        return self._images

    @property
    def masks(self) -> NDArray[np.uint8]:
        """All masks, uint8 (N, H, W); read-only."""
        return self._masks

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return one patch, float32 (C, H, W) and uint8 (H, W), as copies."""
        return np.array(self._images[index], dtype=np.float32), np.array(self._masks[index])


def open_cache(
    key: str,
    count: int,
    decode: Decode,
    *,
    slot: str,
    progress: ProgressCallback | None = None,
) -> PatchCache | None:
    """Open the cache ``key``; if it does not exist, decode all patches into it first.

    The cache appears under its name once it is complete. The folder of a killed process is removed by the next
    process.

    Args:
        key: hexadecimal digest of everything that determines the content of the patches.
        count: number of patches, at least 1.
        decode: returns image (C, H, W) and mask uint8 (H, W) for an index, with the same shape and dtype for all.
            Called from several threads.
        slot: identity of the patches, regardless of their content; an older cache of the same slot is removed.
        progress: called with the number of patches decoded and the total.

    Returns:
        The cache; None, with a :class:`DataWarning`, if it cannot be written. Patches are then decoded at every
        read.

    Raises:
        DataError: if patches differ in shape or dtype; also any error raised by ``decode``.
    """
    home = cache_folder("patches")
    final = home / key
    with suppress(DataError):
        cache = PatchCache(final)
        if len(cache) == count:
            return cache
    try:
        with _new_folder(home, final) as folder:
            _write_patches(folder, count, decode, progress)
            (folder / _ABOUT).write_text(encode_json(_About(slot, count)), encoding="utf-8")
        cache = PatchCache(final)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        warnings.warn(
            DataWarning(
                f"{home}: decoded patches cannot be stored here ({reason}), so each is decoded whenever it is read. "
                "Free some space, or set ZOO_CACHE to another folder"
            ),
            stacklevel=4,
        )
        return None
    _remove_older(home, final, slot)
    return cache


@dataclass(frozen=True)
class _About:
    """Description of a cache, stored with its arrays."""

    slot: str = ""
    patches: int = 0


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


def _digest_store(paths: list[Path]) -> Path:
    folder = os.path.commonpath([path.resolve().parent for path in paths])
    name = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache_folder("digests") / f"{name}.json"


def _stored_digests(store: Path) -> dict[str, tuple[_Stamp, str]]:
    try:
        return read_json(store, dict[str, tuple[_Stamp, str]])
    except (FileNotFoundError, ZooError):
        return {}


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path)


def _write_patches(folder: Path, count: int, decode: Decode, progress: ProgressCallback | None) -> None:
    # Written sequentially and not through a map: on a full disk, a map kills the process, while a file raises an error.
    with (folder / _IMAGES).open("wb") as images, (folder / _MASKS).open("wb") as masks:
        first: tuple[NDArray[Any], NDArray[np.uint8]] | None = None
        for done, (image, mask) in enumerate(_decode_patches(count, decode), 1):
            if first is None:
                first = image, mask
                _write_header(images, image, count)
                _write_header(masks, mask, count)
            for what, one, other in (("image", image, first[0]), ("mask", mask, first[1])):
                if one.shape != other.shape or one.dtype != other.dtype:
                    raise DataError(
                        f"the {what} of patch {done - 1} is {_describe(one)}, that of patch 0 is {_describe(other)}",
                        hint="All patches of a data set have one size and one dtype",
                    )
            images.write(np.ascontiguousarray(image).data)
            masks.write(np.ascontiguousarray(mask).data)
            if progress is not None:
                progress(done, count)
        for file in (images, masks):
            file.flush()
            os.fsync(file.fileno())


def _decode_patches(count: int, decode: Decode) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    workers = min(8, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        try:
            # Decode in batches, so that only a few decoded patches wait to be written.
            for start in range(0, count, 4 * workers):
                yield from pool.map(decode, range(start, min(count, start + 4 * workers)))
        finally:
            pool.shutdown(cancel_futures=True)


def _write_header(file: IO[bytes], one: NDArray[Any], count: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(one.dtype), "fortran_order": False, "shape": (count, *one.shape)}
    np.lib.format.write_array_header_2_0(file, header)


@contextmanager
def _new_folder(home: Path, final: Path) -> Iterator[Path]:
    """Create a temporary folder and rename it to ``final`` when the block ends without an error."""
    home.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(home)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=f".{socket.gethostname()}-{os.getpid()}-"))
    try:
        yield folder
        with suppress(OSError):
            # If it exists, it is damaged: a complete one would have been opened.
            shutil.rmtree(final)
        try:
            folder.rename(final)
        except OSError:
            # Another process finished the same content first.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(home: Path) -> None:
    """Remove the temporary folders of processes on this machine that have ended."""
    prefix = f".{socket.gethostname()}-"
    for folder in home.glob(f"{prefix}*"):
        process = folder.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove_older(home: Path, final: Path, slot: str) -> None:
    for about in home.glob(f"*/{_ABOUT}"):
        if about.parent == final:
            continue
        with suppress(OSError, ZooError):
            if read_json(about, _About).slot == slot:
                shutil.rmtree(about.parent, ignore_errors=True)


def _describe(values: NDArray[Any]) -> str:
    return f"{shape_text(values.shape)} {values.dtype}"
