"""Landslide probability by truth as a histogram: every threshold's counts from one pass over the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from zoo.errors import ResultError
from zoo.evaluation.counts import IntArray
from zoo.evaluation.metrics import dice

BINS = 200


@dataclass
class ProbabilityHistogram:
    """Pixels by predicted probability, landslide and background apart.

    Bin k holds the pixels with k/200 <= p < (k+1)/200, and the last one p = 1 too, so that the counts at every
    threshold k/200 are exact and add up over batches.

    Attributes:
        positive: landslide pixels in each bin, int64 ``(200,)``.
        negative: background pixels in each bin, int64 ``(200,)``.
    """

    positive: IntArray
    negative: IntArray

    @classmethod
    def empty(cls) -> ProbabilityHistogram:
        """A histogram of no pixels."""
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64))

    def update(self, probability: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> None:
        """Add a batch.

        Args:
            probability: float ``(B, H, W)`` in [0, 1].
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is left out, all else is landslide.
            ignore_index: mask value of pixels that count nowhere.

        Raises:
            ResultError: if a probability is NaN or outside [0, 1].
        """
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ResultError("predicted probabilities are not all within [0, 1]", hint="The model may have diverged")
        bins = torch.bucketize(probability, _inner_edges(probability), right=True)
        known = truth != ignore_index
        for selected, total in ((known & (truth != 0), self.positive), (known & (truth == 0), self.negative)):
            total += torch.bincount(bins[selected].flatten(), minlength=BINS).cpu().numpy()

    def best_threshold(self) -> float:
        """The threshold k/200 with the highest pooled Dice; of equal ones the nearest to 0.5.

        0.5 when there is no landslide pixel to choose by.
        """
        if not self.positive.sum():
            return 0.5
        thresholds = np.arange(1, BINS) / BINS
        tp = self.positive[::-1].cumsum()[::-1][1:]
        fp = self.negative[::-1].cumsum()[::-1][1:]
        score = dice(tp, fp, self.positive.sum() - tp, self.negative.sum() - fp)
        best = np.flatnonzero(score >= np.nanmax(score))
        return float(thresholds[best[np.abs(thresholds[best] - 0.5).argmin()]])

    def to_dict(self) -> dict[str, list[int]]:
        """Two lists of integers, as result files hold them."""
        return {"positive": self.positive.tolist(), "negative": self.negative.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, list[int]]) -> ProbabilityHistogram:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a list is missing, of another length, or holds a negative number.
        """
        arrays = [np.asarray(values.get(name, []), dtype=np.int64) for name in ("positive", "negative")]
        if any(array.shape != (BINS,) or array.min() < 0 for array in arrays):
            raise ResultError(f"a histogram of probabilities is not twice {BINS} counts")
        return cls(*arrays)


def above(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """``probability >= threshold`` with the threshold rounded as the histogram's edges are, bool, same shape."""
    return probability >= torch.tensor(threshold, dtype=probability.dtype, device=probability.device)


def _inner_edges(like: torch.Tensor) -> torch.Tensor:
    return (torch.arange(1, BINS, dtype=torch.float64) / BINS).to(like.dtype).to(like.device)
