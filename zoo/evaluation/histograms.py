"""Histograms of pixels by prediction and truth: threshold curves, the best threshold, calibration and temperature.

Histograms are integer counts that can be summed over batches. Result files hold them, so curves and calibration can be
recomputed without the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from zoo.errors import ResultError
from zoo.evaluation.counts import FloatArray, IntArray
from zoo.evaluation.metrics import dice, precision, recall

if TYPE_CHECKING:
    import torch

PROBABILITY_BINS = 200
LOGIT_LIMIT = 12.0
LOGIT_STEP = 0.1
LOGIT_BINS = round(2 * LOGIT_LIMIT / LOGIT_STEP)
LOGIT_CENTRES: FloatArray = -LOGIT_LIMIT + LOGIT_STEP * (np.arange(LOGIT_BINS, dtype=np.float64) + 0.5)
RELIABILITY_BINS = 15
"""Number of equal-width probability bins for the calibration error of pixels, as in Guo et al. 2017. Tables have
hundreds of places instead of millions of pixels, so they use fewer: :data:`zoo.risk.scores.RELIABILITY_BINS`."""


@dataclass
class TruthHistogram:
    """Pixels in bins of a value, with landslide and background separate.

    A subclass sets :attr:`values` and :attr:`bins` and implements :meth:`bin_of`.

    Attributes:
        positive: landslide pixels in each bin, int64 ``(bins,)``.
        negative: background pixels in each bin, int64 ``(bins,)``.

    Raises:
        ResultError: if an array has the wrong length, or holds negative numbers or fractions.
    """

    positive: IntArray
    negative: IntArray

    values: ClassVar[str]
    """Name of the binned values, for messages."""
    bins: ClassVar[int]

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            array = np.asarray(getattr(self, name))
            if array.shape != (self.bins,) or array.dtype.kind not in "iu" or array.min() < 0:
                raise ResultError(f"a histogram of {self.values} needs two lists of {self.bins} counts")
            setattr(self, name, array.astype(np.int64))

    @classmethod
    def empty(cls) -> Self:
        """Return a histogram without any pixels."""
        return cls(np.zeros(cls.bins, np.int64), np.zeros(cls.bins, np.int64))

    @classmethod
    def bin_of(cls, probability: torch.Tensor) -> torch.Tensor:
        """Return the bin of each pixel, int64 in 0..bins-1, for landslide probabilities in [0, 1] of the same shape."""
        raise NotImplementedError

    def update(self, probability: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> None:
        """Add a batch.

        Args:
            probability: landslide probability, float ``(B, H, W)`` in [0, 1].
            truth: integer ``(B, H, W)``; 0 is background, ``ignore_index`` is ignored, every other value is landslide.
            ignore_index: mask value of the ignored pixels.

        Raises:
            ResultError: if a probability is NaN or outside [0, 1].
        """
        import torch

        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ResultError("predicted probabilities are not all within [0, 1]", hint="The model may have diverged")
        place = self.bin_of(probability)
        known = truth != ignore_index
        for selected, total in ((known & (truth != 0), self.positive), (known & (truth == 0), self.negative)):
            total += torch.bincount(place[selected].flatten(), minlength=self.bins).cpu().numpy()

    @classmethod
    def of(cls, probability: torch.Tensor, truth: torch.Tensor, ignore_index: int = 255) -> Self:
        """Return the histogram of a batch; see :meth:`update`."""
        found = cls.empty()
        found.update(probability, truth, ignore_index)
        return found

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Return the sum of all parts as one histogram."""
        found = cls.empty()
        for part in parts:
            found.positive += part.positive
            found.negative += part.negative
        return found


class ProbabilityHistogram(TruthHistogram):
    """Pixels by predicted probability, with landslide and background separate.

    Bin k holds the pixels with k/200 <= p < (k+1)/200; the last bin also holds p = 1. The counts at every threshold
    k/200 are therefore exact.
    """

    values = "probabilities"
    bins = PROBABILITY_BINS

    @classmethod
    def bin_of(cls, probability: torch.Tensor) -> torch.Tensor:
        """Return the bin of each pixel (:class:`TruthHistogram`); an edge belongs to the bin above it."""
        import torch

        edges = torch.arange(1, PROBABILITY_BINS, dtype=torch.float64) / PROBABILITY_BINS
        return torch.bucketize(probability, edges.to(probability.dtype).to(probability.device), right=True)

    def best_threshold(self) -> float:
        """Return the threshold k/200 with the highest pooled Dice; in a tie, the one nearest to 0.5.

        Returns 0.5 if there are no landslide pixels.
        """
        if not self.positive.sum():
            return 0.5
        curve = ThresholdCurve.from_histogram(self)
        thresholds, score = curve.threshold[1:], curve.dice[1:]
        best = np.flatnonzero(score >= np.nanmax(score))
        return float(thresholds[best[np.abs(thresholds[best] - 0.5).argmin()]])


