"""Safe unpacking of untrusted archives."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from zoo.errors import DataError, first_line
from zoo.files import unwritable, working_folder
from zoo.jobs import ProgressCallback

MAX_RATIO = 200.0
"""Maximum ratio of unpacked to packed bytes [O]; images seldom exceed 10, masks come near 100."""
MAX_MEMBERS = 200_000
MIN_CHECKED_BYTES = 64 << 20
"""Unpacked size in bytes below which the ratio is not checked: small archives of masks compress without bound [O]."""
CHUNK_BYTES = 1 << 20
_APPLE = "__MACOSX"
_DAMAGE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, RuntimeError, OverflowError, LookupError, MemoryError),
)
"""Exceptions that the standard library raises for damaged archives, depending on where the damage is."""


def unpack(
    archive: Path,
    into: Path,
    *,
    strip_top: bool | str = False,
    progress: ProgressCallback | None = None,
    max_bytes: int | None = None,
    max_ratio: float = MAX_RATIO,
    max_members: int = MAX_MEMBERS,
) -> Path:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz) into a new folder, atomically.

    Files are written to a temporary folder next to ``into``, which is renamed at the end; an error or Ctrl-C leaves
    nothing behind. Links of any kind are refused, because no data set needs them. ``__MACOSX`` is skipped.

    Args:
        archive: the file; its content determines the format, not its name.
        into: folder that does not exist or is empty.
        strip_top: name of a folder at the top of the archive that becomes ``into``, if there is one; True for the one
            folder that holds everything, whatever its name; False to keep the archive as it is.
        progress: called with the number of bytes written and the declared total (for a tar, the bytes written).
        max_bytes: maximum number of unpacked bytes; None for no limit except the free disk space.
        max_ratio: maximum ratio of unpacked to packed bytes; not checked below 64 MiB.
        max_members: maximum number of entries.

    Returns:
        ``into``.

    Raises:
        DataError: if the archive is missing, damaged, encrypted, exceeds a limit or would write outside ``into``, or if
            ``into`` is not empty.
        ZooError: if the folder cannot be written to.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise DataError("already exists and is not empty", where=into, hint="Move it away, then unpack again")
    if not archive.is_file():
        raise DataError("no such archive", where=archive)
    with working_folder(into) as temporary:
        try:
            packed = archive.stat().st_size
            limits = _Limits(archive, packed, max_bytes, max_ratio, max_members, shutil.disk_usage(temporary).free)
            with _opened(archive, limits) as (members, declared):
                _write(members, declared, temporary, limits, progress)
            top = _top(temporary, strip_top)
            umask = os.umask(0)
            os.umask(umask)
            top.chmod(0o777 & ~umask)
            top.replace(into)
        except OSError as error:
            raise unwritable(into, error) from error
    return into


@dataclass(frozen=True)
class _Member:
    """Archive entry: its checked path, its declared size in bytes, and a function that opens it; None for a folder."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]] | None


