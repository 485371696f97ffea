"""Atomic writes, locks, safe file names, and the cache folder."""

from __future__ import annotations

import abc
import html
import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, Self, TypeAlias

from zoo.errors import ConfigError, DataError, ZooError

PathLike: TypeAlias = str | os.PathLike[str]
"""A path as users pass it."""

VRT_DEPTH = 8
"""Maximum depth to which VRTs that refer to other VRTs are followed."""


class Closable(abc.ABC):
    """Base class of objects that hold open files and are closed after use; a context manager."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def file_name(text: str, also: str = "") -> str:
    """Return ``text`` with only characters that every file system accepts: letters, digits, ``_.-`` and ``also``.

    All other characters become hyphens, so two texts may get the same name.
    """
    return re.sub(rf"[^\w.{re.escape(also)}-]+", "-", text)


LOCK_RETRY_S = 0.2
"""Seconds between two attempts to take a lock that another process holds."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return text on one line, without characters that control a terminal or reverse the reading direction.

    White space becomes a space; every other control character and every lone surrogate becomes U+FFFD.
    """
    if text.isprintable():  # a listing has thousands of such cells, and this check takes a tenth of the time
        return text
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"[\t\n\r\f\v]+", " ", text))


def csv_text(text: str) -> str:
    """Return text for a CSV cell; a leading apostrophe keeps spreadsheets from running it as a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def printable_lines(text: str) -> str:
    """Return text with its line breaks kept and each line cleaned by :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it into place when the block ends without an error.

    The file is flushed to disk before the rename, so that after a crash ``path`` holds either the old bytes or the new
    ones. On an error, including Ctrl-C, the temporary file is removed and ``path`` is unchanged. A process that is
    killed leaves the temporary file behind, and the next process that writes ``path`` reuses it.

    The block must write into the temporary file and not replace it, because the lock that keeps other processes away
    belongs to the file. ``safetensors.save_file`` replaces it, so use ``safetensors.save`` and ``write_bytes``.

    Raises:
        ZooError: if the folder cannot be created or written to, the disk is full, the path is a device, or the file was
            replaced.
    """
    path = Path(path)
    _refuse_special_file(path)
    try:
        temporary, lock = _make_temporary(path, path.parent, folder=False)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        if lock is not None and not _is_open_file_at(lock, temporary):
            raise ZooError(
                "was not written, because another program replaced its temporary file", where=path, hint="Try again"
            )
        # Temporary files are private; the final file gets the permissions that open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException as error:
        with uninterrupted(), suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def working_folder(
    path: str | os.PathLike[str], within: Path | None = None, *, keep: str | None = None
) -> Iterator[Path]:
    """Yield an empty hidden folder on the same disk as ``path``, so that its contents can be renamed into place.

    The folder is removed when the block ends, including on Ctrl-C. A process that is killed leaves it behind; the next
    process that requests the folder of ``path`` reuses it after emptying it. Two processes never share a folder.

    Args:
        path: the file or folder that will be written.
        within: a folder on the same disk to create it in; ``None`` for the folder of ``path``.
        keep: name of an entry that is not removed when the folder of a killed process is reused.

    Raises:
        ZooError: if the folder cannot be created.
    """
    path = Path(path)
    try:
        folder, lock = _make_temporary(path, within or path.parent, folder=True)
        for left in folder.iterdir():
            if left.name != keep:
                _remove(left)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield folder
    finally:
        with uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


@contextmanager
def redirected(target: int, *descriptors: int) -> Iterator[None]:
    """Redirect the output to file descriptors, including the output of child processes and C libraries.

    Args:
        target: descriptor that receives the output.
        descriptors: 1 for standard output, 2 for standard error; a closed descriptor stays closed.
    """
    kept: dict[int, int] = {}
    try:
        for one in descriptors:
            with suppress(OSError):
                kept[one] = os.dup(one)
        _flush_streams()
        for one in kept:
            os.dup2(target, one)
        yield
        _flush_streams()
    finally:
        for one, copy in kept.items():
            os.dup2(copy, one)
            os.close(copy)


def _flush_streams() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Deliver Ctrl-C and SIGTERM after the block, so that they cannot interrupt a clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers only in the main thread
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left behind for ``path``: temporary files, its working folder, its lock."""
    for name in (f".{path.stem}.part{path.suffix}", f".{path.name}.part", f".{path.name}.lock"):
        _remove_abandoned(path.parent / name)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in ``folder``.

    Files that a running process uses are locked and are kept.
    """
    for left in folder.glob(".*.part*"):
        _remove_abandoned(left)


