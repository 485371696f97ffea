"""Landslides counted one by one: which of them were found, by size, and what was called a landslide that is none."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from zoo.errors import ResultError
from zoo.evaluation.counts import IntArray

SIZE_EDGES = (16, 64, 256)
"""Pixels at which a size bin ends: at 10 m a pixel 1,600, 6,400 and 25,600 m2 [O: the paper calls 60 % of its slides
small, which at 1,600 m2 is the share that the inverse gamma of Malamud et al. 2004 gives]."""

BINS = len(SIZE_EDGES) + 1

_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
# Diagonal neighbours belong together; images of a batch do not.
_NEIGHBOURS[1] = True


@dataclass(frozen=True)
class ObjectCounts:
    """Landslides of each image, as connected components of eight neighbours.

    Attributes:
        total: landslides of the truth by size bin, int64 ``(N, 4)``.
        touched: of these, those with at least one predicted pixel.
        found: of these, those with at least half of their pixels predicted [O].
        predicted: predicted components, int64 ``(N,)``.
        false_alarms: predicted components without any landslide pixel, int64 ``(N,)``.

    Raises:
        ResultError: if the arrays do not fit each other, or more is found than there is.
    """

    total: IntArray
    touched: IntArray
    found: IntArray
    predicted: IntArray
    false_alarms: IntArray

    def __post_init__(self) -> None:
        images = len(self.total)
        for name in ("total", "touched", "found"):
            object.__setattr__(self, name, _integers(getattr(self, name), (images, BINS), name))
        for name in ("predicted", "false_alarms"):
            object.__setattr__(self, name, _integers(getattr(self, name), (images,), name))
        if (self.found > self.touched).any() or (self.touched > self.total).any():
            raise ResultError("more landslides are found than there are")
        if (self.false_alarms > self.predicted).any():
            raise ResultError("more false alarms than predicted landslides")

    @classmethod
    def from_masks(cls, predicted: NDArray[np.bool_], truth: NDArray[Any], ignore_index: int = 255) -> ObjectCounts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is left out, all else is landslide.
            ignore_index: mask value of pixels that count nowhere; they separate what they lie between.
        """
        images = len(truth)
        known = truth != ignore_index
        real, called = (truth != 0) & known, predicted & known
        labels, count = ndimage.label(real, _NEIGHBOURS)
        area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        hit = np.bincount(labels[called].ravel(), minlength=count + 1)[1:]
        where = np.digitize(area, SIZE_EDGES) + BINS * _image_of(labels, count)
        guesses, guessed = ndimage.label(called, _NEIGHBOURS)
        right = np.zeros(guessed + 1, dtype=bool)
        right[guesses[real]] = True
        place = _image_of(guesses, guessed)

        def by_size(chosen: NDArray[np.bool_]) -> IntArray:
            return np.bincount(where[chosen], minlength=images * BINS).reshape(images, BINS)

        return cls(
            total=by_size(area > 0),
            touched=by_size(hit > 0),
            found=by_size(2 * hit >= area),
            predicted=np.bincount(place, minlength=images),
            false_alarms=np.bincount(place[~right[1:]], minlength=images),
        )

    @classmethod
    def concatenate(cls, parts: list[ObjectCounts]) -> ObjectCounts:
        """All images of all parts, in order."""
        return cls(
            *(
                np.concatenate([np.zeros((0, BINS) if wide else 0, np.int64), *(getattr(part, name) for part in parts)])
                for name, wide in _COLUMNS
            )
        )

    def select(self, images: ArrayLike) -> ObjectCounts:
        """The images at these indices, or where this bool array is true."""
        return ObjectCounts(*(getattr(self, name)[np.asarray(images)] for name, _ in _COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Lists of integers, as result files hold them."""
        return {name: getattr(self, name).tolist() for name, _ in _COLUMNS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ObjectCounts:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a list is missing or does not fit the others.
        """
        missing = [name for name, _ in _COLUMNS if name not in values]
        if missing:
            raise ResultError(f"object counts lack {', '.join(missing)}")
        return cls(
            *(
                np.asarray(values[name]) if values[name] else np.zeros((0, BINS) if wide else 0, np.int64)
                for name, wide in _COLUMNS
            )
        )


_COLUMNS = tuple((field.name, field.name in ("total", "touched", "found")) for field in fields(ObjectCounts))


def size_names(pixel_size: float | None) -> tuple[str, ...]:
    """Name the size bins: in m2 where the edge of a pixel in metres is known, else in pixels."""
    scale, unit = (1.0, "px") if pixel_size is None else (pixel_size**2, "m2")
    edges = [f"{edge * scale:,.0f}" for edge in SIZE_EDGES]
    between = (f"{low}-{high} {unit}" for low, high in pairwise(edges))
    return (f"< {edges[0]} {unit}", *between, f">= {edges[-1]} {unit}")


def _image_of(labels: NDArray[np.signedinteger[Any]], count: int) -> IntArray:
    """The image that each component lies in: labels are given in the order of images."""
    last = np.maximum.accumulate(labels.reshape(len(labels), -1).max(axis=1)) if len(labels) else np.zeros(0, np.int64)
    return np.searchsorted(last, np.arange(1, count + 1))


def _integers(values: Any, shape: tuple[int, ...], name: str) -> IntArray:
    array = np.asarray(values)
    if array.shape != shape or (array.size and (array.dtype.kind not in "iu" or array.min() < 0)):
        raise ResultError(f"object counts {name} are not {' x '.join(map(str, shape))} counts")
    return array.astype(np.int64)
