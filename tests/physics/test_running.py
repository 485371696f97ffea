"""Moments by pieces are the moments of the whole."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.physics.running import RunningMoments


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=8))
def test_pieces_give_what_the_whole_gives(pieces):
    moments = RunningMoments()
    for piece in pieces:
        moments.add(np.array(piece, dtype=np.float64))
    whole = np.array([value for piece in pieces for value in piece])
    assert moments.count == len(whole)
    if not len(whole):
        assert all(math.isnan(value) for value in (moments.minimum, moments.maximum, moments.mean, moments.std))
        return
    assert (moments.minimum, moments.maximum) == (whole.min(), whole.max())
    np.testing.assert_allclose(moments.mean, whole.mean(), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(moments.std, whole.std(), rtol=1e-6, atol=1e-3)


def test_no_digits_are_lost_on_a_high_plain():
    rng = np.random.default_rng(0)
    heights = (8_000 + rng.normal(0, 0.01, (50, 1000))).astype(np.float64)
    moments = RunningMoments()
    for row in heights:
        moments.add(row)
    np.testing.assert_allclose(moments.std, heights.std(), rtol=1e-9)


def test_what_is_given_is_not_changed():
    values = np.arange(5, dtype=np.float64)
    RunningMoments().add(values)
    assert values.tolist() == [0, 1, 2, 3, 4]