def _remove_abandoned(left: Path) -> None:
    lock = _lock_temporary(left, folder=left.is_dir() and not left.is_symlink(), create=False)
    if lock is not None:
        with suppress(OSError):
            _remove(left)
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _make_temporary(path: Path, parent: Path, *, folder: bool) -> tuple[Path, int | None]:
    """Return a temporary path for ``path`` and the descriptor of its lock; ``None`` if locks are not supported."""
    stem, suffix = (path.name, "") if folder else (path.stem, path.suffix)
    parent.mkdir(parents=True, exist_ok=True)
    place = parent / f".{stem}.part{suffix}"
    lock = _lock_temporary(place, folder=folder)
    if lock is None:
        # Another process writes the same path, or this disk does not support locks: choose a unique name.
        if folder:
            place = Path(tempfile.mkdtemp(dir=parent, prefix=f".{stem}.part-"))
        else:
            handle, name = tempfile.mkstemp(dir=parent, prefix=f".{stem}.part-", suffix=suffix)
            os.close(handle)
            place = Path(name)
        lock = _lock_temporary(place, folder=folder)
    if lock is not None and not folder:
        os.ftruncate(lock, 0)
    return place, lock


def _lock_temporary(place: Path, *, folder: bool, create: bool = True) -> int | None:
    """Lock a temporary file or folder, possibly left behind by a killed process.

    Returns:
        The descriptor that holds the lock; ``None`` if another process or another user has the file, if it is a link,
        or if locks are not supported.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        if folder and create:
            with suppress(FileExistsError):
                place.mkdir(mode=0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_NONBLOCK | (os.O_CREAT if create else 0)
        handle = os.open(place, flags | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    status = os.fstat(handle)
    # A hard link would let us truncate another user's file.
    owned = status.st_uid == os.geteuid() and (folder or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1))
    try:
        if owned:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open_file_at(handle, place):
                return handle
    except BlockingIOError:
        pass
    except OSError:
        if create and not status.st_size:
            with suppress(OSError):
                place.rmdir() if folder else place.unlink()
    os.close(handle)
    return None


def move_into_place(finished: Path, path: Path) -> None:
    """Rename a finished file on the same disk to its final name, after its bytes are on disk.

    Raises:
        ZooError: if it cannot be written there.
    """
    _refuse_special_file(path)
    try:
        with finished.open("rb+") as written:
            os.fsync(written.fileno())
        finished.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _refuse_special_file(path: Path) -> None:
    """Refuse to write to a device or a pipe, which a rename would replace for every process on the machine.

    Raises:
        ZooError: if the path is one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ZooError("is a device or a pipe, not a file", where=path, hint="Name a file")


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 atomically; on an error, the old file is unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: str | os.PathLike[str], value: object) -> None:
    """Write ``value`` as indented JSON; raise an error for NaN and infinities, which JSON does not support."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_outputs(outputs: Iterable[PathLike | None], inputs: Iterable[PathLike], *, overwrite: bool) -> None:
    """Check all output files of a command before any work is done: call :func:`check_output` for each path given.

    Raises:
        ConfigError: also if two paths are the same.
    """
    paths = [Path(path) for path in outputs if path is not None]
    read = [Path(path) for path in inputs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("two outputs have the same name", where=paths[-1], hint="Give each file its own name")
    for path in paths:
        check_output(path, read, overwrite=overwrite)


def check_output(path: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Check an output path before any work is done.

    Args:
        path: the file.
        inputs: files that are read; for a VRT, also the files that it refers to.
        overwrite: whether an existing file may be replaced; an input never is.

    Raises:
        ConfigError: if it is a folder, is one of the inputs, or exists and must not be replaced.
        ZooError: if its folder cannot be created or written to.
    """
    if path.is_dir():
        raise ConfigError("is a folder", where=path, hint="Name a file in it")
    if path.exists():
        if any(one.exists() and path.samefile(one) for given in inputs for one in (given, *_sources(given))):
            raise ConfigError("is one of the inputs", where=path, hint="Name another file for the result")
        _refuse_special_file(path)
        if not overwrite:
            remove_leftovers(path)
            raise ConfigError("already exists", where=path, hint="Name another file, or replace it with --overwrite")
    check_could_write(path.parent)


