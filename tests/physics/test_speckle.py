"""The filter of speckle against its formula pixel by pixel, and on grounds whose backscatter is known."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import ConfigError
from zoo.physics import filter_speckle, local_looks

LOOKS = 4.4


def speckled(ground: np.ndarray, seed: int = 0, looks: float = LOOKS) -> np.ndarray:
    return ground * np.random.default_rng(seed).gamma(looks, 1 / looks, ground.shape)


def test_each_pixel_follows_the_formula() -> None:
    power = speckled(np.linspace(0.01, 0.3, 20 * 17).reshape(20, 17))
    power[3:6, 4] = np.nan
    power[9, 9] = 40
    found = filter_speckle(power, LOOKS)
    np.testing.assert_array_equal(np.isnan(local_looks(power)), np.isnan(power))
    for row in range(20):
        for column in range(17):
            if np.isnan(power[row, column]):
                assert np.isnan(found[row, column])
                continue
            square = power[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
            mean, variance = np.nanmean(square), np.nanvar(square)
            # The variance of the ground, if the speckle has the variance 1 / looks (Kuan et al. 1985).
            ground = max(0.0, (variance - mean**2 / LOOKS) / (1 + 1 / LOOKS))
            expected = mean + ground / variance * (power[row, column] - mean)
            assert found[row, column] == pytest.approx(expected, rel=1e-5), (row, column)


def test_uniform_ground_becomes_smooth_and_keeps_its_mean() -> None:
    power = speckled(np.full((300, 300), 0.08))
    assert np.median(local_looks(power)) == pytest.approx(LOOKS, rel=0.05)
    found = filter_speckle(power, LOOKS)
    assert found.mean() == pytest.approx(0.08, rel=0.01)
    assert found.mean() ** 2 / found.var() > 10 * LOOKS


def test_an_edge_stays_where_it_is() -> None:
    ground = np.full((100, 100), 0.02)
    ground[:, 50:] = 0.4
    found = filter_speckle(speckled(ground), LOOKS)
    left, right = np.median(found[:, 49]), np.median(found[:, 50])
    assert left < 0.1 < 0.2 < right
    # A mean over the same square would give both sides of the edge nearly the same value.
    assert right / left > 3


def test_what_does_not_vary_is_kept() -> None:
    for power in (0.0, 0.5):
        np.testing.assert_allclose(filter_speckle(np.full((12, 12), power), LOOKS), power)
    assert np.isinf(local_looks(np.full((12, 12), 0.5))).all()


@pytest.mark.parametrize("looks", [0, -1, np.nan, np.inf])
def test_looks_are_positive(looks: float) -> None:
    with pytest.raises(ConfigError, match="equivalent looks"):
        filter_speckle(np.ones((9, 9)), looks)
