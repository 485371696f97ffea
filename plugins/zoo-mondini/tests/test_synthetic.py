"""The synthetic places keep the rule that they are made by."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_mondini.history import unsupported_reason
from zoo_mondini.synthetic import make_histories, threshold_exceedance

from zoo.errors import ConfigError


def test_the_same_seed_gives_the_same_table() -> None:
    first = make_histories(200, seed=7)
    assert first.equals(make_histories(200, seed=7))
    assert not first.equals(make_histories(200, seed=8))
    assert unsupported_reason(first) is None


def test_rain_is_intermittent_and_both_rain_and_slope_are_needed() -> None:
    table = make_histories(6000, seed=0)
    rain = table.filter(like="P_t-").to_numpy()
    wet = rain > 0
    assert 0.2 < wet.mean() < 0.45
    stays = (wet[:, 1:] & wet[:, :-1]).mean() / wet.mean()
    assert stays > 2 * wet.mean()
    exceeded, steep = threshold_exceedance(rain) > 1.1, table["slope"].to_numpy() > 30
    share = {
        (e, s): table["landslide"].to_numpy()[(exceeded == e) & (steep == s)].mean()
        for e in (True, False)
        for s in (True, False)
    }
    assert share[True, True] > 0.8
    assert max(share[True, False], share[False, True]) < 0.5 * share[True, True]
    assert share[False, False] < 0.05


@pytest.mark.parametrize(("duration", "intensity"), [(1, 14.82), (6, 14.82 * 6**-0.39), (24, 14.82 * 24**-0.39)])
def test_the_threshold_is_caines(duration: int, intensity: float) -> None:
    rain = np.zeros((2, 72))
    rain[0, 3 : 3 + duration] = intensity
    rain[1, 20 : 20 + duration] = intensity
    exceeded = threshold_exceedance(rain)
    assert exceeded[0] == pytest.approx(1.0)
    assert exceeded[1] < 1.0


@pytest.mark.parametrize("hours", [1, 2, 5])
def test_short_histories(hours: int) -> None:
    assert make_histories(10, hours=hours).filter(like="P_t-").shape == (10, hours)


def test_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        make_histories(0)
