"""What every threshold would give, from the histogram of a result file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.metrics import dice, precision, recall
from zoo.evaluation.threshold import BINS, ProbabilityHistogram


@dataclass(frozen=True)
class ThresholdCurve:
    """Pooled figures at the thresholds k/200, k from 0 to 199.

    Attributes:
        threshold: float64 ``(200,)``, rising.
        precision: NaN where nothing is predicted.
        recall: NaN without a landslide.
        dice: NaN where neither is anything predicted nor is there a landslide.
    """

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    dice: NDArray[np.float64]

    @classmethod
    def from_histogram(cls, histogram: ProbabilityHistogram) -> ThresholdCurve:
        """Sum up a histogram from its upper end."""
        tp = histogram.positive[::-1].cumsum()[::-1]
        fp = histogram.negative[::-1].cumsum()[::-1]
        cells = (tp, fp, histogram.positive.sum() - tp, histogram.negative.sum() - fp)
        return cls(np.arange(BINS) / BINS, precision(*cells), recall(*cells), dice(*cells))

    @property
    def average_precision(self) -> float:
        """PR-AUC: the sum of precision times gained recall, no interpolation, as scikit-learn's.

        Exact for probabilities rounded down to 1/200; NaN without a landslide.
        """
        if np.isnan(self.recall).any():
            return float("nan")
        gained = self.recall - np.append(self.recall[1:], 0.0)
        return float(np.nansum(gained * self.precision))
