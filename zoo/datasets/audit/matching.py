"""Find patches that show the same ground: copies of a whole patch, and overlaps shifted by any number of pixels.

A copy may be rotated, reflected, brightened or recompressed. Perceptual hashes find candidates, in all eight
orientations. Landmarks find candidates for overlaps: they are the strongest points of each patch, described by the
texture around them and matched between the splits. In both cases the correlation of the pixels decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from zoo.datasets.audit.signatures import orientations

HASH_COSINE = 0.85
"""Cosine of two perceptual hashes above which the pixels are compared [O]."""

COPY_GREY = 0.85
"""Minimum correlation of the grey images of two copies [O]."""

COPY_TEXTURE = 0.7
"""Minimum correlation of the fine texture of two copies: smooth images agree by chance, texture does not [O]."""

LANDMARKS = 24
"""Number of landmarks per patch [O]."""

LANDMARK_COSINE = 0.85
"""Cosine of two descriptors above which they may describe the same point [O]."""

OVERLAP_GREY = 0.85
"""Minimum correlation of the grey images where two patches overlap [O]."""

OVERLAP_TEXTURE = 0.8
"""Minimum correlation of the texture where two patches overlap [O]."""

MIN_OVERLAP = 0.15
"""Minimum overlap that is searched for, as a share of a patch [O]."""

_HASH_COEFFICIENTS = 8
_HASH_CHUNK = 512
_BORDER = 3
_FLAT = 2e-3
_TEXTURED = 0.3
_WINDOW = 12
_DESCRIPTOR_COEFFICIENTS = 6
_MIN_OVERLAP_PIXELS = 256
_LANDMARK_BLOCK = 1024
_MAX_PROPOSALS = 20_000


@dataclass(frozen=True)
class Match:
    """Pair of patches that show the same ground.

    Attributes:
        one: index of the first patch.
        other: index of the second patch.
        correlation: correlation of the grey images where both patches show the ground, -1..1.
        orientation: orientation of the second patch that fits the first, as numbered by
            :func:`zoo.datasets.audit.signatures.orientations`.
        shift: offset of the second patch from the first in grey pixels, down and to the right.
    """

    one: int
    other: int
    correlation: float
    orientation: int = 0
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Landmarks:
    """Strongest points of the patches of one split.

    Attributes:
        owners: int64 (M,), index of the patch.
        places: int64 (M, 2), row and column in grey pixels.
        descriptors: float32 (M, 36) with norm 1: the lowest cosine coefficients of the texture around the point.
    """

    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    descriptors: NDArray[np.float32]


def extract_texture(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return structures of about one to four grey pixels in size, without noise and large-scale relief.

    Args:
        grey: float32 (N, h, w).

    Returns:
        float32 (N, h, w).
    """
    fine = ndimage.gaussian_filter(grey, (0, 0.8, 0.8), mode="nearest")
    coarse = ndimage.gaussian_filter(grey, (0, 2.4, 2.4), mode="nearest")
    out: NDArray[np.float32] = fine - coarse
    return out


