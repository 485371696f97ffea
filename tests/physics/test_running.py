"""Running statistics equal those of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.physics.running import ChannelMoments, RunningMoments


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=8))
def test_pieces_give_what_the_whole_gives(pieces):
    moments = RunningMoments()
    for piece in pieces:
        moments.add(np.array(piece, dtype=np.float64))
    whole = np.array([value for piece in pieces for value in piece])
    assert moments.count == len(whole)
    if not len(whole):
        assert all(math.isnan(value) for value in (moments.minimum, moments.maximum, moments.mean, moments.std))
        return
    assert (moments.minimum, moments.maximum) == (whole.min(), whole.max())
    np.testing.assert_allclose(moments.mean, whole.mean(), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(moments.std, whole.std(), rtol=1e-6, atol=1e-3)


def test_no_digits_are_lost_on_a_high_plain():
    rng = np.random.default_rng(0)
    heights = (8_000 + rng.normal(0, 0.01, (50, 1000))).astype(np.float64)
    moments = RunningMoments()
    for row in heights:
        moments.add(row)
    np.testing.assert_allclose(moments.std, heights.std(), rtol=1e-9)


def test_what_is_given_is_not_changed():
    values = np.arange(5, dtype=np.float64)
    RunningMoments().add(values)
    assert values.tolist() == [0, 1, 2, 3, 4]


BANDS = (Band("NDVI", "1", -1.0, 1.0), Band("DEM", "m", -450.0, 8900.0, nodata=-9999.0), Band("free", "unknown"))


def scene(seed: int, pixels: int = 2000) -> np.ndarray:
    """NDVI, an elevation of 3,000 m that varies by 1, and their mixture; some of each is missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, pixels))
    values[1] = 3000 + values[1] + 0.5 * values[0]
    values[2] += values[0]
    values[0] = np.clip(values[0] / 3, -0.9, 0.9)
    values[0, rng.random(pixels) < 0.1] = np.nan
    values[1, rng.random(pixels) < 0.2] = -9999
    return values.astype(np.float32)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 1999), max_size=6))
def test_any_cutting_into_chunks_gives_what_numpy_gives(seed: int, cuts: list[int]) -> None:
    values = scene(seed)
    moments = ChannelMoments(BANDS)
    for part in np.split(values, sorted(cuts), axis=1):
        moments.add(part)
    exact = values.astype(np.float64)
    exact[1, exact[1] == -9999] = np.nan
    whole = exact[:, np.isfinite(exact).all(axis=0)]
    assert moments.complete == whole.shape[1]
    np.testing.assert_allclose(moments.covariance, np.cov(whole, bias=True), rtol=1e-10)
    # A mean near zero has no digits left of its own: errors are as small as the values it is the mean of.
    np.testing.assert_allclose(moments.means, whole.mean(axis=1), rtol=1e-12, atol=1e-12 * np.abs(whole).max())
    for found, channel in zip(moments.statistics(), exact, strict=True):
        present = channel[np.isfinite(channel)]
        assert found.count == present.size
        assert found.missing == pytest.approx(1 - present.size / channel.size)
        assert found.mean == pytest.approx(present.mean(), rel=1e-12)
        assert found.std == pytest.approx(present.std(), rel=1e-9)
        assert (found.minimum, found.maximum) == (present.min(), present.max())
        np.testing.assert_allclose([found.low, found.high], np.percentile(present, (0.5, 99.5)), rtol=1e-6)


def test_values_outside_the_valid_range_are_counted_and_bounds_are_inside():
    moments = ChannelMoments((Band("x", "1", 0.1, 1.0), Band("y", "m", None, 5.0), Band("z", "m")))
    row = np.array([0.1, 1.0, 0.05, 1.5], np.float32)
    moments.add(np.stack([row, row * 10, row]))
    shares = [channel.outside for channel in moments.statistics()]
    assert shares == [0.5, 0.5, None]


def test_infinities_are_counted_and_enter_nothing():
    moments = ChannelMoments((Band("x", "1"),))
    moments.add(np.array([[1.0, np.inf, -np.inf, 3.0, np.nan]], np.float32))
    (found,) = moments.statistics()
    assert (found.infinite, found.count, found.mean, found.maximum) == (2, 2, 2.0, 3.0)
    assert moments.complete == 2


def test_a_channel_that_is_missing_everywhere_leaves_no_complete_pixel():
    moments = ChannelMoments((Band("x", "1"), Band("gone", "1", 0.0, 1.0)))
    moments.add(np.stack([np.arange(5.0), np.full(5, np.nan)]))
    gone = moments.statistics()[1]
    assert moments.complete == 0
    assert np.isnan(moments.covariance).all()
    assert (gone.count, gone.missing, gone.outside) == (0, 1.0, None)
    assert np.isnan(gone.mean)
    assert np.isnan(gone.low)
    assert not gone.constant


def test_a_nodata_value_too_large_for_float32_is_missing():
    moments = ChannelMoments((Band("x", "1", nodata=-1.7976931348623157e308),))
    with np.errstate(over="ignore"):
        moments.add(np.array([[1.0, -1.7976931348623157e308]]).astype(np.float32))
    assert moments.statistics()[0].count == 1


def test_percentiles_of_a_sample_are_near_those_of_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zoo.physics.running.MAX_SAMPLED_VALUES", 5000)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 100_000))
    moments = ChannelMoments((Band("x", "1"),), expected=values.size)
    for part in np.split(values, 100, axis=1):
        moments.add(part)
    (found,) = moments.statistics()
    kept = sum(part.size for part in moments._channels[0]._moments._kept)
    assert 4000 < kept < 6000
    assert found.low == pytest.approx(np.percentile(values, 0.5), abs=0.2)


def test_an_image_of_other_channels_is_refused():
    with pytest.raises(DataError, match="2 channels, the others have 3"):
        ChannelMoments(BANDS).add(np.zeros((2, 4, 4)))
