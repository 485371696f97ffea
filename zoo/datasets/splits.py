"""Splits of patches that do not leak: by group, by spatial block with a guard distance, or at random.

Neighbouring patches share texture, weather and often the same landslide, so a random split of a grid of patches
measures memory. Pure functions on lists of :class:`~zoo.datasets.base.Patch`; the same seed gives the same split
whatever the order of the list. [S] Roberts et al. (2017), Ecography 40, 913-929, on blocking with a guard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import SPLITS, DataWarning, Patch
from zoo.errors import ConfigError, DataError, UnknownNameError

FRACTIONS: tuple[float, float, float] = (6.0, 2.0, 2.0)
"""Shares of training, validation and test [P]."""


class LeakageWarning(DataWarning):
    """Patches of different splits see the same ground or ground beside it, so the test result is too good."""


@dataclass(frozen=True)
class Partition:
    """Which patches, by index, are in which split; each tuple is sorted.

    Attributes:
        train: indices of the training split.
        val: indices of the validation split.
        test: indices of the test split.
        guard: indices left out because they lie too near to another split.
        unused: indices of groups that no split names.
        notes: how the split was made, in words.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    guard: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def of(self, split: str) -> tuple[int, ...]:
        """Give the indices of "train", "val" or "test"."""
        parts: dict[str, tuple[int, ...]] = {"train": self.train, "val": self.val, "test": self.test}
        if split not in parts:
            raise UnknownNameError("split", split, SPLITS)
        return parts[split]


def random_split(patches: Sequence[Patch], *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> Partition:
    """Shuffle patches into splits, whoever their neighbours are.

    Args:
        patches: what to split.
        fractions: shares of train, val and test, of any scale.
        seed: of the shuffle.

    Raises:
        ConfigError: if the fractions are not three non-negative numbers with a positive sum.
    """
    shares = _shares(fractions)
    order = _shuffled(_canonical(patches), seed)
    ends = [round(len(order) * share) for share in np.cumsum(shares)]
    train, val, test = order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :]
    notes = [f"split: patches shuffled at random (seed {seed}) {_ratio(fractions)}"]
    if any(patch.row is None or patch.col is None for patch in patches):
        notes.append("leak: places on the ground are not known, so neighbours may be in different splits")
    return _partition(train, val, test, notes=notes)


def by_group(
    patches: Sequence[Patch],
    *,
    train: Iterable[str] | None = None,
    val: Iterable[str] | None = None,
    test: Iterable[str] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    guard: int = 1,
) -> Partition:
    """Give whole groups (scenes, events, regions) to the splits.

    When some of the three are named, the groups that nobody names go to the test split if ``test`` is None, else to
    the training split if ``train`` is None, else to no split; a validation split that is not named is carved from the
    training groups by :func:`carve`. When none is named, groups are dealt by their sizes, the largest first, each to
    the split that lacks most.

    Args:
        patches: what to split.
        train: names of the training groups.
        val: names of the validation groups.
        test: names of the test groups.
        fractions: shares of train, val and test; the share of a carved validation split is val / (train + val).
        seed: of the carving and of the order of equal groups.
        guard: distance that a carved validation split keeps from training, in patches.

    Raises:
        UnknownNameError: if a named group does not exist.
        ConfigError: if a group is named twice, or nothing is left for training or test.
    """
    members: dict[str, list[int]] = {}
    for index in _canonical(patches):
        members.setdefault(patches[index].group, []).append(index)
    if train is None and val is None and test is None:
        return _deal_groups(members, fractions, seed)
    named = {"train": _names(train), "val": _names(val), "test": _names(test)}
    _check_groups(named, members)
    rest = [group for group in sorted(members) if not any(group in names for names in named.values() if names)]
    receiver = next((split for split in ("test", "train") if named[split] is None), None)
    if receiver is not None:
        if not rest:
            raise ConfigError(
                f"no group is left for the {receiver} split", hint=f"Name its groups with {receiver}_groups"
            )
        named[receiver], rest = rest, []
    chosen = {split: _members(members, names or ()) for split, names in named.items()}
    notes = ["split: by group, " + "; ".join(f"{split} {_join(names)}" for split, names in named.items() if names)]
    guarded: tuple[int, ...] = ()
    if named["val"] is None:
        share = _shares(fractions)
        inner = carve(patches, chosen["train"], share=share[1] / (share[0] + share[1]), seed=seed, guard=guard)
        chosen["train"], chosen["val"], guarded = list(inner.train), list(inner.val), inner.guard
        notes += inner.notes
    if rest:
        notes.append(f"split: group {_join(rest)} is not used ({sum(len(members[group]) for group in rest)} patches)")
    return _partition(
        chosen["train"], chosen["val"], chosen["test"], guard=guarded, unused=_members(members, rest), notes=notes
    )


