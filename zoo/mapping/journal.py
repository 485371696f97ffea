"""Journal of finished blocks on disk, so that an interrupted run can resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zoo.errors import ZooError
from zoo.files import Closable, atomic_path, uninterrupted, unwritable, working_folder, write_json_atomic
from zoo.mapping.tiling import Block, BlockResult, Plan

SUFFIX, DIGITS = ".zoo-map", 16
PUBLISHING = "publishing.json"
FIELDS = ("values", "top", "bottom", "left", "right", "counts")
BLOCKS = "block-*.safetensors"
"""Safetensors, because numpy's own format parses Python code, which fails at random when several threads do it."""
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, SafetensorError)


class Journal(Closable):
    """The finished blocks of one map, each in an atomically written file; a context manager.

    They are in a hidden folder next to the map. Its name contains a digest of ``key``, so another command, bundle or
    scene uses another folder. The caller holds a lock on the map (:func:`zoo.files.locked`), so only one process at a
    time uses it.

    Args:
        out: the map to write.
        key: everything that the bytes of the map depend on, as JSON values.

    Raises:
        ZooError: if the folder cannot be created, or is a symbolic link.

    Attributes:
        folder: the hidden folder, also for other working files.
    """

    def __init__(self, out: Path, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()
        self._out = out
        self._key = digest.hex()
        self.folder = out.parent / f".{out.stem}-{digest.hex()[:DIGITS]}{SUFFIX}"
        if self.folder.is_symlink():
            raise ZooError("is a symbolic link, which zoo does not follow", where=self.folder, hint="Remove the link")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        for left in self.folder.iterdir():
            # Working files of a run that was killed while joining the blocks.
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
        write_json_atomic(self.folder / "command.json", dict(key))

    def finished(self, plan: Plan, layers: tuple[int, ...] = ()) -> tuple[frozenset[tuple[int, int]], int]:
        """Return the positions of the finished blocks, and the number of damaged files, which are removed.

        ``layers`` is the shape of a block's values per pixel (:class:`zoo.mapping.tiling.Canvas`). A block is damaged
        if its file cannot be read, or belongs to another block or map, or its arrays have the wrong shape.
        """
        places, damaged = set(), 0
        expected = {self._path(block).name: block for block in plan.blocks()}
        for path in sorted(self.folder.glob(BLOCKS)):
            block = expected.get(path.name)
            if block is not None and not path.is_symlink() and self._is_intact(path, block, plan, layers):
                places.add((block.row, block.column))
            else:
                damaged += 1
                path.unlink(missing_ok=True)
        return frozenset(places), damaged

    def _is_intact(self, path: Path, block: Block, plan: Plan, layers: tuple[int, ...]) -> bool:
        rows, columns = len(plan.rows.support(block.tile_rows)), len(plan.columns.support(block.tile_columns))
        top, bottom, left, right = plan.ramps(block)
        shapes = {
            "values": (*layers, rows, columns),
            "top": (*layers, top, columns),
            "bottom": (*layers, bottom, columns),
            "left": (*layers, rows, left),
            "right": (*layers, rows, right),
            "counts": (3,),
        }
        try:
            with safe_open(path, framework="numpy") as stored:
                metadata = stored.metadata() or {}
                arrays = {name: stored.get_tensor(name) for name in shapes}
        except _UNREADABLE:
            return False
        return metadata == self._block_attributes(block, arrays) and all(
            arrays[name].shape == shapes[name] for name in shapes
        )

    def _block_attributes(self, block: Block, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        digest = hashlib.sha256()
        for name in FIELDS:
            digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        return {"place": f"{block.row},{block.column}", "key": self._key, "sha256": digest.hexdigest()}

    def save(self, block: Block, result: BlockResult) -> None:
        """Write a block.

        Raises:
            ZooError: if the disk is full.
        """
        arrays = {name: np.ascontiguousarray(getattr(result, name)) for name in FIELDS}
        with atomic_path(self._path(block)) as temporary:
            temporary.write_bytes(save(arrays, metadata=self._block_attributes(block, arrays)))

    def load(self, block: Block, field: str) -> NDArray[Any]:
        """Return a field of the :class:`BlockResult` of a finished block.

        Raises:
            ZooError: if its file was damaged since :meth:`finished`.
        """
        path = self._path(block)
        try:
            with safe_open(path, framework="numpy") as stored:
                found: NDArray[Any] = stored.get_tensor(field)
        except _UNREADABLE as error:
            raise ZooError(
                f"a finished block cannot be read ({type(error).__name__})",
                where=path,
                hint="Run the same command again: it computes the block again",
            ) from error
        return found

    def _path(self, block: Block) -> Path:
        return self.folder / f"block-{block.row:05}-{block.column:05}.safetensors"

    def begin_publishing(self) -> None:
        """Record that files under the final names belong to this map from now on."""
        write_json_atomic(self.folder / PUBLISHING, True)

    @property
    def publishing(self) -> bool:
        """Whether an earlier run was interrupted while it moved files to their final names."""
        return (self.folder / PUBLISHING).exists()

    def discard(self) -> None:
        """Remove the folder, and those that other commands left for the same map."""
        with uninterrupted():
            for folder in journals_beside(self._out):
                if not folder.is_symlink() and folder != self.folder:
                    shutil.rmtree(folder, ignore_errors=True)
            # If the run is killed here, the folder name shows that the map is complete.
            with working_folder(self._out) as done, suppress(OSError):
                self.folder.rename(done / self.folder.name)
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder if it holds no block."""
        if self.folder.exists() and not any(self.folder.glob(BLOCKS)):
            shutil.rmtree(self.folder, ignore_errors=True)


def journals_beside(out: Path) -> list[Path]:
    """Return the folders of unfinished maps with this name."""
    return sorted(out.parent.glob(f".{escape(out.stem)}-{'?' * DIGITS}{SUFFIX}"))


def half_published(out: Path) -> bool:
    """Return whether a run was interrupted while it renamed its files, which may then be an incomplete map."""
    return any((folder / PUBLISHING).exists() for folder in journals_beside(out))