def _sources(path: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the files that a VRT refers to, recursively."""
    if path.suffix.lower() != ".vrt" or not path.is_file() or depth > VRT_DEPTH:
        return
    for name in re.findall(r"<Source(?:Filename|Dataset)[^>]*>([^<]+)</", path.read_text("utf-8", "replace")):
        source = path.parent / html.unescape(name.strip())
        yield source
        yield from _sources(source, depth + 1)


def open_own_file(path: str | os.PathLike[str], mode: Literal["write", "append", "keep"] = "write") -> int:
    """Open a file that belongs to zoo, such as a log or a lock, and return its descriptor.

    A symbolic link is refused, because its target may belong to another user.

    Args:
        path: the file; it is created if it does not exist.
        mode: ``write`` truncates the file, ``append`` writes at the end, ``keep`` opens it for reading and writing.

    Raises:
        ZooError: if the path is a symbolic link or cannot be written.
    """
    path = Path(path)
    flags = {"write": os.O_WRONLY | os.O_TRUNC, "append": os.O_WRONLY | os.O_APPEND, "keep": os.O_RDWR}[mode]
    try:
        return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        if path.is_symlink():
            raise ZooError(
                "is a symbolic link, which zoo does not write through", where=path, hint="Remove the link"
            ) from None
        raise unwritable(path, error) from error


@contextmanager
def locked(path: str | os.PathLike[str], busy: ZooError, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock file until the block or the process ends.

    Args:
        path: the lock file; it is created.
        busy: the error to raise if another process holds the lock.
        remove: whether the file is removed at the end of the block; otherwise it stays.

    Raises:
        ZooError: ``busy``, or an error if the file is a symbolic link or cannot be written.
    """
    handle = open_own_file(path, "keep")
    try:
        _lock(handle, busy)
        while remove and not _is_open_file_at(handle, path):
            # Another process removed the file between our opening and locking it.
            os.close(handle)
            handle = open_own_file(path, "keep")
            _lock(handle, busy)
        try:
            yield
        finally:
            if remove:
                with uninterrupted(), suppress(OSError):
                    Path(path).unlink()
    finally:
        os.close(handle)


@contextmanager
def waiting_lock(path: str | os.PathLike[str], on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file until the block ends; wait while another process holds it.

    Args:
        path: the lock file, which is removed at the end.
        on_wait: called once if another process holds the lock.

    Raises:
        ZooError: if the file cannot be written.
    """
    busy = DataError("is locked by another process", where=path)
    waited = False
    while True:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(path, busy, remove=True))
            except DataError as error:
                if error is not busy:
                    raise
                if not waited:
                    on_wait()
                waited = True
                time.sleep(LOCK_RETRY_S)
                continue
            yield
            return


def _is_open_file_at(handle: int, path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), Path(path).stat())
    except FileNotFoundError:
        return False


def _lock(handle: int, busy: ZooError) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError:
        # Some network file systems do not support locks; work there must still be possible.
        return


def check_writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Create ``folder`` and check that a file can be written there, before long work depends on it."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def check_could_write(folder: str | os.PathLike[str]) -> None:
    """Check that a file could be written to ``folder``; remove the folders that were created for the check."""
    folder = Path(folder)
    absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        check_writable_folder(folder)
    finally:
        for parent in absent:
            with suppress(OSError):
                parent.rmdir()


def cache_folder(name: str) -> Path:
    """Return the folder ``name`` in ``$ZOO_CACHE``, or in ``~/.cache/landslide-zoo``; it is not created.

    Raises:
        ConfigError: if this user may not read it, such as under the home folder of another user.
    """
    root, base = os.environ.get("ZOO_CACHE"), os.environ.get("XDG_CACHE_HOME")
    home = Path(root) if root else (Path(base) if base else home_folder() / ".cache") / "landslide-zoo"
    try:
        (home / name).exists()
    except PermissionError as error:
        problem = "the cache folder cannot be read (permission denied)"
        raise ConfigError(problem, where=home, hint="Name a folder of yours in ZOO_CACHE") from error
    return home / name


def config_folder() -> Path:
    """Return the settings folder: ``$ZOO_CONFIG``, or ``~/.config/landslide-zoo``; it is not created."""
    root = os.environ.get("ZOO_CONFIG")
    if root:
        return Path(root)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home_folder() / ".config") / "landslide-zoo"


def home_folder() -> Path:
    """Return the home folder of the user; the root folder for a user without one, such as the user of a container."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(Path.cwd().anchor)


def unwritable(path: Path, reason: OSError | str) -> ZooError:
    """Return the error for a file or folder that cannot be written, with the reason."""
    description = reason if isinstance(reason, str) else (reason.strerror or str(reason)).lower()
    return ZooError(
        f"cannot write here ({description})", where=path, hint="Free some space or name a folder that you may write to"
    )


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder; False for a name that the system does not allow."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file; False for a name that the system does not allow."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
