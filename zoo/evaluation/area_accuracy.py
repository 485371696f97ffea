"""Accuracy of a map and areas of its classes, estimated from a stratified random sample of its pixels.

Source [S]: Olofsson, Foody, Herold, Stehman, Woodcock & Wulder (2014), Good practices for estimating area and assessing
accuracy of land change, Remote Sensing of Environment 148, 42-57, doi:10.1016/j.rse.2014.02.015; equations by number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

Figures = NDArray[np.float64]

Z_95 = 1.96
"""Half-width of a 95 % interval in standard errors, as in the paper [S]."""

MIN_POINTS = 50
"""Number of points for a rare class; the paper recommends 50 to 100 for each class of change [S]."""


@dataclass(frozen=True)
class AreaAccuracy:
    """Accuracy and areas with their standard errors; made by :func:`estimate_areas`.

    Arrays have one entry per class, in the order of ``classes``.

    Attributes:
        classes: names of the classes.
        counts: int64 (k, k), points by map class (rows) and reference class (columns).
        mapped_km2: area of each class on the map.
        shares: float64 (k, k), estimated share of the whole area in each cell of the error matrix (eq. 4).
        overall: overall accuracy, 0..1 (eq. 1).
        overall_error: its standard error (eq. 5).
        users: user's accuracy, 0..1: share of the class on the map that is correct (eq. 2).
        users_error: standard errors (eq. 6).
        producers: producer's accuracy, 0..1: share of the class on the ground that is mapped (eq. 3); NaN for a class
            that is not the reference class of any point.
        producers_error: standard errors (eq. 7).
        area_km2: estimated true area of each class (eq. 9).
        area_error_km2: standard errors (eq. 10 and 11).
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    mapped_km2: Figures
    shares: Figures
    overall: float
    overall_error: float
    users: Figures
    users_error: Figures
    producers: Figures
    producers_error: Figures
    area_km2: Figures
    area_error_km2: Figures

    def area_intervals(self) -> Figures:
        """Return the 95 % intervals of the areas in km2, float64 (k, 2), clipped to 0 and the whole area."""
        half = Z_95 * self.area_error_km2
        total = self.mapped_km2.sum()
        return np.stack([np.maximum(self.area_km2 - half, 0), np.minimum(self.area_km2 + half, total)], axis=1)

    def warnings(self) -> Iterator[str]:
        """Yield reasons why the figures are less certain than their intervals suggest."""
        totals = self.counts.sum(axis=1)
        for name, total, right in zip(self.classes, totals, np.diag(self.counts), strict=True):
            if right in (0, total):
                points = "no point" if right == 0 else "every point"
                yield (
                    f"{points} mapped as {name} is correct, so its share of the standard errors is 0 and the intervals "
                    "are too narrow: draw more points"
                )
            if total < MIN_POINTS:
                yield f"only {total} points are mapped as {name}; {MIN_POINTS} to 100 are advised for a rare class"


def estimate_areas(classes: Sequence[str], counts: NDArray[np.int64], mapped_km2: Figures) -> AreaAccuracy:
    """Estimate accuracy and areas from a stratified random sample of points; the strata are the classes of the map.

    Args:
        classes: names of the k classes.
        counts: int64 (k, k), points by map class (rows) and reference class (columns).
        mapped_km2: area of each class on the map, float64 (k,), positive.

    Raises:
        DataError: if a map class has fewer than two points, so that its standard error is undefined.
    """
    totals = counts.sum(axis=1)
    for name, total in zip(classes, totals, strict=True):
        if total < 2:
            raise DataError(
                f"class {name} of the map has {total or 'no'} {'point' if total == 1 else 'points'}; at least 2 are "
                "needed for a standard error",
                hint="Draw a sample with points in each class: zoo accuracy MAP --draw 300 --out points.gpkg",
            )
    total_km2 = mapped_km2.sum()
    weights = mapped_km2 / total_km2
    within = counts / totals[:, None]
    shares = weights[:, None] * within
    users = np.diag(within)
    # Variance of the mean of each cell within its stratum; the strata are independent.
    variance = within * (1 - within) / (totals[:, None] - 1)
    area_shares = shares.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        producers = np.diag(shares) / area_shares
        own = weights**2 * (1 - producers) ** 2 * np.diag(variance)
        others = (weights[:, None] ** 2 * variance).sum(axis=0) - weights**2 * np.diag(variance)
        producers_error = np.sqrt(own + producers**2 * others) / area_shares
    return AreaAccuracy(
        classes=tuple(classes),
        counts=counts,
        mapped_km2=mapped_km2,
        shares=shares,
        overall=float(np.trace(shares)),
        overall_error=float(np.sqrt((weights**2 * np.diag(variance)).sum())),
        users=users,
        users_error=np.sqrt(np.diag(variance)),
        producers=producers,
        producers_error=producers_error,
        area_km2=area_shares * total_km2,
        area_error_km2=np.sqrt((weights[:, None] ** 2 * variance).sum(axis=0)) * total_km2,
    )


def allocate_points(pixels: Sequence[int], count: int) -> tuple[int, ...]:
    """Divide points among strata: rare ones get :data:`MIN_POINTS`, the others a number proportional to their size [S].

    Args:
        pixels: size of each stratum in pixels, positive.
        count: number of points.

    Returns:
        The number of points in each stratum, never more than its number of pixels.

    >>> allocate_points([200_000, 150_000, 3_200_000, 6_450_000], 640)
    (50, 50, 179, 361)
    """
    sizes = np.array(pixels, np.float64)
    smallest = np.minimum(min(MIN_POINTS, count // len(sizes)), sizes)
    found = np.zeros(len(sizes), np.int64)
    large = np.ones(len(sizes), bool)
    while True:
        rest = count - found.sum()
        expected = np.where(large, rest * sizes / max(sizes[large].sum(), 1), 0)
        rare = large & (expected < smallest)
        if not rare.any():
            break
        found[rare], large[rare] = smallest[rare], False
    found[large] = expected[large].astype(np.int64)
    # The points that remain after rounding down go to the strata with the largest remainders.
    order = np.argsort(-(expected - found) * large, kind="stable")
    found[order[: count - found.sum()]] += 1
    return tuple(int(one) for one in np.minimum(found, sizes))
