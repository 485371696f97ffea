"""Many comparisons at once: Holm's correction, and letters for what cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjust p-values for their number by Holm's step-down method (Holm 1979); NaN stays, and counts.

    Args:
        p_values: any number of them.

    Returns:
        Adjusted ones in the same order, at most 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    steps = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * steps))
    return adjusted


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
