"""Correlation, VIF and components against numpy, least squares and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from zoo.diagnostics.description import collinearity, variance_inflation


def channels(seed: int = 0) -> np.ndarray:
    """Five channels of 4,000 pixels in very different units, some of which depend on each other."""
    rng = np.random.default_rng(seed)
    one, two, three, four, five = rng.normal(size=(5, 4000))
    mixed = 1e-3 * (one + two + 0.5 * three + 0.6 * four)
    return np.stack([one, 3000 + 200 * two, -0.9 * one + 0.3 * three + 0.2 * five, mixed, three])


def describe(values: np.ndarray):
    names = tuple(f"c{index}" for index in range(len(values)))
    return collinearity(names, np.cov(values, bias=True), values.mean(axis=1))


def test_correlation_is_numpys():
    values = channels()
    np.testing.assert_allclose(describe(values).correlation, np.corrcoef(values), atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_vif_is_that_of_a_regression_by_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(4, 4)) @ rng.normal(size=(4, 500)) * 10.0 ** rng.integers(-3, 4, (4, 1))
    found = describe(values).vif
    for channel in range(4):
        others = np.delete(values, channel, axis=0)
        others = (others - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)
        design = np.vstack([others, np.ones(500)]).T
        fitted = design @ np.linalg.lstsq(design, values[channel], rcond=None)[0]
        expected = values[channel].var() / (values[channel] - fitted).var()
        if expected < 1e6:
            assert found[channel] == pytest.approx(expected, rel=1e-5)


def test_components_are_those_of_scikit_learn_on_standardised_channels():
    values = channels()
    found = describe(values)
    expected = PCA().fit(StandardScaler().fit_transform(values.T))
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(np.abs(found.loadings), np.abs(expected.components_), atol=1e-8)
    for row in found.loadings:
        assert row[np.argmax(np.abs(row))] > 0


def test_a_channel_that_others_determine_has_an_infinite_vif_and_the_rest_a_finite_one():
    rng = np.random.default_rng(1)
    one, two, free = rng.normal(size=(3, 3000)).astype(np.float32)
    values = np.stack([one, two, one + 2 * two, free]).astype(np.float64)
    found = describe(values)
    assert np.isinf(found.vif[:3]).all()
    assert found.vif[3] == pytest.approx(1, abs=0.01)


def test_ndmi_is_the_mirror_of_ndbi():
    ndbi = np.random.default_rng(2).uniform(-1, 1, 1000).astype(np.float32)
    found = describe(np.stack([ndbi, -ndbi]).astype(np.float64))
    assert found.correlation[0, 1] == pytest.approx(-1)
    assert np.isinf(found.vif).all()
    assert found.explained == pytest.approx([1, 0], abs=1e-12)


def test_constant_channels_are_named_and_left_out():
    values = np.vstack([channels()[:2], np.full(4000, 3000.1), np.zeros(4000)])
    found = describe(values)
    assert found.constant.tolist() == [False, False, True, True]
    assert np.isnan(found.correlation[2]).all()
    assert np.isnan(found.vif[2:]).all()
    assert np.isfinite(found.vif[:2]).all()
    assert found.loadings.shape == (2, 4)
    assert not found.loadings[:, 2:].any()


def test_a_small_variation_about_a_large_mean_is_no_constant():
    values = np.stack([3000 + np.random.default_rng(0).normal(0, 0.1, 500), np.arange(500.0)])
    assert not describe(values).constant.any()


@pytest.mark.parametrize("values", [np.zeros((1, 5)), np.zeros((3, 5))])
def test_constant_channels_are_reported_without_an_error(values: np.ndarray):
    found = describe(np.vstack([values, values]))
    assert found.constant.all()
    assert found.strongest() is None
    assert len(found.explained) == 0


def test_one_channel_has_no_dependence():
    assert variance_inflation(np.ones((1, 1))).tolist() == [1.0]
    found = collinearity(("only",), np.array([[4.0]]))
    assert found.vif.tolist() == [1.0]
    assert found.explained.tolist() == [1.0]
    assert found.strongest() is None


def test_the_strongest_pair_is_by_absolute_value():
    one, other, value = describe(channels()).strongest()
    assert (one, other) == (0, 2)
    assert value < -0.9
