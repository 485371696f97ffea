"""Confusion counts, kept as integers an image, so that every metric can be computed again from a result file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import ResultError

if TYPE_CHECKING:
    import torch

IntArray = NDArray[np.int64]
FIELDS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class Counts:
    """Pixels of each image by truth and prediction; pixels to ignore are in none of the four.

    Attributes:
        tp: landslide predicted as landslide, int64 ``(N,)``.
        fp: background predicted as landslide, int64 ``(N,)``.
        fn: landslide predicted as background, int64 ``(N,)``.
        tn: background predicted as background, int64 ``(N,)``.

    Raises:
        ResultError: if the arrays differ in shape, are no integers or hold a negative number.
    """

    tp: IntArray
    fp: IntArray
    fn: IntArray
    tn: IntArray

    def __post_init__(self) -> None:
        shapes = set()
        for name in FIELDS:
            values = np.asarray(getattr(self, name))
            if values.size and values.dtype.kind not in "iu":
                raise ResultError(f"counts {name} are not integers")
            if values.size and values.min() < 0:
                raise ResultError(f"counts {name} hold a negative number")
            object.__setattr__(self, name, values.astype(np.int64))
            shapes.add(values.shape)
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ResultError(f"counts differ in shape: {sorted(shapes)}")

    @classmethod
    def from_masks(cls, predicted: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> Counts:
        """Count a batch.

        Args:
            predicted: bool ``(B, H, W)``, true where a landslide is predicted.
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is left out, all else is landslide.
            ignore_index: mask value of pixels that count nowhere.
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

    @classmethod
    def concatenate(cls, parts: list[Counts]) -> Counts:
        """All images of all parts, in order."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in FIELDS))

    def pooled(self) -> Counts:
        """The four sums over all images, as one image: what the headline metrics are made of."""
        return Counts(*(getattr(self, name).sum(keepdims=True) for name in FIELDS))

    def select(self, images: ArrayLike) -> Counts:
        """The images at these indices, or where this bool array is true."""
        return Counts(*(getattr(self, name)[np.asarray(images)] for name in FIELDS))

    @property
    def pixels(self) -> IntArray:
        """Pixels counted in each image, int64 ``(N,)``."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def has_landslide(self) -> NDArray[np.bool_]:
        """Images whose truth holds a landslide, bool ``(N,)``; per-image Dice is defined for these alone."""
        return (self.tp + self.fn) > 0

    def __len__(self) -> int:
        return len(self.tp)

    def to_dict(self) -> dict[str, list[int]]:
        """Four lists of integers, as result files hold them."""
        return {name: getattr(self, name).tolist() for name in FIELDS}

    @classmethod
    def from_dict(cls, values: dict[str, list[int]]) -> Counts:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if one of the four is missing or the lists do not fit each other.
        """
        missing = [name for name in FIELDS if name not in values]
        if missing:
            raise ResultError(f"counts lack {', '.join(missing)}")
        return cls(*(np.asarray(values[name]) if values[name] else np.zeros(0, np.int64) for name in FIELDS))
