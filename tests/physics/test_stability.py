import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.physics import factor_of_safety, steady_wetness


def test_wetness_by_hand():
    # R a = 0.05 m/day * 60 m = 3 m2/day; T sin 30 = 12 * 0.5 = 6 m2/day.
    assert steady_wetness(0.05, 60.0, 12.0, 30.0) == pytest.approx(0.5)
    assert steady_wetness(0.05, 600.0, 12.0, 30.0) == 1.0
    assert steady_wetness(0.05, 60.0, 12.0, 0.0) == 1.0
    assert steady_wetness(0.0, 60.0, 12.0, 0.0) == 0.0
    assert np.isnan(steady_wetness(np.nan, 60.0, 12.0, 0.0))


def test_safety_by_hand():
    # theta 30, m 1, c 5, phi 33, z 1: (5 + 8.19 * 0.75 * 0.649408) / (18 * 0.433013) = 8.988986 / 7.794229
    assert factor_of_safety(30.0, 1.0, 5.0, 33.0, 1.0) == pytest.approx(8.988986 / 7.794229, rel=1e-6)
    assert factor_of_safety(0.0, 1.0, 5.0, 33.0, 1.0) == np.inf
    assert np.isnan(factor_of_safety(0.0, np.nan, 5.0, 33.0, 1.0))


@given(st.floats(5, 60), st.floats(20, 45), st.floats(0.3, 3))
def test_dry_soil_without_cohesion_is_stable_up_to_its_friction_angle(theta, phi, depth):
    expected = np.tan(np.radians(phi)) / np.tan(np.radians(theta))
    assert factor_of_safety(theta, 0.0, 0.0, phi, depth) == pytest.approx(expected)


@given(st.floats(1, 80), st.floats(0, 0.9), st.floats(0, 10), st.floats(20, 45), st.floats(0.3, 3))
def test_water_weakens_and_roots_strengthen(theta, m, c, phi, z):
    safety = factor_of_safety(theta, m, c, phi, z)
    assert factor_of_safety(theta, m + 0.1, c, phi, z) < safety
    assert factor_of_safety(theta, m, c + 1.0, phi, z) > safety


@given(st.floats(0, 0.3), st.floats(0, 1e6), st.floats(0.1, 60), st.floats(0, 90))
def test_wetness_is_a_share_and_grows_with_rain(r, a, t, theta):
    wetness = steady_wetness(r, a, t, theta)
    assert 0 <= wetness <= 1
    assert steady_wetness(r * 2, a, t, theta) >= wetness


def test_ground_that_cannot_be_is_refused():
    with pytest.raises(DataError, match="transmissivity"):
        steady_wetness(0.05, 60.0, 0.0, 30.0)
    with pytest.raises(DataError, match="recharge or the upslope area is negative"):
        steady_wetness(-0.05, 60.0, 1.0, 30.0)
    with pytest.raises(DataError, match="slope is outside"):
        steady_wetness(0.05, 60.0, 1.0, 91.0)
    for arguments, problem in (
        ((90.0, 0.5, 5.0, 33.0, 1.0), "slope or the friction"),
        ((30.0, 1.1, 5.0, 33.0, 1.0), "wetness"),
        ((30.0, 0.5, -1.0, 33.0, 1.0), "cohesion is negative"),
        ((30.0, 0.5, 5.0, 33.0, 0.0), "soil depth"),
    ):
        with pytest.raises(DataError, match=problem):
            factor_of_safety(*arguments)
    with pytest.raises(DataError, match="unit weight"):
        factor_of_safety(30.0, 0.5, 5.0, 33.0, 1.0, soil_unit_weight=0.0)
