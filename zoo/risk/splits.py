"""Cross-validation: random folds, spatial blocks with a buffer, and whole groups.

A random split of neighbouring places measures interpolation, which is 6-18 % too optimistic on landslide tables [S]
10.3390/rs17020213; see also Roberts et al. (2017), Ecography 40, 913-929 [S].

scikit-learn's splitters are not used, for three reasons: blocks need a buffer; its ``GroupKFold`` breaks ties between
groups of equal size by their order instead of a seed; and ``zoo risk calibrate`` works without scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoo.errors import ConfigError, DataError, UnknownNameError

if TYPE_CHECKING:
    from zoo.risk.tables import RiskTable

CV_KINDS = ("random", "block", "group")


@dataclass(frozen=True)
class Fold:
    """Rows of one fold.

    Attributes:
        train: indices of the rows to fit to, sorted.
        test: indices of the held-out rows, sorted.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Folds of one kind of cross-validation.

    Attributes:
        kind: one of :data:`CV_KINDS`.
        folds: each row is a test row of exactly one fold.
        inner: for each fold, folds of its training rows (by index in ``train``) for choosing settings.
        units: block or group that the bootstrap draws, (N,); None to draw rows.
        notes: sentences about how the folds were made.
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
    """Split a table into folds.

    Inner folds are of the same kind, because settings chosen on neighbours favour interpolation. If the training rows
    of a fold cannot be split again, its inner folds are random, and a note says so.

    Args:
        table: the table, with coordinates for "block" and groups for "group".
        kind: one of :data:`CV_KINDS`.
        folds: number of folds, at least 2.
        side: side of a block in metres; None for a fifth of the longer side of the region.
        buffer: width in metres of the buffer around test blocks, without training rows; None for a tenth of the side.
        seed: seed of the assignment to folds.

    Raises:
        UnknownNameError: if the kind does not exist.
        ConfigError: if a number is out of range.
        DataError: if coordinates or groups are missing, or there are too few rows, blocks or groups.
    """
    if kind not in CV_KINDS:
        raise UnknownNameError("cross-validation", kind, CV_KINDS, where="option cv")
    labels, places, groups = table.labels, table.coordinates, table.groups
    units: NDArray[Any] | None = None
    if kind == "block" and places is not None:
        if not np.ptp(places, axis=0).any():
            raise DataError("all rows have the same coordinates, so there are no spatial blocks")
        side = float(np.ptp(places, axis=0).max() / 5) if side is None else side
        buffer = side / 10 if buffer is None else buffer

    def split_rows(rows: NDArray[np.int64] | slice, count: int, number: int) -> list[Fold]:
        if kind == "random":
            return random_folds(labels[rows], count, number)
        if kind == "group":
            return group_folds(labels[rows], None if groups is None else groups[rows], count, number)
        part = None if places is None else places[rows]
        return block_folds(labels[rows], part, folds=count, side=side, buffer=buffer, seed=number)

    made = split_rows(slice(None), folds, seed)
    notes = []
    if kind == "group":
        units = groups
    if kind == "block":
        assert places is not None
        assert side is not None
        assert buffer is not None
        units = square_blocks(places, side)
        left_out = [len(table) - len(fold.train) - len(fold.test) for fold in made]
        notes.append(
            f"block: {units.max() + 1} squares of {_metres(side)} contain rows; a buffer of {_metres(buffer)} leaves "
            f"{min(left_out):,} to {max(left_out):,} rows out of training"
        )
    inner = []
    for fold in made:
        try:
            inner.append(split_rows(fold.train, 3, seed + 1))
        except DataError:
            inner.append(_random_inner(labels[fold.train], seed + 1))
            unit = "row" if kind == "random" else kind
            notes.append(f"{kind}: a fold has too few {unit}s for inner folds, so its settings use random inner folds")
    return Split(kind, made, inner, units, tuple(dict.fromkeys(notes)))


def random_folds(labels: NDArray[Any], folds: int = 5, seed: int = 0) -> list[Fold]:
    """Assign rows to folds at random, with equal shares of landslides.

    Args:
        labels: 0 and 1, (N,).
        folds: number of folds, at least 2.
        seed: seed of the shuffle.

    Raises:
        ConfigError: if ``folds`` is below 2.
        DataError: if a label has fewer rows than there are folds.
    """
    _check_counts(labels, folds)
    rng = np.random.default_rng(seed)
    number = np.empty(len(labels), dtype=np.int64)
    offset = 0
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        number[rows] = (np.arange(len(rows)) + offset) % folds
        # The next label continues where this one ended, so that fold sizes differ by at most one.
        offset += len(rows)
    return _folds_of(number, folds)


