"""Fetch one published file: resumed where it stopped, verified before it gets its name.

``NAME.part`` holds what has arrived and ``NAME.part.json`` which version of the file that is; both outlive a killed
process, and the next call goes on from there when the server still has the same version. Set ``ZOO_MIRROR`` to a folder
or a URL to take every file from ``ZOO_MIRROR/HOST/PATH`` instead of ``https://HOST/PATH`` (what ``wget -x`` writes).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests
from urllib3.exceptions import HTTPError

from zoo.errors import ConfigError, DataError
from zoo.files import check_writable_folder, write_json_atomic

try:
    import fcntl
except ImportError:  # Windows: two processes may fetch one file at once there; the checksum tells.
    fcntl = None  # type: ignore[assignment]

Progress = Callable[[int, int], None]

CHUNK = 1 << 20
TIMEOUT = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes [O]."""
PAUSES: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts while nothing new arrives; bytes that do arrive start the count anew [O]."""
RESTARTS = 2
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RemoteFile:
    """A file as its authors published it.

    Without size and checksum, only the length that the server announces tells whether it is whole.

    Args:
        url: http, https or file URL.
        name: name of the file on this machine, without a folder.
        size: bytes; None when unknown.
        md5: in hex; None when unknown.
        sha256: in hex; None when unknown. It is preferred to ``md5``.

    Raises:
        ConfigError: if the name is no plain file name, or the URL is of another kind.
    """

    url: str
    name: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.name in {"", ".", ".."} or any(sign in self.name for sign in "/\\\0"):
            raise ConfigError(f"{self.name!r} is no plain file name", where=self.url)
        _check_scheme(self.url)

    @property
    def digest(self) -> tuple[str, str] | None:
        """Give the algorithm and the checksum that the file is held against; None when none is known."""
        if self.sha256 is not None:
            return "sha256", self.sha256.lower()
        return None if self.md5 is None else ("md5", self.md5.lower())


class _RestartError(Exception):
    """What has arrived belongs to another version of the file."""


class _InterruptedError(Exception):
    """The connection ended early; trying again may help."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch a file into a folder, unless it is there already.

    Args:
        file: what to fetch. A file of that name with the right size and checksum is kept; another one is replaced,
            and only once the new one is whole.
        folder: made when it does not exist.
        progress: called with the bytes that have arrived and the bytes of the file (equal while that is unknown).

    Returns:
        ``folder / file.name``.

    Raises:
        DataError: no network, refused by the server, disk full, or not the published bytes.
        ConfigError: ``ZOO_MIRROR`` is no folder and no URL.
        ZooError: the folder cannot be written to.
    """
    target = folder / file.name
    if target.is_file() and _fault(file, target) is None:
        return target
    check_writable_folder(folder)
    url = _mirrored(file.url)
    part = folder / f"{file.name}.part"
    state = folder / f"{file.name}.part.json"
    with _own(part, target) as handle:
        resumed = handle.seek(0, os.SEEK_END) > 0
        _complete(file, url, handle, state, progress)
        problem = _fault(file, part)
        if problem is not None and resumed:
            # The first half was of another version, or was damaged on the disk: once more from the start.
            _empty(handle, state)
            _complete(file, url, handle, state, progress)
            problem = _fault(file, part)
        if problem is not None:
            part.unlink()
            state.unlink(missing_ok=True)
            raise DataError(
                f"what arrived from {url} is not the published file: {problem}",
                where=target,
                hint="Try again; if it stays so, the file was changed at its source or a proxy answers in its place",
            )
        part.replace(target)
        state.unlink(missing_ok=True)
    return target


def check_file(file: RemoteFile, path: Path) -> None:
    """Hold a file against its published size and checksum.

    Raises:
        DataError: if they differ, with both; or if the file cannot be read.
    """
    problem = _fault(file, path)
    if problem is not None:
        raise DataError(
            f"not the published file: {problem}", where=path, hint=f"Delete it and fetch it again from {file.url}"
        )


def _fault(file: RemoteFile, path: Path) -> str | None:
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return f"{size} bytes instead of {file.size}"
        if file.digest is None:
            return None
        algorithm, expected = file.digest
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path) from error
    return None if found == expected else f"{algorithm} {found} instead of {expected}"


@contextmanager
def _own(part: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open the part file for this process alone; what another process finished meanwhile is left in peace."""
    try:
        with part.open("ab") as handle:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise DataError(
                        "another process is fetching this file", where=part, hint="Wait for it, then run this again"
                    ) from None
                if not part.exists() or not os.path.samestat(os.fstat(handle.fileno()), part.stat()):
                    raise DataError("another process has just fetched this file", where=target, hint="Run this again")
            try:
                yield handle
            finally:
                # Nothing has arrived, so there is nothing to go on with.
                if not os.fstat(handle.fileno()).st_size:
                    part.unlink(missing_ok=True)
                    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write here ({(error.strerror or str(error)).lower()})",
            where=part,
            hint="Free some space, or name another folder, and run this again: what has arrived is kept",
        ) from error


