"""Whether probabilities mean what they say: reliability, expected calibration error, temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from zoo.evaluation.counts import IntArray
from zoo.evaluation.histogram import TruthHistogram

LIMIT = 12.0
STEP = 0.1
BINS = round(2 * LIMIT / STEP)
CENTRES: NDArray[np.float64] = -LIMIT + STEP * (np.arange(BINS, dtype=np.float64) + 0.5)
RELIABILITY_BINS = 15
"""Of equal width in probability, as in Guo et al. 2017."""


class LogitHistogram(TruthHistogram):
    """Pixels by the log odds of their landslide probability, landslide and background apart.

    Log odds spread the confident pixels that a histogram of probabilities crowds into its last bin, so that what a
    temperature does to them can be computed afterwards. Bins are 0.1 wide within [-12, 12]; what lies beyond is in the
    first and the last.
    """

    of = "log odds"
    bins = BINS

    @classmethod
    def place(cls, probability: torch.Tensor) -> torch.Tensor:
        """See :class:`TruthHistogram`."""
        odds = torch.logit(probability.double(), eps=1e-9)
        return ((odds + LIMIT) / STEP).floor().clamp(0, BINS - 1).long()

    def best_temperature(self) -> float:
        """The T that makes sigmoid(z / T) most likely (Guo et al. 2017); 1 when one of the classes is absent."""
        if not self.positive.sum() or not self.negative.sum():
            return 1.0

        def loss(log_temperature: float) -> float:
            scaled = CENTRES / np.exp(log_temperature)
            return float(-(self.positive @ log_expit(scaled) + self.negative @ log_expit(-scaled)))

        found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
        return float(np.exp(found.x))

    def reliability(self, temperature: float = 1.0) -> Reliability:
        """Predicted beside observed frequency.

        Args:
            temperature: T of sigmoid(z / T).
        """
        predicted = expit(CENTRES / temperature)
        place = np.minimum((predicted * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        pixels = self.positive + self.negative
        totals = np.bincount(place, pixels, RELIABILITY_BINS)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(place, pixels * predicted, RELIABILITY_BINS) / totals
            observed = np.bincount(place, self.positive, RELIABILITY_BINS) / totals
        return Reliability(mean, observed, totals.astype(np.int64))


@dataclass(frozen=True)
class Reliability:
    """A reliability curve of 15 bins of probability.

    Attributes:
        predicted: mean probability in each bin, NaN in an empty one, float64 ``(15,)``.
        observed: share of landslide pixels in each bin, likewise.
        pixels: in each bin, int64 ``(15,)``.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    pixels: IntArray

    @property
    def expected_calibration_error(self) -> float:
        """ECE: the mean distance of predicted and observed, weighted by pixels; NaN without any."""
        filled = self.pixels > 0
        if not filled.any():
            return float("nan")
        distance = np.abs(self.predicted - self.observed)[filled]
        return float(np.average(distance, weights=self.pixels[filled]))