def block_folds(
    labels: NDArray[Any],
    coordinates: NDArray[np.float64] | None,
    *,
    folds: int = 5,
    side: float | None = None,
    buffer: float | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Assign whole square blocks to folds, and exclude rows within a buffer around the test rows from training.

    Args:
        labels: 0 and 1, (N,).
        coordinates: x and y in metres, (N, 2).
        folds: number of folds, at least 2.
        side: side of a block in metres; None for a fifth of the longer side of the region.
        buffer: metres; None for a tenth of the side.
        seed: seed of the origin of the grid of blocks and of ties.

    Raises:
        ConfigError: if a number is out of range.
        DataError: if there are no coordinates or too few blocks, or a fold would have only one label.
    """
    if coordinates is None:
        raise DataError(
            "rows have no coordinates, so there are no spatial blocks",
            hint="Name the columns with --coords X,Y, or use --cv random",
        )
    _check_counts(labels, folds)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    side = float((high - low).max() / 5) if side is None else side
    buffer = side / 10 if buffer is None else buffer
    if not 0 < side < np.inf or not 0 <= buffer < np.inf:
        raise ConfigError(
            f"blocks of {side:g} m with a buffer of {buffer:g} m",
            hint="The side is above 0, the buffer at least 0, and both are finite",
        )
    rng = np.random.default_rng(seed)
    block = _number_cells((coordinates - low + rng.uniform(0, side, 2)) / side, side)
    if block.max() + 1 < folds:
        raise DataError(
            f"there are {block.max() + 1} blocks of {side:g} m, fewer than {folds} folds",
            hint="Use smaller blocks or fewer folds",
        )
    made = []
    for fold in _folds_of(_assign(block, folds, rng), folds):
        train = fold.train
        if buffer > 0:
            distance, _ = cKDTree(coordinates[fold.test]).query(coordinates[train], distance_upper_bound=buffer)
            train = train[np.isinf(distance)]
        made.append(Fold(train, fold.test))
    _check_labels(made, labels, "block", "Use smaller blocks, a smaller buffer or fewer folds")
    return made


def group_folds(labels: NDArray[np.int64], groups: NDArray[Any] | None, folds: int, seed: int = 0) -> list[Fold]:
    """Assign whole regions or events to folds.

    Args:
        labels: 0 and 1, (N,).
        groups: region or event of each row, (N,).
        folds: number of folds, at least 2.
        seed: seed of the order of groups with the same number of rows.

    Raises:
        DataError: if there are no groups or fewer than folds, or a fold would have only one label.
    """
    if groups is None:
        raise DataError("rows have no groups", hint="Name the column with --group")
    if folds < 2:
        raise ConfigError(f"{folds} folds are too few", where="option folds", hint="Use at least 2")
    number = np.unique(groups, return_inverse=True)[1].ravel()
    if number.max() + 1 < folds:
        raise DataError(f"there are {number.max() + 1} groups, fewer than {folds} folds", hint="Use fewer folds")
    made = _folds_of(_assign(number, folds, np.random.default_rng(seed)), folds)
    _check_labels(made, labels, "group", "Use fewer folds")
    return made


def square_blocks(coordinates: NDArray[np.float64], side: float | None = None) -> NDArray[np.int64]:
    """Number the square block of each row.

    Args:
        coordinates: x and y in metres, (N, 2).
        side: side of a block in metres; None for a tenth of the longer side of the region [O].

    Returns:
        Block numbers, (N,), from 0 without gaps.

    Raises:
        ConfigError: if the side is not positive and finite.
    """
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    side = max(float((high - low).max()) / 10, np.finfo(float).tiny) if side is None else side
    if not 0 < side < np.inf:
        raise ConfigError(f"blocks of {side:g} m", hint="Give the side of a block in metres, above 0 and finite")
    return _number_cells((coordinates - low) / side, side)


def _number_cells(places: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    """Number the unit squares that contain places, from 0 without gaps, (N,)."""
    if not places.max() < 2**31:
        raise ConfigError(f"blocks of {side:g} m are too small for this region", hint="Give a larger side")
    cells = np.floor(places).astype(np.int64)
    return np.asarray(np.unique(cells, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)


def fold_numbers(folds: list[Fold]) -> NDArray[np.int64]:
    """Return the number of the fold in which each row is held out, (N,)."""
    number = np.empty(sum(len(fold.test) for fold in folds), dtype=np.int64)
    for index, fold in enumerate(folds):
        number[fold.test] = index
    return number


def _assign(unit: NDArray[np.int64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Assign the largest units first, each to the fold with the fewest rows; the seed orders units of equal size."""
    sizes = np.bincount(unit)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows = np.zeros(folds)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for index in order:
        fold_of[index] = int(rows.argmin())
        rows[fold_of[index]] += sizes[index]
    return fold_of[unit]


def _folds_of(number: NDArray[np.int64], folds: int) -> list[Fold]:
    return [Fold(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(folds)]


def _random_inner(labels: NDArray[np.int64], seed: int) -> list[Fold]:
    fewest = int(min(labels.sum(), len(labels) - labels.sum()))
    return random_folds(labels, 3, seed) if fewest >= 3 else []


def _check_labels(folds: list[Fold], labels: NDArray[Any], kind: str, hint: str) -> None:
    for number, fold in enumerate(folds, 1):
        for what, rows in (("training", fold.train), ("test", fold.test)):
            if len(np.unique(np.asarray(labels)[rows])) < 2:
                raise DataError(f"the {what} rows of {kind} fold {number} have only one label", hint=hint)


def _check_counts(labels: NDArray[Any], folds: int) -> None:
    if folds < 2:
        raise ConfigError(f"{folds} folds are too few", where="option folds", hint="Use at least 2")
    fewest = int(min((np.asarray(labels) == 0).sum(), (np.asarray(labels) == 1).sum()))
    if fewest < folds:
        raise DataError(f"a label has {fewest} rows, fewer than {folds} folds", hint="Use fewer folds")


def _metres(length: float) -> str:
    return f"{length / 1000:.3g} km" if length >= 1000 else f"{length:.3g} m"
