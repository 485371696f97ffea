"""Many comparisons at once: a correction for their number, and letters for what cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def adjusted_p_values(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided, that each of many differences is zero, adjusted for their number.

    The step-down method of Romano and Wolf (2005, algorithm 4.1) over bootstrap replicates: each difference is divided
    by its spread, and compared with how far the largest of those that are no larger strays from its own mean. Since the
    largest is taken replicate by replicate, differences that go together cost less than independent ones, and however
    many there are, a p-value can be as small as one draw in all. Holm's correction of tail counts cannot: with 2000
    replicates no two of eleven models could ever be told apart.

    Args:
        replicates: of every difference, float64 ``(replicates, differences)``, drawn together; NaN where undefined.

    Returns:
        In the same order, in [1 / (replicates + 1), 1]; NaN for a difference that is undefined in every replicate. A
        difference that no draw changes, as with a single test image, is not known to be any: 1.
    """
    total, count = replicates.shape
    adjusted = np.full(count, np.nan)
    columns = np.flatnonzero((~np.isnan(replicates)).any(axis=0))
    if not len(columns):
        return adjusted
    values = replicates[:, columns]
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    varies = spread > 1e-12
    scale = np.where(varies, spread, 1.0)
    distance = np.where(varies, np.abs(mean) / scale, 0.0)
    strayed = np.where(np.isnan(values) | ~varies, 0.0, np.abs(values - mean) / scale)
    order = np.argsort(distance)
    largest = np.maximum.accumulate(strayed[:, order], axis=1)
    p = (1 + (largest >= distance[order]).sum(axis=0)) / (total + 1)
    # From the clearest difference on, none may be surer than one before it.
    adjusted[columns[order]] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def written_p(p: float) -> str:
    """A p-value to three digits; one that would round to zero is less than 0.001."""
    written = f"{p:.3f}"
    return "< 0.001" if written == "0.000" else written


def letters(names: Sequence[str], differ: Mapping[tuple[str, str], bool]) -> dict[str, str]:
    """Give each name letters so that two names share one exactly when they do not differ (Piepho 2004).

    Args:
        names: best first; the best gets an ``a``.
        differ: by pair, in either order; a pair that is missing does not differ.

    Returns:
        Letters by name, such as ``ab``.
    """
    columns: list[set[str]] = [set(names)] if names else []
    apart = [
        (first, second)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if differ.get((first, second), differ.get((second, first), False))
    ]
    for first, second in apart:
        split: list[set[str]] = []
        for column in columns:
            split += [column - {first}, column - {second}] if {first, second} <= column else [column]
        columns = []
        for column in sorted(split, key=len, reverse=True):
            if not any(column <= other for other in columns):
                columns.append(column)
    rank = {name: place for place, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(rank[name] for name in column))
    return {name: "".join(_letter(place) for place, column in enumerate(columns) if name in column) for name in names}


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"({place + 1})"
