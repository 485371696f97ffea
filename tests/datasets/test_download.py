"""Downloads against a real server: whole, cut, resumed, changed, killed, refused."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import urllib3

from tests.conftest import PATIENCE_S
from zoo.datasets import download as module
from zoo.datasets.download import RemoteFile, check_file, fetch
from zoo.errors import ConfigError, DataError, ZooError

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """One file, served in the ways that servers do."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.lies = False
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.announce = True
        self.redirect: str | None = None
        self.stops_at: int | None = None
        self.drips = False
        self.goes_on = threading.Event()
        self.asked: list[tuple[str, str | None]] = []

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what these tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/records/1/data.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.redirect is not None:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        same = self.headers.get("If-Range") in (None, server.etag)
        partial = bool(wanted) and server.ranges and same
        if partial and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = start - 7 if server.lies else start
        body = server.content[first:] if partial else server.content
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.announce:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        for byte in body if server.drips else b"":
            self.wfile.write(bytes([byte]))
            if server.goes_on.wait(0.02):
                return
        sent = server.cuts.pop(0) if server.cuts else len(body)
        for begin in range(0, sent, 1 << 16):
            self.wfile.write(body[begin : min(begin + (1 << 16), sent)])
            self.wfile.flush()
            if server.stops_at is not None and begin >= server.stops_at:
                server.goes_on.wait(PATIENCE_S)
        if sent < len(body) or not server.announce:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr(module, "RETRY_DELAYS_S", (0.0, 0.0))
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, **known: object) -> RemoteFile:
    return RemoteFile(server.url, "data.zip", **known)  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_is_not_fetched_again(server, tmp_path):
    seen = []
    folder = tmp_path / "données" / "新"
    got = fetch(remote(server, size=len(CONTENT), md5=MD5), folder, lambda *counts: seen.append(counts))
    assert got == folder / "data.zip"
    assert got.read_bytes() == CONTENT
    assert left(folder) == ["data.zip"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert fetch(remote(server, sha256=SHA256.upper()), folder) == got
    assert len(server.asked) == 1


def test_a_wrong_file_is_replaced_once_the_right_one_is_whole(server, tmp_path):
    (tmp_path / "data.zip").write_bytes(b"old")
    server.statuses = [404]
    with pytest.raises(DataError):
        fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == b"old"
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_stopped(server, tmp_path):
    server.cuts = [300_000, 200_000]
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_that_stalls_again_and_again_is_resumed_where_it_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 0.3))
    server.stops_at = 300_000
    try:
        fetch(remote(server, md5=MD5), tmp_path)
    finally:
        server.goes_on.set()
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_server_that_drips_is_given_up_and_resumed_by_the_next_call(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 0.1))
    server.drips = True
    with pytest.raises(DataError, match=r"less than 1000 bytes a second.*the same command again to resume"):
        fetch(remote(server, md5=MD5), tmp_path)
    assert len(server.asked) == 3
    received = (tmp_path / "data.zip.part").stat().st_size
    assert 0 < received < 100
    server.drips = False
    fetch(remote(server, md5=MD5), tmp_path)
    assert server.asked[-1][1] == f"bytes={received}-"


def test_a_later_call_resumes(server, tmp_path):
    server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"the download stopped at 100000 bytes.*run the same command again to resume"):
        fetch(remote(server, md5=MD5), tmp_path)
    assert left(tmp_path) == ["data.zip.part", "data.zip.part.json"]
    fetch(remote(server, md5=MD5), tmp_path)
    assert server.asked[-1][1] == "bytes=100000-"
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert left(tmp_path) == ["data.zip"]


