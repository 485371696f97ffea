"""Integer counts per image: pixels, landslides and boundary pixels, from which every figure can be recomputed.

Result files hold these counts, so a metric that is registered later also works for older results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import ResultError

if TYPE_CHECKING:
    import torch

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
SIZE_EDGES = (16, 64, 256)
"""Upper limits of the size bins in pixels: 1,600, 6,400 and 25,600 m2 for pixels of 10 m [O: the paper calls 60 %
of its landslides small; the inverse gamma distribution of Malamud et al. 2004 gives that share below 1,600 m2]."""
SIZE_BINS = len(SIZE_EDGES) + 1
DISTANCES = (1, 2, 4)
"""Tolerances of the boundary F1 in pixels."""


@dataclass(frozen=True)
class ImageCounts:
    """Base class of the counts below: one row per image, validated on creation.

    Raises:
        ResultError: if an array differs from the others in length or width, or holds negative numbers or fractions.
    """

    name: ClassVar[str]
    """Name of the counts, for messages."""
    widths: ClassVar[Mapping[str, int]] = {}
    """Number of columns of the two-dimensional arrays."""

    def __post_init__(self) -> None:
        images = len(np.atleast_1d(getattr(self, fields(self)[0].name)))
        for field in fields(self):
            values = np.asarray(getattr(self, field.name))
            width = self.widths.get(field.name)
            shape = (images,) if width is None else (images, width)
            if not values.size and not images:
                values = np.zeros(shape, np.int64)
            if values.size and values.dtype.kind not in "iu":
                raise ResultError(f"{self.name}: {field.name} are not integers")
            if values.shape != shape:
                found, expected = (" x ".join(map(str, one)) or "a number" for one in (values.shape, shape))
                raise ResultError(f"{self.name} differ in shape: {field.name} has {found} values, expected {expected}")
            if values.size and values.min() < 0:
                raise ResultError(f"{self.name}: {field.name} hold a negative number")
            object.__setattr__(self, field.name, values.astype(np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the images of all parts, in order."""
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts]) if parts else np.zeros(0, int)
                for field in fields(cls)
            }
        )

    def select(self, images: ArrayLike) -> Self:
        """Return the images at these indices, or those where this bool array is true."""
        chosen = np.asarray(images)
        return type(self)(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))


