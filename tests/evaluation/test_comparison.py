"""Bootstrap intervals agree with scipy; p-values are corrected as Romano and Wolf describe; letters say who differs."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap as judge  # before scipy 1.15, `rng` is called `random_state`; both names work since

from zoo.errors import ResultError
from zoo.evaluation import comparison, metrics
from zoo.evaluation.comparison import Resampling, adjusted_p_values, format_p, group_letters, interval
from zoo.evaluation.counts import Counts


def make_counts(quality: float, images: int = 60, seed: int = 0) -> Counts:
    rng = np.random.default_rng(seed)
    landslide = rng.integers(50, 400, images)
    tp = rng.binomial(landslide, quality)
    fp = rng.binomial(landslide, 1 - quality)
    return Counts(tp, fp, landslide - tp, 4096 - landslide - fp)


def test_interval_of_pooled_dice_agrees_with_scipy() -> None:
    counts = make_counts(0.7)
    drawn = Resampling.draw([str(i) for i in range(60)], replicates=4000)

    def pooled(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
        return 2 * tp.sum(axis) / (2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    expected = judge(
        (counts.tp, counts.fp, counts.fn), pooled, paired=True, vectorized=True, method="percentile",
        n_resamples=4000, random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    low, high = interval(drawn.pooled(counts, metrics.dice))
    assert low == pytest.approx(expected.low, abs=2e-3)
    assert high == pytest.approx(expected.high, abs=2e-3)


def test_interval_of_a_mean_over_images_agrees_with_scipy() -> None:
    values = np.random.default_rng(2).random(80)
    expected = judge((values,), np.mean, method="percentile", n_resamples=4000, random_state=np.random.default_rng(1))
    drawn = Resampling.draw([str(i) for i in range(80)], replicates=4000)
    found = interval(drawn.per_image(values))
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=5e-3)
    with_gap = interval(drawn.per_image(np.append(values[:-1], np.nan)))
    assert not np.isnan(with_gap).any()


def test_events_are_drawn_whole_where_there_are_enough() -> None:
    groups = [f"event {index // 5}" for index in range(50)]
    drawn = Resampling.draw(groups, replicates=100)
    assert drawn.unit == "event"
    assert drawn.units == 10
    by_event = drawn.weights.reshape(100, 10, 5)
    assert (by_event == by_event[..., :1]).all()
    assert (by_event[..., 0].sum(axis=1) == 10).all()
    few = Resampling.draw(["a"] * 25 + ["b"] * 25, replicates=10)
    assert few.unit == "tile"


def test_alike_tiles_of_one_event_make_intervals_wider() -> None:
    # Ten events whose tiles are copies: fifty tiles hold ten observations.
    one = make_counts(0.7, images=10)
    counts = Counts(*(np.repeat(getattr(one, name), 5) for name in ("tp", "fp", "fn", "tn")))
    events = Resampling.draw([str(index // 5) for index in range(50)])
    tiles = Resampling.draw(["a"] * 50)
    wide, narrow = (np.diff(interval(drawn.pooled(counts, metrics.dice)))[0] for drawn in (events, tiles))
    assert wide > 1.5 * narrow


def test_seeds_are_drawn_together_for_every_model() -> None:
    drawn = Resampling.draw([str(i) for i in range(60)])
    seeds = [drawn.pooled(make_counts(0.7, seed=seed), metrics.dice) for seed in range(3)]
    better = [values + 0.01 for values in seeds]
    difference = drawn.over_seeds(better) - drawn.over_seeds(seeds)
    assert difference == pytest.approx(np.full(2000, 0.01))


def test_a_real_difference_is_significant_and_no_difference_is_not() -> None:
    drawn = Resampling.draw([str(i) for i in range(60)])
    base = drawn.pooled(make_counts(0.7, seed=1), metrics.dice)
    others = [drawn.pooled(make_counts(quality, seed=seed), metrics.dice) for quality, seed in ((0.8, 2), (0.7, 3))]
    better, alike = adjusted_p_values(np.stack([one - base for one in others], axis=1))
    assert better < 0.01 < alike


def test_undefined_replicates_give_no_interval() -> None:
    assert np.isnan(interval(np.full(100, np.nan))).all()
    with pytest.raises(ResultError, match="empty test split"):
        Resampling.draw([])


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
def test_more_comparisons_never_lower_a_p_value(means: list[float], seed: int) -> None:
    replicates = drawn(means, seed=seed, replicates=60)
    alone = np.concatenate([adjusted_p_values(replicates[:, [place]]) for place in range(len(means))])
    together = adjusted_p_values(replicates)
    assert (together >= alone).all()
    assert (together <= 1).all()


def test_models_of_two_groups_differ_between_the_groups_only() -> None:
    models = np.repeat([0.0, 9.0], 10)
    scores = drawn(list(models), replicates=2000)
    pairs = list(itertools.combinations(range(20), 2))
    p = adjusted_p_values(np.stack([scores[:, first] - scores[:, second] for first, second in pairs], axis=1))
    differ = np.array([models[first] != models[second] for first, second in pairs])
    assert (p[differ] < 0.05).all()
    assert (p[~differ] > 0.05).all()


def test_pairs_of_many_models_need_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The differences of 500 models would need 2 GB, and their copies 12 GB."""
    scores = drawn([0.1 * place for place in range(60)], replicates=500)
    scores[:4, 7] = np.nan
    first, second = np.triu_indices(60, 1)
    expected = adjusted_p_values(scores[:, first] - scores[:, second])
    monkeypatch.setattr(comparison, "CELLS_AT_ONCE", 5000)
    tracemalloc.start()
    try:
        assert (adjusted_p_values(scores, (first, second)) == expected).all()
        assert tracemalloc.get_traced_memory()[1] < scores.nbytes * 4
    finally:
        tracemalloc.stop()


def test_letters_are_left_out_if_there_would_be_too_many() -> None:
    """Models that differ in pairs need 2 ** 20 letters, which took hours and all memory."""
    names = [f"m{index}" for index in range(40)]
    assert group_letters(names, {(names[place], names[place + 1]): True for place in range(0, 40, 2)}) == {}
    assert group_letters(names, dict.fromkeys(itertools.combinations(names, 2), True))["m39"] == "(40)"


def test_the_familywise_error_rate_is_five_per_cent_without_differences() -> None:
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
    assert {p: format_p(p) for p in written} == written


@given(st.integers(1, 7), st.integers(0, 2**21))
def test_two_names_share_a_letter_exactly_when_they_do_not_differ(count: int, bits: int) -> None:
    names = [f"m{index}" for index in range(count)]
    pairs = list(itertools.combinations(names, 2))
    differ = {pair: bool(bits >> place & 1) for place, pair in enumerate(pairs)}
    given_letters = group_letters(names, differ)
    for first, second in pairs:
        assert bool(set(given_letters[first]) & set(given_letters[second])) == (not differ[first, second])
    assert "a" in given_letters["m0"]


def test_draws_in_pieces_are_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=50)
    monkeypatch.setattr("zoo.evaluation.comparison.CELLS_AT_ONCE", 200)
    pieces = Resampling.draw(["s"] * 60, replicates=50, seed=3)
    assert (pieces.weights == expected).all()
    values = np.arange(120.0).reshape(60, 2)
    assert pieces.sums(values) == pytest.approx(expected @ values)


def test_a_test_split_without_end_takes_no_memory_without_end() -> None:
    with pytest.raises(ResultError, match="3,000,000 test images are too many"):
        Resampling.draw(["s"] * 3_000_000)