def equalise_texture(texture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise the strength of the texture and clip it, so that a single edge does not dominate the correlation.

    Two patches at the rim of a scene have the straight edge of the data in common, but nothing else. After clipping at
    twice the typical strength, the edge is only a few of many pixels.

    Args:
        texture: float32 (N, h, w).

    Returns:
        float32 (N, h, w) in -2..2; all zeros for a patch with texture in less than three tenths of its pixels.
    """
    out = np.zeros_like(texture)
    for index, picture in enumerate(texture):
        strength = np.abs(picture)
        active = strength > _FLAT
        if active.mean() > _TEXTURED:
            out[index] = np.clip(picture / np.median(strength[active]), -2, 2)
    return out


def find_copies(grey: NDArray[np.float32], texture: NDArray[np.float32], left: range, right: range) -> list[Match]:
    """Find patches of one split that also occur in another split, in any orientation and brightness.

    The perceptual hashes of every pair are compared in all eight orientations. For similar pairs, the correlations of
    the grey images and of their texture decide.

    Args:
        grey: float32 (N, h, w), grey images of all patches.
        texture: texture of the grey images, after :func:`equalise_texture`.
        left: indices of the patches of the first split.
        right: indices of the patches of the second split.

    Returns:
        Sorted matches; each pair occurs once, with the orientation that fits best.
    """
    if not len(left) or not len(right):
        return []
    if min(texture.shape[1:]) >= 16:
        # Filters extrapolate beyond the border, in the same way for all patches.
        texture = texture[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    best: dict[tuple[int, int], Match] = {}
    # The dot product of vectors with mean 0 and norm 1 is their correlation.
    ours, our_texture = (_correlation_vectors(pictures[left.start : left.stop]) for pictures in (grey, texture))
    our_hashes = _perceptual_hashes(grey[left.start : left.stop])
    square = grey.shape[1] == grey.shape[2]
    for orientation in range(8):
        # A quarter turn changes the shape of a patch that is not square, so it cannot match.
        if orientation % 2 and not square:
            continue
        pictures, textures = (_oriented(values[right.start : right.stop], orientation) for values in (grey, texture))
        theirs, their_texture = _correlation_vectors(pictures), _correlation_vectors(textures)
        their_hashes = _perceptual_hashes(pictures)
        for start in range(0, len(our_hashes), _HASH_CHUNK):
            cosines = our_hashes[start : start + _HASH_CHUNK] @ their_hashes.T
            near = np.argwhere(cosines > HASH_COSINE) + np.array((start, 0))
            for part in np.array_split(near, len(near) // _HASH_CHUNK + 1):
                correlations = np.einsum("nd,nd->n", ours[part[:, 0]], theirs[part[:, 1]])
                textured = np.einsum("nd,nd->n", our_texture[part[:, 0]], their_texture[part[:, 1]])
                kept = (correlations >= COPY_GREY) & (textured >= COPY_TEXTURE)
                for (one, other), correlation in zip(part[kept].tolist(), correlations[kept].tolist(), strict=True):
                    match = Match(left[one], right[other], correlation, orientation)
                    known = best.get((match.one, match.other))
                    if known is None or known.correlation < correlation:
                        best[match.one, match.other] = match
    return [best[pair] for pair in sorted(best)]


def find_landmarks(texture: NDArray[np.float32], positions: range) -> Landmarks:
    """Find and describe the strongest points of each patch.

    Args:
        texture: texture of all patches, from :func:`extract_texture`, float32 (N, h, w).
        positions: indices of the patches to search.

    Returns:
        At most :data:`LANDMARKS` points per patch; none for images smaller than 16 pixels.
    """
    owners, places, windows = [], [], []
    half = _WINDOW // 2
    for index in positions if min(texture.shape[1:]) >= _WINDOW + 4 else ():
        strength = np.abs(texture[index])
        peaks = (strength == ndimage.maximum_filter(strength, 3)) & (strength > 1e-3)
        peaks[:half] = peaks[-half:] = False
        peaks[:, :half] = peaks[:, -half:] = False
        rows, columns = np.nonzero(peaks)
        best = np.argsort(-strength[rows, columns], kind="stable")[:LANDMARKS]
        for row, column in zip(rows[best].tolist(), columns[best].tolist(), strict=True):
            owners.append(index)
            places.append((row, column))
            windows.append(texture[index, row - half : row + half + 1, column - half : column + half + 1])
    side = _DESCRIPTOR_COEFFICIENTS
    if not owners:
        return Landmarks(np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty((0, side**2), np.float32))
    spectrum = fft.dctn(np.stack(windows), axes=(1, 2), norm="ortho")[:, :side, :side]
    described = spectrum.reshape(len(owners), -1)
    described /= np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-12)
    return Landmarks(np.array(owners), np.array(places), described.astype(np.float32))


def find_overlaps(
    grey: NDArray[np.float32], texture: NDArray[np.float32], left: Landmarks, right: Landmarks
) -> Iterator[tuple[int, list[Match]]]:
    """Find patches of one split that overlap patches of another split with a shift, without rotation.

    Args:
        grey: float32 (N, h, w), grey images of all patches.
        texture: texture of the grey images, after :func:`equalise_texture`.
        left: landmarks of the first split.
        right: landmarks of the second split.

    Yields:
        The number of processed landmarks of the first split, and the matches found since the last yield. Each
        pair occurs once.
    """
    known: set[tuple[int, int]] = set()
    for start in range(0, len(left.owners), _LANDMARK_BLOCK):
        found: list[Match] = []
        cosines = left.descriptors[start : start + _LANDMARK_BLOCK] @ right.descriptors.T
        near = np.flatnonzero(cosines > LANDMARK_COSINE)
        if len(near) > _MAX_PROPOSALS:
            # On repetitive ground (fields, roofs) everything is a candidate; the best candidates are enough.
            near = near[np.argpartition(-cosines.ravel()[near], _MAX_PROPOSALS)[:_MAX_PROPOSALS]]
        rows, columns = np.divmod(near, max(1, cosines.shape[1]))
        rows += start
        shifts = left.places[rows] - right.places[columns]
        proposals = np.unique(np.column_stack([left.owners[rows], right.owners[columns], shifts]), axis=0)
        for one, other, down, across in proposals.tolist():
            # Without a shift it is a copy, which find_copies finds.
            if (one, other) in known or (down, across) == (0, 0):
                continue
            match = _check_overlap(grey, texture, one, other, down, across)
            if match is not None:
                known.add((one, other))
                found.append(match)
        yield min(start + _LANDMARK_BLOCK, len(left.owners)), found


def overlapping_parts(
    shape: tuple[int, int], down: int, across: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the parts of two images that coincide when the second is shifted ``down`` and ``across`` from the first.

    Args:
        shape: height and width of both images.
        down: shift in rows.
        across: shift in columns.

    Returns:
        Row and column slices of the first image, then of the second; empty slices if they do not overlap.
    """
    rows, columns = max(0, shape[0] - abs(down)), max(0, shape[1] - abs(across))
    first = slice(max(0, down), max(0, down) + rows), slice(max(0, across), max(0, across) + columns)
    second = slice(max(0, -down), max(0, -down) + rows), slice(max(0, -across), max(0, -across) + columns)
    return first, second


def _check_overlap(
    grey: NDArray[np.float32], texture: NDArray[np.float32], one: int, other: int, down: int, across: int
) -> Match | None:
    height, width = texture.shape[1:]
    rows, columns = height - abs(down), width - abs(across)
    if rows * columns < max(MIN_OVERLAP * height * width, _MIN_OVERLAP_PIXELS):
        return None
    first_part, second_part = overlapping_parts((height, width), down, across)
    if _correlate(texture[one][first_part], texture[other][second_part]) < OVERLAP_TEXTURE:
        return None
    correlation = _correlate(grey[one][first_part], grey[other][second_part])
    return Match(one, other, correlation, shift=(down, across)) if correlation >= OVERLAP_GREY else None


def _perceptual_hashes(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the 63 lowest cosine coefficients of each grey image, as vectors with norm 1.

    The values are floats, not bits, so they are compared by cosine instead of Hamming distance. The first coefficient
    is 0 because the images have mean 0; all are 0 for a flat image.
    """
    rows, columns = (min(_HASH_COEFFICIENTS, side) for side in grey.shape[1:])
    spectrum: NDArray[np.float32] = fft.dctn(grey, axes=(1, 2), norm="ortho")[:, :rows, :columns]
    return _unit_vectors(np.ascontiguousarray(spectrum).reshape(len(grey), -1))


def _correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the Pearson correlation of two images of the same shape; 0 if one of them is flat."""
    first = one - one.mean()
    second = other - other.mean()
    scale = float(np.sqrt(np.vdot(first, first) * np.vdot(second, second)))
    return float(np.vdot(first, second)) / scale if scale > 1e-6 * first.size else 0.0


def _oriented(pictures: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Return images (N, h, w), all transformed to the orientation with this number."""
    turned = list(orientations(np.moveaxis(pictures, 0, -1)))[orientation]
    return np.ascontiguousarray(np.moveaxis(turned, -1, 0))


def _correlation_vectors(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images as vectors with mean 0 and norm 1."""
    rows = pictures.reshape(len(pictures), -1)
    return _unit_vectors(rows - rows.mean(axis=1, keepdims=True))


def _unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: NDArray[np.float32] = (vectors / np.where(length > 1e-6, length, np.inf)).astype(np.float32)
    return out