def test_without_ranges_it_begins_again(server, tmp_path):
    server.ranges = False
    server.cuts = [300_000]
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_another_version_is_not_mixed_in(server, tmp_path):
    server.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError, match="the download stopped"):
        fetch(remote(server), tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    server.asked.clear()
    server.cuts.clear()
    fetch(remote(server), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT[::-1]
    # If-Range: the server sends the new version at once, without a second request.
    assert [wanted for _, wanted in server.asked] == ["bytes=300000-"]


def test_a_download_without_a_version_is_resumed_only_with_a_checksum(server, tmp_path):
    server.etag = None
    server.cuts = [300_000]
    fetch(remote(server, md5=MD5), tmp_path / "known")
    assert [wanted for _, wanted in server.asked] == [None, "bytes=300000-"]
    server.asked.clear()
    server.cuts = [300_000]
    fetch(remote(server), tmp_path / "unknown")
    assert [wanted for _, wanted in server.asked] == [None, None]
    assert (tmp_path / "unknown" / "data.zip").read_bytes() == CONTENT


def test_a_damaged_part_is_fetched_once_more_from_the_start(server, tmp_path):
    server.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(remote(server, md5=MD5), tmp_path)
    part = tmp_path / "data.zip.part"
    part.write_bytes(b"\xff" * 300_000)
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_part_that_is_complete_only_gets_its_name(server, tmp_path):
    server.cuts = [300_000, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(remote(server, md5=MD5), tmp_path)
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_server_that_sends_other_bytes_than_requested_causes_an_error(server, tmp_path):
    server.lies = True
    server.cuts = [300_000] * 9
    with pytest.raises(DataError, match="a different byte range than requested"):
        fetch(remote(server, md5=MD5), tmp_path)
    assert not (tmp_path / "data.zip").exists()


def test_the_wrong_bytes_are_refused_with_both_checksums(server, tmp_path):
    server.content = b"no such data"
    found = hashlib.md5(server.content).hexdigest()
    with pytest.raises(DataError, match=f"md5 {found} instead of {MD5}"):
        fetch(remote(server, md5=MD5), tmp_path)
    assert left(tmp_path) == []
    with pytest.raises(DataError, match="offers 12 bytes, but 1048576 were published"):
        fetch(remote(server, size=len(CONTENT)), tmp_path)


def test_a_short_body_without_a_length_is_detected_by_the_size(server, tmp_path):
    server.announce = False
    server.cuts = [300_000]
    fetch(remote(server, size=len(CONTENT)), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert len(server.asked) > 1


def test_passing_errors_are_tried_again(server, tmp_path):
    server.statuses = [503, 429]
    fetch(remote(server, md5=MD5), tmp_path)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "has no such file"), (403, "denies access"), (401, "requires a login"), (500, "answers 500")],
)
def test_refusals_name_the_problem_and_the_address(server, tmp_path, status, words):
    server.statuses = [status] * 5
    with pytest.raises(DataError, match=words) as caught:
        fetch(remote(server), tmp_path)
    assert caught.value.where == server.url
    assert left(tmp_path) == []


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DataError, match=r"the server cannot be reached.*ZOO_MIRROR"):
        fetch(RemoteFile("http://127.0.0.1:9/data.zip", "data.zip"), tmp_path)
    assert left(tmp_path) == []


def test_a_killed_download_goes_on(server, tmp_path):
    server.stops_at = 1 << 19
    code = (
        "import sys; from pathlib import Path; from zoo.datasets.download import RemoteFile, fetch\n"
        "import zoo.datasets.download as module\n"
        f"fetch(RemoteFile({server.url!r}, 'data.zip', md5={MD5!r}), Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "NO_PROXY": "127.0.0.1"})
    part = tmp_path / "data.zip.part"
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (part.exists() and part.stat().st_size > 1 << 17):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(DataError, match="another process is downloading this file"):
            fetch(remote(server, md5=MD5), tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.goes_on.set()
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    fetch(remote(server, md5=MD5), tmp_path)
    assert server.asked[-1][1] == f"bytes={kept}-"
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_control_c_keeps_what_has_arrived(server, tmp_path):
    def stop(done: int, total: int) -> None:
        if done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote(server, md5=MD5), tmp_path, stop)
    assert (tmp_path / "data.zip.part").stat().st_size > 300_000
    fetch(remote(server, md5=MD5), tmp_path)
    assert server.asked[-1][1] is not None


def test_a_full_disk_is_reported_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"the disk is too full: 1 MB of .* are missing"):
        fetch(remote(server), tmp_path)


