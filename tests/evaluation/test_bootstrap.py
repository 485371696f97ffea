"""The bootstrap is unbiased, paired, and agrees with scipy's."""

import numpy as np
import pytest
from scipy.stats import bootstrap as judge

from zoo.errors import ResultError
from zoo.evaluation import metrics
from zoo.evaluation.bootstrap import Resampling, interval
from zoo.evaluation.comparison import adjusted_p_values
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
        n_resamples=4000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    low, high = interval(drawn.pooled(counts, metrics.dice))
    assert low == pytest.approx(expected.low, abs=2e-3)
    assert high == pytest.approx(expected.high, abs=2e-3)


def test_interval_of_a_mean_over_images_agrees_with_scipy() -> None:
    values = np.random.default_rng(2).random(80)
    expected = judge((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
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


def test_a_real_difference_is_seen_and_none_is_not_invented() -> None:
    drawn = Resampling.draw([str(i) for i in range(60)])
    base = drawn.pooled(make_counts(0.7, seed=1), metrics.dice)
    others = [drawn.pooled(make_counts(quality, seed=seed), metrics.dice) for quality, seed in ((0.8, 2), (0.7, 3))]
    better, alike = adjusted_p_values(np.stack([one - base for one in others], axis=1))
    assert better < 0.01 < alike


def test_undefined_replicates_give_no_interval() -> None:
    assert np.isnan(interval(np.full(100, np.nan))).all()
    with pytest.raises(ResultError, match="empty test split"):
        Resampling.draw([])
