"""Signatures of patches, which the audit uses to compare each patch with all others.

A signature consists of a digest of the pixels, a small grey image that does not depend on brightness or contrast, the
landslide mask, and the outlines of the landslides that are completely inside the patch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.datasets.base import IGNORE, Patch, PatchDataset
from zoo.jobs import ProgressCallback

MAX_SIDE = 64
"""Longest side of a grey image in pixels; larger patches are averaged down to it [O]."""

MIN_PIXELS = 60
"""Size in pixels below which many landslides have the same outline, so that it does not identify one [O]."""

MIN_CORNERS = 30
"""Number of corners below which an outline is too simple to identify a landslide; a rectangle has 4 [O]."""

_SAMPLED = 48
_NEIGHBOURS_8 = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Outline:
    """Outline of a landslide that is completely inside its patch.

    Attributes:
        key: digest of its shape, invariant to shifts, rotations by 90 degrees and reflections.
        pixels: its size in pixels.
    """

    key: bytes
    pixels: int


@dataclass(frozen=True)
class PatchSignatures:
    """Signatures of the patches of all splits.

    Attributes:
        splits: the splits in order, each with the indices of its patches in the other fields.
        patches: patches of all splits, one split after the other.
        digests: blake2b digest of the pixels and the shape of each image.
        blank: bool (N,), true if an image has a single value per band or no values at all; such patches do not
            identify a place.
        grey: float32 (N, h, w), each with mean 0 and standard deviation 1; all zeros if the image is
            flat or missing.
        factor: number of patch pixels per pixel of ``grey``, along a side.
        shape: height and width of a patch in pixels.
        masks: uint8 (N, ceil(H W / 8)), landslide pixels packed by ``numpy.packbits``.
        outlines: for each patch, the outlines of the landslides that are completely inside it.
    """

    splits: Mapping[str, range]
    patches: tuple[Patch, ...]
    digests: tuple[bytes, ...]
    blank: NDArray[np.bool_]
    grey: NDArray[np.float32]
    factor: int
    shape: tuple[int, int]
    masks: NDArray[np.uint8]
    outlines: tuple[tuple[Outline, ...], ...]

    def landslide(self, index: int) -> NDArray[np.bool_]:
        """Return the landslide pixels of one patch, bool (H, W)."""
        height, width = self.shape
        flat = np.unpackbits(self.masks[index], count=height * width)
        return flat.reshape(height, width).astype(bool)


def compute_signatures(splits: Mapping[str, PatchDataset], progress: ProgressCallback | None = None) -> PatchSignatures:
    """Read every patch of every split once and compute its signature, about 20 KB per patch.

    The grey image is the first principal component of the bands, so that any number of bands gives one image. Each
    band of a patch is stretched between its 2nd and 98th percentile, which removes differences in brightness and
    contrast. The weights come from the correlation of the stretched bands over 48 patches of all splits [O].

    Args:
        splits: data sets with the same bands and patch size, with at least one patch in total.
        progress: called with the number of patches read and the total.
    """
    sources = [(dataset, index) for dataset in splits.values() for index in range(len(dataset))]
    ranges, start = {}, 0
    for name, dataset in splits.items():
        ranges[name] = range(start, start + len(dataset))
        start += len(dataset)
    height, width = sources[0][0].read(sources[0][1])[1].shape
    factor = max(1, -(-max(height, width) // MAX_SIDE))
    sampled = [sources[position] for position in _evenly_spaced(len(sources))]
    weights = _band_weights([dataset.read(index)[0] for dataset, index in sampled], factor)
    grey = np.zeros((len(sources), max(1, height // factor), max(1, width // factor)), dtype=np.float32)
    masks = np.zeros((len(sources), -(-height * width // 8)), dtype=np.uint8)
    blank = np.zeros(len(sources), dtype=bool)
    digests, outlines = [], []
    for position, (dataset, index) in enumerate(sources):
        image, mask = dataset.read(index)
        digests.append(_digest(image))
        blank[position] = _is_blank(image)
        grey[position] = _standardise(np.tensordot(weights, _stretch_bands(_downsample(image, factor)), 1))
        landslide = (mask > 0) & (mask != IGNORE)
        masks[position] = np.packbits(landslide)
        outlines.append(tuple(find_outlines(landslide)))
        if progress is not None:
            progress(position + 1, len(sources))
    return PatchSignatures(
        splits=ranges,
        patches=tuple(patch for dataset in splits.values() for patch in dataset.patches),
        digests=tuple(digests),
        blank=blank,
        grey=grey,
        factor=factor,
        shape=(height, width),
        masks=masks,
        outlines=tuple(outlines),
    )


def find_outlines(landslide: NDArray[np.bool_]) -> Iterator[Outline]:
    """Yield the outlines of the landslides that identify a place: complete, at least 60 pixels and 30 corners.

    Landslides of that size do not agree in every pixel by chance; small squares and drawn discs may.

    Args:
        landslide: bool (H, W); landslides are 8-connected.
    """
    labels, count = ndimage.label(landslide, structure=_NEIGHBOURS_8)
    if not count:
        return
    height, width = landslide.shape
    sizes = np.bincount(labels.ravel())
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        is_cut = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        if is_cut or sizes[number] < MIN_PIXELS:
            continue
        shape = labels[place] == number
        if count_corners(shape) >= MIN_CORNERS:
            yield Outline(_outline_key(shape), int(sizes[number]))


def count_corners(shape: NDArray[np.bool_]) -> int:
    """Return the number of corners of a shape's outline: points where one or three of the four adjacent pixels are
    inside.

    Args:
        shape: bool (H, W).

    Returns:
        The number of corners, including those of holes; a point where two pixels touch diagonally counts twice.
    """
    padded = np.pad(shape, 1).astype(np.int8)
    around = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    crossed = (around == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    return int(((around == 1) | (around == 3)).sum() + 2 * crossed.sum())


def orientations(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an image (H, W) rotated by 0, 90, 180 and 270 degrees, then its left-right reflection, rotated likewise."""
    for start in (image, image[:, ::-1]):
        for quarter in range(4):
            yield np.rot90(start, quarter)


