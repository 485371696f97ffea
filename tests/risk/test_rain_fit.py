import numpy as np
import pytest

from zoo.errors import DataError
from zoo.physics import rainfall_factor
from zoo.risk.rain_fit import fit


def storms(count=6000, seed=0, a=0.0, b=3.0, alpha=1.5, beta=0.6, p0=6.0):
    rng = np.random.default_rng(seed)
    p, d = rng.lognormal(np.log(6), 0.8, count), np.exp(rng.uniform(np.log(0.25), np.log(4), count))
    s = rng.uniform(-0.2, 0.6, count)
    logit = a + b * s + alpha * np.log(p / p0) + beta * np.log(d)
    return p, d, s, (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def test_exponents_are_found_again():
    found = fit(*storms(), blocks=np.arange(6000) // 20, repeats=40)
    assert found.parameters.alpha == pytest.approx(1.5, abs=0.12)
    assert found.parameters.beta == pytest.approx(0.6, abs=0.12)
    assert found.slope == pytest.approx(3.0, abs=0.4)
    assert found.parameters.duration == 1.0
    for name, truth in (("alpha", 1.5), ("beta", 0.6)):
        assert found.intervals[name][0] < truth < found.intervals[name][1]
    assert not found.notes


def test_the_reference_is_where_odds_are_even_at_the_average_place():
    p, d, s, labels = storms()
    found = fit(p, d, s, labels, repeats=0)
    parameters = found.parameters
    # By the definition: a + b mean(S) is the odds of the sample, and there a + b mean(S) of the truth is 0 at P0.
    share = labels.mean()
    assert found.intercept + found.slope * s.mean() == pytest.approx(np.log(share / (1 - share)))
    expected = 6.0 * np.exp((np.log(share / (1 - share)) - 3.0 * s.mean()) / 1.5)
    assert parameters.intensity == pytest.approx(expected, rel=0.08)


def test_another_unit_of_the_reference_changes_no_logit():
    p, d, s, labels = storms(2000)
    one, other = fit(p, d, s, labels, repeats=0), fit(p * 25.4, d, s, labels, repeats=0)
    assert other.parameters.intensity == pytest.approx(25.4 * one.parameters.intensity, rel=1e-3)
    logits = [
        found.intercept + found.slope * s + np.log(rainfall_factor(p * k, d, found.parameters))
        for found, k in ((one, 1.0), (other, 25.4))
    ]
    assert logits[0] == pytest.approx(logits[1], abs=1e-3)


def test_an_exponent_is_never_negative():
    p, d, s, labels = storms(beta=-1.0)
    found = fit(p, d, s, labels, repeats=0)
    assert found.parameters.beta == 0
    assert "duration" in found.notes[0]


def test_rain_that_says_nothing_is_refused():
    p, _, s, labels = storms(500)
    with pytest.raises(DataError, match="same in all rows"):
        fit(np.full(500, 4.0), np.full(500, 2.0), s, labels)
    with pytest.raises(DataError, match="more intense rain"):
        fit(*storms(alpha=-1.5), repeats=0)
    found = fit(p, np.full(500, 2.0), s, labels, repeats=0)
    assert found.parameters.beta == 0
    assert any("duration is the same" in note for note in found.notes)


@pytest.mark.parametrize("bad", [0.0, -3.0, np.nan, np.inf])
def test_rain_that_has_no_logarithm_is_refused(bad):
    p, d, s, labels = storms(100)
    p[3] = bad
    with pytest.raises(DataError, match="intensity"):
        fit(p, d, s, labels)
