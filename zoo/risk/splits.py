"""The three ways of holding rows out of a table, with what the bootstrap draws for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError, UnknownNameError
from zoo.risk.blocks import square_blocks
from zoo.risk.folds import Fold, block_folds, random_folds
from zoo.risk.tables import RiskTable

CV_KINDS = ("random", "block", "group")


@dataclass(frozen=True)
class Split:
    """Folds of one kind of cross-validation.

    Attributes:
        kind: one of :data:`CV_KINDS`.
        folds: each row is in the test rows of one.
        inner: for each fold, folds of its training rows by position in them, on which settings are chosen.
        units: what the bootstrap draws, (N,); None for rows.
        notes: how it was cut, in words.
    """

    kind: str
    folds: list[Fold]
    inner: list[list[Fold]]
    units: NDArray[Any] | None
    notes: tuple[str, ...]


def make_split(
    table: RiskTable,
    kind: str,
    *,
    folds: int = 5,
    side: float | None = None,
    buffer: float | None = None,
    seed: int = 0,
) -> Split:
    """Cut a table.

    Inner folds are of the same kind: a setting chosen on neighbours is one for interpolation. Where the training rows
    of a block fold cannot be cut again, inner folds are random, and a note says so.

    Args:
        table: with coordinates for "block" and groups for "group".
        kind: one of :data:`CV_KINDS`.
        folds: number of folds, at least 2.
        side: of a block in metres; None for a fifth of the longer side of the region.
        buffer: in metres around test blocks, without training rows; None for a tenth of the side.
        seed: of the deal.

    Raises:
        UnknownNameError: for another kind.
        ConfigError: if a number is out of range.
        DataError: if coordinates, groups, rows or blocks are lacking.
    """
    if kind == "random":
        made = random_folds(table.labels, folds, seed)
        inner = [random_folds(table.labels[fold.train], 3, seed + 1) for fold in made if _enough(table, fold)]
        return Split(kind, made, inner if len(inner) == folds else [[] for _ in made], None, ())
    if kind == "group":
        made = group_folds(table.labels, table.groups, folds, seed)
        return Split(kind, made, [_inner_groups(table, fold, seed) for fold in made], table.groups, ())
    if kind != "block":
        raise UnknownNameError("cross-validation", kind, CV_KINDS, where="option cv")
    if table.coordinates is not None and side is None:
        side = float(np.ptp(table.coordinates, axis=0).max() / 5)
    if table.coordinates is not None and not np.ptp(table.coordinates, axis=0).any():
        raise DataError("every row has the same coordinates, so spatial blocks cannot be cut")
    made = block_folds(table.labels, table.coordinates, folds=folds, side=side, buffer=buffer, seed=seed)
    assert table.coordinates is not None
    assert side is not None
    buffer = side / 10 if buffer is None else buffer
    units = square_blocks(table.coordinates, side)
    left = [len(table) - len(fold.train) - len(fold.test) for fold in made]
    notes = [
        f"block: squares of {_metres(side)}, {units.max() + 1} of them with rows; a buffer of {_metres(buffer)} "
        f"leaves {min(left):,} to {max(left):,} rows out of training"
    ]
    inner = []
    for fold in made:
        try:
            inner.append(
                block_folds(
                    table.labels[fold.train],
                    table.coordinates[fold.train],
                    folds=3,
                    side=side,
                    buffer=buffer,
                    seed=seed + 1,
                )
            )
        except DataError:
            inner.append(random_folds(table.labels[fold.train], 3, seed + 1) if _enough(table, fold) else [])
            notes.append("block: the training rows of a fold have too few blocks, so settings are chosen at random")
    return Split(kind, made, inner, units, tuple(dict.fromkeys(notes)))


def group_folds(labels: NDArray[np.int64], groups: NDArray[Any] | None, folds: int, seed: int = 0) -> list[Fold]:
    """Hold out whole regions or events, the largest first, each to the fold with the fewest rows.

    Args:
        labels: 0 and 1, (N,).
        groups: (N,).
        folds: number of folds, at least 2.
        seed: of the order of groups with equally many rows.

    Raises:
        DataError: if there are no groups, fewer than folds, or a fold has rows of one label only.
    """
    if groups is None:
        raise DataError("rows have no groups to hold out", hint="Name the column with --group")
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < folds:
        raise DataError(f"{len(sizes)} groups cannot make {folds} folds", hint="Use fewer folds")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows = np.zeros(folds)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for one in order:
        fold_of[one] = int(rows.argmin())
        rows[fold_of[one]] += sizes[one]
    dealt = fold_of[number.ravel()]
    made = [Fold(np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(folds)]
    for fold in made:
        for what, chosen in (("training", fold.train), ("test", fold.test)):
            if len(np.unique(labels[chosen])) < 2:
                raise DataError(f"the {what} rows of a group fold have one label only", hint="Use fewer folds")
    return made


def _inner_groups(table: RiskTable, fold: Fold, seed: int) -> list[Fold]:
    assert table.groups is not None
    try:
        return group_folds(table.labels[fold.train], table.groups[fold.train], 3, seed + 1)
    except DataError:
        return random_folds(table.labels[fold.train], 3, seed + 1) if _enough(table, fold) else []


def _enough(table: RiskTable, fold: Fold) -> bool:
    labels = table.labels[fold.train]
    return bool(min(labels.sum(), len(labels) - labels.sum()) >= 3)


def _metres(length: float) -> str:
    return f"{length / 1000:.3g} km" if length >= 1000 else f"{length:.3g} m"
