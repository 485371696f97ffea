"""A correction for many comparisons against its own words, and letters that say exactly who differs from whom."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoo.evaluation.comparison import adjusted_p_values, letters, written_p


def drawn(means: list[float], *, seed: int = 0, together: float = 0.0, replicates: int = 400) -> NDArray[np.float64]:
    """Replicates of differences of spread 1, of which a part is common to all."""
    generator = np.random.default_rng(seed)
    own = generator.standard_normal((replicates, len(means)))
    common = generator.standard_normal((replicates, 1))
    return np.asarray(means) + together * common + math.sqrt(1 - together**2) * own


def test_p_values_are_those_of_the_method_step_by_step() -> None:
    """Romano and Wolf (2005), algorithm 4.1, as it is written: reject the clearest, leave it out, go on."""
    replicates = drawn([0.2, -3.0, 1.5, 2.2], together=0.5)
    mean, spread = replicates.mean(0), replicates.std(0)
    left, expected, surest = {0, 1, 2, 3}, {}, 0.0
    while left:
        clearest = max(left, key=lambda place: abs(mean[place]) / spread[place])
        reached = 0
        for row in replicates:
            reached += max(abs(row[place] - mean[place]) / spread[place] for place in left) >= (
                abs(mean[clearest]) / spread[clearest]
            )
        surest = max(surest, (1 + reached) / 401)
        expected[clearest] = surest
        left.remove(clearest)
    assert adjusted_p_values(replicates) == pytest.approx([expected[place] for place in range(4)])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(0, 99))
def test_more_comparisons_make_none_surer(means: list[float], seed: int) -> None:
    replicates = drawn(means, seed=seed, replicates=60)
    alone = np.concatenate([adjusted_p_values(replicates[:, [place]]) for place in range(len(means))])
    together = adjusted_p_values(replicates)
    assert (together >= alone).all()
    assert (together <= 1).all()


def test_two_groups_of_models_are_told_apart_however_many_there_are() -> None:
    models = np.repeat([0.0, 9.0], 10)
    scores = drawn(list(models), replicates=2000)
    pairs = list(itertools.combinations(range(20), 2))
    p = adjusted_p_values(np.stack([scores[:, first] - scores[:, second] for first, second in pairs], axis=1))
    differ = np.array([models[first] != models[second] for first, second in pairs])
    assert (p[differ] < 0.05).all()
    assert (p[~differ] > 0.05).all()


def test_where_nothing_differs_something_seems_to_in_a_twentieth_of_the_cases() -> None:
    generator = np.random.default_rng(0)
    wrong = sum(
        adjusted_p_values(drawn(list(generator.standard_normal(10)), seed=seed)).min() < 0.05 for seed in range(400)
    )
    # Twenty are expected; five standard deviations around them.
    assert 0 < wrong < 42


def test_what_no_draw_changes_or_defines_is_not_called_different() -> None:
    replicates = drawn([4.0, 0.3, 0.0, -4.0])
    replicates[:, 1] = 0.3
    replicates[:, 2] = np.nan
    replicates[:3, 3] = np.nan
    clear, constant, undefined, partly = adjusted_p_values(replicates)
    assert clear < 0.05
    assert constant == 1
    assert np.isnan(undefined)
    assert partly < 0.05
    assert adjusted_p_values(np.zeros((5, 0))).shape == (0,)
    assert np.isnan(adjusted_p_values(np.full((5, 1), np.nan))).all()


def test_no_p_value_is_written_as_zero() -> None:
    written = {1 / 2001: "< 0.001", 2 / 2001: "0.001", 0.0494: "0.049", 1.0: "1.000"}
    assert {p: written_p(p) for p in written} == written


@given(st.integers(1, 7), st.integers(0, 2**21))
def test_two_names_share_a_letter_exactly_when_they_do_not_differ(count: int, bits: int) -> None:
    names = [f"m{index}" for index in range(count)]
    pairs = list(itertools.combinations(names, 2))
    differ = {pair: bool(bits >> place & 1) for place, pair in enumerate(pairs)}
    given_letters = letters(names, differ)
    for first, second in pairs:
        assert bool(set(given_letters[first]) & set(given_letters[second])) == (not differ[first, second])
    assert "a" in given_letters["m0"]
