"""What the audit keeps of each patch: a digest, a small grey picture, and the outlines of its landslides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.datasets.base import IGNORE, Patch, PatchDataset

SMALLEST = 60
"""Pixels below which an outline is too common to name a landslide [O]."""

CORNERS = 30
"""Corners below which an outline is too plain to name a landslide: rectangles have 4 [O]."""

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Outline:
    """One landslide that lies whole inside its patch.

    Attributes:
        key: digest of its shape; the same after a shift, a turn by 90 degrees or a reflection.
        pixels: its size.
    """

    key: bytes
    pixels: int


def find_outlines(landslide: NDArray[np.bool_]) -> Iterator[Outline]:
    """Give the landslides of a mask that can be recognised: whole, of 60 pixels and 30 corners or more.

    Two landslides of that size and shape do not agree in every pixel by chance; small squares and drawn discs do.

    Args:
        landslide: bool (H, W); landslides are 8-connected.
    """
    labels, count = ndimage.label(landslide, structure=_EIGHT)
    if not count:
        return
    height, width = landslide.shape
    sizes = np.bincount(labels.ravel())
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        touches = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        if touches or sizes[number] < SMALLEST:
            continue
        shape = labels[place] == number
        if corners(shape) >= CORNERS:
            yield Outline(_key(shape), int(sizes[number]))


def corners(shape: NDArray[np.bool_]) -> int:
    """Count the corners of the outline of a shape: places where one or three of the four pixels around are inside.

    Args:
        shape: bool (H, W).

    Returns:
        The number of corners, those of holes included; two where pixels touch by their corners alone.
    """
    padded = np.pad(shape, 1).astype(np.int8)
    around = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    crossed = (around == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    return int(((around == 1) | (around == 3)).sum() + 2 * crossed.sum())


def _key(shape: NDArray[np.bool_]) -> bytes:
    return min(
        hashlib.blake2b(repr(turned.shape).encode() + np.packbits(turned).tobytes(), digest_size=16).digest()
        for turned in turns(shape)
    )


def turns(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Give an image (H, W) turned by 0, 90, 180 and 270 degrees, then the same of its reflection left to right."""
    for start in (image, image[:, ::-1]):
        for quarter in range(4):
            yield np.rot90(start, quarter)


SIDE = 64
"""Longest side of a grey picture: larger patches are averaged down to it [O]."""

