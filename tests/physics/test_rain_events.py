"""Rain events and antecedent rain against a plain loop over one place."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics.rain_events import EventRules, RainSeries, rain_at, rain_events

START = np.datetime64("2024-06-01T00:00:00", "s")


def hourly(rain, step=3600):
    rain = np.asarray(rain, dtype=np.float32)
    rain = rain[:, None] if rain.ndim == 1 else rain
    starts = START + np.arange(len(rain)) * np.timedelta64(step, "s")
    return RainSeries(starts, starts + np.timedelta64(step, "s"), rain)


def plain(rain, hours, at, rules):
    """Depth and duration (days) of the event at ``at`` hours, by one walk backwards in time."""
    rain = [0.0 if math.isnan(one) else float(one) for one in rain]
    wet = [
        t
        for t, one in enumerate(rain)
        if one * hours >= rules.wet * min(hours, 1) and one > 0 and (t + 1) * hours <= at
    ]
    if not wet or at - (wet[-1] + 1) * hours >= rules.dry_gap:
        return 0.0, 0.0, at
    first = wet[-1]
    for t in reversed(wet[:-1]):
        if (first - t - 1) * hours >= rules.dry_gap:
            break
        first = t
    depth = sum(rain[first : wet[-1] + 1]) * hours
    if depth < rules.min_depth:
        return 0.0, 0.0, at
    return depth, (wet[-1] + 1 - first) * hours / 24, first * hours


@given(
    st.lists(st.one_of(st.just(0.0), st.just(math.nan), st.floats(0, 30, width=32)), min_size=3, max_size=60),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([3.0, 6.0, 24.0]),
    st.integers(1, 60),
)
def test_the_event_is_that_of_a_walk_backwards(rain, hours, gap, count):
    rules = EventRules(dry_gap=gap)
    at = min(count, len(rain)) * hours
    state = rain_at(hourly(rain, int(hours * 3600)), START + np.timedelta64(int(at * 3600), "s"), rules)
    depth, days, _ = plain(rain, hours, at, rules)
    assert state.depth[0] == pytest.approx(depth, rel=1e-5, abs=1e-5)
    assert state.days[0] == pytest.approx(days)
    known = [not math.isnan(one) for one in rain[: int(at / hours)]]
    assert state.missing_hours[0] == pytest.approx(known.count(False) * hours)


@pytest.mark.parametrize(("gap", "depth", "hours"), [(3.0, 7.0, 1), (3.5, 12.0, 5)])
def test_a_dry_spell_as_long_as_the_gap_separates(gap, depth, hours):
    series, rules = hourly([5, 0, 0, 0, 7]), EventRules(dry_gap=gap)
    state = rain_at(series, series.ends[-1], rules)
    assert (state.depth[0], state.days[0]) == (pytest.approx(depth), pytest.approx(hours / 24))
    last = rain_events(series, rules)[-1]
    assert (last.depth, last.days) == (pytest.approx(depth), pytest.approx(hours / 24))
    # The event is over when the gap has passed.
    dry = hourly([5, 0, 0, 0])
    assert rain_at(dry, dry.ends[-1], rules).depth[0] == pytest.approx(5.0 if gap > 3 else 0.0)


def test_antecedent_rain_is_summed_before_the_event_begins():
    rain = np.zeros((40 * 24, 2))
    rain[:, 0] = 0.15  # below the wet limit: never an event, but rain
    rain[35 * 24 : 36 * 24, 1] = 4.0  # an event of a day, 35 days after the start
    rain[33 * 24, 1] = 10.0  # two days before it: an event of its own
    state = rain_at(hourly(rain), START + np.timedelta64(36, "D"))
    assert state.depth.tolist() == pytest.approx([0, 96])
    assert state.days.tolist() == pytest.approx([0, 1])
    for days in (3, 7, 15, 30):
        assert state.antecedent[days].tolist() == pytest.approx([0.15 * 24 * days, 10.0], rel=1e-5)
    # 47.5 hours lie between the middle of the wet hour and the event; the other place sums 30 days of 3.6 mm.
    assert state.api[1] == pytest.approx(10 * 0.9 ** (47.5 / 24), rel=1e-5)
    assert state.api[0] == pytest.approx(sum(0.15 * 0.9 ** ((hour + 0.5) / 24) for hour in range(720)), rel=1e-5)


def test_rain_that_does_not_reach_back_gives_no_antecedent_sum():
    state = rain_at(hourly(np.full(5 * 24, 0.1)), START + np.timedelta64(5, "D"))
    assert state.antecedent[3][0] == pytest.approx(7.2, rel=1e-5)
    assert np.isnan(state.antecedent[7][0])
    assert np.isnan(state.api[0])


def test_a_longer_step_needs_the_depth_of_an_hour_only():
    daily = hourly([0.5 / 24, 0, 0, 0.5 / 24, 2 / 24], 86_400)
    state = rain_at(daily, START + np.timedelta64(5, "D"), EventRules(dry_gap=24))
    assert (state.depth[0], state.days[0]) == (pytest.approx(2.5, rel=1e-5), pytest.approx(2))


def test_missing_steps_count_as_missing_hours_and_a_long_gap_is_refused():
    starts = START + np.array([0, 1, 4, 5]) * np.timedelta64(3600, "s")
    series = RainSeries(starts, starts + np.timedelta64(3600, "s"), np.ones((4, 1), np.float32))
    state = rain_at(series, series.ends[-1])
    assert (state.missing_hours[0], state.hours) == (2.0, 6.0)
    with pytest.raises(DataError, match="2024-06-01T02:00Z to 2024-06-01T04:00Z, as long as the dry gap"):
        rain_at(series, series.ends[-1], EventRules(dry_gap=2))


def test_bad_rain_is_refused():
    with pytest.raises(DataError, match=r"2024-06-01T01:00Z is -3 mm/h"):
        hourly([1.0, -3.0])
    with pytest.raises(DataError, match="is inf mm/h"):
        hourly([1.0, math.inf])
    series = hourly([1.0, 2.0])
    with pytest.raises(DataError, match="overlap"):
        RainSeries(series.starts, series.ends + np.timedelta64(60, "s"), series.rate)
    with pytest.raises(DataError, match="no rain at 2024-06-02T00:00Z: it covers"):
        rain_at(series, START + np.timedelta64(1, "D"))
    with pytest.raises(DataError, match="an event lasts 40 days"):
        rain_at(hourly(np.full(40 * 24, 5.0)), START + np.timedelta64(40, "D"))
    with pytest.raises(ConfigError, match="dry gap of 0 h"):
        EventRules(dry_gap=0)
