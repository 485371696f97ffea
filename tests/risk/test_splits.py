"""Folds: every row tested once, no training row within the buffer of a test row, the same again from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.risk.splits import Fold, block_folds, group_folds, make_split, random_folds, square_blocks
from zoo.risk.tables import RiskTable


def assert_a_partition(folds: list[Fold], count: int) -> None:
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(count))
    for fold in folds:
        assert not set(fold.train) & set(fold.test)
        assert (np.diff(fold.train) > 0).all()


@given(st.integers(2, 7), st.integers(0, 1000), st.integers(14, 200), st.floats(0.1, 0.9))
@settings(max_examples=30)
def test_random_folds_deal_labels_evenly(count: int, seed: int, rows: int, share: float) -> None:
    labels = (np.random.default_rng(seed).uniform(size=rows) < share).astype(int)
    labels[: 2 * count] = [0, 1] * count
    folds = random_folds(labels, count, seed)
    assert_a_partition(folds, rows)
    sizes = [len(fold.test) for fold in folds]
    positives = [int(labels[fold.test].sum()) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert max(positives) - min(positives) <= 1
    for fold in folds:
        assert len(fold.train) + len(fold.test) == rows
    again = random_folds(labels, count, seed)
    assert all((one.test == other.test).all() for one, other in zip(folds, again, strict=True))


@given(st.integers(0, 1000), st.floats(50, 400), st.floats(0, 150))
@settings(max_examples=30)
def test_no_training_row_is_within_the_buffer_of_a_test_row(seed: int, side: float, buffer: float) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1000, (300, 2))
    labels = rng.integers(0, 2, 300)
    try:
        folds = block_folds(labels, places, folds=3, side=side, buffer=buffer, seed=seed)
    except DataError:
        return
    assert_a_partition(folds, 300)
    for fold in folds:
        nearest, _ = cKDTree(places[fold.test]).query(places[fold.train])
        assert nearest.min() >= buffer
        left = np.setdiff1d(np.arange(300), np.concatenate([fold.train, fold.test]))
        if len(left):
            away, _ = cKDTree(places[fold.test]).query(places[left])
            assert away.max() <= buffer
    again = block_folds(labels, places, folds=3, side=side, buffer=buffer, seed=seed)
    assert all((one.train == other.train).all() for one, other in zip(folds, again, strict=True))


def test_a_block_stays_in_one_fold() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1000, (500, 2))
    folds = block_folds(rng.integers(0, 2, 500), places, folds=4, side=200, buffer=0)
    offset = np.random.default_rng(0).uniform(0, 200, 2)
    cells = np.floor((places - places.min(axis=0) + offset) / 200).astype(int)
    where: dict[tuple[int, ...], set[int]] = {}
    for number, fold in enumerate(folds):
        for row in fold.test:
            where.setdefault(tuple(cells[row]), set()).add(number)
    assert max(map(len, where.values())) == 1


def test_impossible_splits_are_refused() -> None:
    labels, places = np.array([0, 1] * 10), np.random.default_rng(0).uniform(0, 100, (20, 2))
    with pytest.raises(DataError, match="no coordinates"):
        block_folds(labels, None)
    with pytest.raises(ConfigError, match="too few"):
        random_folds(labels, 1)
    with pytest.raises(DataError, match="fewer than 11 folds"):
        random_folds(labels, 11)
    with pytest.raises(DataError, match="fewer than 5 folds"):
        block_folds(labels, places, side=500)
    with pytest.raises(DataError, match="only one label"):
        block_folds((places[:, 0] > 50).astype(int), places, folds=4, side=10, buffer=80)
    for bad in ({"side": 0.0}, {"side": float("nan")}, {"buffer": -1.0}):
        with pytest.raises(ConfigError, match="a buffer of"):
            block_folds(labels, places, **bad)


def table(rows: int = 400, groups: Any = None, places: bool = True) -> RiskTable:
    rng = np.random.default_rng(0)
    return RiskTable(
        pd.DataFrame({"x": rng.normal(size=rows)}),
        rng.integers(0, 2, rows),
        rng.uniform(0, 5000, (rows, 2)) if places else None,
        groups,
    )


def test_inner_folds_are_of_the_same_kind_and_within_the_training_rows() -> None:
    data = table()
    assert data.coordinates is not None
    split = make_split(data, "block", folds=4)
    assert split.units is not None
    assert "26 squares of 998 m" in split.notes[0]
    for fold, inner in zip(split.folds, split.inner, strict=True):
        assert_a_partition(inner, len(fold.train))
        places = data.coordinates[fold.train]
        for one in inner:
            nearest, _ = cKDTree(places[one.test]).query(places[one.train])
            assert nearest.min() >= 99
    for fold, inner in zip(make_split(data, "random").folds, make_split(data, "random").inner, strict=True):
        assert_a_partition(inner, len(fold.train))


def test_whole_groups_are_held_out() -> None:
    groups = np.repeat(["a", "b", "c", "d", "e", "f", "g"], [100, 80, 60, 50, 50, 40, 20])
    data = table(groups=groups)
    folds = group_folds(data.labels, groups, 3)
    assert_a_partition(folds, 400)
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
    split = make_split(data, "group", folds=3)
    assert split.units is groups
    for fold, inner in zip(split.folds, split.inner, strict=True):
        assert_a_partition(inner, len(fold.train))
    with pytest.raises(DataError, match="--group"):
        group_folds(data.labels, None, 3)
    with pytest.raises(DataError, match="7 groups"):
        group_folds(data.labels, groups, 8)
    with pytest.raises(DataError, match="one label"):
        group_folds((groups == "a").astype(int), groups, 3)


def test_unknown_splits_and_missing_coordinates_are_refused() -> None:
    with pytest.raises(DataError, match="no coordinates"):
        make_split(table(places=False), "block")
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        make_split(table(), "randon")
    here = RiskTable(pd.DataFrame({"x": np.arange(20.0)}), np.array([0, 1] * 10), np.ones((20, 2)))
    with pytest.raises(DataError, match="same coordinates"):
        make_split(here, "block")


def test_blocks_are_squares_of_their_side():
    coordinates = np.array([[0.0, 0.0], [999, 0], [1001, 0], [0, 1001], [5000, 5000]])
    assert square_blocks(coordinates, 1000).tolist() == [0, 0, 2, 1, 3]


def test_blocks_that_are_too_small_to_number_are_refused():
    places = np.random.default_rng(0).uniform(0, 1e6, (50, 2))
    for cut in (lambda: square_blocks(places, 1e-300), lambda: block_folds(np.arange(50) % 2, places, side=1e-9)):
        with pytest.raises(ConfigError, match="too small"):
            cut()
