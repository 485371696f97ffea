"""Find the bundle that a user names: a folder, registered weights, a ``.zip`` file, a URL or a hub repository.

Everything except a folder is unpacked or downloaded once, to ``$ZOO_CACHE/weights`` (or
``~/.cache/landslide-zoo/weights``):

- ``bundles/SHA256/``: the bundle from a ``.zip`` file, named by the checksum of that file.
- ``downloads/SHA256/NAME``: an incomplete download. A file that the user put there is used.
- ``hub/OWNER--REPO/COMMIT/``: the bundle of one commit of a hub repository.

A folder is renamed when it is complete, and only one process at a time writes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

from zoo.datasets.archives import unpack
from zoo.datasets.download import NetworkError, RemoteFile, fetch
from zoo.errors import ConfigError, DataError, PluginError, ResultError, UnknownNameError, ZooError, suggestion
from zoo.files import (
    atomic_path,
    cache_folder,
    check_writable_folder,
    file_name,
    is_file,
    is_folder,
    printable,
    waiting_lock,
)
from zoo.jobs import ProgressCallback
from zoo.registry import catalogue, provider_of
from zoo.registry.specs import WeightsSpec, plain
from zoo.training.bundle_layout import (
    CARD,
    CARD_PICTURES,
    DESCRIPTION,
    PICKLES,
    WEIGHTS,
    check_weights,
    is_intact,
    read_header,
)
from zoo.weights.hub import SCHEME, hub_folder

Notify = Callable[[str], None]
MAX_BYTES = 8 << 30
"""Maximum unpacked size of a bundle [O]; a segmentation network with a large encoder has 1 GB."""
MAX_MEMBERS = 10_000
MAX_NAME = 60
"""Characters of the name of a download; file systems allow 255 bytes, also for its temporary files."""
_WEB = ("https://", "http://")
_CHECKSUM = re.compile(r"[0-9a-fA-F]{64}")


def resolve(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    notify: Notify = lambda text: None,
) -> Path:
    """Return the folder of the bundle that ``source`` names. No code in the bundle is executed.

    A registered name has priority over a folder of the same name; write ``./unet/demo`` for the folder. A
    :class:`~pathlib.Path` is a folder or file if it exists.

    Args:
        source: folder of a bundle; name of registered weights (``zoo weights``); ``.zip`` file of a bundle; address of
            one, such as ``https://host/unet.zip#sha256=...``; ``hf://owner/repo`` or ``hf://owner/repo@revision``.
        sha256: checksum of the ``.zip`` file, if the URL does not end with it.
        progress: called with the number of bytes received or unpacked and the total.
        notify: called with messages for the user, such as which of two sources with the same name was used.

    Returns:
        The folder, which has a ``bundle.json``. :meth:`zoo.training.bundle.Bundle.load` checks the weights.

    Raises:
        ResultError: if it is not a bundle, was written by a newer version, or its model card describes another one.
        ConfigError: if the name is that of an architecture without weights, or a checksum is missing or malformed.
        UnknownNameError: if it is similar to registered weights; the message lists their names.
        DataError: if a file cannot be downloaded or unpacked, or has another checksum.
        ZooError: if the cache folder cannot be written to.
    """
    from zoo.weights.card import check_card

    folder = _find(source, sha256, progress, notify)
    check_card(folder)
    return folder


def _find(
    source: str | os.PathLike[str], sha256: str | None, progress: ProgressCallback | None, notify: Notify
) -> Path:
    text = os.fspath(source)
    if sha256 is not None and not _CHECKSUM.fullmatch(sha256):
        raise ConfigError(f"{sha256!r} is not a sha256", where="--sha256", hint="Give 64 hexadecimal digits")
    if re.match(r"(https?|hf):[/\\]+[^/\\]", text) and not text.startswith((*_WEB, SCHEME)):
        raise ConfigError("a URL must be given as text, not as a Path", where=text)
    if text.startswith(_WEB):
        return _from_address(text, sha256, progress, notify)
    if text.startswith(SCHEME):
        _refuse_checksum(sha256, text, "Pin a commit instead: hf://owner/repo@COMMIT")
        return hub_folder(text, progress=progress, notify=notify)
    named = text in catalogue().weights
    if named and (isinstance(source, str) or not (is_folder(text) or is_file(text))):
        _refuse_checksum(sha256, text, "Registered weights have their own")
        if is_folder(text):
            notify(f"the registered weights {text} are used, not the folder {text}/; for the folder, write ./{text}")
        return _registered(catalogue().weights.get(text), progress, notify)
    if is_folder(text):
        _refuse_checksum(sha256, text, "A folder records its own")
        read_header(Path(text))
        return Path(text)
    if is_file(text):
        return _from_file(Path(text), sha256, progress, notify)
    raise _missing(text)


def _registered(spec: WeightsSpec, progress: ProgressCallback | None, notify: Notify) -> Path:
    """Return the folder of registered weights after comparing it with their spec."""
    if spec.location.startswith(_WEB):
        folder = _downloaded(spec.location, spec.sha256, progress, notify)
    elif spec.location.startswith(SCHEME):
        folder = hub_folder(spec.location, progress=progress, notify=notify)
    else:
        folder = _packaged(spec, progress, notify)
    _check_registered(spec, folder)
    return folder


def _packaged(spec: WeightsSpec, progress: ProgressCallback | None, notify: Notify) -> Path:
    package, _, inner = spec.location.partition(":")
    if ".." in Path(inner).parts or Path(inner).is_absolute():
        raise PluginError(f"location {spec.location!r} leads out of the package", where=spec.label)
    try:
        place = Path(str(files(package).joinpath(inner)))
    except ImportError as error:
        raise PluginError(
            f"{spec.label} is in package {package!r}, which cannot be imported ({error})",
            where=catalogue().weights.provider(spec.name),
        ) from error
    if place.is_dir():
        return place
    if not place.is_file():
        raise PluginError(
            f"the package {package!r} has no {inner}",
            where=spec.label,
            hint=f"Reinstall {provider_of('weights', spec.name).distribution or package}",
        )
    return _unpacked(place, _checked(place, spec.sha256 or None), progress, notify)


def _check_registered(spec: WeightsSpec, folder: Path) -> None:
    """Compare a bundle with its spec, so that the weights in use are those that ``zoo weights`` lists.

    Raises:
        ResultError: if they differ; the message names the first difference.
    """
    header = read_header(folder)
    pairs = [("model", spec.model, header.model.name)]
    bands, stored = [list(band) for band in spec.bands], [[band.name, band.unit] for band in header.bands]
    pairs.append(("bands", ", ".join(map(" ".join, bands)), ", ".join(map(" ".join, stored))))
    pairs.append(("classes", ", ".join(spec.class_names), ", ".join(header.class_names)))
    pairs.append(("threshold", f"{spec.threshold:.6g}", f"{header.threshold:.6g}"))
    for name, value in spec.options.items():
        pairs.append((f"option {name}", str(plain(value)), str(header.model.options.get(name))))
    if spec.sha256 and not spec.location.startswith(_WEB) and not spec.location.endswith(".zip"):
        pairs.append(("sha256", spec.sha256, header.weights.sha256))
    for what, registered, found in pairs:
        if registered != found:
            raise ResultError(
                f"the bundle is not what was registered as {spec.name}: {what} {found!r} instead of {registered!r}",
                where=folder / DESCRIPTION,
                hint=f"Tell the author of plugin {catalogue().weights.provider(spec.name)}",
            )


def _from_address(text: str, sha256: str | None, progress: ProgressCallback | None, notify: Notify) -> Path:
    url, _, fragment = text.partition("#")
    stated = fragment.removeprefix("sha256=") if fragment else None
    if stated is not None and not _CHECKSUM.fullmatch(stated):
        raise ConfigError(f"{fragment!r} is not a sha256", where=url, hint="End the URL with #sha256=CHECKSUM")
    if stated is not None and sha256 is not None and stated.lower() != sha256.lower():
        raise ConfigError("the URL and --sha256 state different checksums", where=url, hint="Give one of them")
    chosen = stated or sha256
    if chosen is None:
        raise ConfigError(
            "the checksum of the file is missing, so the download cannot be verified",
            where=url,
            hint="End the URL with #sha256=CHECKSUM, or give --sha256 CHECKSUM; sha256sum FILE prints it",
        )
    return _downloaded(url, chosen.lower(), progress, notify)


def _downloaded(url: str, sha256: str, progress: ProgressCallback | None, notify: Notify) -> Path:
    home = cache_folder("weights")
    folder = home / "bundles" / sha256
    if is_intact(folder):
        return folder
    name = file_name(unquote(url.partition("?")[0]).rpartition("/")[2])[-MAX_NAME:].strip(".-") or "bundle.zip"
    place = home / "downloads" / sha256
    check_writable_folder(place)
    waiting = f"waiting for another process that is downloading {name}"
    with waiting_lock(place.with_name(f".{sha256}.lock"), lambda: notify(waiting)):
        if is_intact(folder):
            return folder
        try:
            archive = fetch(RemoteFile(url, name, sha256=sha256), place, progress)
        except NetworkError as error:
            error.hint = f"{error.hint}. By hand: download {url} and save it as {place / name}, or name that file"
            raise
        found = _unpacked(archive, sha256, progress, notify)
        shutil.rmtree(place, ignore_errors=True)
    return found


def _from_file(path: Path, sha256: str | None, progress: ProgressCallback | None, notify: Notify) -> Path:
    if path.name.lower().endswith(PICKLES):
        raise ResultError(
            "is a pickle, which may run code when it is opened",
            where=path,
            hint=f"zoo opens bundles only: a folder or .zip of {DESCRIPTION} and {WEIGHTS}",
        )
    if path.name in (WEIGHTS, DESCRIPTION):
        raise ResultError("is one file of a bundle", where=path, hint=f"Name the folder: {path.parent}")
    if path.suffix.lower() != ".zip":
        raise ResultError("is a file, but not a .zip of a bundle", where=path, hint="Name a bundle folder or its .zip")
    return _unpacked(path, _checked(path, sha256), progress, notify)


def _checked(path: Path, sha256: str | None) -> str:
    """Return the checksum of a file after comparing it with the expected one."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path) from error
    if sha256 is not None and found != sha256.lower():
        raise DataError(
            f"the file is not the published one: sha256 {found} instead of {sha256.lower()}",
            where=path,
            hint="Get the file from its source again",
        )
    return found


