"""Landslide probability by truth as a histogram: every threshold's counts from one pass over the pixels."""

from __future__ import annotations

import numpy as np
import torch

from zoo.evaluation.histogram import TruthHistogram
from zoo.evaluation.metrics import dice

BINS = 200


class ProbabilityHistogram(TruthHistogram):
    """Pixels by predicted probability, landslide and background apart.

    Bin k holds the pixels with k/200 <= p < (k+1)/200, and the last one p = 1 too, so that the counts at every
    threshold k/200 are exact and add up over batches.
    """

    of = "probabilities"
    bins = BINS

    @classmethod
    def place(cls, probability: torch.Tensor) -> torch.Tensor:
        """See :class:`TruthHistogram`; an edge lies in the bin above it."""
        return torch.bucketize(probability, _inner_edges(probability), right=True)

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


def above(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """``probability >= threshold`` with the threshold rounded as the histogram's edges are, bool, same shape."""
    return probability >= torch.tensor(threshold, dtype=probability.dtype, device=probability.device)


def _inner_edges(like: torch.Tensor) -> torch.Tensor:
    return (torch.arange(1, BINS, dtype=torch.float64) / BINS).to(like.dtype).to(like.device)
