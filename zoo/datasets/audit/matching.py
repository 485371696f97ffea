"""Find patches that show the same ground: copies of the whole patch, and shifted overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from zoo.datasets.audit.signatures import turns

COARSE = 0.85
"""Cosine of two perceptual hashes from which the pixels themselves are compared [O]."""

COPY_GREY = 0.85
"""Least correlation of two grey pictures that are the same one [O]."""

COPY_TEXTURE = 0.7
"""Least correlation of their fine texture: smooth pictures agree by chance, their texture does not [O]."""

_COEFFICIENTS = 8
_CHUNK = 512
_BORDER = 3
_FLAT = 2e-3
_TEXTURED = 0.3


@dataclass(frozen=True)
class Match:
    """Two patches that show the same ground.

    Attributes:
        one: position of the first.
        other: position of the second.
        correlation: of the grey pictures where both see the ground, -1..1.
        turn: number of the turn, as :func:`zoo.datasets.audit.signatures.turns` counts, that lays the second on the
            first.
        shift: rows and columns, in grey pixels, that the second lies below and to the right of the first.
    """

    one: int
    other: int
    correlation: float
    turn: int = 0
    shift: tuple[int, int] = (0, 0)


def hashes(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the perceptual hash of grey pictures: their lowest 63 cosine coefficients.

    The coefficients are kept as numbers of length 1, so that a cosine takes the place of a Hamming distance.

    Args:
        grey: float32 (N, h, w), standardised.

    Returns:
        float32 (N, 64), fewer for pictures below 8 pixels; the first is 0, as pictures have mean 0, and all are where
        a picture is flat.
    """
    rows, columns = (min(_COEFFICIENTS, side) for side in grey.shape[1:])
    spectrum: NDArray[np.float32] = fft.dctn(grey, axes=(1, 2), norm="ortho")[:, :rows, :columns]
    return _unit(np.ascontiguousarray(spectrum).reshape(len(grey), -1))


def texture(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep what is between about one and four grey pixels in size: neither noise nor the lie of the land.

    Args:
        grey: float32 (N, h, w).

    Returns:
        float32 (N, h, w).
    """
    fine = ndimage.gaussian_filter(grey, (0, 0.8, 0.8), mode="nearest")
    coarse = ndimage.gaussian_filter(grey, (0, 2.4, 2.4), mode="nearest")
    out: NDArray[np.float32] = fine - coarse
    return out


def evenly(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring texture to one strength and clip it, so that one edge does not speak for the whole patch.

    Two patches on the rim of a scene share a straight edge to nothing, and nothing else. Clipped at twice the typical
    strength, an edge is a few of many pixels.

    Args:
        fine: texture, float32 (N, h, w).

    Returns:
        float32 (N, h, w) in -2..2; 0 everywhere for a patch with texture in less than three tenths of its pixels.
    """
    out = np.zeros_like(fine)
    for index, picture in enumerate(fine):
        strength = np.abs(picture)
        active = strength > _FLAT
        if active.mean() > _TEXTURED:
            out[index] = np.clip(picture / np.median(strength[active]), -2, 2)
    return out


def find_similar(grey: NDArray[np.float32], fine: NDArray[np.float32], left: range, right: range) -> list[Match]:
    """Find the patches of one split that are in another, however they were turned or brightened.

    Every pair is compared by its perceptual hash in all eight orientations; then the pixels of those that come near
    decide, by the correlation of the grey pictures and of their texture.

    Args:
        grey: float32 (N, h, w) of all patches.
        fine: their :func:`texture`, made :func:`evenly` strong.
        left: positions of the one split.
        right: positions of the other.

    Returns:
        Matches, each pair once with the orientation that fits best, sorted.
    """
    if not len(left) or not len(right):
        return []
    if min(fine.shape[1:]) >= 16:
        # Filters do not know what lies beyond the border, and what they assume there is alike everywhere.
        fine = fine[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    best: dict[tuple[int, int], Match] = {}
    # Pictures have mean 0, and those of length 1 correlate by their product.
    ours, ours_fine = (_flat(pictures[left.start : left.stop]) for pictures in (grey, fine))
    prints = hashes(grey[left.start : left.stop])
    square = grey.shape[1] == grey.shape[2]
    for turn in range(8):
        # A quarter turn of a picture that is not square is another size, and no patch has it.
        if turn % 2 and not square:
            continue
        pictures, textures = (_turned(values[right.start : right.stop], turn) for values in (grey, fine))
        theirs, theirs_fine, others = _flat(pictures), _flat(textures), hashes(pictures)
        for start in range(0, len(prints), _CHUNK):
            near = np.argwhere(prints[start : start + _CHUNK] @ others.T > COARSE) + np.array((start, 0))
            for part in np.array_split(near, len(near) // _CHUNK + 1):
                correlations = np.einsum("nd,nd->n", ours[part[:, 0]], theirs[part[:, 1]])
                textured = np.einsum("nd,nd->n", ours_fine[part[:, 0]], theirs_fine[part[:, 1]])
                kept = (correlations >= COPY_GREY) & (textured >= COPY_TEXTURE)
                for (one, other), correlation in zip(part[kept].tolist(), correlations[kept].tolist(), strict=True):
                    match = Match(left[one], right[other], correlation, turn)
                    known = best.get((match.one, match.other))
                    if known is None or known.correlation < correlation:
                        best[match.one, match.other] = match
    return [best[pair] for pair in sorted(best)]


def correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give Pearson's correlation of two pictures of one shape; 0 when one of them is flat."""
    first = one - one.mean()
    second = other - other.mean()
    scale = float(np.sqrt(np.vdot(first, first) * np.vdot(second, second)))
    return float(np.vdot(first, second)) / scale if scale > 1e-6 * first.size else 0.0


def _turned(pictures: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """Pictures (N, h, w), all turned as the turn of that number of one picture."""
    return np.ascontiguousarray(np.moveaxis(list(turns(np.moveaxis(pictures, 0, -1)))[turn], -1, 0))


def _flat(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = pictures.reshape(len(pictures), -1)
    return _unit(rows - rows.mean(axis=1, keepdims=True))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: NDArray[np.float32] = (vectors / np.where(length > 1e-6, length, np.inf)).astype(np.float32)
    return out


LANDMARKS = 24
"""Spots kept of each patch [O]."""

ALIKE = 0.85
"""Cosine of two descriptors from which they may be one spot [O]."""

OVERLAP_GREY = 0.85
"""Least correlation of the grey pictures where they overlap [O]."""

OVERLAP_TEXTURE = 0.8
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
        fine: texture of all patches, as :func:`zoo.datasets.audit.matching.texture` gives it, float32 (N, h, w).
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
        fine: their texture, as :func:`zoo.datasets.audit.matching.evenly` gives it.
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
    if correlate(fine[one][here], fine[other][there]) < OVERLAP_TEXTURE:
        return None
    correlation = correlate(grey[one][here], grey[other][there])
    return Match(one, other, correlation, shift=(down, across)) if correlation >= OVERLAP_GREY else None