def _complete(file: RemoteFile, url: str, handle: IO[bytes], state: Path, progress: Progress | None) -> None:
    """Bring the part file to its full length, over as many connections as it takes."""
    attempt = restarts = 0
    while True:
        before = _length(handle)
        try:
            if urlsplit(url).scheme == "file":
                _copy(file, url, handle, state, progress)
            else:
                _transfer(file, url, handle, state, progress)
            handle.flush()
            os.fsync(handle.fileno())
            return
        except _RestartError:
            restarts += 1
            if restarts > RESTARTS:
                raise DataError(
                    "the server answers with other bytes than were asked for",
                    where=url,
                    hint="Fetch the file with a browser and put it there, or name another place with ZOO_MIRROR",
                ) from None
            _empty(handle, state)
        except _InterruptedError as interruption:
            attempt = 0 if _length(handle) > before else attempt
            if attempt >= len(PAUSES):
                raise DataError(
                    f"the download stops at {_length(handle)} bytes ({interruption})",
                    where=url,
                    hint="What has arrived is kept: run this again to go on",
                ) from interruption
            time.sleep(PAUSES[attempt] if interruption.pause is None else interruption.pause)
            attempt += 1


def _transfer(file: RemoteFile, url: str, handle: IO[bytes], state: Path, progress: Progress | None) -> None:
    start = _length(handle)
    known = _remembered(state) if start else {}
    if start and known.get("url") != url:
        raise _RestartError
    # Without "identity" a server may compress on the way, and byte ranges would count compressed bytes.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout) as error:
        if start or state.exists():
            raise _InterruptedError("the server cannot be reached") from error
        raise DataError(
            "the server cannot be reached",
            where=url,
            hint="Check the network and the proxy, or set ZOO_MIRROR to a folder that holds the file",
        ) from error
    except requests.RequestException as error:
        raise DataError(f"cannot be fetched ({error})", where=url) from error
    with response:
        total = _begin(file, url, response, start, known, state)
        if total == start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return
        if response.status_code == requests.codes.ok and start:
            _empty(handle, state)
            start = 0
        write_json_atomic(state, {"url": url, "version": _version(response), "total": total})
        if total is not None:
            _check_space(state.parent, total - start, url)
        try:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                handle.write(chunk)
                start += len(chunk)
                if total is not None and start > total:
                    raise _RestartError
                if progress is not None:
                    progress(start, start if total is None else total)
        except (HTTPError, requests.RequestException) as error:
            raise _InterruptedError("the connection was cut") from error
        finally:
            handle.flush()
    if total is not None and start < total:
        raise _InterruptedError(f"the connection ended after {start} of {total} bytes")


