"""Download a published file; resume after an interruption, and verify the file before it gets its final name.

``NAME.part`` holds the bytes received so far, and ``NAME.part.json`` holds the URL and version of the file that they
belong to. Both survive a killed process, and the next call resumes if the server still has that version. Set
``ZOO_MIRROR`` to a folder or a URL to read every file from ``ZOO_MIRROR/HOST/PATH`` instead of ``https://HOST/PATH``,
the layout that ``wget -x`` creates.

The library pooch also verifies checksums and reports progress, but it restarts an interrupted download from the first
byte. The archives here have up to several gigabytes, so this module resumes them itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests
from urllib3.exceptions import HTTPError

from zoo.errors import ConfigError, DataError, ZooError
from zoo.files import check_writable_folder
from zoo.jobs import ProgressCallback
from zoo.schema import read_json, write_json

try:
    import fcntl
except ImportError:  # Windows: two processes may download the same file; the checksum detects the damage.
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES = 1 << 16
"""Maximum number of bytes read at a time."""
TIMEOUT = (15.0, 60.0)
"""Timeout in seconds for connecting and for receiving the next bytes [O]."""
MIN_RATE = 1000.0
"""Bytes per second below which a connection is given up, over the second timeout, as with the options --speed-limit and
--speed-time of curl [O]. A server that sends a byte a minute never reaches the timeout."""
RETRY_DELAYS_S: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts; an attempt that reaches the minimum rate resets the count [O]."""
MAX_RESTARTS = 2
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which a retry may succeed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its authors published it.

    Without a size or a checksum, only the length reported by the server shows whether the file is complete.

    Args:
        url: http, https or file URL.
        name: local name of the file, without a folder.
        size: size in bytes; None if unknown.
        md5: checksum in hex; None if unknown.
        sha256: checksum in hex; None if unknown. It takes precedence over the others.
        git_sha1: name of the git blob in hex, which is the SHA-1 of its size and content; None if unknown.

    Raises:
        ConfigError: if the name is not a plain file name, or the scheme of the URL is not supported.
    """

    url: str
    name: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    git_sha1: str | None = None

    def __post_init__(self) -> None:
        if self.name in {"", ".", ".."} or any(character in self.name for character in "/\\\0"):
            raise ConfigError(f"{self.name!r} is not a plain file name", where=self.url)
        _check_scheme(self.url)

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and expected checksum in lower case; None if no checksum is known."""
        known = {"sha256": self.sha256, "sha1": self.git_sha1, "md5": self.md5}
        return next(((name, value.lower()) for name, value in known.items() if value is not None), None)


class NetworkError(DataError):
    """Raised if a server cannot be reached or does not send the file."""


def missing_dataset_error(name: str, root: Path, *, expected: str, source: str, advice: str) -> DataError:
    """Return the error for a data set that is not on this machine.

    Args:
        name: name of the data set as a user enters it, such as "landslide4sense".
        root: folder that was searched.
        expected: path that should exist, relative to ``root``, such as "TrainData/img".
        source: URL where the data set is published.
        advice: what to do after downloading it, such as "unpack TrainData.zip there".
    """
    state = "this folder has no" if root.is_dir() else "this folder does not exist, so there is no"
    return DataError(
        f"{name} was not found: {state} {expected}", where=root, hint=f"Get it from {source}, then {advice}"
    )


