import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo.errors import DataError
from zoo.physics import ndbi, ndvi, ndwi, normalized_difference

reflectance = hnp.arrays(np.float64, (3, 4), elements=st.floats(1e-4, 1.0))


def test_hand_computed_values():
    # Forest of green 0.045, red 0.030, NIR 0.300, SWIR 0.130.
    assert ndvi(0.300, 0.030) == pytest.approx(9 / 11)
    assert ndwi(0.045, 0.300) == pytest.approx(-0.255 / 0.345)
    assert ndbi(0.130, 0.300) == pytest.approx(-0.17 / 0.43)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (-0.02, 0.01), (-0.1, 0.1), (np.nan, 0.2), (0.2, np.nan)])
def test_no_light_is_nan_and_no_warning(a, b):
    with np.errstate(all="raise"):
        assert np.isnan(normalized_difference(a, b))


def test_digital_numbers_do_not_wrap_around():
    a, b = np.array([100], dtype=np.uint16), np.array([300], dtype=np.uint16)
    assert normalized_difference(a, b) == pytest.approx(-0.5)
    assert normalized_difference(np.uint16([60000]), np.uint16([20000])) == pytest.approx(0.5)


def test_float32_stays_float32():
    assert normalized_difference(np.ones(2, np.float32), np.ones(2, np.float32)).dtype == np.float32


def test_grids_that_do_not_match_are_refused():
    with pytest.raises(DataError, match="do not lie on one grid"):
        normalized_difference(np.ones((3, 3)), np.ones((4, 4)))


@given(reflectance, reflectance)
def test_bounded_and_antisymmetric(a, b):
    index = normalized_difference(a, b)
    assert np.all(np.abs(index) <= 1)
    assert np.array_equal(index, -normalized_difference(b, a))


@given(reflectance, reflectance, st.floats(0.1, 10))
def test_brightness_cancels(a, b, gain):
    assert normalized_difference(gain * a, gain * b) == pytest.approx(normalized_difference(a, b), abs=1e-9)


@given(reflectance, reflectance)
def test_agrees_with_spyndex(a, b):
    spyndex = pytest.importorskip("spyndex")
    assert ndvi(a, b) == pytest.approx(spyndex.computeIndex("NDVI", {"N": a, "R": b}))
    assert ndwi(a, b) == pytest.approx(spyndex.computeIndex("NDWI", {"G": a, "N": b}))
    assert ndbi(a, b) == pytest.approx(spyndex.computeIndex("NDBI", {"S1": a, "N": b}))
