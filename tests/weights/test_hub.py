"""Push and pull against a stand-in for the hub's HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import zoo
from tests.mapping.conftest import bundle
from tests.weights.conftest import write_bundle
from zoo.cli import run
from zoo.datasets import download
from zoo.datasets.download import NetworkError
from zoo.errors import ConfigError, DataError, ResultError, ZooError
from zoo.weights.hub import HubAddress, hub_folder, push_folder
from zoo.weights.sources import resolve

__all__ = ["bundle"]
close_session = getattr(huggingface_hub, "close_session", lambda: None)
"""Forget the HTTP client, which reads the proxies once; huggingface_hub before 1.0 has none."""
Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories in memory: the part of the interface that listing, downloading and committing need."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, str]] = {}
        self.commits: dict[str, Files] = {}
        self.objects: Files = {}
        self.private: set[str] = set()
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.tokens: list[str] = []
        self.files_at: str | None = None
        self.altered: Files = {}

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is expected."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repo: str, files: Files, branch: str = "main") -> str:
        """Put files into a repository as a commit and return its name."""
        content = b"".join(name.encode() + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(content).hexdigest()
        self.commits[commit] = files
        self.repos.setdefault(repo, {})[branch] = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, content: object = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def may_see(self, repo: str) -> bool:
        if repo in self.server.repos and (repo not in self.server.private or self.token):
            return True
        self.reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return False

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        server.tokens.append(self.token)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^?]+)(\?.*)?", self.path):
            repo, revision = found[1], found[2].replace("%2F", "/")
            if not self.may_see(repo):
                return
            commit = revision if revision in server.commits else server.repos[repo].get(revision)
            if commit is None:
                self.reply(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
                return
            siblings = []
            for name, data in server.commits[commit].items():
                blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
                entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
                if name.endswith((".safetensors", ".png")):
                    digest = hashlib.sha256(data).hexdigest()
                    entry["blobId"] = "0" * 40
                    entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
                siblings.append(entry)
            self.reply(200, {"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": []})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", self.path):
            if server.files_at is not None:
                self.reply(302, b"", Location=f"{server.files_at}{self.path}")
            elif self.may_see(found[1]):
                self.send_file(server.altered.get(found[3]) or server.commits[found[2]][found[3]])
        else:
            self.reply(404, {"error": self.path})

    def send_file(self, data: bytes) -> None:
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        sent = self.server.cuts.pop(0) if self.server.cuts else len(data)
        self.wfile.write(data[start : start + sent])
        if start + sent < len(data):
            self.close_connection = True

    def do_POST(self) -> None:
        server, sent = self.server, self.body()
        if self.token in ("", "wrong"):
            self.reply(401, {"error": "no"}, X_Error_Message="Invalid credentials in Authorization header")
        elif self.token == "reader":
            self.reply(403, {"error": "this token may only read"}, X_Error_Message="this token may only read")
        elif self.path == "/api/repos/create":
            wanted = json.loads(sent)
            repo = f"{wanted['organization']}/{wanted['name']}"
            if repo not in server.repos:
                server.add(repo, {".gitattributes": b""})
                server.private |= {repo} if wanted.get("visibility") == "private" or wanted.get("private") else set()
            self.reply(200, {"url": f"{server.url}/{repo}"})
        elif self.path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/[^?]+", self.path):
            large = (".safetensors", ".png")
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(large) else "regular"}
                for one in json.loads(sent)["files"]
            ]
            self.reply(200, {"files": [{**one, "shouldIgnore": False} for one in files]})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{server.url}/lfs/{one['oid']}", "header": {}}}}
                for one in json.loads(sent)["objects"]
            ]
            self.reply(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^?]+)", self.path):
            self.commit(found[1], found[2], [json.loads(line) for line in sent.splitlines()])
        else:
            self.reply(404, {"error": self.path})

    def commit(self, repo: str, branch: str, operations: list[dict[str, dict[str, str]]]) -> None:
        if branch not in self.server.repos[repo]:
            self.reply(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        files = dict(self.server.commits[self.server.repos[repo][branch]])
        for one in operations:
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif one["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.server.add(repo, files, branch)
        url = f"{self.server.url}/{repo}/commit/{commit}"
        self.reply(200, {"commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

    def do_PUT(self) -> None:
        data = self.body()
        assert hashlib.sha256(data).hexdigest() == self.path.rpartition("/")[2]
        self.server.objects[self.path.rpartition("/")[2]] = data
        self.reply(200, {})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setenv("HF_TOKEN", "writer")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(download, "RETRY_DELAYS_S", (0.0, 0.0))
    monkeypatch.setattr(download, "CHUNK_BYTES", 1 << 10)
    close_session()
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)  # read when the library is imported
        yield running
    close_session()


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def content(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def with_card(small_bundle: Path) -> Path:
    """A bundle with a card, a picture and the files that training leaves in its folder."""
    (small_bundle / "card").mkdir()
    (small_bundle / "card" / "map.png").write_bytes(b"\x89PNG map")
    (small_bundle / "train.log").write_text("lines")
    (small_bundle / "last.ckpt").write_bytes(b"pickle")
    return small_bundle


def test_a_pushed_bundle_is_pulled_again_and_holds_nothing_else(hub: Hub, with_card: Path, tmp_path: Path) -> None:
    pushed = push_folder(with_card, "hf://survey/slides", private=True)
    assert str(pushed.address) == f"hf://survey/slides@{hub.repos['survey/slides']['main']}"
    assert hub.private == {"survey/slides"}
    names = {"model.safetensors", "bundle.json", "README.md", "card/map.png"}
    assert set(pushed.files) == names == set(hub.commits[pushed.address.revision]) - {".gitattributes"}
    pulled = zoo.pull("hf://survey/slides", tmp_path / "copy")
    assert pulled.address == str(pushed.address)
    assert content(tmp_path / "copy") == {name: data for name, data in content(with_card).items() if name in names}
    with pytest.raises(ConfigError, match=r"already holds a bundle"):
        zoo.pull("hf://survey/slides", tmp_path / "copy")


def test_a_push_removes_the_pictures_of_an_older_card(hub: Hub, with_card: Path) -> None:
    first = push_folder(with_card, "hf://survey/slides")
    (with_card / "card" / "map.png").rename(with_card / "card" / "new.png")
    second = push_folder(with_card, "hf://survey/slides")
    assert {name for name in hub.commits[second.address.revision] if name.startswith("card/")} == {"card/new.png"}
    assert "card/map.png" in content(hub_folder(str(first.address)))


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("wrong", "the hub does not accept the token"),
        ("reader", "the hub denies access .*may only read.*permission to write to survey/slides"),
    ],
)
def test_a_token_that_the_hub_refuses(
    hub: Hub, small_bundle: Path, token: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DataError, match=problem):
        push_folder(small_bundle, "hf://survey/slides")
    assert hub.commits == {}


def test_only_an_intact_bundle_is_pushed_and_only_to_a_branch(hub: Hub, small_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"a commit cannot be changed"):
        push_folder(small_bundle, f"hf://survey/slides@{'ab' * 20}")
    with pytest.raises(DataError, match=r"has no revision 'candidate'"):
        push_folder(small_bundle, "hf://survey/slides@candidate")
    with (small_bundle / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ResultError, match=r"sha256 differs"):
        push_folder(small_bundle, "hf://survey/slides")


@pytest.mark.parametrize(
    "text", ["hf://repo", "hf://a--b/c", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@../c", "hf://a b/c"]
)
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not an address of the hub"):
        resolve(text)


def test_repositories_and_revisions_that_do_not_exist(hub: Hub, small_bundle: Path) -> None:
    hub.add("survey/slides", content(small_bundle))
    with pytest.raises(DataError, match=r"there is no such repository, or it is private"):
        resolve("hf://survey/slide")
    with pytest.raises(DataError, match=r"has no revision 'v2'"):
        resolve("hf://survey/slides@v2")


def test_a_private_repository_needs_the_token(hub: Hub, small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("survey/slides", content(small_bundle))
    hub.private.add("survey/slides")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(small_bundle / "nowhere"))
    with pytest.raises(DataError, match=r"or it is private.*hf auth login, or set HF_TOKEN"):
        resolve("hf://survey/slides")
    monkeypatch.setenv("HF_TOKEN", "reader")
    assert content(resolve("hf://survey/slides")) == content(small_bundle)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"pytorch_model.bin": b"", "bundle.json": b"{}"}, r"holds pytorch_model\.bin, a pickle, but no model\.safe"),
        ({"last.ckpt": b""}, r"holds last\.ckpt, a pickle"),
        ({"README.md": b"", "notes.txt": b""}, r"has no bundle\.json; it holds README\.md, notes\.txt"),
        ({"bundle.json": b'{"format": 2}', "model.safetensors": b"x"}, "has bundle format 2, but this version"),
        ({"bundle.json": b"<html>", "model.safetensors": b"x"}, "not valid JSON"),
    ],
)
def test_a_repository_without_a_bundle_is_refused_before_its_weights_are_read(
    hub: Hub, files: Files, problem: str, own_cache: Path
) -> None:
    hub.add("survey/slides", files)
    with pytest.raises(ResultError, match=problem):
        resolve("hf://survey/slides")
    assert not any("safetensors" in path for path, _ in hub.asked)
    assert not list(own_cache.rglob("model.safetensors*"))


def test_an_interrupted_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "large", rows=5000)
    commit = hub.add("survey/slides", content(folder))
    hub.cuts = [1 << 20, 30_000, 0, 0, 0]
    with pytest.raises(NetworkError, match=r"stopped at 30000 bytes.*run the same command again.*By hand: download"):
        resolve("hf://survey/slides")
    hub.asked.clear()
    seen: list[tuple[int, int]] = []
    found = resolve("hf://survey/slides", progress=lambda done, total: seen.append((done, total)))
    assert content(found) == content(folder)
    assert (f"/survey/slides/resolve/{commit}/model.safetensors", "bytes=30000-") in hub.asked
    assert seen[-1] == (sum(map(len, content(folder).values())),) * 2
    assert seen == sorted(seen)


def test_altered_weights_are_refused(hub: Hub, small_bundle: Path, tmp_path: Path, own_cache: Path) -> None:
    files = content(small_bundle)
    hub.add("survey/slides", files)
    hub.altered = {"model.safetensors": files["model.safetensors"][:-1] + b"!"}
    with pytest.raises(DataError, match=r"are not the published file: sha256"):
        resolve("hf://survey/slides")
    hub.altered = {}
    hub.add("survey/other", {**files, "model.safetensors": b"other"})
    with pytest.raises(ResultError, match=r"sha256 differs"):
        resolve("hf://survey/other")
    assert not list(own_cache.rglob("model.safetensors"))


@pytest.mark.parametrize("name", ["bundle.json", "README.md"])
def test_an_altered_text_is_refused_and_downloaded_again(hub: Hub, small_bundle: Path, name: str) -> None:
    files = content(small_bundle)
    hub.add("survey/slides", files)
    hub.altered = {name: b"x" * len(files[name])}
    with pytest.raises(DataError, match=r"are not the published file: sha1 .*Try again"):
        resolve("hf://survey/slides")
    hub.altered = {}
    assert content(resolve("hf://survey/slides")) == files


@pytest.mark.parametrize("implicit", [True, False])
def test_the_token_is_sent_to_the_hub_alone(
    hub: Hub, small_bundle: Path, monkeypatch: pytest.MonkeyPatch, implicit: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", not implicit)
    hub.add("survey/slides", content(small_bundle))
    with serving() as storage:
        storage.repos, storage.commits, hub.files_at = hub.repos, hub.commits, storage.url
        resolve("hf://survey/slides")
    assert set(hub.tokens) == ({"writer"} if implicit else {""})
    assert set(storage.tokens) == {""}
    assert len(storage.tokens) == 3


def test_the_offline_mode_of_the_hub_is_named(hub: Hub, small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("survey/slides", content(small_bundle))
    folder = resolve("hf://survey/slides")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    told: list[str] = []
    assert resolve("hf://survey/slides", notify=told.append) == folder
    assert "HF_HUB_OFFLINE is set" in told[0]
    with pytest.raises(NetworkError, match=r"HF_HUB_OFFLINE is set"):
        resolve("hf://survey/new")


def test_a_damaged_copy_is_downloaded_again(hub: Hub, small_bundle: Path) -> None:
    commit = hub.add("survey/slides", content(small_bundle))
    for address in ("hf://survey/slides", f"hf://survey/slides@{commit}"):
        (resolve(address) / "bundle.json").write_text("{")
        assert content(resolve(address)) == content(small_bundle)
        (resolve(address) / "model.safetensors").write_bytes(b"x")
        assert content(resolve(address)) == content(small_bundle)


def test_without_a_network_copies_are_used_and_reported(
    hub: Hub, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add("survey/slides", content(small_bundle))
    folder = resolve("hf://survey/slides")
    asked = len(hub.asked)
    assert resolve(f"hf://survey/slides@{commit}") == folder
    assert len(hub.asked) == asked, "a pinned commit needs no network"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told: list[str] = []
    assert resolve("hf://survey/slides", notify=told.append) == folder
    used = f"so the copy of commit {commit[:12]} on this machine is used"
    assert told == [f"hf://survey/slides@main: the hub cannot be reached, {used}"]
    by_hand = r"By hand: download bundle\.json and model\.safetensors from http://127\.0\.0\.1:9/survey/new to a folder"
    with pytest.raises(NetworkError, match=by_hand):
        resolve("hf://survey/new")


def test_registered_weights_may_be_on_the_hub(hub: Hub, small_bundle: Path, register: Callable[..., Path]) -> None:
    commit = hub.add("survey/slides", content(small_bundle))
    register(location=f"hf://survey/slides@{commit}")
    assert content(resolve("unet/valley-rgb")) == content(small_bundle)


def test_the_commands(
    hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle, "mine")
    assert run(["push", "mine", "hf://survey/slides", "--message", "First"]) == 0
    captured = capsys.readouterr()
    address = captured.out.strip()
    assert address == str(HubAddress("survey/slides", hub.repos["survey/slides"]["main"]))
    assert f"zoo map {address} scene.tif" in captured.err
    assert run(["pull", address, "--out", "copy"]) == 0
    assert "# unet" in Path("copy/README.md").read_text(), "a bundle without a card gets one"
    assert capsys.readouterr().out == "copy\n"
    assert zoo.load("copy").bundle.weights_sha256 == zoo.load(address).bundle.weights_sha256
    assert run(["push", "mine", "survey/slides"]) == 2
    assert "Give hf://owner/repo" in capsys.readouterr().err
    with pytest.raises(ZooError, match=r"there is no such folder"):
        zoo.push("nothing", "hf://survey/slides")
