"""Curves against scikit-learn's, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from zoo.risk.curves import rate_curve, reliability, roc_curve


def test_roc_has_the_area_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    probability = np.round(rng.uniform(size=300) * 0.7 + 0.3 * labels, 1)
    x, y = roc_curve(labels, probability)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(metrics.roc_auc_score(labels, probability))


def test_rate_curve_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, 0])
    x, y = rate_curve(labels, np.array([0.9, 0.8, 0.8, 0.2, 0.1]))
    np.testing.assert_allclose(x, [0, 0.2, 0.6, 0.8, 1])
    np.testing.assert_allclose(y, [0, 0.5, 1, 1, 1])


def test_curves_of_many_rows_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(0)
    labels, probability = rng.integers(0, 2, 5000), rng.uniform(size=5000)
    x, y = rate_curve(labels, probability)
    assert len(x) <= 400
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) > 0).all()


def test_reliability_by_hand() -> None:
    bins = reliability(np.array([0, 1, 1]), np.array([0.02, 0.08, 1.0]))
    np.testing.assert_allclose(bins.predicted, [0.05, 1.0])
    np.testing.assert_allclose(bins.observed, [0.5, 1.0])
    assert bins.rows.tolist() == [2, 1]