def _begin(
    file: RemoteFile, url: str, response: requests.Response, start: int, known: dict[str, Any], state: Path
) -> int | None:
    """Judge the answer's head; give the bytes of the whole file, None where the server does not say."""
    status = response.status_code
    if status in PASSING:
        wait = response.headers.get("Retry-After", "")
        raise _InterruptedError(
            f"the server answers {status} {response.reason}", min(float(wait), 60.0) if wait.isdigit() else None
        )
    if status == requests.codes.requested_range_not_satisfiable and start:
        total = _number(response.headers.get("Content-Range", "").rpartition("/")[2])
        if total != start:
            raise _RestartError
        return total
    if status == requests.codes.partial_content:
        first, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        total = _number(whole)
        same = first.partition("-")[0] == str(start) and (known.get("total") in (None, total))
        same = same and _version(response) == known.get("version")
        # A server that names no version is believed only where a checksum will tell.
        if not start or not same or (known.get("version") is None and file.digest is None):
            raise _RestartError
        return total
    if status != requests.codes.ok:
        reasons = {401: "asks for a login", 403: "refuses it", 404: "does not have it", 410: "no longer has it"}
        state.unlink(missing_ok=True)
        raise DataError(
            f"the server {reasons.get(status, 'does not give it')} ({status} {response.reason})",
            where=url,
            hint="Look at the address in a browser; the data may have moved. ZOO_MIRROR names another place",
        )
    total = _number(response.headers.get("Content-Length", ""))
    if total is not None and file.size is not None and total != file.size:
        raise DataError(
            f"the server offers {total} bytes, and {file.size} were published",
            where=url,
            hint="The file was changed at its source, or a proxy answers in its place",
        )
    return total if total is not None else file.size


def _copy(file: RemoteFile, url: str, handle: IO[bytes], state: Path, progress: Progress | None) -> None:
    source = _local_path(url)
    try:
        with source.open("rb") as opened:
            total = os.fstat(opened.fileno()).st_size
            _check_space(state.parent, total, url)
            _empty(handle, state)
            done = 0
            while chunk := opened.read(CHUNK):
                handle.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{file.name} is not in the mirror ({(error.strerror or '').lower()})",
            where=source,
            hint=f"Put it there (published at {file.url}), or unset ZOO_MIRROR",
        ) from error


def _mirrored(url: str) -> str:
    """Give the URL in the mirror that ``ZOO_MIRROR`` names; itself where there is none, or for a file."""
    mirror = os.environ.get("ZOO_MIRROR")
    address = urlsplit(url)
    if not mirror or address.scheme == "file":
        return url
    if "://" in mirror:
        _check_scheme(mirror)
        return f"{mirror.rstrip('/')}/{address.netloc}{address.path}"
    folder = Path(mirror).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(
            "there is no such folder", where=f"ZOO_MIRROR={mirror}", hint="Name a folder or a URL, or unset it"
        )
    return (folder / address.netloc / unquote(address.path).lstrip("/")).as_uri()


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in {"http", "https", "file"}:
        raise ConfigError("an address that is neither http, https nor file", where=url)


def _local_path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _check_space(folder: Path, needed: int, url: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the disk is too full: {needed / 1e6:.0f} MB are missing of {url}, and {free / 1e6:.0f} MB are free",
            where=folder,
            hint="Free some space or name another folder; what has arrived is kept",
        )


def _version(response: requests.Response) -> str | None:
    """Give the strong validator that a range request can be tied to."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _remembered(state: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        known = json.loads(state.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _length(handle: IO[bytes]) -> int:
    handle.flush()
    return os.fstat(handle.fileno()).st_size


def _empty(handle: IO[bytes], state: Path) -> None:
    handle.flush()
    handle.truncate(0)
    state.unlink(missing_ok=True)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def absent(name: str, root: Path, *, expected: str, source: str, how: str) -> DataError:
    """Make the error that says where to get a data set and where to put it.

    Args:
        name: name of the data set as a user types it, "landslide4sense".
        root: folder in which it was looked for.
        expected: what should have been there, relative to ``root``, "TrainData/img".
        source: where it is published, a URL.
        how: how to get it, after "Get it from SOURCE" ("unpack TrainData.zip there, or pass download=true").

    Returns:
        The error; the caller raises it.
    """
    state = "holds no" if root.is_dir() else "is no folder, so there is no"
    return DataError(
        f"{name} is not here: this {state} {expected}", where=root, hint=f"Get it from {source}, then {how}"
    )
