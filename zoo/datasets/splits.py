"""Splits of patches without leakage: by group, by spatial block with a guard distance, or at random.

Neighbouring patches share texture, weather and often the same landslide, so a random split of a grid of patches
measures memorisation. The functions are pure functions on lists of :class:`~zoo.datasets.base.Patch`: the same seed
gives the same split, regardless of the order of the list. [S] Roberts et al. (2017), Ecography 40, 913-929, on blocks
with a guard.

scikit-learn's ``GroupKFold`` and ``GroupShuffleSplit`` are not suitable: they neither fill three splits of given
shares nor leave a guard between them, and scikit-learn is an optional dependency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from zoo.datasets.base import SPLITS, DataWarning, Patch
from zoo.errors import ConfigError, DataError, UnknownNameError

FRACTIONS: tuple[float, float, float] = (6.0, 2.0, 2.0)
"""Shares of training, validation and test [P]."""

_MAX_SIDE = 10**6
"""Maximum side of a block and maximum guard, in patches [O]; no grid is larger."""
_GROUP_DISTANCE = 2.0**44
"""Artificial distance between patches of different groups in the search for neighbours; larger than any grid."""


class LeakageWarning(DataWarning):
    """Warning that splits share the same or neighbouring ground, so the test result is too optimistic."""


@dataclass(frozen=True)
class Partition:
    """Assignment of patches, by index, to splits; each tuple is sorted.

    Attributes:
        train: indices of the training split.
        val: indices of the validation split.
        test: indices of the test split.
        guard: indices that are left out because they are too close to another split.
        unused: indices of groups that no split names.
        notes: description of how the split was made.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    guard: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def of(self, split: str) -> tuple[int, ...]:
        """Return the indices of "train", "val" or "test"."""
        parts: dict[str, tuple[int, ...]] = {"train": self.train, "val": self.val, "test": self.test}
        if split not in parts:
            raise UnknownNameError("split", split, SPLITS)
        return parts[split]


def random_split(patches: Sequence[Patch], *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> Partition:
    """Shuffle patches into splits, regardless of neighbours.

    Args:
        patches: patches to split.
        fractions: shares of train, val and test, on any scale.
        seed: random seed.

    Raises:
        ConfigError: if the fractions are not three non-negative numbers with a positive sum.
    """
    shares = _shares(fractions)
    order = _shuffled(_canonical_order(patches), seed)
    ends = [round(len(order) * share) for share in np.cumsum(shares)]
    train, val, test = order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :]
    notes = [f"split: patches shuffled at random (seed {seed}) {_ratio(fractions)}"]
    if any(patch.row is None or patch.col is None for patch in patches):
        notes.append("leak: locations are unknown, so neighbours may be in different splits")
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
    """Assign whole groups (scenes, events, regions) to the splits.

    If some of the three splits are named, the other groups go to the test split if ``test`` is None, else to the
    training split if ``train`` is None, else to no split. A validation split that is not named is carved from the
    training groups by :func:`carve`. If none is named, groups are assigned by size, largest first, each to the
    split that is furthest below its share.

    Args:
        patches: patches to split.
        train: names of the training groups.
        val: names of the validation groups.
        test: names of the test groups.
        fractions: shares of train, val and test; the share of a carved validation split is val / (train + val).
        seed: random seed for carving and for the order of groups of equal size.
        guard: distance in patches between a carved validation split and training.

    Raises:
        UnknownNameError: if a named group does not exist.
        ConfigError: if a group is named twice, or no group remains for training or test.
    """
    members = _group_members(patches, _canonical_order(patches))
    if train is None and val is None and test is None:
        return _assign_groups(members, fractions, seed)
    named = {"train": _unique(train), "val": _unique(val), "test": _unique(test)}
    _check_groups(named, members)
    rest = [group for group in sorted(members) if not any(group in names for names in named.values() if names)]
    receiver = next((split for split in ("test", "train") if named[split] is None), None)
    if receiver is not None:
        if not rest:
            raise ConfigError(
                f"no group is left for the {receiver} split", hint=f"Name its groups with {receiver}_groups"
            )
        named[receiver], rest = rest, []
    chosen = {split: _indices_of(members, names or ()) for split, names in named.items()}
    notes = ["split: by group, " + "; ".join(f"{split} {_join(names)}" for split, names in named.items() if names)]
    guarded: tuple[int, ...] = ()
    if named["val"] is None:
        share = _shares(fractions)
        if not share[0] + share[1]:
            raise ConfigError(
                "no shares from which to carve a validation split", where="option fractions", hint="Write 6,2,2"
            )
        inner = carve(patches, chosen["train"], share=share[1] / (share[0] + share[1]), seed=seed, guard=guard)
        chosen["train"], chosen["val"], guarded = list(inner.train), list(inner.val), inner.guard
        notes += inner.notes
    if rest:
        notes.append(f"split: group {_join(rest)} is not used ({sum(len(members[group]) for group in rest)} patches)")
    return _partition(
        chosen["train"], chosen["val"], chosen["test"], guard=guarded, unused=_indices_of(members, rest), notes=notes
    )