def _unpacked(archive: Path, digest: str, progress: ProgressCallback | None, notify: Notify) -> Path:
    home = cache_folder("weights") / "bundles"
    folder = home / digest
    if not is_intact(folder):
        check_writable_folder(home)
        waiting = f"waiting for another process that is unpacking {archive.name}"
        with waiting_lock(home / f".{digest}.lock", lambda: notify(waiting)):
            if not is_intact(folder):
                for abandoned in [*home.glob(f".{digest}-*"), folder]:
                    shutil.rmtree(abandoned, ignore_errors=True)
                unpack(archive, folder, strip_top=True, progress=progress, max_bytes=MAX_BYTES, max_members=MAX_MEMBERS)
    try:
        header = read_header(folder)
        if not (folder / WEIGHTS).is_file():
            raise ResultError(f"there is no {WEIGHTS} next to {DESCRIPTION}", where=folder)
        check_weights(folder, header)
    except ResultError as error:
        deeper = [path.parent.relative_to(folder) for path in folder.rglob(DESCRIPTION) if path.parent != folder]
        hint = f"It is in its folder {printable(str(deeper[0]))}: pack only that folder" if deeper else error.hint
        shutil.rmtree(folder, ignore_errors=True)
        raise ResultError(f"is not a bundle: {error.problem}", where=archive, hint=hint) from None
    return folder


