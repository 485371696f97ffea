import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.physics.flow import NEIGHBOURS, dispersed_area, route


def ring(shape):
    edge = np.ones(shape, dtype=bool)
    edge[1:-1, 1:-1] = False
    return edge


def rough(seed, shape=(23, 31)):
    return np.random.default_rng(seed).normal(size=shape).cumsum(axis=0).cumsum(axis=1)


def flooded(z, outlets):
    """Priority flood (Barnes et al. 2014) with a heap, the slow and simple way to fill closed basins."""
    level = np.full(z.shape, np.inf)
    heap = [(z[y, x], int(y), int(x)) for y, x in zip(*np.nonzero(outlets), strict=True)]
    for height, y, x in heap:
        level[y, x] = height
    heapq.heapify(heap)
    while heap:
        height, y, x = heapq.heappop(heap)
        for dy, dx in NEIGHBOURS:
            a, b = y + dy, x + dx
            if 0 <= a < z.shape[0] and 0 <= b < z.shape[1] and np.isinf(level[a, b]):
                level[a, b] = max(z[a, b], height)
                heapq.heappush(heap, (level[a, b], a, b))
    return level


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_basins_fill_to_the_level_of_a_priority_flood(seed):
    z = rough(seed)
    outlets = ring(z.shape)
    assert route(z, 10.0, outlets).filled(z, gradient=0.0) == pytest.approx(flooded(z, outlets))


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_all_water_reaches_an_outlet(seed):
    z = np.random.default_rng(seed).normal(size=(20, 17))
    outlets = np.zeros(z.shape, dtype=bool)
    outlets[-1, 4] = outlets[0, 0] = True
    flow = route(z, 10.0, outlets)
    assert flow.pits > 0
    area = flow.accumulate(np.ones(z.shape))
    assert area[outlets].sum() == z.size
    assert area.min() == 1


def test_accumulation_by_hand():
    # Straight towards the middle falls 4 over one cell, aslant 5 over 1.41: all sides drain straight.
    z = np.array([[9.0, 5, 9], [8, 4, 8], [7, 3, 7]])
    outlets = np.zeros((3, 3), dtype=bool)
    outlets[2, 1] = True
    area = route(z, 1.0, outlets).accumulate(np.ones((3, 3)))
    assert area.tolist() == [[1, 3, 1], [1, 6, 1], [1, 9, 1]]


def test_every_receiver_comes_before_its_donors():
    z = rough(3)
    flow = route(z, 10.0, ring(z.shape))
    place = np.empty(z.size, dtype=int)
    place[flow.order] = np.arange(z.size)
    donors = np.flatnonzero(flow.receiver != np.arange(z.size))
    assert np.all(place[flow.receiver[donors]] < place[donors])
    assert sum(len(cells) for cells in flow.upstream()) == donors.size


def test_filled_ground_has_no_pits_and_keeps_high_ground():
    z = rough(5)
    outlets = ring(z.shape)
    filled = route(z, 10.0, outlets).filled(z)
    assert route(filled, 10.0, outlets).pits == 0
    assert np.all(filled >= z)


def test_distances_are_those_of_the_neighbours():
    z = rough(7)
    flow = route(z, 10.0, ring(z.shape))
    y, x = np.divmod(np.arange(z.size), z.shape[1])
    far = 10.0 * np.hypot(y - y[flow.receiver], x - x[flow.receiver])
    moved = far > 0
    assert flow.distance[moved] == pytest.approx(far[moved])


def test_the_nearest_river_is_downstream():
    z = np.tile(np.arange(6.0), (3, 1))
    outlets = np.zeros((3, 6), dtype=bool)
    outlets[:, 0] = True
    river = np.zeros((3, 6), dtype=bool)
    river[:, 2] = True
    nearest = route(z, 1.0, outlets).nearest_downstream(river).reshape(3, 6) % 6
    # Below the river there is none any more: those cells are given their outlet.
    assert nearest.tolist() == [[0, 0, 2, 2, 2, 2]] * 3


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_dispersed_water_is_not_lost(seed):
    z = rough(seed)
    z = route(z, 10.0, ring(z.shape)).filled(z)
    inflow = np.zeros(z.shape)
    inflow[5, 5] = 1e4
    area = dispersed_area(z, 10.0, inflow)
    padded = np.pad(z, 1, constant_values=np.inf)
    windows = [padded[1 + dy : 1 + dy + z.shape[0], 1 + dx : 1 + dx + z.shape[1]] for dy, dx in NEIGHBOURS]
    ends = np.all([window >= z for window in windows], axis=0)
    assert area[ends].sum() == pytest.approx(100.0 * z.size + 1e4)
    assert area.min() >= 100.0


def test_dispersed_water_spreads_on_a_ridge_and_gathers_in_a_hollow():
    x = np.arange(-10.0, 11.0)
    fall = np.arange(21.0)[:, None]
    nose = dispersed_area(-fall - 0.5 * x**2, 10.0, np.zeros((21, 21)))
    hollow = dispersed_area(-fall + 0.5 * x**2, 10.0, np.zeros((21, 21)))
    assert hollow[15, 10] > 5 * nose[15, 10]
