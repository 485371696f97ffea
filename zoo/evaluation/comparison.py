"""Bootstrap intervals, p-values corrected for multiple comparisons, and letters for models that do not differ.

A replicate draws the units of the test set and the seeds with replacement; all models share the same draws of units.
Counts are additive, so the pooled counts of a replicate are weights times counts: a matrix product, not a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ResultError
from zoo.evaluation.counts import Counts, FloatArray, IntArray

REPLICATES = 2000
LEVEL = 0.95
MIN_EVENTS = 8
"""Minimum number of events for resampling events instead of tiles: with fewer units, bootstrap intervals are too
narrow and unstable."""

CELLS_AT_ONCE = 2**22
"""Number of weights that are drawn or multiplied at once: 32 MiB as float64."""
MAX_RESAMPLING_WEIGHTS = 2**29
"""Maximum number of weights, two bytes each: with more than 268,000 images there are fewer replicates."""
MIN_REPLICATES = 200
MOST_LETTERS = 100
"""Maximum number of group_letters for models that do not differ; a table with more is unreadable [O]."""

Metric = Callable[[IntArray, IntArray, IntArray, IntArray], FloatArray]


@dataclass(frozen=True)
class Resampling:
    """Resampled units, and how often each image is in each replicate.

    Attributes:
        unit: ``event`` or ``tile``.
        units: number of units.
        weights: how often an image is drawn, int16 ``(replicates, images)``.
        seed: random seed.
    """

    unit: str
    units: int
    weights: NDArray[np.int16]
    seed: int

    @classmethod
    def draw(cls, groups: Sequence[str], replicates: int = REPLICATES, seed: int = 0) -> Resampling:
        """Resample events if there are at least eight of them, otherwise tiles.

        Neighbouring tiles of an event are similar, so intervals over tiles are too narrow if events differ;
        :attr:`unit` records which was drawn.

        Args:
            groups: event or scene of every image.
            replicates: number of replicates.
            seed: random seed.

        Raises:
            ResultError: if there are no images, or more than 2.6 million.
        """
        if not groups:
            raise ResultError("an empty test split has no figures and no intervals")
        maximum = MAX_RESAMPLING_WEIGHTS // len(groups)
        if maximum < MIN_REPLICATES:
            raise ResultError(f"{len(groups):,} test images are too many for bootstrap intervals")
        replicates = min(replicates, maximum)
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        by_event = len(names) >= MIN_EVENTS
        units = len(names) if by_event else len(groups)
        generator = np.random.default_rng(seed)
        weights = np.empty((replicates, len(groups)), np.int16)
        step = max(1, CELLS_AT_ONCE // units)
        for start in range(0, replicates, step):
            size = min(step, replicates - start)
            drawn = generator.multinomial(units, np.full(units, 1 / units), size=size)
            weights[start : start + size] = drawn[:, member] if by_event else drawn
        return cls("event" if by_event else "tile", units, weights, seed)

    def sums(self, values: FloatArray | IntArray) -> FloatArray:
        """Return the sum over the drawn images in every replicate.

        Args:
            values: values of every image, ``(images,)`` or ``(images, K)``.

        Returns:
            float64 ``(replicates,)`` or ``(replicates, K)``.
        """
        step = max(1, CELLS_AT_ONCE // len(values))
        starts = range(0, len(self.weights), step)
        return np.concatenate([self.weights[start : start + step].astype(np.float64) @ values for start in starts])

    def pooled(self, counts: Counts, metric: Metric) -> FloatArray:
        """Return a metric of the pooled counts of every replicate, float64 ``(replicates,)``."""
        return metric(*self.pooled_cells(counts))

    def pooled_cells(self, counts: Counts) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return the pooled counts of every replicate, four times int64 ``(replicates,)``."""
        tp, fp, fn, tn = np.rint(self.sums(np.stack(counts.cells, axis=1))).astype(np.int64).T
        return tp, fp, fn, tn

    def per_image(self, values: FloatArray) -> FloatArray:
        """Return the mean over images of every replicate, float64 ``(replicates,)``, ignoring NaN values."""
        known = ~np.isnan(values)
        total = self.sums(known.astype(np.float64))
        sums = self.sums(np.where(known, values, 0.0))
        mean: FloatArray = np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0)
        return mean

    def interval(self, replicates: FloatArray) -> tuple[float, float]:
        """Return the percentile interval; NaN for a single unit, because all its draws are identical."""
        return interval(replicates) if self.units > 1 else (float("nan"), float("nan"))

    def over_seeds(self, replicates: Sequence[FloatArray]) -> FloatArray:
        """Return the mean over seeds drawn with replacement in every replicate, float64 ``(replicates,)``.

        Args:
            replicates: replicates of each seed, in the same order for every model, so that differences are paired.
        """
        stacked = np.stack(replicates)
        if len(stacked) == 1:
            return np.asarray(stacked[0])
        generator = np.random.default_rng((self.seed, len(stacked)))
        chosen = generator.integers(len(stacked), size=stacked.shape)
        mean: FloatArray = np.take_along_axis(stacked, chosen, axis=0).mean(axis=0)
        return mean


