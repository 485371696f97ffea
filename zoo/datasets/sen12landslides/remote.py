"""Fetching Sen12Landslides from Hugging Face, at one revision, each archive checked against its sha256."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zoo.datasets.archives import unpack
from zoo.datasets.download import Progress, RemoteFile, fetch
from zoo.errors import DataError

REPOSITORY = "paulhoehn/Sen12Landslides"
REVISION = "311f426d0e2fa9b532772fbee0641e2f9db6da00"
"""The revision with the folders data_raw and data_harmonized. Its listing gives the sha256 of each archive."""
SPLITS_REVISION = "590a726d804e9db6b967d0f34e41bbfd8400a1c0"
"""Commit of github.com/PaulH97/Sen12Landslides whose ``tasks`` folder belongs to that revision."""

_SUFFIX = ".tar.gz"


def download(root: Path, sensor: str, edition: str, task: str, progress: Progress | None = None) -> None:
    """Fetch and unpack what is not there yet of one sensor and edition, and the official split.

    Each archive gets a folder of its own name, which is there once it is whole, and is deleted then: a stopped download
    goes on where it was.

    Args:
        root: folder of the data set; made when it does not exist.
        sensor: "s2", "s1asc" or "s1dsc".
        edition: "harmonized" or "raw".
        task: "S12LS-LD" or "S12LS-AD".
        progress: called with the bytes, or the patches, that are done and all of them.

    Raises:
        DataError: no network, refused, or not the published bytes; the listing names no archives.
        ZooError: the folder cannot be written to.
    """
    folder = root / f"data_{edition}" / sensor
    for file in _archives(folder, sensor, edition, progress):
        part = folder / file.name.removesuffix(_SUFFIX)
        if not part.is_dir():
            archive = fetch(file, folder, progress)
            unpack(archive, part, progress=progress)
            archive.unlink()
    splits = (
        f"https://raw.githubusercontent.com/PaulH97/Sen12Landslides/{SPLITS_REVISION}"
        f"/tasks/{task}/{edition}/{sensor}/splits.json"
    )
    fetch(RemoteFile(splits, "splits.json"), root / "tasks" / task / edition / sensor, progress)


def _archives(folder: Path, sensor: str, edition: str, progress: Progress | None) -> list[RemoteFile]:
    listing = f"https://huggingface.co/api/datasets/{REPOSITORY}/tree/{REVISION}/data_{edition}/{sensor}"
    path = fetch(RemoteFile(listing, "listing.json"), folder, progress)
    try:
        entries = [_archive(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        path.unlink(missing_ok=True)
        raise DataError(
            "the listing of archives is not what Hugging Face gives", where=listing, hint="Try again later"
        ) from error
    archives = [entry for entry in entries if entry is not None]
    if not archives:
        path.unlink(missing_ok=True)
        raise DataError("the listing names no archives", where=listing, hint="Try again later")
    return sorted(archives, key=lambda file: file.name)


def _archive(entry: dict[str, Any]) -> RemoteFile | None:
    path = str(entry["path"])
    if entry["type"] != "file" or not path.endswith(_SUFFIX):
        return None
    return RemoteFile(
        f"https://huggingface.co/datasets/{REPOSITORY}/resolve/{REVISION}/{quote(path)}",
        path.rsplit("/", 1)[-1],
        size=int(entry["lfs"]["size"]),
        sha256=str(entry["lfs"]["oid"]),
    )
