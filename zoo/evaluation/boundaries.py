"""How well outlines agree: pixels of one boundary that lie near the other, counted an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from zoo.errors import ResultError
from zoo.evaluation.counts import IntArray

DISTANCES = (1, 2, 4)
"""Pixels that a boundary may be off."""

_CROSS = np.zeros((3, 3, 3), dtype=bool)
_CROSS[1] = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels of each image, and those within 1, 2 and 4 pixels (Euclidean) of the other boundary.

    A boundary pixel is a landslide pixel of which one of the four neighbours is background; the edge of an image and
    pixels to ignore are no boundary.

    Attributes:
        predicted: int64 ``(N,)``.
        predicted_near: int64 ``(N, 3)``.
        truth: int64 ``(N,)``.
        truth_near: int64 ``(N, 3)``.

    Raises:
        ResultError: if the arrays do not fit each other.
    """

    predicted: IntArray
    predicted_near: IntArray
    truth: IntArray
    truth_near: IntArray

    def __post_init__(self) -> None:
        images = len(self.predicted)
        for name in _NAMES:
            shape = (images, len(DISTANCES)) if name.endswith("near") else (images,)
            array = np.asarray(getattr(self, name))
            if array.shape != shape or (array.size and (array.dtype.kind not in "iu" or array.min() < 0)):
                raise ResultError(f"boundary counts {name} are not {' x '.join(map(str, shape))} counts")
            object.__setattr__(self, name, array.astype(np.int64))
        for name in ("predicted", "truth"):
            if (getattr(self, f"{name}_near") > getattr(self, name)[:, None]).any():
                raise ResultError("more boundary pixels are near than there are")

    @classmethod
    def from_masks(cls, predicted: NDArray[np.bool_], truth: NDArray[Any], ignore_index: int = 255) -> BoundaryCounts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is left out, all else is landslide.
            ignore_index: mask value of pixels that count nowhere.
        """
        unknown = truth == ignore_index
        called = _boundary(predicted & ~unknown, unknown)
        real = _boundary((truth != 0) & ~unknown, unknown)
        return cls(
            predicted=called.sum(axis=(1, 2)),
            predicted_near=_near(called, real),
            truth=real.sum(axis=(1, 2)),
            truth_near=_near(real, called),
        )

    def f1(self) -> NDArray[np.float64]:
        """Boundary F1 at each distance over all images together, float64 ``(3,)``; NaN without any boundary."""
        near = self.predicted_near.sum(axis=0) / max(1, self.predicted.sum())
        covered = self.truth_near.sum(axis=0) / max(1, self.truth.sum())
        if not self.predicted.sum() and not self.truth.sum():
            return np.full(len(DISTANCES), np.nan)
        total = near + covered
        f1: NDArray[np.float64] = np.divide(2 * near * covered, total, out=np.zeros(len(DISTANCES)), where=total > 0)
        return f1

    @classmethod
    def concatenate(cls, parts: list[BoundaryCounts]) -> BoundaryCounts:
        """All images of all parts, in order."""
        return cls(*(np.concatenate([_empty(name), *(getattr(part, name) for part in parts)]) for name in _NAMES))

    def select(self, images: ArrayLike) -> BoundaryCounts:
        """The images at these indices, or where this bool array is true."""
        return BoundaryCounts(*(getattr(self, name)[np.asarray(images)] for name in _NAMES))

    def to_dict(self) -> dict[str, Any]:
        """Lists of integers, as result files hold them."""
        return {name: getattr(self, name).tolist() for name in _NAMES}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BoundaryCounts:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a list is missing or does not fit the others.
        """
        missing = [name for name in _NAMES if name not in values]
        if missing:
            raise ResultError(f"boundary counts lack {', '.join(missing)}")
        return cls(*(np.asarray(values[name]) if values[name] else _empty(name) for name in _NAMES))


_NAMES = ("predicted", "predicted_near", "truth", "truth_near")


def _empty(name: str) -> IntArray:
    return np.zeros((0, len(DISTANCES)) if name.endswith("near") else 0, np.int64)


def _boundary(mask: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ndimage.binary_erosion(mask | unknown, _CROSS, border_value=1)
    return mask & ~inside


def _near(boundary: NDArray[np.bool_], other: NDArray[np.bool_]) -> IntArray:
    if not other.any():
        return np.zeros((len(boundary), len(DISTANCES)), np.int64)
    # Images of a batch are put out of each other's reach.
    distance = ndimage.distance_transform_edt(~other, sampling=(1e6, 1, 1))
    near = [(boundary & (distance <= limit)).sum(axis=(1, 2)) for limit in DISTANCES]
    return np.stack(near, axis=1).astype(np.int64)
