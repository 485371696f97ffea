"""Holm's correction against a published example, and letters that say exactly who differs from whom."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.evaluation.comparison import holm, letters


def test_holm_agrees_with_r() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") in R
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([0.5, float("nan")])[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert (adjusted >= np.asarray(values)).all()
    assert (np.diff(adjusted[np.argsort(values)]) >= 0).all()


@given(st.integers(1, 7), st.integers(0, 2**21))
def test_two_names_share_a_letter_exactly_when_they_do_not_differ(count: int, bits: int) -> None:
    names = [f"m{index}" for index in range(count)]
    pairs = list(itertools.combinations(names, 2))
    differ = {pair: bool(bits >> place & 1) for place, pair in enumerate(pairs)}
    given_letters = letters(names, differ)
    for first, second in pairs:
        assert bool(set(given_letters[first]) & set(given_letters[second])) == (not differ[first, second])
    assert "a" in given_letters["m0"]