@dataclass(frozen=True)
class _Limits:
    archive: Path
    packed: int
    max_bytes: int | None
    max_ratio: float
    max_members: int
    free: int

    def check_bytes(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            raise self.refuse(f"unpacks to more than the expected {self.max_bytes} bytes")
        if size > MIN_CHECKED_BYTES and size > self.max_ratio * self.packed:
            raise self.refuse(
                f"{self.packed} bytes that unpack to more than {self.max_ratio:g} times as many: an archive bomb"
            )
        if size > self.free:
            raise DataError(
                f"the disk is too full to unpack this: {size / 1e6:.0f} MB needed, {self.free / 1e6:.0f} MB free",
                where=self.archive,
                hint="Free some space or name another folder",
            )

    def check_count(self, count: int) -> None:
        if count > self.max_members:
            raise self.refuse(f"holds more than {self.max_members} files")

    def check_path(self, name: str) -> PurePosixPath:
        """Return the path of a member; refuse one that could be outside the folder on any system.

        The same rule applies to both formats. The data filter of :mod:`tarfile` is laxer: it strips a leading slash,
        ignores backslashes and drives on Linux, and allows links within the folder.
        """
        path = PurePosixPath(name)
        drive = len(name) > 1 and name[1] == ":"
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive:
            raise self.refuse(f"{name!r} would be written outside the folder")
        return path

    def refuse(self, problem: str) -> DataError:
        return DataError(
            problem, where=self.archive, hint="Nothing was unpacked; get the archive from its published source"
        )


@contextmanager
def _opened(archive: Path, limits: _Limits) -> Iterator[tuple[Iterator[_Member], int | None]]:
    """Open an archive; yield its members in order, and the sum of their declared sizes (None for a tar)."""
    try:
        with archive.open("rb") as handle:
            is_zip = handle.read(2) == b"PK"
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=archive) from error
    try:
        if is_zip:
            with zipfile.ZipFile(archive) as opened:
                infos = opened.infolist()
                limits.check_count(len(infos))
                declared = sum(info.file_size for info in infos)
                limits.check_bytes(declared)
                yield iter([_zip_member(opened, info, limits) for info in infos]), declared
        else:
            with tarfile.open(archive, "r:*") as opened_tar:
                yield _tar_members(opened_tar, limits), None
    except (*_DAMAGE_ERRORS, OSError) as error:
        # An OSError without an errno comes from a decompressor, one with an errno from the disk.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = first_line(error).rstrip(":")
        raise DataError(
            f"damaged, incomplete or not a zip or tar archive ({reason})",
            where=archive,
            hint="Delete it and download it again",
        ) from error


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, limits: _Limits) -> _Member:
    path = limits.check_path(info.filename)
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise limits.refuse(f"{info.filename!r} is a link or a device")
    if info.flag_bits & 0x1:
        raise limits.refuse(f"{info.filename!r} is encrypted")
    return _Member(path, info.file_size, None if info.is_dir() else lambda: opened.open(info))


def _tar_members(opened: tarfile.TarFile, limits: _Limits) -> Iterator[_Member]:
    for info in opened:
        path = limits.check_path(info.name)
        if not (info.isreg() or info.isdir()):
            raise limits.refuse(f"{info.name!r} is a link or a device")
        yield _Member(path, info.size, None if info.isdir() else _tar_content(opened, info))
    # The checksum of a compressed stream is verified only at its end, and tarfile stops before that.
    rest = 0
    while opened.fileobj is not None and (chunk := opened.fileobj.read(CHUNK_BYTES)):
        rest += len(chunk)
        limits.check_bytes(rest)


def _tar_content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def content() -> IO[bytes]:
        found = opened.extractfile(info)
        assert found is not None
        return found

    return content


def _write(
    members: Iterator[_Member], declared: int | None, folder: Path, limits: _Limits, progress: ProgressCallback | None
) -> None:
    written = 0
    taken: set[str] = set()
    for count, member in enumerate(members, 1):
        limits.check_count(count)
        limits.check_bytes(written + member.size)
        if not member.path.parts or member.path.parts[0] == _APPLE:
            continue
        path = folder / member.path
        # On some systems, names that differ only in case are one file: the second would overwrite the first.
        folded = str(member.path).casefold()
        if member.open is not None and folded in taken:
            raise limits.refuse(f"holds {str(member.path)!r} twice")
        try:
            (path if member.open is None else path.parent).mkdir(parents=True, exist_ok=True)
            if member.open is None:
                continue
            target = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise limits.refuse(f"holds {str(member.path)!r} as a file and as a folder") from None
        taken.add(folded)
        with target, member.open() as source:
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                limits.check_bytes(written)
                target.write(chunk)
                if progress is not None:
                    progress(written, written if declared is None else declared)


def _top(folder: Path, strip: bool | str) -> Path:
    """Return the folder that becomes the result."""
    if isinstance(strip, str):
        return folder / strip if (folder / strip).is_dir() else folder
    entries = list(folder.iterdir()) if strip else []
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