def carve(
    patches: Sequence[Patch], indices: Sequence[int], *, share: float, seed: int = 0, guard: int = 1
) -> Partition:
    """Take a validation split out of training patches: in spatial blocks where places are known, else at random.

    Args:
        patches: all patches.
        indices: those of training.
        share: part that validation gets, 0..1.
        seed: of the choice.
        guard: distance, in patches, within which training patches beside validation are left out.

    Returns:
        A partition of ``indices`` into train, val and guard.
    """
    chosen = [patches[index] for index in indices]
    fractions = (1 - share, share, 0.0)
    if chosen and all(patch.row is not None and patch.col is not None for patch in chosen):
        inner = by_block(chosen, fractions=fractions, seed=seed, guard=guard)
        how = f"in spatial blocks (seed {seed}), {len(inner.guard)} training patches within {guard} of it left out"
    else:
        inner = random_split(chosen, fractions=fractions, seed=seed)
        how = f"at random (seed {seed}), as their places on the ground are not known"
    return _partition(
        [indices[index] for index in inner.train],
        [indices[index] for index in inner.val],
        [],
        guard=[indices[index] for index in inner.guard],
        notes=[f"split: validation is carved from the training patches {how}"],
    )


def by_block(
    patches: Sequence[Patch],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    block: int | None = None,
    guard: int = 1,
    columns: bool = False,
) -> Partition:
    """Cut each group's grid into square blocks, give whole blocks to the splits, and leave out what lies between.

    Blocks come in a seeded order, each to the split that lacks most. Then a patch is left out when a patch of a split
    that matters more lies within ``guard`` of it: test stays whole, validation gives way to test, training to both.

    Args:
        patches: what to split; each with row and column.
        fractions: shares of train, val and test, before the guard.
        seed: of the order of the blocks and of where the grid of blocks starts.
        block: side of a block in patches; None for about sixteen blocks a group (ten strips of columns), and at least
            2 guard + 2.
        guard: Chebyshev distance, in patches, up to which patches of different splits may not come; 0 for none.
        columns: blocks are strips of ``block`` columns, from the first row to the last, instead of squares: fewer
            borders, so fewer patches are left out, but fewer blocks to draw from.

    Raises:
        DataError: if a patch has no row or column.
        ConfigError: if ``block`` or ``guard`` is out of range.
    """
    shares = _shares(fractions)
    if guard < 0 or (block is not None and block < 1):
        raise ConfigError(f"blocks of {block} patches with a guard of {guard} are not possible")
    homeless = [patch.name for patch in patches if patch.row is None or patch.col is None]
    if homeless:
        raise DataError(
            f"{len(homeless)} of {len(patches)} patches have no row and column, so blocks cannot be cut",
            where=homeless[0],
            hint="Give a CSV with columns row and col, or split by group or at random",
        )
    order = _canonical(patches)
    rng = np.random.default_rng(seed)
    places = np.array([(patch.row, patch.col) for patch in patches], dtype=np.int64).reshape(-1, 2)
    sizes = {}
    blocks: dict[tuple[str, int, int], list[int]] = {}
    for group, members in _grouped(patches, order).items():
        usual = np.ptp(places[members, 1]) / 10 if columns else math.sqrt(len(members) / 16)
        side = block or max(2 * guard + 2, math.ceil(usual))
        sizes[group] = side
        shift = rng.integers(side, size=2)
        for index in members:
            row, col = places[index] + shift
            blocks.setdefault((group, 0 if columns else int(row) // side, int(col) // side), []).append(index)
    parts = _deal([blocks[key] for key in sorted(blocks)], shares, rng)
    train, val, test = parts
    near_test = _touching(patches, train + val, test, guard)
    near_val = _touching(patches, train, [index for index in val if index not in near_test], guard)
    left_out = near_test | near_val
    span = " to ".join(str(side) for side in sorted({min(sizes.values(), default=0), max(sizes.values(), default=0)}))
    shape = f"strips of {span} columns" if columns else f"spatial blocks of {span} patches a side"
    return _partition(
        [index for index in train if index not in left_out],
        [index for index in val if index not in left_out],
        test,
        guard=sorted(left_out),
        notes=[
            f"split: {len(blocks)} {shape} (seed {seed}) {_ratio(fractions)}, "
            f"{len(left_out)} patches within {guard} of another split left out"
        ],
    )


def neighbour_pairs(
    patches: Sequence[Patch], others: Sequence[Patch] | None = None, *, guard: int = 1
) -> NDArray[np.int64]:
    """Find the pairs of patches of one group that lie within a distance on their grid.

    Args:
        patches: the one side.
        others: the other side; None to look for pairs among ``patches`` themselves, each counted once.
        guard: largest Chebyshev distance in patches: 0 the same place, 1 touching, corners included.

    Returns:
        int64 (M, 2): index into ``patches``, index into ``others`` (or into ``patches``, the larger one). Patches
        without row and column are in no pair. Sorted.
    """
    count = len(patches)
    everything = list(patches) if others is None else [*patches, *others]
    placed = np.array(
        [index for index, patch in enumerate(everything) if patch.row is not None and patch.col is not None],
        dtype=np.int64,
    )
    if not len(placed):
        return np.empty((0, 2), dtype=np.int64)
    codes = {group: code for code, group in enumerate(sorted({patch.group for patch in everything}))}
    groups = np.array([codes[everything[index].group] for index in placed], dtype=np.int64)
    rows = np.array([everything[index].row for index in placed], dtype=np.int64)
    cols = np.array([everything[index].col for index in placed], dtype=np.int64)
    # An empty margin of `guard` beside every row and below every group keeps a shifted place from reaching the next.
    rows, cols = rows - rows.min(), cols - cols.min()
    height, width = int(rows.max()) + 1 + guard, int(cols.max()) + 1 + guard
    keys = (groups * height + rows) * width + cols
    right = np.arange(len(placed)) if others is None else np.flatnonzero(placed >= count)
    left = np.arange(len(placed)) if others is None else np.flatnonzero(placed < count)
    right = right[np.argsort(keys[right], kind="stable")]
    sorted_keys = keys[right]
    found = []
    for down in range(-guard, guard + 1):
        for across in range(-guard, guard + 1):
            wanted = keys[left] + down * width + across
            start = np.searchsorted(sorted_keys, wanted, side="left")
            hits = np.searchsorted(sorted_keys, wanted, side="right") - start
            ones = np.repeat(left, hits)
            offsets = np.arange(len(ones)) - np.repeat(np.cumsum(hits) - hits, hits)
            found.append(np.stack([placed[ones], placed[right[np.repeat(start, hits) + offsets]]], axis=1))
    pairs = np.concatenate(found)
    if others is None:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    else:
        pairs[:, 1] -= count
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _canonical(patches: Sequence[Patch]) -> list[int]:
    def place(index: int) -> tuple[str, str, int, int]:
        patch = patches[index]
        return patch.group, patch.name, -1 if patch.row is None else patch.row, -1 if patch.col is None else patch.col

    return sorted(range(len(patches)), key=place)


def _shuffled(indices: Sequence[int], seed: int) -> list[int]:
    return [indices[position] for position in np.random.default_rng(seed).permutation(len(indices))]


def _shares(fractions: Sequence[float]) -> tuple[float, float, float]:
    total = math.fsum(fractions)
    if len(fractions) != 3 or any(not value >= 0 for value in fractions) or not 0 < total < math.inf:
        raise ConfigError(
            f"fractions {tuple(fractions)} are not three shares of train, validation and test",
            hint="Write for example 6,2,2",
        )
    return fractions[0] / total, fractions[1] / total, fractions[2] / total


def _grouped(patches: Sequence[Patch], order: Sequence[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index in order:
        groups.setdefault(patches[index].group, []).append(index)
    return groups


def _deal(
    lots: Sequence[list[int]], shares: Sequence[float], rng: np.random.Generator | None
) -> tuple[list[int], list[int], list[int]]:
    """Give each lot, in random or given order, to the split that lacks most; none with a share stays empty."""
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    total = sum(len(lot) for lot in lots)
    order = list(range(len(lots)) if rng is None else rng.permutation(len(lots)))
    for done, position in enumerate(order):
        empty = [split for split, part in enumerate(parts) if shares[split] > 0 and not part]
        allowed = empty if len(order) - done <= len(empty) else [s for s in range(3) if shares[s] > 0]
        receiver = max(allowed, key=lambda split: (shares[split] * total - len(parts[split]), -split))
        parts[receiver].extend(lots[position])
    return parts


def _deal_groups(members: dict[str, list[int]], fractions: Sequence[float], seed: int) -> Partition:
    shares = _shares(fractions)
    needed = sum(share > 0 for share in shares)
    if len(members) < needed:
        raise ConfigError(
            f"{len(members)} groups cannot fill {needed} splits", hint="Name the groups, or split by block or at random"
        )
    shuffled = [sorted(members)[index] for index in np.random.default_rng(seed).permutation(len(members))]
    largest_first = sorted(shuffled, key=lambda group: -len(members[group]))
    parts = _deal([members[group] for group in largest_first], shares, None)
    names = [sorted(group for group in members if members[group][0] in set(part)) for part in parts]
    words = "; ".join(f"{split} {_join(groups)}" for split, groups in zip(SPLITS, names, strict=True) if groups)
    return _partition(*parts, notes=[f"split: groups dealt by size {_ratio(fractions)}, {words}"])


def _touching(patches: Sequence[Patch], ours: Sequence[int], theirs: Sequence[int], guard: int) -> set[int]:
    if guard == 0 or not ours or not theirs:
        return set()
    pairs = neighbour_pairs([patches[index] for index in ours], [patches[index] for index in theirs], guard=guard)
    return {ours[position] for position in np.unique(pairs[:, 0])}


def _names(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else list(dict.fromkeys(names))


def _check_groups(named: dict[str, list[str] | None], members: dict[str, list[int]]) -> None:
    taken: dict[str, str] = {}
    for split, names in named.items():
        for name in names or ():
            if name not in members:
                raise UnknownNameError("group", name, members, where=f"option {split}_groups")
            if name in taken:
                raise ConfigError(f"group {name!r} is named for {taken[name]} and for {split}")
            taken[name] = split


def _members(members: dict[str, list[int]], groups: Iterable[str]) -> list[int]:
    return [index for group in groups for index in members[group]]


def _partition(
    train: Sequence[int],
    val: Sequence[int],
    test: Sequence[int],
    guard: Sequence[int] = (),
    unused: Sequence[int] = (),
    notes: Sequence[str] = (),
) -> Partition:
    return Partition(
        train=tuple(sorted(train)),
        val=tuple(sorted(val)),
        test=tuple(sorted(test)),
        guard=tuple(sorted(guard)),
        unused=tuple(sorted(unused)),
        notes=tuple(notes),
    )


def _ratio(fractions: Sequence[float]) -> str:
    return ":".join(f"{value:g}" for value in fractions)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