def _outline_key(shape: NDArray[np.bool_]) -> bytes:
    return min(
        hashlib.blake2b(repr(turned.shape).encode() + np.packbits(turned).tobytes(), digest_size=16).digest()
        for turned in orientations(shape)
    )


def _evenly_spaced(count: int) -> list[int]:
    """Return up to 48 evenly spaced indices below ``count``."""
    return sorted({int(position) for position in np.linspace(0, count - 1, min(count, _SAMPLED))})


def _digest(image: NDArray[np.float32]) -> bytes:
    values = np.ascontiguousarray(image, dtype=np.float32)
    # Adding zero turns -0 into 0, and every NaN is replaced by the same NaN, so that equal images have equal bytes.
    plain = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0))
    return hashlib.blake2b(repr(plain.shape).encode() + plain.tobytes(), digest_size=16).digest()


def _is_blank(image: NDArray[np.float32]) -> bool:
    for band in image:
        valid = band[np.isfinite(band)]
        if valid.size and valid.min() < valid.max():
            return False
    return True


def _downsample(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return means over factor x factor pixels, NaN if any of them is missing."""
    if factor == 1:
        return np.where(np.isfinite(image), image, np.float32(np.nan))
    height, width = (side // factor * factor for side in image.shape[1:])
    blocks = image[:, :height, :width].reshape(len(image), height // factor, factor, width // factor, factor)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return np.where(np.isfinite(means), means, np.float32(np.nan))


def _stretch_bands(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stretch each band to about -1..1 between its 2nd and 98th percentile; missing pixels and flat bands are 0."""
    out = np.zeros_like(image)
    for band, values in enumerate(image):
        valid = np.isfinite(values)
        if not valid.any():
            continue
        low, high = np.percentile(values[valid], (2, 98))
        if high > low:
            out[band] = np.where(valid, np.clip((values - low) / (high - low) * 2 - 1, -1.5, 1.5), 0)
    return out


def _band_weights(images: Sequence[NDArray[np.float32]], factor: int) -> NDArray[np.float32]:
    """Return the weights (C,) of the first principal component of the stretched bands."""
    bands = len(images[0])
    total = np.zeros((bands, bands))
    for image in images:
        flat = _stretch_bands(_downsample(image, factor)).reshape(bands, -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        total += flat @ flat.T
    scale = np.sqrt(np.diag(total))
    scale[scale == 0] = 1
    _, vectors = np.linalg.eigh(total / np.outer(scale, scale))
    weights: NDArray[np.float32] = vectors[:, -1].astype(np.float32)
    return weights


def _standardise(grey: NDArray[Any]) -> NDArray[np.float32]:
    centred = grey - grey.mean()
    deviation = float(centred.std())
    standard = centred / deviation if deviation > 1e-6 else np.zeros_like(centred)
    return np.asarray(standard, dtype=np.float32)
