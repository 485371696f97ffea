from itertools import combinations

import numpy as np
import pytest

from zoo.errors import ConfigError, DataError
from zoo.risk.classes import ClassBreaks, class_shares, fit_breaks, success_rate


def best_cuts(values):
    """Least variance within three classes, by trying every pair of cuts."""
    ordered = np.sort(values)

    def spread(cuts):
        return sum(((part - part.mean()) ** 2).sum() for part in np.split(ordered, cuts))

    first, second = min(combinations(range(1, len(ordered)), 2), key=spread)
    return ordered[first - 1], ordered[second - 1]


@pytest.mark.parametrize("seed", range(4))
def test_jenks_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(centre, 0.05, 12) for centre in (0.2, 0.5, 0.9)])
    breaks = fit_breaks(values)
    assert (breaks.low, breaks.high) == pytest.approx(best_cuts(values))


def test_jenks_of_many_pixels_finds_the_gaps():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(centre, 0.02, 20_000) for centre in (0.2, 0.5, 0.9)])
    breaks = fit_breaks(values.astype(np.float32))
    assert 0.25 < breaks.low < 0.45
    assert 0.55 < breaks.high < 0.85


def test_quantiles_are_thirds():
    breaks = fit_breaks(np.linspace(0, 1, 3001), "quantile")
    assert (breaks.low, breaks.high) == pytest.approx((1 / 3, 2 / 3))


def test_classes_by_hand():
    index = np.array([[0.1, 0.5, 0.50001], [0.6, 0.7, np.nan]], dtype=np.float32)
    classes = ClassBreaks(0.5, 0.6).classify(index)
    assert classes.tolist() == [[1, 1, 2], [2, 3, 0]]
    assert classes.dtype == np.uint8


def test_a_single_precision_index_equal_to_a_break_is_not_above_it():
    # 0.1 in single precision is above 0.1 in double.
    assert ClassBreaks(0.1, 0.2).classify(np.array([0.1], dtype=np.float32)).tolist() == [1]


def test_shares_by_hand():
    region = np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.9, np.nan])
    low, medium, high = class_shares(ClassBreaks(0.4, 0.8), region, np.array([0.1, 0.5, 0.9, 0.9]))
    assert (low.area, medium.area, high.area) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert (low.landslides, medium.landslides, high.landslides) == (0.25, 0.25, 0.5)
    assert high.ratio == pytest.approx(3.5)


def test_success_rate_of_chance_is_the_diagonal_and_of_knowledge_far_above():
    rng = np.random.default_rng(0)
    region = rng.random(50_000)
    area, caught = success_rate(region, rng.random(50_000))
    assert caught == pytest.approx(area, abs=0.02)
    area, caught = success_rate(region, 0.95 + 0.05 * rng.random(1000))
    assert caught[area >= 0.06].min() == 1
    assert (np.diff(caught) >= 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.5), (np.nan, 0.5), (0.1, np.inf)])
def test_breaks_that_do_not_rise_are_refused(low, high):
    with pytest.raises(ConfigError):
        ClassBreaks(low, high)


def test_an_index_without_three_values_is_refused():
    with pytest.raises(DataError, match="three"):
        fit_breaks(np.array([0.1, 0.2, 0.2, np.nan]))
    with pytest.raises(DataError, match="quantile puts both"):
        fit_breaks(np.concatenate([np.full(50_000, 0.5), [0.1, 0.9]]), "quantile")


def test_without_mapclassify_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mapclassify", None)
    with pytest.raises(ConfigError, match="quantile"):
        fit_breaks(np.arange(10.0))
