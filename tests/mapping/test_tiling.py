"""Tiles cover a scene, begin where pooling windows begin, and their weights add up to exactly 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ConfigError
from zoo.mapping.tiling import ALIGNMENT, WEIGHT_STEPS, Axis, Plan

TILINGS = st.integers(2, 12).flatmap(
    lambda parts: st.tuples(st.just(parts * ALIGNMENT), st.integers(0, parts // 2).map(lambda n: n * ALIGNMENT))
)


@settings(max_examples=300)
@given(length=st.integers(1, 3000), tiling=TILINGS)
def test_weights_are_a_partition_of_unity_without_rounding(length: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    axis = Axis(length, tile, overlap)
    total, users = np.zeros(length), np.zeros(length, dtype=int)
    for number, (seen, used) in enumerate(zip(axis.tiles, axis.supports, strict=True)):
        weights = axis.weights(number)
        assert seen.start <= used.start < used.stop <= seen.stop
        assert seen.start % ALIGNMENT == 0
        assert len(seen) <= tile
        assert (weights > 0).all()
        assert (weights * WEIGHT_STEPS == np.rint(weights * WEIGHT_STEPS)).all()
        total[used.start : used.stop] += weights
        users[used.start : used.stop] += 1
    assert (total == 1.0).all()
    assert users.max() <= 2
    assert axis.tiles[-1].stop == length


@settings(max_examples=200)
@given(length=st.integers(1, 3000), tiling=TILINGS)
def test_a_quarter_of_the_overlap_is_context_alone(length: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    axis = Axis(length, tile, overlap)
    for number, (seen, used) in enumerate(zip(axis.tiles, axis.supports, strict=True)):
        assert number == 0 or used.start - seen.start >= overlap // 4
        assert number == len(axis) - 1 or seen.stop - used.stop >= overlap // 4


def test_no_tile_is_wasted() -> None:
    assert [one.start for one in Axis(4096, 512, 64).tiles] == list(range(0, 4096 - 448, 448))
    assert len(Axis(512, 512, 64)) == 1
    assert [(one.start, one.stop) for one in Axis(513, 512, 64).tiles] == [(0, 512), (32, 513)]
    assert [(one.start, one.stop) for one in Axis(7, 512, 64).tiles] == [(0, 7)]


@settings(max_examples=50)
@given(shape=st.tuples(st.integers(1, 700), st.integers(1, 700)), tiling=TILINGS)
def test_blocks_hold_each_tile_once(shape: tuple[int, int], tiling: tuple[int, int]) -> None:
    plan = Plan(shape, *tiling)
    tiles = [(r, c) for block in plan.blocks() for r in block.tile_rows for c in block.tile_columns]
    assert sorted(tiles) == [(r, c) for r in range(len(plan.rows)) for c in range(len(plan.columns))]


@pytest.mark.parametrize(("tile", "overlap"), [(500, 64), (32, 0), (512, 65), (512, 288), (512, -32), (0, 0)])
def test_other_tilings_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        Axis(1000, tile, overlap)
