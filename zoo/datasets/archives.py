"""Unpack an archive that nobody has looked into yet."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from zoo.errors import DataError
from zoo.files import unwritable

Progress = Callable[[int, int], None]

MAX_RATIO = 200.0
"""Bytes that a byte of a whole archive may become [O]; images seldom exceed 10, masks alone come near 100."""
MAX_MEMBERS = 200_000
HARMLESS = 64 << 20
"""Bytes below which the ratio is not looked at: small archives of masks compress without bound [O]."""
CHUNK = 1 << 20
_APPLE = "__MACOSX"
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@dataclass(frozen=True)
class _Member:
    """One entry: its checked place, its declared bytes, and how to open it; no opener for a folder."""

    place: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]] | None


def unpack(
    archive: Path,
    into: Path,
    *,
    strip_top: bool | str = False,
    progress: Progress | None = None,
    max_bytes: int | None = None,
    max_ratio: float = MAX_RATIO,
    max_members: int = MAX_MEMBERS,
) -> Path:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz) into a new folder, whole or not at all.

    Everything is written to a temporary folder beside ``into`` and renamed when the last byte is there; on an error,
    Ctrl-C included, nothing is left. Links of any kind are refused, as no data set needs them. ``__MACOSX`` is skipped.

    Args:
        archive: told by its content, not by its name.
        into: folder that does not exist, or is empty.
        strip_top: a name makes the folder of that name, where the archive has it at its top, become ``into``; True the
            one folder that holds everything, whatever its name; False the archive as it is.
        progress: called with the bytes written and the declared bytes of all (those written, where a tar tells none).
        max_bytes: refuse more than this many unpacked bytes; None for no bound but the free disk space.
        max_ratio: refuse more unpacked bytes than this many times the archive's; not looked at below 64 MiB.
        max_members: refuse more entries than this.

    Returns:
        ``into``.

    Raises:
        DataError: if the archive is missing, damaged, encrypted, a bomb or would write elsewhere, or ``into`` is taken.
        ZooError: if the folder cannot be written to.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise DataError("there is something here already", where=into, hint="Move it away, then unpack again")
    try:
        packed = archive.stat().st_size
        into.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=into.parent, prefix=f".{into.name}-"))
    except FileNotFoundError:
        raise DataError("there is no such archive", where=archive) from None
    except OSError as error:
        raise unwritable(into.parent, error) from error
    allowed = shutil.disk_usage(temporary).free
    bounds = _Bounds(archive, packed, max_bytes, max_ratio, max_members, allowed)
    try:
        with _opened(archive, bounds) as (members, declared):
            _write(members, declared, temporary, bounds, progress)
        whole = _top(temporary, strip_top)
        umask = os.umask(0)
        os.umask(umask)
        whole.chmod(0o777 & ~umask)
        whole.replace(into)
    except OSError as error:
        raise unwritable(into, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return into


@dataclass(frozen=True)
class _Bounds:
    archive: Path
    packed: int
    max_bytes: int | None
    max_ratio: float
    max_members: int
    free: int

    def check_bytes(self, size: int) -> None:
        """Refuse a size that no honest archive of this length has, or that has no room here."""
        if self.max_bytes is not None and size > self.max_bytes:
            raise self.refuse(f"it unpacks to more than the {self.max_bytes} bytes that it should hold")
        if size > HARMLESS and size > self.max_ratio * self.packed:
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
        """Refuse more entries than a data set has."""
        if count > self.max_members:
            raise self.refuse(f"it holds more than {self.max_members} files")

    def refuse(self, problem: str) -> DataError:
        """Make the error of an archive that should not be trusted."""
        return DataError(
            problem, where=self.archive, hint="Nothing was unpacked; get the archive from its published source"
        )


@contextmanager
def _opened(archive: Path, bounds: _Bounds) -> Iterator[tuple[Iterator[_Member], int | None]]:
    """Open an archive; give its members in order and, where it says so up front, their bytes."""
    try:
        with archive.open("rb") as handle:
            is_zip = handle.read(2) == b"PK"
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=archive) from error
    try:
        if is_zip:
            with zipfile.ZipFile(archive) as opened:
                infos = opened.infolist()
                bounds.check_count(len(infos))
                declared = sum(info.file_size for info in infos)
                bounds.check_bytes(declared)
                yield iter([_zip_member(opened, info, bounds) for info in infos]), declared
        else:
            with tarfile.open(archive, "r:*") as opened_tar:
                yield _tar_members(opened_tar, bounds), None
    except (*_DAMAGED, OSError) as error:
        # An OSError without a number comes from a decompressor, one with a number from the disk.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"damaged or unfinished, or no zip or tar archive ({_first_line(error)})",
            where=archive,
            hint="Delete it and fetch it again",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(":")


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, bounds: _Bounds) -> _Member:
    place = _checked(info.filename, bounds)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise bounds.refuse(f"{info.filename!r} is a link or a device")
    if info.flag_bits & 0x1:
        raise bounds.refuse(f"{info.filename!r} is encrypted")
    return _Member(place, info.file_size, None if info.is_dir() else lambda: opened.open(info))


def _tar_members(opened: tarfile.TarFile, bounds: _Bounds) -> Iterator[_Member]:
    for info in opened:
        yield _tar_member(opened, info, bounds)
    # A compressed stream is checked against its checksum when its end is read, and tarfile stops before.
    rest = 0
    while opened.fileobj is not None and (chunk := opened.fileobj.read(CHUNK)):
        rest += len(chunk)
        bounds.check_bytes(rest)


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo, bounds: _Bounds) -> _Member:
    place = _checked(info.name, bounds)
    if not (info.isreg() or info.isdir()):
        raise bounds.refuse(f"{info.name!r} is a link or a device")

    def content() -> IO[bytes]:
        found = opened.extractfile(info)
        assert found is not None
        return found

    return _Member(place, info.size, None if info.isdir() else content)


def _checked(name: str, bounds: _Bounds) -> PurePosixPath:
    """Give the place of a member; refuse one that could lie outside the folder on any system."""
    place = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name or drive:
        raise bounds.refuse(f"{name!r} would be written outside the folder")
    return place


def _write(
    members: Iterator[_Member], declared: int | None, folder: Path, bounds: _Bounds, progress: Progress | None
) -> None:
    written = 0
    taken: set[str] = set()
    for count, member in enumerate(members, 1):
        bounds.check_count(count)
        bounds.check_bytes(written + member.size)
        if not member.place.parts or member.place.parts[0] == _APPLE:
            continue
        path = folder / member.place
        # Two names that differ in case alone are one file on some systems: the second would overwrite the first.
        folded = str(member.place).casefold()
        if member.open is not None and folded in taken:
            raise bounds.refuse(f"it holds {str(member.place)!r} twice")
        try:
            (path if member.open is None else path.parent).mkdir(parents=True, exist_ok=True)
            if member.open is None:
                continue
            target = path.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise bounds.refuse(f"it holds {str(member.place)!r} as a file and as a folder") from None
        taken.add(folded)
        with target, member.open() as source:
            while chunk := source.read(CHUNK):
                written += len(chunk)
                bounds.check_bytes(written)
                target.write(chunk)
                if progress is not None:
                    progress(written, written if declared is None else declared)


def _top(folder: Path, strip: bool | str) -> Path:
    """Give the folder that is to be kept."""
    if isinstance(strip, str):
        return folder / strip if (folder / strip).is_dir() else folder
    entries = list(folder.iterdir()) if strip else []
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
