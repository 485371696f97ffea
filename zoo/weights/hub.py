"""Bundles in model repositories of the Hugging Face hub.

huggingface_hub lists repositories and uploads files, with the user's token (``hf auth login`` or ``HF_TOKEN``) and the
address of a private hub (``HF_ENDPOINT``). Files are downloaded by :mod:`zoo.datasets.download`, because
huggingface_hub 2 restarts an interrupted download at the first byte.

Only the files of a bundle are read or written: ``bundle.json``, ``model.safetensors``, ``README.md`` and the pictures
``card/*.png``. Other files of a repository are ignored.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.datasets.download import NetworkError, RemoteFile, fetch
from zoo.errors import ConfigError, DataError, ResultError, ZooError, first_line
from zoo.files import cache_folder, check_writable_folder, file_name, unwritable, waiting_lock, write_json_atomic
from zoo.jobs import ProgressCallback
from zoo.schema import from_plain, read_json
from zoo.training.bundle_layout import (
    CARD,
    CARD_PICTURES,
    COPY_AGAIN,
    DESCRIPTION,
    PICKLES,
    WEIGHTS,
    check_weights,
    is_intact,
    read_header,
)

SCHEME = "hf://"
DEFAULT_REVISION = "main"
MAX_PICTURES = 100
MAX_BYTES = 8 << 30
"""Maximum size of a bundle in a repository [O]."""
_ADDRESS = re.compile(r"hf://([\w.\-]+)/([\w.\-]+)(?:@([\w.\-/]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PICTURE = re.compile(rf"{CARD_PICTURES}/[\w.\-]+\.png")
_NOT_A_BUNDLE = f"A bundle is {DESCRIPTION} and {WEIGHTS}; zoo push writes it"


@dataclass(frozen=True)
class HubAddress:
    """A model repository and one of its revisions.

    Attributes:
        repo: owner and name, such as ``survey/landslides``.
        revision: branch, tag or commit.
    """

    repo: str
    revision: str = DEFAULT_REVISION

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Read ``hf://owner/repo`` or ``hf://owner/repo@revision``.

        Raises:
            ConfigError: if it has another form.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or ".." in text:
            raise ConfigError(
                "not an address of the hub", where=text, hint="Give hf://owner/repo or hf://owner/repo@REV"
            )
        return cls(f"{found[1]}/{found[2]}", found[3] or DEFAULT_REVISION)

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Pushed:
    """An uploaded bundle.

    Attributes:
        address: address of the commit, whose files never change.
        url: page of the commit.
        files: names of the uploaded files.
        bytes: total size of the files.
    """

    address: HubAddress
    url: str
    files: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class _HubFile:
    name: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class _Listing:
    commit: str
    files: tuple[_HubFile, ...]


def hub_folder(
    text: str, *, progress: ProgressCallback | None = None, notify: Callable[[str], None] = lambda text: None
) -> Path:
    """Return the folder of the bundle in a hub repository; each commit is downloaded once.

    Without a network, the newest copy of the branch or tag on this machine is used, and ``notify`` reports it.

    Args:
        text: ``hf://owner/repo`` or ``hf://owner/repo@revision``.
        progress: called with the number of bytes received and the total.
        notify: called with messages for the user.

    Raises:
        NetworkError: if the hub cannot be reached and there is no copy.
        DataError: if there is no such repository or revision, or its files differ from its listing.
        ResultError: if the repository holds no bundle, or one of a newer version.
        ConfigError: if the address is malformed.
    """
    address = HubAddress.parse(text)
    home = cache_folder("weights") / "hub" / file_name(address.repo.replace("/", "--"))
    if address.is_commit and is_intact(home / address.revision):
        return home / address.revision
    try:
        listing = _list(address)
    except NetworkError as error:
        commit = _known_commits(home).get(address.revision, "")
        if _COMMIT.fullmatch(commit) and is_intact(home / commit):
            notify(f"{address}: {error.problem}, so the copy of commit {commit[:12]} on this machine is used")
            return home / commit
        raise
    _check_listing(address, listing)
    folder = home / listing.commit
    if not is_intact(folder):
        check_writable_folder(home)
        waiting = f"waiting for another process that is downloading {address}"
        with waiting_lock(home / f".{listing.commit}.lock", lambda: notify(waiting)):
            if not is_intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _download(address, listing, folder, progress)
    if not address.is_commit:
        # The record only helps without a network.
        with suppress(ZooError):
            write_json_atomic(home / "revisions.json", {**_known_commits(home), address.revision: listing.commit})
    read_header(folder)
    return folder


def push_folder(
    folder: Path, text: str, *, private: bool = False, message: str = "", card: str | None = None
) -> Pushed:
    """Upload the bundle in a folder as one commit; the repository is created if it does not exist.

    Args:
        folder: folder of the bundle.
        text: ``hf://owner/repo``, or ``hf://owner/repo@branch`` for an existing branch.
        private: create the repository as private.
        message: first line of the commit.
        card: text of the model card, used instead of the file in the folder.

    Returns:
        The commit and its files.

    Raises:
        ResultError: if the folder holds no bundle, or its weights do not match its description.
        ConfigError: if the address is malformed or names a commit.
        DataError: if the hub rejects the upload; the message gives the reason.
        NetworkError: if the hub cannot be reached.
    """
    address = HubAddress.parse(text)
    if address.is_commit:
        raise ConfigError("a commit cannot be changed", where=text, hint="Name a branch, or none for main")
    header = read_header(folder)
    check_weights(folder, header)
    sources: dict[str, Path | bytes] = {
        name: folder / name for name in (WEIGHTS, DESCRIPTION, CARD) if (folder / name).is_file()
    }
    if card is not None:
        sources[CARD] = card.encode()
    sources |= {f"{CARD_PICTURES}/{path.name}": path for path in sorted((folder / CARD_PICTURES).glob("*.png"))}
    with _hub_errors(address), _bars_on_terminals_only():
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api = _api()
        api.create_repo(address.repo, private=private or None, exist_ok=True)
        old = {file.name for file in _list(address).files if _PICTURE.fullmatch(file.name)} - set(sources)
        operations: list[Any] = [CommitOperationAdd(name, content) for name, content in sources.items()]
        operations += [CommitOperationDelete(name) for name in sorted(old)]
        done = api.create_commit(
            address.repo,
            operations,
            commit_message=message or f"Upload {header.model.name} trained with landslide-zoo",
            revision=address.revision,
        )
    commit = HubAddress(address.repo, str(done.oid))
    sizes = [len(source) if isinstance(source, bytes) else source.stat().st_size for source in sources.values()]
    return Pushed(commit, str(done.commit_url), tuple(sources), sum(sizes))


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), library_name="landslide-zoo")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _list(address: HubAddress) -> _Listing:
    """Return the commit of a revision and the files in it."""
    with _hub_errors(address):
        info = _api().model_info(address.repo, revision=address.revision, files_metadata=True, timeout=30.0)
        if not _COMMIT.fullmatch(info.sha or ""):
            raise DataError("the hub does not name the commit of this revision", where=address)
        files = []
        for sibling in info.siblings or ():
            lfs = getattr(sibling, "lfs", None)
            # The git blob of a large file holds a pointer to it instead of its content.
            checksum = {"git_sha1": sibling.blob_id} if lfs is None else {"sha256": lfs.sha256}
            files.append({"name": sibling.rfilename, "size": sibling.size, **checksum})
        listing = {"commit": info.sha, "files": files}
        return from_plain(listing, _Listing, what="list of files", where=address, error=DataError)


def _check_listing(address: HubAddress, listing: _Listing) -> None:
    """Check that a repository holds a bundle, before anything is downloaded."""
    names = {file.name for file in listing.files}
    absent = [name for name in (DESCRIPTION, WEIGHTS) if name not in names]
    if absent:
        pickles = sorted(name for name in names if name.endswith((*PICKLES, ".ckpt")))
        if pickles:
            raise ResultError(
                f"the repository holds {pickles[0]}, a pickle, but no {absent[-1]}",
                where=address,
                hint=f"A pickle may run code, so zoo does not open it. {_NOT_A_BUNDLE}",
            )
        held = ", ".join(sorted(names)[:8]) or "no files"
        raise ResultError(f"the repository has no {absent[0]}; it holds {held}", where=address, hint=_NOT_A_BUNDLE)
    size = sum(file.size or 0 for file in _bundle_files(listing))
    if size > MAX_BYTES or len(_bundle_files(listing)) > MAX_PICTURES:
        raise ResultError(f"the bundle is too large ({size / 1e9:.1f} GB in {len(names)} files)", where=address)


def _bundle_files(listing: _Listing) -> list[_HubFile]:
    """Return the files of the bundle; the description comes first, because it shows whether the rest can be used."""
    order = {DESCRIPTION: 0, WEIGHTS: 1, CARD: 2}
    found = [file for file in listing.files if file.name in order or _PICTURE.fullmatch(file.name)]
    return sorted(found, key=lambda one: (order.get(one.name, 3), one.name))


def _download(address: HubAddress, listing: _Listing, folder: Path, progress: ProgressCallback | None) -> None:
    """Download a commit to a temporary folder that survives an interruption, and rename it when it is complete."""
    part = folder.with_name(f".{listing.commit}.part")
    files = _bundle_files(listing)
    total = sum(file.size or 0 for file in files)
    done = 0
    page = f"{_endpoint()}/{address.repo}/tree/{listing.commit}"
    for one in files:
        url = f"{_endpoint()}/{address.repo}/resolve/{listing.commit}/{one.name}"
        target = part / one.name
        remote = RemoteFile(url, target.name, one.size, sha256=one.sha256, git_sha1=one.git_sha1)

        def show(received: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + received, total)

        try:
            fetch(remote, target.parent, show, headers=_headers())
        except NetworkError as error:
            names = ", ".join(file.name for file in files)
            error.hint = f"{error.hint}. By hand: download {names} from {page} to a folder, and name that folder"
            raise
        done += one.size or 0
        if one.name == DESCRIPTION:
            with _unusable_removed(part, address):
                read_header(part)
    with _unusable_removed(part, address):
        check_weights(part, read_header(part))
    try:
        part.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


@contextmanager
def _unusable_removed(part: Path, address: HubAddress) -> Iterator[None]:
    """Remove the downloaded files if they are not a bundle, so that the next call downloads them again."""
    try:
        yield
    except ResultError as error:
        shutil.rmtree(part, ignore_errors=True)
        hint = "Try again. If the error persists, the owner must push the bundle again"
        raise ResultError(error.problem, where=address, hint=hint if error.hint == COPY_AGAIN else error.hint) from None


def _headers() -> dict[str, str]:
    """Return the user's token as a header; requests does not pass it on to another host."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _known_commits(home: Path) -> dict[str, str]:
    try:
        return read_json(home / "revisions.json", dict[str, str])
    except (FileNotFoundError, ZooError):
        return {}


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Disable huggingface_hub's progress bars if standard error is a file or a pipe."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _hub_errors(address: HubAddress) -> Iterator[None]:
    """Convert exceptions of huggingface_hub to errors that tell the user what to do."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        kind, problem, hint = _explain(error, address)
        raise kind(problem, where=address, hint=hint) from error


def _explain(error: Exception, address: HubAddress) -> tuple[type[ZooError], str, str | None]:
    """Return the type of our error, the problem and the hint."""
    from huggingface_hub import errors

    page = f"{_endpoint()}/{address.repo}"
    log_in = "hf auth login, or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        return ConfigError, f"not an address of the hub ({first_line(error).rstrip('.')})", "Give hf://owner/repo"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NetworkError, "HF_HUB_OFFLINE is set, so the hub is not asked", "Unset it to download"
    if isinstance(error, errors.GatedRepoError):
        return DataError, "the owner must grant access first", f"Ask for it at {page}, then log in: {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError, f"the repository has no revision {address.revision!r}", f"Look for it at {page}/tree/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = f"Check the name at {page}. For a private repository: {log_in}"
        return DataError, "there is no such repository, or it is private", hint
    if isinstance(error, errors.LocalTokenNotFoundError):
        return DataError, "there is no token for the hub on this machine", f"Log in: {log_in}"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        message = (error.server_message or "").strip() or f"status {status}"
        if status == 401:
            return DataError, f"the hub does not accept the token ({message})", f"Log in again: {log_in}"
        if status == 403:
            hint = f"The token needs the permission to write to {address.repo}: {log_in}"
            return DataError, f"the hub denies access ({message})", hint
        return (NetworkError if status >= 500 else DataError), f"the hub refuses ({message})", "Try again later"
    # The exception for a lost connection comes from requests, httpx or httpx2, depending on the version, and is not
    # always an OSError.
    if isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore", "requests")):
        files = f"download {DESCRIPTION} and {WEIGHTS} from {page}"
        hint = f"Check the network and the proxy. By hand: {files} to a folder, and name that folder"
        return NetworkError, "the hub cannot be reached", hint
    return DataError, f"the hub's answer cannot be used ({error})", None