def carve(
    patches: Sequence[Patch], indices: Sequence[int], *, share: float, seed: int = 0, guard: int = 1
) -> Partition:
    """Carve a validation split out of training patches: in spatial blocks if locations are known, otherwise at random.

    Args:
        patches: all patches.
        indices: indices of the training patches.
        share: share of the validation split, 0..1.
        seed: random seed.
        guard: distance in patches from validation within which training patches are left out.

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
        how = f"at random (seed {seed}), because their locations are unknown"
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
    """Cut the grid of each group into blocks, assign whole blocks to the splits, and leave out a guard between them.

    Blocks are assigned in a seeded order, each to the split that is furthest below its share. Then a patch is left out
    if a patch of a more important split is within ``guard`` of it: test stays complete, validation yields to test, and
    training yields to both.

    Args:
        patches: patches to split, each with row and column.
        fractions: shares of train, val and test, before the guard.
        seed: random seed of the order of the blocks and of the origin of the grid of blocks.
        block: side of a block in patches; None for about sixteen blocks per group (ten strips of columns), and at
            least 2 guard + 2.
        guard: minimum Chebyshev distance in patches between patches of different splits; 0 for none.
        columns: whether to cut strips of ``block`` columns, from the first row to the last, instead of squares. Strips
            have shorter borders, so fewer patches are left out, but there are fewer blocks to choose from.

    Raises:
        DataError: if a patch has no row or column.
        ConfigError: if ``block`` or ``guard`` is out of range.
    """
    shares = _shares(fractions)
    for option, value, minimum in (("guard", guard, 0), ("block", block, 1)):
        if value is not None and not minimum <= value <= _MAX_SIDE:
            raise ConfigError(
                "is out of range", where=f"option {option}", hint=f"Give {minimum} to {_MAX_SIDE:,} patches"
            )
    unplaced = [patch.name for patch in patches if patch.row is None or patch.col is None]
    if unplaced:
        raise DataError(
            f"{len(unplaced)} of {len(patches)} patches have no row and column, so blocks cannot be cut",
            where=unplaced[0],
            hint="Give a CSV with columns row and col, or split by group or at random",
        )
    rng = _generator(seed)
    places = np.array([(patch.row, patch.col) for patch in patches], dtype=np.int64).reshape(-1, 2)
    sides = {}
    blocks: dict[tuple[str, int, int], list[int]] = {}
    for group, members in _group_members(patches, _canonical_order(patches)).items():
        usual = np.ptp(places[members, 1]) / 10 if columns else math.sqrt(len(members) / 16)
        side = block or max(2 * guard + 2, math.ceil(usual))
        sides[group] = side
        shift = rng.integers(side, size=2)
        for index in members:
            row, col = places[index] + shift
            blocks.setdefault((group, 0 if columns else int(row) // side, int(col) // side), []).append(index)
    train, val, test = _assign_lots([blocks[key] for key in sorted(blocks)], shares, rng)
    near_test = _near_patches(patches, train + val, test, guard)
    near_val = _near_patches(patches, train, [index for index in val if index not in near_test], guard)
    left_out = near_test | near_val
    limits = sorted({min(sides.values(), default=0), max(sides.values(), default=0)})
    span = " to ".join(str(side) for side in limits)
    shape = f"strips of {span} columns" if columns else f"spatial blocks of {span} patches per side"
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
    """Find pairs of patches of one group within a given distance on their grid.

    Args:
        patches: the first patches.
        others: the second patches; None to find pairs among ``patches``, each once.
        guard: maximum Chebyshev distance in patches: 0 is the same location, 1 is adjacent, including diagonals.

    Returns:
        int64 (M, 2), sorted: index into ``patches``, and index into ``others`` (or the larger index into ``patches``).
        Patches without row and column are in no pair.
    """
    second = patches if others is None else others
    codes = _group_codes([*patches, *second])
    (left, left_points), (right, right_points) = (_points(side, codes) for side in (patches, second))
    if not len(left) or not len(right):
        return np.empty((0, 2), dtype=np.int64)
    # Search half a patch farther than the distance, so that rounding never loses a pair.
    found = cKDTree(left_points).query_ball_tree(cKDTree(right_points), guard + 0.5, p=np.inf)
    counts = [len(hits) for hits in found]
    flat = np.fromiter((hit for hits in found for hit in hits), dtype=np.int64, count=sum(counts))
    pairs = np.stack([left[np.repeat(np.arange(len(left)), counts)], right[flat]], axis=1)
    if others is None:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def held_out_blocks(patches: Sequence[Patch]) -> list[str]:
    """Return the name of each patch's block in a split; a block consists of touching patches of one group.

    Patches without row and column form one block per group.

    >>> held_out_blocks([Patch("a", "S1", 0, 0), Patch("b", "S1", 1, 1), Patch("c", "S1", 4, 0), Patch("d", "S2")])
    ['S1 block 0', 'S1 block 0', 'S1 block 1', 'S2']
    """
    pairs = neighbour_pairs(patches)
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(patches), len(patches)))
    _, labels = connected_components(links, directed=False)
    numbers: dict[str, dict[int, int]] = {}
    names = []
    for patch, label in zip(patches, labels.tolist(), strict=True):
        known = numbers.setdefault(patch.group, {})
        placed = patch.row is not None and patch.col is not None
        names.append(f"{patch.group} block {known.setdefault(label, len(known))}" if placed else patch.group)
    return names


def nearest_patch(patches: Sequence[Patch], others: Sequence[Patch]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find for each patch the nearest other patch of its group.

    Args:
        patches: patches to search from.
        others: patches to search.

    Returns:
        For each patch the index into ``others``, int64 (N,), and the Chebyshev distance in patches, float64 (N,);
        -1 and infinity if there is none, or if the location of the patch is unknown.
    """
    nearest = np.full(len(patches), -1, dtype=np.int64)
    distances = np.full(len(patches), np.inf)
    codes = _group_codes([*patches, *others])
    (left, left_points), (right, right_points) = (_points(side, codes) for side in (patches, others))
    if len(left) and len(right):
        found, index = (np.asarray(part) for part in cKDTree(right_points).query(left_points, p=np.inf))
        same = found < _GROUP_DISTANCE / 2
        nearest[left[same]], distances[left[same]] = right[index[same]], found[same]
    return nearest, distances