def is_landslide(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return ``probability >= threshold``, bool of the same shape, rounded like the bin edges of the histogram."""
    import torch

    return probability >= torch.tensor(threshold, dtype=probability.dtype, device=probability.device)


@dataclass(frozen=True)
class ThresholdCurve:
    """Pooled figures at the thresholds k/200, k from 0 to 199.

    Attributes:
        threshold: float64 ``(200,)``, increasing.
        precision: float64 ``(200,)``; NaN if nothing is predicted.
        recall: float64 ``(200,)``; NaN if there is no landslide.
        dice: float64 ``(200,)``; NaN if nothing is predicted and there is no landslide.
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    dice: FloatArray

    @classmethod
    def from_histogram(cls, histogram: ProbabilityHistogram) -> ThresholdCurve:
        """Compute the curve by summing a histogram from its upper end."""
        tp = histogram.positive[::-1].cumsum()[::-1]
        fp = histogram.negative[::-1].cumsum()[::-1]
        cells = (tp, fp, histogram.positive.sum() - tp, histogram.negative.sum() - fp)
        thresholds = np.arange(PROBABILITY_BINS) / PROBABILITY_BINS
        return cls(thresholds, precision(*cells), recall(*cells), dice(*cells))

    @property
    def average_precision(self) -> float:
        """PR-AUC: the sum of precision times the increase in recall, without interpolation, as in scikit-learn.

        It is exact for probabilities rounded down to multiples of 1/200; NaN if there is no landslide.
        """
        if np.isnan(self.recall).any():
            return float("nan")
        gained = self.recall - np.append(self.recall[1:], 0.0)
        return float(np.nansum(gained * self.precision))


class LogitHistogram(TruthHistogram):
    """Pixels by the logit (log odds) of their landslide probability, with landslide and background separate.

    A histogram of probabilities puts all confident pixels in its last bin; logits separate them, so the effect of a
    temperature can be computed later. Bins are 0.1 wide within [-12, 12]; values outside go into the outer bins.
    """

    values = "log odds"
    bins = LOGIT_BINS

    @classmethod
    def bin_of(cls, probability: torch.Tensor) -> torch.Tensor:
        """Return the bin of each pixel; see :class:`TruthHistogram`."""
        import torch

        logits = torch.logit(probability.double(), eps=1e-9)
        return ((logits + LOGIT_LIMIT) / LOGIT_STEP).floor().clamp(0, LOGIT_BINS - 1).long()

    def best_temperature(self) -> float:
        """Return the T that maximises the likelihood of sigmoid(z / T) (Guo et al. 2017); 1 if a class is absent."""
        from scipy.optimize import minimize_scalar
        from scipy.special import log_expit

        if not self.positive.sum() or not self.negative.sum():
            return 1.0

        def loss(log_temperature: float) -> float:
            scaled = LOGIT_CENTRES / np.exp(log_temperature)
            return float(-(self.positive @ log_expit(scaled) + self.negative @ log_expit(-scaled)))

        found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
        return float(np.exp(found.x))

    def reliability(self, temperature: float = 1.0) -> Reliability:
        """Return the predicted and the observed frequencies.

        Args:
            temperature: T of sigmoid(z / T).
        """
        from scipy.special import expit

        predicted = expit(LOGIT_CENTRES / temperature)
        place = np.minimum((predicted * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
        pixels = self.positive + self.negative
        totals = np.bincount(place, pixels, RELIABILITY_BINS)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(place, pixels * predicted, RELIABILITY_BINS) / totals
            observed = np.bincount(place, self.positive, RELIABILITY_BINS) / totals
        return Reliability(mean, observed, totals.astype(np.int64))

    def upper_edge(self, share: float) -> float:
        """Return the smallest bin edge below which at least a given share of the background pixels lies (conformal).

        Of n pixels, ceil((n + 1) share) must lie below it (Vovk et al. 2005) [S], or all if n is too small.

        Returns:
            A probability, 0..1.
        """
        return 1.0 if (place := _covering_bin(self.negative, share)) is None else _bin_edge(place + 1)

    def lower_edge(self, share: float) -> float:
        """Return the largest bin edge above which at least a given share of the landslide pixels lies (conformal)."""
        return (
            0.0 if (place := _covering_bin(self.positive[::-1], share)) is None else _bin_edge(LOGIT_BINS - 1 - place)
        )

    def shares_beyond(self, landslide_from: float, background_below: float) -> tuple[float, float]:
        """Return the share of landslide pixels at or above one edge and of background pixels below another edge.

        Args:
            landslide_from: bin edge, as returned by :meth:`lower_edge`.
            background_below: bin edge, as returned by :meth:`upper_edge`.

        Returns:
            Two shares, 0..1; NaN for a class without pixels.
        """
        edges = np.array([_bin_edge(place) for place in range(LOGIT_BINS + 1)])
        above, below = edges[:-1] >= landslide_from - 1e-9, edges[1:] <= background_below + 1e-9
        with np.errstate(invalid="ignore"):
            return (
                float(self.positive[above].sum() / self.positive.sum()),
                float(self.negative[below].sum() / self.negative.sum()),
            )


def _covering_bin(counts: IntArray, share: float) -> int | None:
    """Return the first bin at which enough pixels are covered; None if all pixels are not enough."""
    needed = math.ceil((int(counts.sum()) + 1) * share)
    return None if needed > counts.sum() else int(np.searchsorted(np.cumsum(counts), needed))


def _bin_edge(place: int) -> float:
    """Return the probability at the lower edge of a logit bin; the outer bins are open."""
    if place in (0, LOGIT_BINS):
        return float(place > 0)
    return 1 / (1 + math.exp(LOGIT_LIMIT - LOGIT_STEP * place))


@dataclass(frozen=True)
class Reliability:
    """Reliability curve with 15 probability bins.

    Attributes:
        predicted: mean probability in each bin, float64 ``(15,)``; NaN in an empty bin.
        observed: share of landslide pixels in each bin, float64 ``(15,)``; NaN in an empty bin.
        pixels: number of pixels in each bin, int64 ``(15,)``.
    """

    predicted: FloatArray
    observed: FloatArray
    pixels: IntArray

    @property
    def expected_calibration_error(self) -> float:
        """ECE: mean absolute difference of predicted and observed frequency, weighted by pixels; NaN without pixels."""
        filled = self.pixels > 0
        if not filled.any():
            return float("nan")
        distance = np.abs(self.predicted - self.observed)[filled]
        return float(np.average(distance, weights=self.pixels[filled]))
