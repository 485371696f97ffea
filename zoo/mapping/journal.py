"""Finished blocks, kept on the disk until the map is whole: a killed run goes on where it was."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.files import atomic_path, unwritable, write_json_atomic
from zoo.mapping.tiling import Block, BlockResult

SUFFIX, DIGITS = ".zoo-map", 16
PUBLISHING = "publishing.json"
FIELDS = ("values", "top", "bottom", "left", "right")


class Journal:
    """The blocks of one map, each in a file that is whole or absent; a context manager.

    They lie in a hidden folder beside the map, named by ``key``: another command, bundle or scene has another folder
    and takes nothing over. One process at a time works in it.

    Args:
        out: the map to come.
        key: all that its bytes depend on, as JSON can hold it.

    Raises:
        ZooError: if the folder cannot be made, or another process works in it.

    Attributes:
        folder: the hidden folder, also for other working files.
    """

    def __init__(self, out: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self._out = out
        self.folder = out.parent / f".{out.stem}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}{SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock: Any = (self.folder / "lock").open("w")
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ZooError("another process is making this map", where=out, hint="Wait for it, or stop it") from None
        for left in self.folder.iterdir():
            # Of a run that was killed while it joined the blocks.
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        write_json_atomic(self.folder / "command.json", dict(key))

    def done(self) -> frozenset[tuple[int, int]]:
        """Places of the blocks that are there; damaged files are removed and do not count."""
        places = set()
        for path in self.folder.glob("block-*.npz"):
            try:
                with zipfile.ZipFile(path) as archive:
                    whole = archive.testzip() is None
            except (OSError, zipfile.BadZipFile):
                whole = False
            if whole:
                row, column = path.stem.split("-")[1:]
                places.add((int(row), int(column)))
            else:
                path.unlink(missing_ok=True)
        return frozenset(places)

    def save(self, block: Block, result: BlockResult) -> None:
        """Keep a block.

        Raises:
            ZooError: if the disk is full.
        """
        with atomic_path(self._path(block)) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: getattr(result, name) for name in FIELDS})

    def load(self, block: Block, field: str) -> NDArray[Any]:
        """Give a field of the :class:`BlockResult` of a block that is there."""
        with np.load(self._path(block)) as archive:
            found: NDArray[Any] = archive[field]
        return found

    def _path(self, block: Block) -> Path:
        return self.folder / f"block-{block.row:05}-{block.column:05}.npz"

    def begin_publishing(self) -> None:
        """Note that from now on files under the final names are this map's."""
        write_json_atomic(self.folder / PUBLISHING, True)

    @property
    def publishing(self) -> bool:
        """Whether an earlier run was stopped between the first file under its final name and the last."""
        return (self.folder / PUBLISHING).exists()

    def discard(self) -> None:
        """Remove the folder, and what runs of other commands have left beside the same map."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in journals_beside(self._out):
            if _is_idle(other):
                shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """Let others work in the folder; it goes when it holds no block."""
        if self.folder.exists() and not any(self.folder.glob("block-*.npz")):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def journals_beside(out: Path) -> list[Path]:
    """Folders of unfinished maps of this name."""
    return sorted(out.parent.glob(f".{escape(out.stem)}-{'?' * DIGITS}{SUFFIX}"))


def half_published(out: Path) -> bool:
    """Whether a run was stopped while it gave its files their names: what is there may be half of a map."""
    return any((folder / PUBLISHING).exists() for folder in journals_beside(out))


def _is_idle(folder: Path) -> bool:
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