def _group_codes(patches: Sequence[Patch]) -> dict[str, int]:
    return {group: code for code, group in enumerate(sorted({patch.group for patch in patches}))}


def _points(patches: Sequence[Patch], codes: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the indices of patches with a location, and their group, row and column as points for a search tree."""
    placed = [index for index, patch in enumerate(patches) if patch.row is not None and patch.col is not None]
    chosen = [patches[index] for index in placed]
    points = [(codes[patch.group] * _GROUP_DISTANCE, patch.row, patch.col) for patch in chosen]
    return np.array(placed, dtype=np.int64), np.array(points, dtype=np.float64).reshape(-1, 3)


def _near_patches(
    patches: Sequence[Patch], indices: Sequence[int], other_indices: Sequence[int], guard: int
) -> set[int]:
    """Return the indices in ``indices`` whose patches are within ``guard`` of a patch in ``other_indices``."""
    if guard == 0 or not indices or not other_indices:
        return set()
    _, distances = nearest_patch([patches[index] for index in indices], [patches[index] for index in other_indices])
    return {indices[position] for position in np.flatnonzero(distances <= guard).tolist()}


def _canonical_order(patches: Sequence[Patch]) -> list[int]:
    """Return the indices in an order that does not depend on the order of the list."""

    def place(index: int) -> tuple[str, str, int, int]:
        patch = patches[index]
        return patch.group, patch.name, -1 if patch.row is None else patch.row, -1 if patch.col is None else patch.col

    return sorted(range(len(patches)), key=place)


def _shuffled(indices: Sequence[int], seed: int) -> list[int]:
    return [indices[position] for position in _generator(seed).permutation(len(indices))]


def _generator(seed: int) -> np.random.Generator:
    if not 0 <= seed < 2**63:
        raise ConfigError("is out of range", where="option seed", hint="Give 0 or more, and less than 2^63")
    return np.random.default_rng(seed)


def _shares(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Return fractions scaled to a sum of 1."""
    total = math.fsum(fractions)
    if len(fractions) != 3 or any(not value >= 0 for value in fractions) or not 0 < total < math.inf:
        raise ConfigError(
            f"fractions {tuple(fractions)} are not three shares of train, validation and test",
            hint="Write for example 6,2,2",
        )
    return fractions[0] / total, fractions[1] / total, fractions[2] / total


def _group_members(patches: Sequence[Patch], order: Sequence[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index in order:
        groups.setdefault(patches[index].group, []).append(index)
    return groups


def _assign_lots(
    lots: Sequence[list[int]], shares: Sequence[float], rng: np.random.Generator | None
) -> tuple[list[int], list[int], list[int]]:
    """Assign each lot to the split that is furthest below its share; no split with a share stays empty."""
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    total = sum(len(lot) for lot in lots)
    order = list(range(len(lots)) if rng is None else rng.permutation(len(lots)))
    for done, position in enumerate(order):
        empty = [split for split, part in enumerate(parts) if shares[split] > 0 and not part]
        allowed = empty if len(order) - done <= len(empty) else [s for s in range(3) if shares[s] > 0]
        receiver = max(allowed, key=lambda split: (shares[split] * total - len(parts[split]), -split))
        parts[receiver].extend(lots[position])
    return parts


def _assign_groups(members: dict[str, list[int]], fractions: Sequence[float], seed: int) -> Partition:
    """Assign groups to splits by size, largest first."""
    shares = _shares(fractions)
    needed = sum(share > 0 for share in shares)
    if len(members) < needed:
        raise ConfigError(
            f"{len(members)} groups cannot fill {needed} splits", hint="Name the groups, or split by block or at random"
        )
    shuffled = [sorted(members)[index] for index in _generator(seed).permutation(len(members))]
    largest_first = sorted(shuffled, key=lambda group: -len(members[group]))
    parts = _assign_lots([members[group] for group in largest_first], shares, None)
    names = [sorted(group for group in members if members[group][0] in set(part)) for part in parts]
    description = "; ".join(f"{split} {_join(groups)}" for split, groups in zip(SPLITS, names, strict=True) if groups)
    return _partition(*parts, notes=[f"split: groups assigned by size {_ratio(fractions)}, {description}"])


def _unique(names: Iterable[str] | None) -> list[str] | None:
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


def _indices_of(members: dict[str, list[int]], groups: Iterable[str]) -> list[int]:
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
