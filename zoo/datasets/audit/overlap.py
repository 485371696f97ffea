"""Patches that see a part of the same ground, shifted by any number of pixels.

Landmarks (the strongest spots of each patch) are described by the texture around them, matched between the splits by
one matrix product, and a match proposes a shift. The pixels of the two patches where they would overlap decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from zoo.datasets.audit.similar import Match, correlate

LANDMARKS = 24
"""Spots kept of each patch [O]."""

ALIKE = 0.85
"""Cosine of two descriptors from which they may be one spot [O]."""

GREY = 0.85
"""Least correlation of the grey pictures where they overlap [O]."""

TEXTURE = 0.8
"""Least correlation of their texture where they overlap [O]."""

LEAST = 0.15
"""Share of a patch below which an overlap is not looked for [O]."""

_WINDOW = 12
_NUMBERS = 6
_FEWEST_PIXELS = 256
_BLOCK = 1024
_MOST = 20_000


@dataclass(frozen=True)
class Landmarks:
    """The strongest spots of the patches of one split.

    Attributes:
        owners: int64 (M,), position of the patch.
        places: int64 (M, 2), row and column in grey pixels.
        descriptors: float32 (M, 36), of length 1: the lowest cosine coefficients of the texture around.
    """

    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    descriptors: NDArray[np.float32]


def find_landmarks(fine: NDArray[np.float32], positions: range) -> Landmarks:
    """Find and describe the strongest spots of each patch.

    Args:
        fine: texture of all patches, as :func:`zoo.datasets.audit.similar.texture` gives it, float32 (N, h, w).
        positions: of the patches to look at.

    Returns:
        At most :data:`LANDMARKS` spots a patch; none for pictures smaller than 16 pixels.
    """
    owners, places, windows = [], [], []
    half = _WINDOW // 2
    for index in positions if min(fine.shape[1:]) >= _WINDOW + 4 else ():
        strength = np.abs(fine[index])
        peaks = (strength == ndimage.maximum_filter(strength, 3)) & (strength > 1e-3)
        peaks[:half] = peaks[-half:] = False
        peaks[:, :half] = peaks[:, -half:] = False
        rows, columns = np.nonzero(peaks)
        best = np.argsort(-strength[rows, columns], kind="stable")[:LANDMARKS]
        for row, column in zip(rows[best].tolist(), columns[best].tolist(), strict=True):
            owners.append(index)
            places.append((row, column))
            windows.append(fine[index, row - half : row + half + 1, column - half : column + half + 1])
    if not owners:
        return Landmarks(np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty((0, _NUMBERS**2), np.float32))
    spectrum = fft.dctn(np.stack(windows), axes=(1, 2), norm="ortho")[:, :_NUMBERS, :_NUMBERS]
    described = spectrum.reshape(len(owners), -1)
    described /= np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-12)
    return Landmarks(np.array(owners), np.array(places), described.astype(np.float32))


def find_overlaps(
    grey: NDArray[np.float32], fine: NDArray[np.float32], left: Landmarks, right: Landmarks
) -> Iterator[tuple[int, list[Match]]]:
    """Find the patches of one split that overlap those of another, without turns; shifts of 0 are left to others.

    Args:
        grey: float32 (N, h, w) of all patches.
        fine: their texture, as :func:`zoo.datasets.audit.similar.evenly` gives it.
        left: of the one split.
        right: of the other.

    Yields:
        How many landmarks of the first are done, and the matches since then; no pair comes twice.
    """
    known: set[tuple[int, int]] = set()
    for start in range(0, len(left.owners), _BLOCK):
        found: list[Match] = []
        cosines = left.descriptors[start : start + _BLOCK] @ right.descriptors.T
        near = np.flatnonzero(cosines > ALIKE)
        if len(near) > _MOST:
            # Ground that repeats itself (fields, roofs) would propose everything; the likeliest are enough.
            near = near[np.argpartition(-cosines.ravel()[near], _MOST)[:_MOST]]
        mine, yours = np.divmod(near, max(1, cosines.shape[1]))
        mine += start
        shifts = left.places[mine] - right.places[yours]
        proposals = np.unique(np.column_stack([left.owners[mine], right.owners[yours], shifts]), axis=0)
        for one, other, down, across in proposals.tolist():
            if (one, other) in known or (down, across) == (0, 0):
                continue
            match = _verified(grey, fine, one, other, down, across)
            if match is not None:
                known.add((one, other))
                found.append(match)
        yield min(start + _BLOCK, len(left.owners)), found


def overlap(shape: tuple[int, int], down: int, across: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Give the parts of two pictures that coincide when the second lies ``down`` and ``across`` of the first.

    Args:
        shape: height and width of both pictures.
        down: rows.
        across: columns.

    Returns:
        Rows and columns of the first, then of the second; empty slices when they do not meet.
    """
    rows, columns = max(0, shape[0] - abs(down)), max(0, shape[1] - abs(across))
    first = slice(max(0, down), max(0, down) + rows), slice(max(0, across), max(0, across) + columns)
    second = slice(max(0, -down), max(0, -down) + rows), slice(max(0, -across), max(0, -across) + columns)
    return first, second


def _verified(
    grey: NDArray[np.float32], fine: NDArray[np.float32], one: int, other: int, down: int, across: int
) -> Match | None:
    height, width = fine.shape[1:]
    rows, columns = height - abs(down), width - abs(across)
    if rows * columns < max(LEAST * height * width, _FEWEST_PIXELS):
        return None
    here, there = overlap((height, width), down, across)
    if correlate(fine[one][here], fine[other][there]) < TEXTURE:
        return None
    correlation = correlate(grey[one][here], grey[other][there])
    return Match(one, other, correlation, shift=(down, across)) if correlation >= GREY else None