@dataclass(frozen=True)
class Counts(ImageCounts):
    """Pixels of each image by truth and prediction (the confusion matrix). Ignored pixels are not counted.

    Attributes:
        tp: landslide pixels predicted as landslide, int64 ``(N,)``.
        fp: background pixels predicted as landslide, int64 ``(N,)``.
        fn: landslide pixels predicted as background, int64 ``(N,)``.
        tn: background pixels predicted as background, int64 ``(N,)``.

    Raises:
        ResultError: if the arrays differ in length, or hold negative numbers or fractions.
    """

    name: ClassVar[str] = "counts"

    tp: IntArray
    fp: IntArray
    fn: IntArray
    tn: IntArray

    @classmethod
    def from_masks(cls, predicted: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> Counts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is ignored, every other value is landslide.
            ignore_index: mask value of the ignored pixels.

        Raises:
            ResultError: if the shapes differ.
        """
        if predicted.shape != truth.shape:
            raise ResultError(f"prediction {tuple(predicted.shape)} and mask {tuple(truth.shape)} differ in shape")
        known = truth != ignore_index
        positive = (truth != 0) & known
        negative = ~positive & known
        cells = {
            "tp": predicted & positive,
            "fp": predicted & negative,
            "fn": ~predicted & positive,
            "tn": ~predicted & negative,
        }
        return cls(**{name: cell.flatten(1).sum(1).cpu().numpy() for name, cell in cells.items()})

    @property
    def cells(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """The four arrays, in the order of a metric's arguments."""
        return self.tp, self.fp, self.fn, self.tn

    def pooled(self) -> Counts:
        """Return the four sums over all images as one image, from which the headline metrics are computed."""
        return Counts(*(cell.sum(keepdims=True) for cell in self.cells))

    @property
    def pixels(self) -> IntArray:
        """Number of pixels counted in each image, int64 ``(N,)``."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def has_landslide(self) -> NDArray[np.bool_]:
        """Whether the truth of each image holds a landslide, bool ``(N,)``. Only these have a per-image Dice."""
        return (self.tp + self.fn) > 0


@dataclass(frozen=True)
class ObjectCounts(ImageCounts):
    """Landslides of each image, counted as 8-connected components.

    Attributes:
        total: true landslides by size bin (:data:`SIZE_EDGES`), int64 ``(N, 4)``.
        touched: those with at least one predicted pixel, int64 ``(N, 4)``.
        found: those with at least half of their pixels predicted [O], int64 ``(N, 4)``.
        predicted: predicted components, int64 ``(N,)``.
        false_alarms: predicted components without any landslide pixel, int64 ``(N,)``.

    Raises:
        ResultError: if the arrays do not fit each other, or more landslides are found than exist.
    """

    name: ClassVar[str] = "object counts"
    widths: ClassVar[Mapping[str, int]] = dict.fromkeys(("total", "touched", "found"), SIZE_BINS)

    total: IntArray
    touched: IntArray
    found: IntArray
    predicted: IntArray
    false_alarms: IntArray

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.found > self.touched).any() or (self.touched > self.total).any():
            raise ResultError("more landslides are found than exist")
        if (self.false_alarms > self.predicted).any():
            raise ResultError("more false alarms than predicted landslides")

    @classmethod
    def from_masks(cls, predicted: NDArray[np.bool_], truth: NDArray[Any], ignore_index: int = 255) -> ObjectCounts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is ignored, every other value is landslide.
            ignore_index: mask value of the ignored pixels; they separate adjacent components.
        """
        from scipy import ndimage

        # Diagonal neighbours belong to one component; the images of a batch do not touch.
        neighbours = np.zeros((3, 3, 3), dtype=bool)
        neighbours[1] = True
        images = len(truth)
        known = truth != ignore_index
        real, called = (truth != 0) & known, predicted & known
        labels, count = ndimage.label(real, neighbours)
        area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        hit = np.bincount(labels[called].ravel(), minlength=count + 1)[1:]
        place = np.digitize(area, SIZE_EDGES) + SIZE_BINS * _image_of(labels, count)
        guesses, guessed = ndimage.label(called, neighbours)
        right = np.zeros(guessed + 1, dtype=bool)
        right[guesses[real]] = True
        guess_place = _image_of(guesses, guessed)

        def by_size(chosen: NDArray[np.bool_]) -> IntArray:
            return np.bincount(place[chosen], minlength=images * SIZE_BINS).reshape(images, SIZE_BINS)

        return cls(
            total=by_size(area > 0),
            touched=by_size(hit > 0),
            found=by_size(2 * hit >= area),
            predicted=np.bincount(guess_place, minlength=images),
            false_alarms=np.bincount(guess_place[~right[1:]], minlength=images),
        )


@dataclass(frozen=True)
class BoundaryCounts(ImageCounts):
    """Boundary pixels of each image, and those within 1, 2 and 4 pixels (Euclidean) of the other mask's boundary.

    A boundary pixel is a landslide pixel with at least one background pixel among its four neighbours. The edge of the
    image and ignored pixels do not form boundaries.

    Attributes:
        predicted: boundary pixels of the prediction, int64 ``(N,)``.
        predicted_near: those near the true boundary, by :data:`DISTANCES`, int64 ``(N, 3)``.
        truth: boundary pixels of the truth, int64 ``(N,)``.
        truth_near: those near the predicted boundary, int64 ``(N, 3)``.

    Raises:
        ResultError: if the arrays do not fit each other.
    """

    name: ClassVar[str] = "boundary counts"
    widths: ClassVar[Mapping[str, int]] = dict.fromkeys(("predicted_near", "truth_near"), len(DISTANCES))

    predicted: IntArray
    predicted_near: IntArray
    truth: IntArray
    truth_near: IntArray

    def __post_init__(self) -> None:
        super().__post_init__()
        for near, total in ((self.predicted_near, self.predicted), (self.truth_near, self.truth)):
            if (near > total[:, None]).any():
                raise ResultError("more boundary pixels are near than exist")

    @classmethod
    def from_masks(cls, predicted: NDArray[np.bool_], truth: NDArray[Any], ignore_index: int = 255) -> BoundaryCounts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is ignored, every other value is landslide.
            ignore_index: mask value of the ignored pixels.
        """
        unknown = truth == ignore_index
        called = _boundary(predicted & ~unknown, unknown)
        real = _boundary((truth != 0) & ~unknown, unknown)
        return cls(
            predicted=called.sum(axis=(1, 2)),
            predicted_near=_count_near(called, real),
            truth=real.sum(axis=(1, 2)),
            truth_near=_count_near(real, called),
        )

    def f1(self) -> FloatArray:
        """Return the boundary F1 at each distance over all images, float64 ``(3,)``; NaN if there is no boundary."""
        if not self.predicted.sum() and not self.truth.sum():
            return np.full(len(DISTANCES), np.nan)
        precision = self.predicted_near.sum(axis=0) / max(1, self.predicted.sum())
        recall = self.truth_near.sum(axis=0) / max(1, self.truth.sum())
        total = precision + recall
        f1: FloatArray = np.divide(2 * precision * recall, total, out=np.zeros(len(DISTANCES)), where=total > 0)
        return f1


def size_names(pixel_size: float | None) -> tuple[str, ...]:
    """Return the names of the size bins.

    Args:
        pixel_size: side of a pixel in metres; ``None`` gives areas in pixels.
    """
    scale, unit = (1.0, "px") if pixel_size is None else (pixel_size**2, "m2")
    edges = [f"{edge * scale:,.0f}" for edge in SIZE_EDGES]
    between = (f"{low}-{high} {unit}" for low, high in pairwise(edges))
    return (f"< {edges[0]} {unit}", *between, f">= {edges[-1]} {unit}")


def _image_of(labels: NDArray[np.signedinteger[Any]], count: int) -> IntArray:
    """Return the image of each component; labels increase in the order of the images."""
    last = np.maximum.accumulate(labels.reshape(len(labels), -1).max(axis=1)) if len(labels) else np.zeros(0, np.int64)
    return np.searchsorted(last, np.arange(1, count + 1))


def _boundary(mask: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1] = ndimage.generate_binary_structure(2, 1)
    inside: NDArray[np.bool_] = ndimage.binary_erosion(mask | unknown, cross, border_value=1)
    return mask & ~inside


def _count_near(boundary: NDArray[np.bool_], other: NDArray[np.bool_]) -> IntArray:
    from scipy import ndimage

    if not other.any():
        return np.zeros((len(boundary), len(DISTANCES)), np.int64)
    # A sampling of a million pixels between images keeps them from affecting each other's distances.
    distance = ndimage.distance_transform_edt(~other, sampling=(1e6, 1, 1))
    near = [(boundary & (distance <= limit)).sum(axis=(1, 2)) for limit in DISTANCES]
    return np.stack(near, axis=1).astype(np.int64)
