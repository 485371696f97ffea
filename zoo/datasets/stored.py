"""Published data sets in their own files: each patch is decoded once, then read from a memory-mapped cache."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import PatchDataset
from zoo.datasets.cache import PatchCache, digest_files, open_cache

Progress = Callable[[int, int], None]

_FORMAT = 1
"""Raised when the same files and settings would give another cache."""


@dataclass(frozen=True)
class Origin:
    """The files that one patch is decoded from, its mask's included; several patches may share a file."""

    files: tuple[Path, ...]


class StoredPatchDataset(PatchDataset, abc.ABC):
    """Base class of data sets whose patches lie in the files that their authors published.

    A subclass finds its files, sets what :class:`PatchDataset` asks for (``bands``, ``split``, ``patches``, ...), then
    calls :meth:`_store` once with the files of each patch, in the order of ``patches``, as the last thing its
    ``__init__`` does. It writes :meth:`decode` and :meth:`_verify`. The first opening decodes every patch, and checks
    it on the way; later ones read the cache, which is keyed by the content of the files.
    """

    _cache: PatchCache | None = None

    @abc.abstractmethod
    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch from its files; called from several threads.

        Args:
            index: position in ``patches``.

        Returns:
            Image (C, H, W), in the units of ``bands``: float32, NaN where missing, or an integer type that has no
            missing values and takes less room in the cache; mask, uint8 (H, W), classes and IGNORE. The same height,
            width and dtype for every patch.

        Raises:
            DataError: naming the file that is damaged or not as published.
        """

    def _store(
        self,
        origins: Sequence[Origin],
        settings: Mapping[str, Any],
        *,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Make the patches readable.

        Args:
            origins: of each patch, in the order of ``patches``.
            settings: JSON values of everything beside the files that decides what :meth:`decode` gives (bands, version
                of the decoding).
            cache: decode all patches now into the cache, or take them from it; else decode at every reading.
            progress: called with the number of patches decoded and of all.

        Raises:
            DataError: as :meth:`decode`, or for a file that cannot be read.
        """
        digests = digest_files([path for origin in origins for path in origin.files])
        bands = [band.to_dict() for band in self.bands]
        decoding = {
            "format": _FORMAT,
            "data set": f"{type(self).__module__}:{type(self).__qualname__}",
            "bands": bands,
            "settings": dict(settings),
        }
        content = [[digests[path] for path in origin.files] for origin in origins]
        places = [list(asdict(patch).values()) for patch in self.patches]
        self._fingerprint = _digest([self.split, decoding, list(self.class_names), places, content])
        if cache and origins:
            folders = sorted({str(path.resolve().parent) for origin in origins for path in origin.files})
            self._cache = open_cache(
                _digest([decoding, content])[:32],
                len(origins),
                self.decode,
                slot=_digest([self.split, decoding, places, folders]),
                progress=progress,
            )

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Give one patch; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        if self._cache is not None:
            return self._cache.read(index)
        image, mask = self.decode(index)
        return np.asarray(image, dtype=np.float32), mask

    def fingerprint(self) -> str:
        """Give the sha256, in hex, of the split: its patches, the bytes of their files, and how they are decoded."""
        return self._fingerprint


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