_SAMPLED = 48

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PatchSignatures:
    """What is compared of the patches of all splits together.

    Attributes:
        splits: the splits in order, with the positions of their patches here.
        patches: of all splits, one after the other.
        digests: blake2b of each image's pixels and shape.
        blank: bool (N,), true where an image holds one value a band, or none: such patches say nothing of a place.
        grey: float32 (N, h, w), each of mean 0 and standard deviation 1; 0 everywhere where flat or missing.
        factor: pixels of a patch, along a side, that one pixel of ``grey`` stands for.
        shape: height and width of a patch in pixels.
        masks: uint8 (N, ceil(H W / 8)), landslide pixels packed by ``numpy.packbits``.
        outlines: of the landslides of each patch that lie whole inside it.
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
        """Give the landslide pixels of one patch, bool (H, W)."""
        height, width = self.shape
        flat = np.unpackbits(self.masks[index], count=height * width)
        return flat.reshape(height, width).astype(bool)


def compute_signatures(splits: Mapping[str, PatchDataset], progress: Progress | None = None) -> PatchSignatures:
    """Read every patch of every split once, and keep what the comparisons need.

    The grey picture is the first principal component of the bands, so that any number of bands gives one picture: each
    band of a patch is stretched between its 2nd and 98th percentile, which undoes a change of brightness or contrast,
    and the weights come from the correlation of the stretched bands over 48 patches of all splits [O].

    Args:
        splits: at least one patch together; the same bands and size.
        progress: called with the number of patches read and of all.

    Returns:
        What is compared: about 20 KB a patch.
    """
    sources = [(dataset, index) for dataset in splits.values() for index in range(len(dataset))]
    ranges, start = {}, 0
    for name, dataset in splits.items():
        ranges[name] = range(start, start + len(dataset))
        start += len(dataset)
    height, width = sources[0][0].read(sources[0][1])[1].shape
    factor = max(1, -(-max(height, width) // SIDE))
    weights = _weights([_of(sources, position) for position in _spread(len(sources))], factor)
    grey = np.zeros((len(sources), max(1, height // factor), max(1, width // factor)), dtype=np.float32)
    masks = np.zeros((len(sources), -(-height * width // 8)), dtype=np.uint8)
    blank = np.zeros(len(sources), dtype=bool)
    digests, outlines = [], []
    for position, (dataset, index) in enumerate(sources):
        image, mask = dataset.read(index)
        digests.append(_digest(image))
        blank[position] = _is_blank(image)
        grey[position] = _standard(np.tensordot(weights, _stretched(_reduced(image, factor)), 1))
        landslide = (mask > 0) & (mask != IGNORE)
        masks[position] = np.packbits(landslide)
        outlines.append(tuple(find_outlines(landslide)))
        if progress is not None:
            progress(position + 1, len(sources))
    patches = tuple(patch for dataset in splits.values() for patch in dataset.patches)
    return PatchSignatures(
        ranges, patches, tuple(digests), blank, grey, factor, (height, width), masks, tuple(outlines)
    )


def _of(sources: Sequence[tuple[PatchDataset, int]], position: int) -> NDArray[np.float32]:
    dataset, index = sources[position]
    return dataset.read(index)[0]


def _spread(count: int) -> list[int]:
    return sorted({int(position) for position in np.linspace(0, count - 1, min(count, _SAMPLED))})


def _digest(image: NDArray[np.float32]) -> bytes:
    whole = np.ascontiguousarray(image, dtype=np.float32)
    # Adding zero turns -0 into 0, and one kind of NaN stands for all: what is equal gets equal bytes.
    plain = np.where(np.isnan(whole), np.float32(np.nan), whole + np.float32(0))
    return hashlib.blake2b(repr(plain.shape).encode() + plain.tobytes(), digest_size=16).digest()


def _is_blank(image: NDArray[np.float32]) -> bool:
    for band in image:
        present = band[np.isfinite(band)]
        if present.size and present.min() < present.max():
            return False
    return True


def _reduced(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over factor x factor pixels, NaN where any of them is missing."""
    if factor == 1:
        return np.where(np.isfinite(image), image, np.float32(np.nan))
    height, width = (side // factor * factor for side in image.shape[1:])
    cut = image[:, :height, :width].reshape(len(image), height // factor, factor, width // factor, factor)
    means: NDArray[np.float32] = cut.mean(axis=(2, 4), dtype=np.float32)
    return np.where(np.isfinite(means), means, np.float32(np.nan))


def _stretched(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each band from about -1 to 1 between its 2nd and 98th percentile; missing pixels and flat bands are 0."""
    out = np.zeros_like(image)
    for band, values in enumerate(image):
        present = np.isfinite(values)
        if not present.any():
            continue
        low, high = np.percentile(values[present], (2, 98))
        if high > low:
            out[band] = np.where(present, np.clip((values - low) / (high - low) * 2 - 1, -1.5, 1.5), 0)
    return out


def _weights(images: Sequence[NDArray[np.float32]], factor: int) -> NDArray[np.float32]:
    """Weights (C,) of the first principal component of the stretched bands."""
    bands = len(images[0])
    total = np.zeros((bands, bands))
    for image in images:
        flat = _stretched(_reduced(image, factor)).reshape(bands, -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        total += flat @ flat.T
    scale = np.sqrt(np.diag(total))
    scale[scale == 0] = 1
    _, vectors = np.linalg.eigh(total / np.outer(scale, scale))
    weights: NDArray[np.float32] = vectors[:, -1].astype(np.float32)
    return weights


def _standard(grey: NDArray[Any]) -> NDArray[np.float32]:
    centred = grey - grey.mean()
    deviation = float(centred.std())
    standard = centred / deviation if deviation > 1e-6 else np.zeros_like(centred)
    return np.asarray(standard, dtype=np.float32)