def copy_bundle(folder: Path, target: Path) -> None:
    """Copy the files of a bundle; the description is written last, so a folder without it is not a bundle.

    The card and the pictures of another bundle in ``target`` are removed.

    Raises:
        ZooError: if they cannot be written.
    """
    from zoo.weights.card import check_card

    check_writable_folder(target)
    pictures = sorted(path.relative_to(folder) for path in (folder / CARD_PICTURES).glob("*.png"))
    for name in (Path(WEIGHTS), Path(CARD), *pictures, Path(DESCRIPTION)):
        if (folder / name).is_file():
            with atomic_path(target / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    for old in (target / CARD_PICTURES).glob("*.png"):
        if old.relative_to(target) not in pictures:
            old.unlink()
    try:
        check_card(target)
    except ResultError:
        (target / CARD).unlink()


def is_bundle_source(text: str) -> bool:
    """Return whether :func:`resolve` accepts a text: an existing path, a registered name or an address."""
    return text.startswith((*_WEB, SCHEME)) or text in catalogue().weights or is_folder(text) or is_file(text)


def _refuse_checksum(sha256: str | None, where: str, hint: str) -> None:
    if sha256 is not None:
        raise ConfigError("--sha256 applies only to a .zip file or its URL", where=where, hint=hint)


def _missing(text: str) -> ZooError:
    """Return the error for a name that matches nothing."""
    if text != printable(text):
        return ResultError("the name holds control characters or is not valid UTF-8", where=printable(text))
    if text in catalogue().models:
        ready = [spec.name for spec in catalogue().weights.match() if spec.model == text]
        hint = f"Use trained weights: {', '.join(ready)}. Or train" if ready else "Train"
        return ConfigError(
            f"{text!r} is an architecture without trained weights",
            hint=f"{hint} it first: zoo train {text} --data patches/ --out runs/{text}; then use runs/{text} instead",
        )
    known = list(catalogue().weights)
    if suggestion(text, known).startswith("Did you mean"):
        error = UnknownNameError("weights or bundle folder", text, known)
        reason = catalogue().explain_missing()
        error.hint = f"{error.hint} {reason}" if reason else error.hint
        return error
    advice = "Name a bundle: a folder that zoo train writes (zoo train MODEL --out FOLDER)"
    listed = f"{advice}, or weights that zoo weights lists" if known else advice
    failed = catalogue().explain_missing()
    return ResultError("there is no such folder", where=text, hint=f"{listed}. {failed}" if failed else listed)
