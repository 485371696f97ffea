"""Folds for cross-validation: at random, or by spatial blocks with a buffer between training and test.

[S] Roberts et al. (2017), Ecography 40, 913-929. A random split of places beside each other measures interpolation:
6-18 % too good on landslide tables [S] 10.3390/rs17020213.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoo.errors import ConfigError, DataError


@dataclass(frozen=True)
class Fold:
    """Rows of one fold.

    Attributes:
        train: indices of the rows to fit on, sorted.
        test: indices of the rows to judge on, sorted.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def random_folds(labels: NDArray[Any], folds: int = 5, seed: int = 0) -> list[Fold]:
    """Deal rows to folds at random, landslides and others each evenly.

    Args:
        labels: 0 and 1, (N,).
        folds: number of folds, at least 2.
        seed: of the shuffle.

    Raises:
        ConfigError: if ``folds`` is below 2.
        DataError: if either label has fewer rows than there are folds.
    """
    _check(labels, folds)
    rng = np.random.default_rng(seed)
    number = np.empty(len(labels), dtype=np.int64)
    offset = 0
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        number[rows] = (np.arange(len(rows)) + offset) % folds
        # The next label goes on where this one ended, so that sizes of folds differ by one at most.
        offset += len(rows)
    return [Fold(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(folds)]


def block_folds(
    labels: NDArray[Any],
    coordinates: NDArray[np.float64] | None,
    *,
    folds: int = 5,
    side: float | None = None,
    buffer: float | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Give whole square blocks to folds, and leave out of training what lies within a buffer of the test rows.

    Args:
        labels: 0 and 1, (N,).
        coordinates: x and y in metres, (N, 2).
        folds: number of folds, at least 2.
        side: of a block in metres; None for a fifth of the longer side of the region.
        buffer: in metres; None for a tenth of the block's side.
        seed: of where the grid of blocks starts and of ties.

    Raises:
        ConfigError: if a number is out of range.
        DataError: if there are no coordinates, blocks are too few, or a fold would lack landslides or places without.
    """
    if coordinates is None:
        raise DataError(
            "rows have no coordinates, so spatial blocks cannot be cut",
            hint="Name the columns with --coords X,Y, or compare with --cv random",
        )
    _check(labels, folds)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    side = float((high - low).max() / 5) if side is None else side
    buffer = side / 10 if buffer is None else buffer
    if not 0 < side < np.inf or not buffer >= 0:
        raise ConfigError(f"blocks of {side:g} m with a buffer of {buffer:g} m are not possible")
    rng = np.random.default_rng(seed)
    cells = np.floor((coordinates - low + rng.uniform(0, side, 2)) / side).astype(np.int64)
    _, block = np.unique(cells, axis=0, return_inverse=True)
    block = block.ravel()
    if block.max() + 1 < folds:
        raise DataError(
            f"{block.max() + 1} blocks of {side:g} m cannot make {folds} folds",
            hint="Use smaller blocks or fewer folds",
        )
    number = _deal(block, np.asarray(labels), folds, rng)
    made = []
    for fold in range(folds):
        test = np.flatnonzero(number == fold)
        train = np.flatnonzero(number != fold)
        if buffer > 0:
            distance, _ = cKDTree(coordinates[test]).query(coordinates[train], distance_upper_bound=buffer)
            train = train[np.isinf(distance)]
        for what, rows in (("training", train), ("test", test)):
            if len(np.unique(np.asarray(labels)[rows])) < 2:
                raise DataError(
                    f"the {what} rows of block fold {fold + 1} have one label only",
                    hint="Use smaller blocks, a smaller buffer or fewer folds",
                )
        made.append(Fold(train, test))
    return made


def _deal(block: NDArray[np.int64], labels: NDArray[Any], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Largest blocks first, each to the fold with the fewest rows; equal ones in a seeded order."""
    sizes = np.bincount(block)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows = np.zeros(folds)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for one in order:
        fold_of[one] = int(rows.argmin())
        rows[fold_of[one]] += sizes[one]
    return fold_of[block]


def _check(labels: NDArray[Any], folds: int) -> None:
    if folds < 2:
        raise ConfigError(f"{folds} folds are too few", where="option folds", hint="At least 2")
    fewest = int(min((np.asarray(labels) == 0).sum(), (np.asarray(labels) == 1).sum()))
    if fewest < folds:
        raise DataError(f"{fewest} rows of one label are fewer than {folds} folds", hint="Use fewer folds")
