"""Pixels by what a model says of them and by truth, as counts that add up over batches and lie in result files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch

from zoo.errors import ResultError
from zoo.evaluation.counts import IntArray


@dataclass
class TruthHistogram:
    """Pixels in bins of some value, landslide and background apart.

    A subclass sets ``of`` and ``bins`` and writes :meth:`place`.

    Attributes:
        positive: landslide pixels in each bin, int64 ``(bins,)``.
        negative: background pixels in each bin, int64 ``(bins,)``.
    """

    positive: IntArray
    negative: IntArray

    of: ClassVar[str]
    """What is in bins, as errors call it."""
    bins: ClassVar[int]

    @classmethod
    def empty(cls) -> Self:
        """A histogram of no pixels."""
        return cls(np.zeros(cls.bins, np.int64), np.zeros(cls.bins, np.int64))

    @classmethod
    def place(cls, probability: torch.Tensor) -> torch.Tensor:
        """The bin of each pixel, int64 in 0..bins-1, for a landslide probability in [0, 1] of the same shape."""
        raise NotImplementedError

    def update(self, probability: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> None:
        """Add a batch.

        Args:
            probability: of a landslide, float ``(B, H, W)`` in [0, 1].
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is left out, all else is landslide.
            ignore_index: mask value of pixels that count nowhere.

        Raises:
            ResultError: if a probability is NaN or outside [0, 1].
        """
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ResultError("predicted probabilities are not all within [0, 1]", hint="The model may have diverged")
        place = self.place(probability)
        known = truth != ignore_index
        for selected, total in ((known & (truth != 0), self.positive), (known & (truth == 0), self.negative)):
            total += torch.bincount(place[selected].flatten(), minlength=self.bins).cpu().numpy()

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """The pixels of all parts."""
        found = cls.empty()
        for part in parts:
            found.positive += part.positive
            found.negative += part.negative
        return found

    def to_dict(self) -> dict[str, list[int]]:
        """Two lists of integers, as result files hold them."""
        return {"positive": self.positive.tolist(), "negative": self.negative.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, list[int]]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a list is missing, of another length, or holds a negative number.
        """
        arrays = [np.asarray(values.get(name, []), dtype=np.int64) for name in ("positive", "negative")]
        if any(array.shape != (cls.bins,) or array.min() < 0 for array in arrays):
            raise ResultError(f"a histogram of {cls.of} is not twice {cls.bins} counts")
        return cls(*arrays)