def interval(replicates: FloatArray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval; NaN if 2 % of the replicates or more are undefined."""
    known = replicates[~np.isnan(replicates)]
    if len(known) <= 0.98 * len(replicates):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def adjusted_p_values(
    replicates: NDArray[np.float64], pairs: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
) -> NDArray[np.float64]:
    """Return two-sided p-values for the hypotheses that each difference is zero, adjusted for multiple comparisons.

    This is the step-down method of Romano and Wolf (2005, algorithm 4.1) over bootstrap replicates. Each difference is
    divided by its standard deviation and compared with the largest deviation from the mean among the differences that
    are no larger. The largest is taken in each replicate, so correlated differences lose less power than independent
    ones, and a p-value can be as small as one draw in all replicates. Holm's correction of tail counts cannot do this:
    with 2000 replicates it cannot separate any two of eleven models.

    Args:
        replicates: replicates of every difference, float64 ``(replicates, differences)``, drawn together; NaN where
            undefined. With ``pairs``, those of every model instead, ``(replicates, models)``.
        pairs: columns of the first and of the second model of every difference. They are subtracted in blocks, because
            the differences of hundreds of models do not fit into memory.

    Returns:
        float64 ``(differences,)`` in [1 / (replicates + 1), 1]; NaN for a difference that is undefined in every
        replicate, and 1 for a difference that is the same in every draw, as with a single test image.
    """
    total = len(replicates)
    count = replicates.shape[1] if pairs is None else len(pairs[0])
    mean, spread = np.full(count, np.nan), np.full(count, np.nan)
    step = max(1, CELLS_AT_ONCE // max(1, total))
    for start in range(0, count, step):
        places = np.arange(start, min(start + step, count))
        values = _differences(replicates, pairs, places)
        places, values = places[known := (~np.isnan(values)).any(axis=0)], values[:, known]
        mean[places], spread[places] = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    varies = spread > 1e-12
    scale = np.where(varies, spread, 1.0)
    distance = np.where(varies, np.abs(mean) / scale, 0.0)
    order = np.argsort(distance, kind="stable")
    order = order[~np.isnan(mean[order])]
    reached = np.zeros(len(order), np.int64)
    step = max(1, CELLS_AT_ONCE // max(1, len(order)))
    for start in range(0, total, step):
        values = _differences(replicates[start : start + step], pairs, order)
        strayed = np.where(np.isnan(values) | ~varies[order], 0.0, np.abs(values - mean[order]) / scale[order])
        reached += (np.maximum.accumulate(strayed, axis=1) >= distance[order]).sum(axis=0)
    # A less clear difference must not have a smaller p-value than a clearer one.
    adjusted = np.full(count, np.nan)
    adjusted[order] = np.maximum.accumulate((1 + reached[::-1]) / (total + 1))[::-1]
    return adjusted


def _differences(
    replicates: NDArray[np.float64],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]] | None,
    places: NDArray[np.intp],
) -> NDArray[np.float64]:
    if pairs is None:
        return replicates[:, places]
    difference: NDArray[np.float64] = replicates[:, pairs[0][places]] - replicates[:, pairs[1][places]]
    return difference


def format_p(p: float) -> str:
    """Return a p-value with three digits; a value that would round to zero becomes ``< 0.001``."""
    text = f"{p:.3f}"
    return "< 0.001" if text == "0.000" else text


def group_letters(names: Sequence[str], differ: Mapping[tuple[str, str], bool]) -> dict[str, str]:
    """Assign letters to names so that two names share a letter exactly when they do not differ (Piepho 2004).

    Args:
        names: names, best first; the best gets an ``a``.
        differ: whether a pair differs, in either order; a missing pair does not differ.

    Returns:
        Letters by name, such as ``ab``; empty if more than :data:`MOST_LETTERS` letters are necessary. Their number can
        grow exponentially with the number of names.
    """
    # A column is the set of the names that share a letter, with one bit for each name.
    columns = [(1 << len(names)) - 1] if names else []
    for (first, name), (second, other) in combinations(enumerate(names), 2):
        if not differ.get((name, other), differ.get((other, name), False)):
            continue
        both = 1 << first | 1 << second
        split = [column for column in columns if column & both == both]
        columns = [column for column in columns if column & both != both]
        halves = [column & ~(1 << place) for column in split for place in (first, second)]
        for half in sorted(halves, key=int.bit_count, reverse=True):
            if not any(half & column == half for column in columns):
                columns.append(half)
        if len(columns) > MOST_LETTERS:
            return {}
    members = sorted([place for place in range(len(names)) if column >> place & 1] for column in columns)
    found = [""] * len(names)
    for number, places in enumerate(members):
        for place in places:
            found[place] += _letter(number)
    return dict(zip(names, found, strict=True))


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"({place + 1})"