def fetch(
    file: RemoteFile,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Path:
    """Download a file into a folder unless it already exists there.

    A file of that name with the right size and checksum is kept. Any other file is replaced once the new one is
    complete.

    Args:
        file: the file to download.
        folder: target folder; created if it does not exist.
        progress: called with the number of bytes received and the total (equal while the total is unknown).
        headers: headers of the request, such as an authorisation; not sent to a mirror.

    Returns:
        ``folder / file.name``.

    Raises:
        NetworkError: if the server cannot be reached or refuses the request.
        DataError: if the disk is full, or the bytes differ from the published ones.
        ConfigError: if ``ZOO_MIRROR`` is neither a folder nor a URL.
        ZooError: if the folder cannot be written to.
    """
    target = folder / file.name
    if target.is_file() and _difference(file, target) is None:
        return target
    check_writable_folder(folder)
    url = _mirrored(file.url)
    part = folder / f"{file.name}.part"
    with _locked(part, target) as handle:
        sent = dict(headers or {}) if url == file.url else {}
        download = _Download(file, url, handle, part.with_name(f"{part.name}.json"), progress, sent)
        resumed = download.received > 0
        download.run()
        problem = _difference(file, part)
        if problem is not None and resumed:
            # The bytes received earlier belong to another version, or were damaged on disk.
            download.discard()
            download.run()
            problem = _difference(file, part)
        if problem is not None:
            download.discard()
            raise DataError(
                f"the bytes from {url} are not the published file: {problem}",
                where=target,
                hint="Try again. If the error persists, the file was changed at its source or a proxy replaced it",
            )
        part.replace(target)
        download.state_file.unlink(missing_ok=True)
    return target


def check_file(file: RemoteFile, path: Path) -> None:
    """Compare a file with its published size and checksum.

    Raises:
        DataError: if they differ, or the file cannot be read.
    """
    problem = _difference(file, path)
    if problem is not None:
        raise DataError(
            f"not the published file: {problem}", where=path, hint=f"Delete it and download it again from {file.url}"
        )


@dataclass(frozen=True)
class _State:
    """URL of a partly downloaded file, and its version as reported by the server."""

    url: str = ""
    version: str | None = None


class _OtherVersionError(Exception):
    """Raised if the received bytes belong to another version of the file."""


class _InterruptedError(Exception):
    """Raised if the connection ended early; another attempt may succeed."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _Download:
    """Part file that is completed over as many connections as necessary."""

    def __init__(
        self,
        file: RemoteFile,
        url: str,
        handle: IO[bytes],
        state_file: Path,
        progress: ProgressCallback | None,
        headers: dict[str, str],
    ) -> None:
        self.file, self.url, self.handle, self.state_file, self.progress = file, url, handle, state_file, progress
        self.headers = headers

    @property
    def received(self) -> int:
        """Number of bytes in the part file."""
        self.handle.flush()
        return os.fstat(self.handle.fileno()).st_size

    def discard(self) -> None:
        """Empty the part file."""
        self.handle.flush()
        self.handle.truncate(0)
        self.state_file.unlink(missing_ok=True)

    def run(self) -> None:
        """Download the missing bytes; retry broken connections."""
        step = self._copy if urlsplit(self.url).scheme == "file" else self._request
        failures = restarts = 0
        began = time.monotonic()
        while True:
            before = self.received
            try:
                step()
                self.handle.flush()
                os.fsync(self.handle.fileno())
                return
            except _OtherVersionError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise DataError(
                        "the server sent a different byte range than requested",
                        where=self.url,
                        hint="Download the file with a browser and put it there, or set ZOO_MIRROR",
                    ) from None
                self.discard()
            except _InterruptedError as interruption:
                gained, seconds = self.received - before, time.monotonic() - began
                began += seconds
                failures = 0 if gained > MIN_RATE * seconds else failures
                if failures >= len(RETRY_DELAYS_S):
                    raise NetworkError(
                        f"the download stopped at {self.received} bytes ({interruption})",
                        where=self.url,
                        hint="The received bytes are kept: run the same command again to resume",
                    ) from interruption
                time.sleep(RETRY_DELAYS_S[failures] if interruption.pause is None else interruption.pause)
                failures += 1

    def _request(self) -> None:
        state = self._read_state()
        if self.received and (state.url != self.url or (state.version is None and self.file.digest is None)):
            # Without a version or a checksum, it would go unnoticed if the two halves did not belong together.
            self.discard()
            state = _State()
        start = self.received
        # Without "identity" a server may compress the body, and byte ranges would refer to compressed bytes.
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if state.version:
                headers["If-Range"] = state.version
        try:
            response = requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            problem = f"the server cannot be reached{_reason(error)}"
            if start or self.state_file.exists():
                raise _InterruptedError(problem) from error
            raise NetworkError(
                problem,
                where=self.url,
                hint="Check the network and the proxy, or set ZOO_MIRROR to a folder that holds the file",
            ) from error
        except (OSError, HTTPError, ValueError) as error:
            # requests passes on the errors of a malformed address or redirect, and of a missing certificate file.
            raise DataError(f"cannot be downloaded ({error})", where=self.url) from error
        with response:
            total = self._check_answer(response, start, state)
            if total == start and response.status_code == requests.codes.requested_range_not_satisfiable:
                return
            if response.status_code == requests.codes.ok:
                self.discard()
                start = 0
            write_json(self.state_file, _State(self.url, _version(response)))
            if total is not None:
                self._check_space(total - start)
            self._receive(response, start, total)

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        done = counted = start
        since = time.monotonic()
        try:
            # read1 returns what has arrived; stream would wait for a whole chunk.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                self.handle.write(chunk)
                done += len(chunk)
                seconds = time.monotonic() - since
                if seconds >= TIMEOUT[1] and done != total:
                    if done - counted < MIN_RATE * seconds:
                        raise _InterruptedError(f"less than {MIN_RATE:g} bytes a second in {TIMEOUT[1]:g} s")
                    counted, since = done, since + seconds
                if total is not None and done > total:
                    raise _OtherVersionError
                if self.progress is not None:
                    self.progress(done, done if total is None else total)
        except (HTTPError, requests.RequestException) as error:
            raise _InterruptedError("the connection was lost") from error
        finally:
            self.handle.flush()
        if total is not None and done < total:
            raise _InterruptedError(f"the connection ended after {done} of {total} bytes")

    def _check_answer(self, response: requests.Response, start: int, state: _State) -> int | None:
        """Return the size of the whole file; None if the server does not report it."""
        status = response.status_code
        if status in TEMPORARY:
            wait = response.headers.get("Retry-After", "")
            raise _InterruptedError(
                f"the server answers {status} {response.reason}", min(float(wait), 60.0) if wait.isdecimal() else None
            )
        content_range = response.headers.get("Content-Range", "")
        if status == requests.codes.requested_range_not_satisfiable and start:
            if _number(content_range.rpartition("/")[2]) != start:
                raise _OtherVersionError
            return start
        if status == requests.codes.partial_content:
            found = re.fullmatch(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)", content_range)
            if found is None or not start or int(found[1]) != start or _version(response) != state.version:
                raise _OtherVersionError
            return _number(found[2])
        if status != requests.codes.ok:
            self.state_file.unlink(missing_ok=True)
            reasons = {401: "requires a login", 403: "denies access", 404: "has no such file", 410: "removed the file"}
            raise NetworkError(
                f"the server {reasons.get(status, 'does not send the file')} ({status} {response.reason})",
                where=self.url,
                hint="Open the URL in a browser; the data may have moved. Set ZOO_MIRROR to use another source",
            )
        total = _number(response.headers.get("Content-Length", ""))
        if total is not None and self.file.size is not None and total != self.file.size:
            raise DataError(
                f"the server offers {total} bytes, but {self.file.size} were published",
                where=self.url,
                hint="The file was changed at its source, or a proxy replaced it",
            )
        return self.file.size if total is None else total

    def _copy(self) -> None:
        source = Path(url2pathname(urlsplit(self.url).path))
        try:
            with source.open("rb") as opened:
                total = os.fstat(opened.fileno()).st_size
                self._check_space(total)
                self.discard()
                done = 0
                while chunk := opened.read(CHUNK_BYTES):
                    self.handle.write(chunk)
                    done += len(chunk)
                    if self.progress is not None:
                        self.progress(done, total)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise DataError(
                f"{self.file.name} is not in the mirror ({(error.strerror or '').lower()})",
                where=source,
                hint=f"Put it there (published at {self.file.url}), or unset ZOO_MIRROR",
            ) from error

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.state_file.parent).free
        if needed > free:
            raise DataError(
                f"the disk is too full: {needed / 1e6:.0f} MB of {self.url} are missing, {free / 1e6:.0f} MB are free",
                where=self.state_file.parent,
                hint="Free some space or name another folder; the received bytes are kept",
            )

    def _read_state(self) -> _State:
        try:
            return read_json(self.state_file, _State)
        except (FileNotFoundError, ZooError):
            return _State()


@contextmanager
def _locked(part: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open and lock the part file. A symbolic link is refused, because its target is another file."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(part, flags, 0o666), "ab") as handle:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise DataError(
                        "another process is downloading this file", where=part, hint="Wait for it, then run this again"
                    ) from None
                if not part.exists() or not os.path.samestat(os.fstat(handle.fileno()), part.stat()):
                    raise DataError(
                        "another process has just downloaded this file", where=target, hint="Run this again"
                    )
            try:
                yield handle
            finally:
                if not os.fstat(handle.fileno()).st_size:
                    part.unlink(missing_ok=True)
                    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write here ({(error.strerror or str(error)).lower()})",
            where=part,
            hint="Free some space or name another folder, then run this again: the received bytes are kept",
        ) from error


def _difference(file: RemoteFile, path: Path) -> str | None:
    """Describe how a file differs from the published one; None if it does not."""
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return f"{size} bytes instead of {file.size}"
        if file.digest is None:
            return None
        algorithm, expected = file.digest
        prefix = f"blob {size}\0".encode() if algorithm == "sha1" else b""
        with path.open("rb") as handle:
            hasher = hashlib.new(algorithm, prefix, usedforsecurity=False)
            found = hashlib.file_digest(handle, lambda: hasher).hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path) from error
    return None if found == expected else f"{algorithm} {found} instead of {expected}"


def _mirrored(url: str) -> str:
    """Return the URL in the mirror set by ``ZOO_MIRROR``; the unchanged URL without a mirror, or for a file."""
    mirror = os.environ.get("ZOO_MIRROR")
    address = urlsplit(url)
    if not mirror or address.scheme == "file":
        return url
    if "://" in mirror:
        _check_scheme(mirror)
        return f"{mirror.rstrip('/')}/{address.netloc}{address.path}"
    folder = Path(os.path.expanduser(mirror)).resolve()  # noqa: PTH111 - Path raises an error for an unknown user
    if not folder.is_dir():
        raise ConfigError("no such folder", where=f"ZOO_MIRROR={mirror}", hint="Name a folder or a URL, or unset it")
    return (folder / address.netloc / unquote(address.path).lstrip("/")).as_uri()


def _check_scheme(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ConfigError(f"is not a valid URL ({error})", where=url) from error
    if scheme not in {"http", "https", "file"}:
        raise ConfigError("the URL must begin with https://, http:// or file://", where=url)


def _reason(error: requests.RequestException) -> str:
    """Return why a server cannot be reached, in brackets; an empty string if the error does not show it."""
    if isinstance(error, requests.exceptions.SSLError):
        return " (its TLS certificate is not accepted, or it does not use TLS)"
    if isinstance(error, requests.exceptions.ProxyError):
        return " (the proxy does not connect to it)"
    return f" (no answer within {TIMEOUT[1]:g} s)" if isinstance(error, requests.ReadTimeout) else ""


def _version(response: requests.Response) -> str | None:
    """Return the strong validator that a range request can be conditioned on."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 20 else None
