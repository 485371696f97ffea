"""Splits: disjoint, complete but for guards, deterministic, and free of neighbours where they promise it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.datasets.base import Patch
from zoo.datasets.splits import Partition, by_block, by_group, carve, neighbour_pairs, random_split
from zoo.errors import ConfigError, DataError, UnknownNameError


def grid(rows: int, cols: int, group: str = "A") -> list[Patch]:
    return [Patch(f"{group}_{row}_{col}", group, row, col) for row in range(rows) for col in range(cols)]


places = st.tuples(st.sampled_from("ABC"), st.integers(0, 12), st.integers(-3, 9))
patch_lists = st.lists(places, min_size=1, max_size=60).map(
    lambda found: [Patch(f"p{number}", group, row, col) for number, (group, row, col) in enumerate(found)]
)
fractions = st.tuples(st.floats(0.1, 9), st.floats(0, 9), st.floats(0, 9))
seeds = st.integers(0, 2**32 - 1)


def whole(partition: Partition, count: int) -> None:
    everything = [*partition.train, *partition.val, *partition.test, *partition.guard, *partition.unused]
    assert sorted(everything) == list(range(count))


def named(patches: list[Patch], partition: Partition) -> list[set[str]]:
    return [{patches[index].name for index in part} for part in (partition.train, partition.val, partition.test)]


def brute_force(ones: list[Patch], others: list[Patch], guard: int) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i, one in enumerate(ones)
        for j, other in enumerate(others)
        if one.group == other.group
        and None not in (one.row, one.col, other.row, other.col)
        and max(abs(one.row - other.row), abs(one.col - other.col)) <= guard
    }


@given(patch_lists, patch_lists, st.integers(0, 4))
def test_neighbours_between_lists_agree_with_brute_force(ones, others, guard):
    found = neighbour_pairs(ones, others, guard=guard)
    assert found.dtype == np.int64
    assert [tuple(pair) for pair in found.tolist()] == sorted(brute_force(ones, others, guard))


@given(patch_lists, st.integers(0, 4))
def test_neighbours_within_a_list_are_counted_once(patches, guard):
    expected = {(i, j) for i, j in brute_force(patches, patches, guard) if i < j}
    assert {tuple(pair) for pair in neighbour_pairs(patches, guard=guard).tolist()} == expected


def test_patches_without_a_place_have_no_neighbours():
    patches = [Patch("a", "A"), Patch("b", "A", 0, 0), Patch("c", "A", 0, None)]
    assert neighbour_pairs(patches).shape == (0, 2)
    assert neighbour_pairs([Patch("a", "A")]).shape == (0, 2)


def test_neighbours_of_fifty_thousand_patches_are_found_fast():
    patches = grid(200, 250)
    start = time.process_time()
    pairs = neighbour_pairs(patches)
    seconds = time.process_time() - start
    # A rows x cols grid has this many horizontal, vertical and diagonal pairs.
    assert len(pairs) == 200 * 249 + 199 * 250 + 2 * 199 * 249
    assert seconds < 30


@given(patch_lists, fractions, seeds)
def test_random_split_is_whole_and_ignores_the_order_of_the_list(patches, shares, seed):
    split = random_split(patches, fractions=shares, seed=seed)
    whole(split, len(patches))
    turned = patches[::-1]
    assert named(turned, random_split(turned, fractions=shares, seed=seed)) == named(patches, split)


def test_random_split_follows_the_fractions_and_the_seed():
    patches = grid(10, 10)
    split = random_split(patches)
    assert (len(split.train), len(split.val), len(split.test)) == (60, 20, 20)
    assert random_split(patches) == split
    assert random_split(patches, seed=1) != split


@given(patch_lists, fractions, seeds, st.integers(0, 2), st.one_of(st.none(), st.integers(1, 5)))
def test_block_split_is_whole_guarded_and_ignores_the_order(patches, shares, seed, guard, block):
    split = by_block(patches, fractions=shares, seed=seed, guard=guard, block=block)
    whole(split, len(patches))
    if guard:
        parts = [[patches[index] for index in part] for part in (split.train, split.val, split.test)]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert len(neighbour_pairs(parts[one], parts[other], guard=guard)) == 0
    else:
        assert split.guard == ()
    turned = patches[::-1]
    again = by_block(turned, fractions=shares, seed=seed, guard=guard, block=block)
    assert named(turned, again) == named(patches, split)


def test_block_split_leaves_out_no_more_than_it_must():
    patches = grid(40, 40)
    split = by_block(patches, seed=3)
    kept = {index for part in (split.train, split.val, split.test) for index in part}
    everything = {(patch.row, patch.col): index for index, patch in enumerate(patches)}
    outside_train = {*split.val, *split.test, *split.guard}
    for index in split.guard:
        row, col = patches[index].row, patches[index].col
        around = {everything.get((row + down, col + across)) for down in (-1, 0, 1) for across in (-1, 0, 1)}
        assert around & outside_train - {index}
    assert len(kept) > 0.7 * len(patches)
    assert 0.15 < len(split.test) / len(patches) < 0.3


def test_block_split_gives_every_split_something_when_blocks_are_few():
    patches = grid(6, 18)
    for seed in range(20):
        split = by_block(patches, seed=seed, block=6, guard=1)
        assert split.train, seed
        assert split.test, seed


@given(patch_lists, fractions, seeds, st.integers(1, 2), st.one_of(st.none(), st.integers(1, 5)))
def test_strips_of_columns_keep_their_distance_and_ignore_the_order(patches, shares, seed, guard, block):
    split = by_block(patches, fractions=shares, seed=seed, guard=guard, block=block, columns=True)
    whole(split, len(patches))
    parts = [[patches[index] for index in part] for part in (split.train, split.val, split.test)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(neighbour_pairs(parts[one], parts[other], guard=guard)) == 0
    turned = patches[::-1]
    again = by_block(turned, fractions=shares, seed=seed, guard=guard, block=block, columns=True)
    assert named(turned, again) == named(patches, split)


def test_a_column_of_the_grid_belongs_to_one_split_or_is_left_out_for_it():
    patches = grid(30, 40)
    split = by_block(patches, seed=1, columns=True)
    columns = [{patches[index].col for index in part} for part in (split.train, split.val, split.test, split.guard)]
    assert sum(map(len, columns)) == 40
    assert set().union(*columns) == set(range(40))
    assert len(columns[3]) < 10
    assert any("strips of 4 columns" in note for note in split.notes)


def test_block_split_needs_places():
    with pytest.raises(DataError, match=r"1 of 2 patches have no row and column"):
        by_block([Patch("a", "A", 0, 0), Patch("b", "A")])
    with pytest.raises(ConfigError):
        by_block(grid(2, 2), guard=-1)


def test_groups_are_kept_whole_and_validation_is_carved_with_a_guard():
    patches = grid(30, 30, "S1") + grid(5, 5, "S2") + grid(4, 4, "S3")
    split = by_group(patches, train=["S1"], test=["S2", "S3"])
    whole(split, len(patches))
    assert {patches[index].group for index in (*split.train, *split.val)} == {"S1"}
    assert {patches[index].group for index in split.test} == {"S2", "S3"}
    assert len(split.test) == 41
    assert 0.15 < len(split.val) / 900 < 0.35
    assert len(neighbour_pairs([patches[i] for i in split.train], [patches[i] for i in split.val])) == 0
    assert any("carved" in note and "spatial blocks" in note for note in split.notes)


def test_validation_is_drawn_at_random_where_places_are_unknown_with_a_note():
    patches = [Patch(f"a{number}", "A") for number in range(40)] + [Patch("b", "B")]
    split = by_group(patches, train=["A"], test=["B"])
    assert (len(split.train), len(split.val), split.guard) == (30, 10, ())
    assert any("at random" in note and "unknown" in note for note in split.notes)


def test_unnamed_groups_go_to_the_remaining_split():
    patches = grid(2, 2, "A") + grid(2, 2, "B") + grid(2, 2, "C")
    rest_tests = by_group(patches, train=["A"], val=["B"])
    assert {patches[index].group for index in rest_tests.test} == {"C"}
    rest_trains = by_group(patches, val=["B"], test=["C"])
    assert {patches[index].group for index in rest_trains.train} == {"A"}
    unused = by_group(patches, train=["A"], val=[], test=["B"])
    assert {patches[index].group for index in unused.unused} == {"C"}
    assert any("C is not used (4 patches)" in note for note in unused.notes)


def test_wrong_groups_are_refused():
    patches = grid(2, 2, "S1") + grid(2, 2, "S2")
    with pytest.raises(UnknownNameError, match=r"train_groups: unknown group 's1'\. Did you mean 'S1'"):
        by_group(patches, train=["s1"], test=["S2"])
    with pytest.raises(ConfigError, match=r"'S1' is named for train and for test"):
        by_group(patches, train=["S1"], test=["S1", "S2"])
    with pytest.raises(ConfigError, match=r"no group is left for the test split"):
        by_group(patches, train=["S1", "S2"])


@given(st.lists(st.integers(1, 30), min_size=3, max_size=12), seeds)
def test_dealt_groups_stay_whole_and_no_split_is_empty(sizes, seed):
    patches = [Patch(f"g{group}_{n}", f"g{group}") for group, size in enumerate(sizes) for n in range(size)]
    split = by_group(patches, seed=seed)
    whole(split, len(patches))
    groups = [{patches[index].group for index in part} for part in (split.train, split.val, split.test)]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_too_few_groups_cannot_be_dealt():
    with pytest.raises(ConfigError, match=r"2 groups cannot fill 3 splits"):
        by_group(grid(2, 2, "A") + grid(2, 2, "B"))


@pytest.mark.parametrize("shares", [(1, 1), (0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1), (float("inf"), 1, 1)])
def test_fractions_out_of_range_are_refused(shares):
    with pytest.raises(ConfigError):
        random_split(grid(2, 2), fractions=shares)


@given(patch_lists, st.floats(0, 1), seeds)
def test_carving_splits_the_given_patches_and_no_others(patches, share, seed):
    chosen = list(range(0, len(patches), 2))
    part = carve(patches, chosen, share=share, seed=seed)
    assert sorted([*part.train, *part.val, *part.guard]) == chosen
    assert part.test == ()


def test_an_unknown_split_is_refused():
    split = random_split(grid(5, 5))
    assert split.of("val") == split.val
    with pytest.raises(UnknownNameError, match=r"Did you mean 'val'"):
        split.of("vall")


GRID = [Patch(f"p{row}-{col}", "g" if row < 4 else "h", row, col) for row in range(8) for col in range(8)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: random_split(GRID, seed=-1), "option seed: is out of range"),
        (lambda: random_split(GRID, seed=10**30), "option seed: is out of range"),
        (lambda: by_group(GRID, train=["g"], test=["h"], seed=-1), "option seed: is out of range"),
        (lambda: by_block(GRID, seed=-1), "option seed: is out of range"),
        (lambda: by_block(GRID, block=10**30), "option block: is out of range. Give 1 to 1,000,000 patches"),
        (lambda: by_block(GRID, block=0), "option block: is out of range"),
        (lambda: by_block(GRID, guard=10**30), "option guard: is out of range. Give 0 to 1,000,000 patches"),
        (lambda: by_block(GRID, guard=-1), "option guard: is out of range"),
        (lambda: by_group(GRID, train=["g"], test=["h"], fractions=(0, 0, 1)), "option fractions"),
    ],
)
def test_invalid_numbers_are_refused_with_a_clear_message(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
