"""How sure a figure is: bootstrap over tiles or events, and over seeds, paired between models.

A replicate draws units of the test set with replacement, the same for every model, and seeds with replacement. Counts
are additive, so a replicate's pooled counts are weights times counts: a matrix product instead of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.errors import ResultError
from zoo.evaluation.counts import FIELDS, Counts, IntArray
from zoo.evaluation.metrics import FloatArray

REPLICATES = 2000
LEVEL = 0.95
FEWEST_EVENTS = 8
"""Events from which on they are drawn instead of tiles: a bootstrap of fewer units gives intervals that are too narrow
and jump."""

Metric = Callable[[IntArray, IntArray, IntArray, IntArray], FloatArray]


@dataclass(frozen=True)
class Resampling:
    """What is drawn, and how often each image is in each replicate.

    Attributes:
        unit: ``event`` or ``tile``.
        units: how many there are.
        weights: times that an image is drawn, float64 ``(replicates, images)``.
        seed: of the draws.
    """

    unit: str
    units: int
    weights: FloatArray
    seed: int

    @classmethod
    def draw(cls, groups: Sequence[str], replicates: int = REPLICATES, seed: int = 0) -> Resampling:
        """Draw events where there are at least eight of them, else tiles.

        Neighbouring tiles of one event are alike, so that intervals over tiles are too narrow where events differ;
        ``unit`` says which it was.

        Args:
            groups: event or scene of every image.
            replicates: how many to draw.
            seed: of the draws.

        Raises:
            ResultError: if there is no image.
        """
        if not groups:
            raise ResultError("an empty test split has no figures, and no intervals")
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        by_event = len(names) >= FEWEST_EVENTS
        units = len(names) if by_event else len(groups)
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=replicates).astype(np.float64)
        return cls("event" if by_event else "tile", units, drawn[:, member] if by_event else drawn, seed)

    def pooled(self, counts: Counts, metric: Metric) -> FloatArray:
        """A metric of the pooled counts of every replicate, ``(replicates,)``."""
        cells = [np.rint(self.weights @ getattr(counts, name)).astype(np.int64) for name in FIELDS]
        return metric(*cells)

    def per_image(self, values: FloatArray) -> FloatArray:
        """The mean over images of every replicate, ``(replicates,)``; images of NaN are left out."""
        known = ~np.isnan(values)
        drawn = self.weights[:, known]
        total = drawn.sum(axis=1)
        mean: FloatArray = np.divide(drawn @ values[known], total, out=np.full(len(total), np.nan), where=total > 0)
        return mean

    def over_seeds(self, replicates: Sequence[FloatArray]) -> FloatArray:
        """The mean over seeds drawn with replacement in every replicate, ``(replicates,)``.

        Args:
            replicates: of each seed, in the same order for every model, so that differences are paired.
        """
        stacked = np.stack(replicates)
        if len(stacked) == 1:
            return np.asarray(stacked[0])
        generator = np.random.default_rng((self.seed, len(stacked)))
        chosen = generator.integers(len(stacked), size=stacked.shape)
        mean: FloatArray = np.take_along_axis(stacked, chosen, axis=0).mean(axis=0)
        return mean


def interval(replicates: FloatArray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval; NaN when a replicate in fifty or more is undefined."""
    known = replicates[~np.isnan(replicates)]
    if len(known) <= 0.98 * len(replicates):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
