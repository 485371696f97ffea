"""Published data sets in their original files: each patch is decoded once, then read from a memory-mapped cache."""

from __future__ import annotations

import abc
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import PatchDataset, Transform
from zoo.datasets.cache import PatchCache, digest_files, open_cache
from zoo.errors import DataError
from zoo.files import cache_folder
from zoo.jobs import ProgressCallback
from zoo.schema import to_plain

_FORMAT = 1
"""Increase this when the same files and settings give a different cache."""


@dataclass(frozen=True)
class PatchSource:
    """Files from which one patch is decoded, including its mask; several patches may share a file."""

    files: tuple[Path, ...]


class StoredPatchDataset(PatchDataset, abc.ABC):
    """Base class of data sets that read patches from the published files.

    A subclass decorates ``__init__`` with :func:`checked_options`. There it calls :meth:`_begin`, finds its files, sets
    the attributes that :class:`PatchDataset` requires (``bands``, ``patches``, ...), and finally calls :meth:`_store`
    with the files of each patch. It implements :meth:`decode`. The first opening decodes and checks every patch; later
    ones read the cache, which is keyed by the content of the files.
    """

    name: ClassVar[str]
    """Name of the data set, and of its default folder under ``datasets`` in the cache folder."""
    root: Path
    _cache: PatchCache | None = None
    _progress: ProgressCallback | None = None

    @abc.abstractmethod
    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch from its files; called from several threads.

        Args:
            index: index into ``patches``.

        Returns:
            Image (C, H, W) in the units of ``bands``: float32 with NaN where missing, or an integer type that has no
            missing values and takes less space in the cache. Mask, uint8 (H, W), with class indices and IGNORE. Height,
            width and dtypes are the same for every patch.

        Raises:
            DataError: if a file is damaged or not as published; the message names it.
        """

    def _begin(
        self,
        root: str | os.PathLike[str] | None,
        split: str,
        transforms: Transform | None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Set the attributes that all data sets share; without ``root``, use the default folder."""
        self.root = cache_folder("datasets") / self.name if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self._progress = progress

    def _store(self, sources: Sequence[PatchSource], settings: Mapping[str, Any], *, cache: bool = True) -> None:
        """Make the patches readable.

        Args:
            sources: files of each patch, in the order of ``patches``.
            settings: JSON values of everything except the files that affects the result of :meth:`decode` (bands,
                version of the decoding).
            cache: whether to decode all patches now into the cache, or reuse it; if false, patches are decoded at every
                read.

        Raises:
            DataError: as :meth:`decode`, or if a file cannot be read.
        """
        digests = digest_files([path for origin in sources for path in origin.files])
        decoding = {
            "format": _FORMAT,
            # Use the module where the classes were once defined, so that earlier fingerprints and caches stay valid.
            "data set": f"zoo.datasets.{self.name}.dataset:{type(self).__qualname__}",
            "bands": to_plain(self.bands),
            "settings": dict(settings),
        }
        content = [[digests[path] for path in origin.files] for origin in sources]
        places = [list(asdict(patch).values()) for patch in self.patches]
        self._fingerprint = _digest([self.split, decoding, list(self.class_names), places, content])
        if cache and sources:
            folders = sorted({str(path.resolve().parent) for origin in sources for path in origin.files})
            self._cache = open_cache(
                _digest([decoding, content])[:32],
                len(sources),
                self.decode,
                slot=_digest([self.split, decoding, places, folders]),
                progress=self._progress,
            )

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return one patch; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        if self._cache is not None:
            return self._cache.read(index)
        image, mask = self.decode(index)
        return np.asarray(image, dtype=np.float32), mask

    def fingerprint(self) -> str:
        """Return the sha256, in hex, of the patches of the split, the bytes of their files and the decoding."""
        return self._fingerprint

    def _show_bytes(self, done: int, total: int) -> None:
        """Report the progress of a download in mebibytes."""
        if self._progress is not None:
            self._progress(done >> 20, max(total >> 20, 1))

    def _has_landslides(self) -> bool:
        return any((self.read(index)[1] == 1).any() for index in range(len(self)))


def binary_mask(
    values: NDArray[Any], where: Path, *, landslide: tuple[int, ...] = (1,), hint: str | None = None, patch: str = ""
) -> NDArray[np.uint8]:
    """Return a mask of 0 and 1.

    Args:
        values: numbers, (H, W): 0 for the background and one other value for landslides.
        where: the file, for error messages.
        landslide: values that may mean landslide; a mask contains at most one of them.
        hint: what to do if there are other values.
        patch: name of the patch within the file, for error messages.

    Raises:
        DataError: if the mask holds another value; the message names its row and column.
    """
    for value in landslide:
        if np.isin(values, (0, value)).all():
            return np.asarray(values == value).astype(np.uint8)
    row, column = (int(place) for place in np.argwhere(~np.isin(values, (0, landslide[0])))[0])
    allowed = ", or ".join(f"0 and {value}" for value in landslide)
    found = f"{values[row, column]:g} at row {row}, column {column}"
    raise DataError(
        f"{patch and patch + ': '}the mask holds {found}; expected {allowed}",
        where=where,
        hint=hint,
    )


def check_finite(image: NDArray[Any], names: Sequence[str], where: Path, *, hint: str, patch: str = "") -> None:
    """Check that an image, (C, H, W), of a data set without missing values contains no NaN or infinities.

    Raises:
        DataError: if it does; the message names band, row and column.
    """
    wrong = ~np.isfinite(image)
    if wrong.any():
        band, row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise DataError(
            f"{patch and patch + ': '}band {names[band]} is not finite at row {row}, column {column}",
            where=where,
            hint=hint,
        )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