def test_a_disk_that_fills_keeps_the_part(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(ZooError, match=r"cannot write here \(file too large\).*the received bytes are kept"):
            fetch(remote(server), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "data.zip.part").stat().st_size == 300_000
    fetch(remote(server), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_symbolic_link_in_the_place_of_the_part_is_not_written_through(server, tmp_path):
    (tmp_path / "precious").write_bytes(b"keep me")
    (tmp_path / "data.zip.part").symlink_to(tmp_path / "precious")
    with pytest.raises(DataError, match="cannot write here"):
        fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "precious").read_bytes() == b"keep me"


def test_a_folder_that_cannot_be_written_to(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        fetch(remote(server), tmp_path / "file" / "below")


def test_a_mirror_in_a_folder_takes_the_place_of_the_network(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror ü"
    (mirror / "zenodo.org" / "records" / "1" / "files").mkdir(parents=True)
    (mirror / "zenodo.org" / "records" / "1" / "files" / "a b.zip").write_bytes(CONTENT)
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    file = RemoteFile("https://zenodo.org/records/1/files/a%20b.zip?download=1", "data.zip", md5=MD5)
    assert fetch(file, tmp_path / "to").read_bytes() == CONTENT
    other = RemoteFile("https://zenodo.org/records/2/files/b.zip", "b.zip")
    with pytest.raises(DataError, match=r"b.zip is not in the mirror.*published at https://zenodo.org"):
        fetch(other, tmp_path / "to")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder"):
        fetch(other, tmp_path / "to")


def test_a_mirror_on_a_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_MIRROR", f"http://127.0.0.1:{server.server_port}/copy/")
    fetch(RemoteFile("https://zenodo.org/records/1/data.zip", "data.zip", md5=MD5), tmp_path)
    assert server.asked[0][0] == "/copy/zenodo.org/records/1/data.zip"


def test_a_file_url(tmp_path):
    (tmp_path / "source.bin").write_bytes(CONTENT)
    seen = []
    url = (tmp_path / "source.bin").as_uri()
    fetch(RemoteFile(url, "copy.bin", sha256=SHA256), tmp_path / "to", lambda *counts: seen.append(counts))
    assert (tmp_path / "to" / "copy.bin").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\0b"])
def test_a_name_with_a_folder_is_refused(name):
    with pytest.raises(ConfigError, match="not a plain file name"):
        RemoteFile("https://zenodo.org/a", name)


def test_other_addresses_are_refused():
    with pytest.raises(ConfigError, match="must begin with https://"):
        RemoteFile("ftp://zenodo.org/a", "a")


@pytest.mark.parametrize(
    "url", ["http://example..org/a", f"http://{'a' * 70}.org/a", "http://h:99999/a", "http://\ud800/a"]
)
def test_an_address_that_no_server_has(tmp_path, url):
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(RemoteFile(url, "a"), tmp_path)
    assert left(tmp_path) == []


def test_an_address_that_is_no_url():
    with pytest.raises(ConfigError, match=r"http://\[::1/a: is not a valid URL"):
        RemoteFile("http://[::1/a", "a")


@pytest.mark.parametrize("to", ["http://[bad/a", "http://a..b/", "file:///etc/passwd", "/records", "\x80\xff"])
def test_a_redirect_that_leads_nowhere(server, tmp_path, to):
    server.redirect = to
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(remote(server), tmp_path)
    assert left(tmp_path) == []


def test_the_reason_why_a_server_cannot_be_reached(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 0.3))
    secure = RemoteFile(server.url.replace("http:", "https:"), "a")
    no_answer = pytest.raises(DataError, match=r"cannot be reached \(no answer within 0\.3 s\)")
    with socket.create_server(("127.0.0.1", 0)) as silent, no_answer:
        fetch(RemoteFile(f"http://127.0.0.1:{silent.getsockname()[1]}/a", "a"), tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(DataError, match=r"cannot be downloaded \(Could not find a suitable TLS CA.*none\.pem"):
        fetch(secure, tmp_path)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(DataError, match=r"cannot be reached \(the proxy does not connect to it\)") as raised:
        fetch(RemoteFile("http://example.org/a", "a"), tmp_path)
    assert "secret" not in str(raised.value)


def test_check_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    check_file(RemoteFile("https://x.org/a", "a", md5=hashlib.md5(b"abc").hexdigest()), path)
    with pytest.raises(DataError, match="not the published file: 3 bytes instead of 4"):
        check_file(RemoteFile("https://x.org/a", "a", size=4), path)
    with pytest.raises(DataError, match="cannot be read"):
        check_file(RemoteFile("https://x.org/a", "a"), tmp_path / "none")


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x", "\u00b2", "1e3"])
def test_a_length_that_is_not_a_number_is_ignored(tmp_path, monkeypatch, length):
    class Response(requests.Response):
        def __init__(self):
            super().__init__()
            self.status_code = 200
            self.headers["Content-Length"] = length
            self.raw = urllib3.HTTPResponse(io.BytesIO(CONTENT), preload_content=False)

    monkeypatch.setattr(requests, "get", lambda *_, **__: Response())
    assert fetch(RemoteFile("https://x.org/a", "a", md5=MD5), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("state", ["", "[]", '{"url": 5}', "[" * 100_000, '{"url": "https://elsewhere.org/a"}'])
def test_a_damaged_state_only_costs_the_bytes_that_have_arrived(server, tmp_path, state):
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1000])
    (tmp_path / "data.zip.part.json").write_text(state)
    fetch(remote(server, md5=MD5), tmp_path)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None]
