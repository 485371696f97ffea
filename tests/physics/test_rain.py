import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics import RAIN_PRESETS, RainParameters, rainfall_factor
from zoo.physics.rain import CAINE_1980, GUZZETTI_2008, check_rain, threshold_intensity, threshold_rain


def test_the_reference_rain_is_caines_threshold_at_one_day():
    # ln 24 = 3.1780538, times 0.39 = 1.2394410, and exp(-1.2394410) = 0.289546
    assert threshold_intensity(*CAINE_1980) == pytest.approx(14.82 * 0.289546, rel=1e-5)
    assert RAIN_PRESETS["paper"].intensity == pytest.approx(4.29, abs=0.005)
    assert RAIN_PRESETS["paper"].duration == 1.0
    assert RAIN_PRESETS["guzzetti-global"].intensity == pytest.approx(0.543, abs=0.001)


def test_hand_computed_values():
    parameters = RainParameters(intensity=4.0, duration=1.0, alpha=1.2, beta=0.8)
    assert rainfall_factor(8.0, 2.0, parameters) == pytest.approx(2**1.2 * 2**0.8)
    assert rainfall_factor(4.0, 1.0, parameters) == 1.0
    assert rainfall_factor(0.0, 3.0, parameters) == 0.0


@pytest.mark.parametrize(("preset", "curve"), [("caine", CAINE_1980), ("guzzetti-global", GUZZETTI_2008)])
@pytest.mark.parametrize("days", [1 / 24, 0.25, 1.0, 7.0])
def test_the_factor_is_one_all_along_the_named_threshold(preset, curve, days):
    assert rainfall_factor(threshold_intensity(*curve, days=days), days, preset) == pytest.approx(1.0)


@pytest.mark.parametrize("days", [1 / 24, 1.0, 7.0])
def test_a_threshold_of_shares_of_the_annual_rain(days):
    # 1500 mm a year: 0.002 of it in the first hour are 3 mm/h.
    parameters = threshold_rain(0.002, 0.5, mean_annual=1500.0)
    intensity = 3.0 / (24.0 * days) ** 0.5
    assert rainfall_factor(intensity, days, parameters) == pytest.approx(1.0)
    assert rainfall_factor(2 * intensity, days, parameters) == pytest.approx(2**1.2)


@pytest.mark.parametrize("numbers", [(0, 0.4), (14.8, -0.4), (14.8, 0.4, 0), (np.nan, 0.4), (14.8, 0.4, np.inf)])
def test_an_invalid_threshold_is_refused(numbers):
    with pytest.raises(ConfigError, match="of a rain threshold"):
        threshold_rain(*numbers)


@given(st.floats(0, 100), st.floats(0, 10), st.floats(1.01, 5))
def test_more_rain_never_lowers_the_factor(intensity, duration, more):
    factor = rainfall_factor(intensity, duration)
    assert rainfall_factor(intensity * more, duration) >= factor
    assert rainfall_factor(intensity, duration * more) >= factor


def test_clipping_and_shapes():
    factor = rainfall_factor(np.array([[0.1], [40.0]]), np.array([0.25, 3.0]), clip=(0.2, 8.0))
    assert factor.shape == (2, 2)
    assert factor.min() == 0.2
    assert factor.max() == 8.0
    assert np.isnan(rainfall_factor(np.nan, 1.0, clip=(0.2, 8.0)))


@pytest.mark.parametrize(("intensity", "duration"), [(-0.1, 1.0), (1.0, -2.0), (np.inf, 1.0), ([1, np.nan, -1], 1)])
def test_rain_that_cannot_be_is_refused(intensity, duration):
    with pytest.raises(DataError, match=r"rain (intensity|duration) is"):
        rainfall_factor(intensity, duration)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="unknown rain preset 'cane'"):
        rainfall_factor(1.0, 1.0, "cane")
    with pytest.raises(ConfigError, match="clip"):
        rainfall_factor(1.0, 1.0, clip=(2.0, 1.0))
    with pytest.raises(ConfigError, match="reference intensity"):
        RainParameters(0.0)
    with pytest.raises(ConfigError, match="beta"):
        RainParameters(1.0, beta=-0.1)
    with pytest.raises(DataError, match="shape"):
        rainfall_factor(np.ones(3), np.ones(4))


@pytest.mark.parametrize(
    ("intensity", "duration", "problem"),
    [
        (144.0, 2.0, "6 mm/h"),  # mm/day
        (288.0, 2.0, "6 mm/h"),  # the depth of two days in mm
        (0.006, 2.0, "by 1000"),  # m/h
        (6 / 3600, 2.0, "by 3600"),  # kg m-2 s-1
        (6.0, 48.0, "48 hours are 2 days"),
        (-1.0, 2.0, "-1 mm/h"),
        (6.0, np.inf, "inf days"),
        (9999.0, 1.0, "ever measured"),
    ],
)
def test_rain_in_another_unit_is_refused(intensity: float, duration: float, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        check_rain(intensity, duration, "rain.tif")
    assert caught.value.where == "rain.tif"


def test_extreme_but_measured_rain_is_accepted() -> None:
    check_rain(1825 / 24, 1.0)  # Foc-Foc 1966, the record of a day
    check_rain(305 / 0.7, 0.7 / 24)  # Holt 1947, the record of 42 minutes
    check_rain([0.0, np.nan, 6.0], [2.0, 2.0, 0.0])
    check_rain(0.0, 1.0)
