"""Rain between gauges, against the formulas of kriging written with numpy alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from zoo.errors import ConfigError, DataError
from zoo.rasters.gauges import inverse_distance, krige

RANGE, NUGGET = 20_000.0, 0.1


def field(steps: int = 60, gauges: int = 14, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rain of a known covariance at gauges and cells: (T, gauges + cells), and their places in metres."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 60_000, (gauges + 25, 2))
    covariance = np.exp(-np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) / RANGE)
    noise = np.linalg.cholesky(covariance + NUGGET * np.eye(len(places))) @ rng.standard_normal((len(places), steps))
    depth = rng.uniform(3, 30, steps)
    return (depth * (5 + noise)).T, places[:gauges], places[gauges:]


def test_kriging_solves_its_equations() -> None:
    rain, places, cells = field()
    measured = rain[:, : len(places)].copy()
    measured[3, 2] = measured[3, 5] = measured[7, 0] = np.nan
    measured[11] = 0.0
    measured[12] = np.nan
    found = krige(measured, places, cells)
    assert found.metres == pytest.approx(RANGE, rel=0.6)
    for step in (0, 3, 7):
        known = np.isfinite(measured[step])
        z, at = measured[step, known], places[known]
        between = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
        towards = np.hypot(*(cells[:, None] - at[None]).transpose(2, 0, 1))
        own = (1 - found.nugget) * np.exp(-between / found.metres) + found.nugget * np.eye(len(at))
        # Ordinary kriging: weights that sum to 1, by a Lagrange multiplier.
        system = np.block([[own, np.ones((len(at), 1))], [np.ones((1, len(at))), np.zeros((1, 1))]])
        right = np.vstack([(1 - found.nugget) * np.exp(-towards / found.metres).T, np.ones(len(cells))])
        weights = np.linalg.solve(system, right)[:-1]
        np.testing.assert_allclose(found.values[step], np.clip(z @ weights, 0, z.max()), rtol=1e-3)
    np.testing.assert_array_equal(found.values[11], 0)
    assert np.isnan(found.values[12]).all()


def test_kriging_has_a_smaller_error_than_inverse_distance_and_estimates_it() -> None:
    """The errors at gauges that are left out are those at places that the interpolation never saw."""
    rain, places, cells = field(steps=300, seed=1)
    measured, truth = rain[:, : len(places)], rain[:, len(places) :]
    squared = ((cells[:, None] - places[None]) ** 2).sum(axis=2)
    found = krige(measured, places, cells)
    kriging = np.sqrt(((found.values - truth) ** 2).mean())
    shepard = np.sqrt(((inverse_distance(measured, squared) - truth) ** 2).mean())
    assert kriging < shepard
    assert (found.metres, found.nugget) == (pytest.approx(RANGE, rel=0.35), pytest.approx(0.1 / 1.1, abs=0.05))
    np.testing.assert_allclose(found.left_out, (kriging, shepard), rtol=0.2)
    low, high = found.error
    shares = np.sqrt(((found.values - truth) ** 2).mean(axis=0)) / np.sqrt(measured.var(axis=1).mean())
    assert low < shares.mean() < high
    for part in ("nugget of", "standard error of a cell", "leave-one-out error of a gauge"):
        assert part in found.sentence()


def test_rain_stays_between_zero_and_the_largest_gauge() -> None:
    """One gauge has all the rain; without the limits, a cell behind it would have less than none."""
    rain, places, cells = field(seed=2)
    measured = np.where(np.arange(len(places)) == 3, rain[:, : len(places)], 0.0)
    behind = places + 0.02 * (places - places.mean(axis=0))
    found = krige(measured, places, np.vstack([cells, behind])).values
    assert found.min() == 0
    assert (found <= measured.max(axis=1, keepdims=True)).all()


def test_too_few_gauges_or_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rain, places, cells = field()
    with pytest.raises(DataError, match="4 gauges and 60 steps") as caught:
        krige(rain[:, :4], places[:4], cells)
    assert "--gauges inverse-distance" in str(caught.value)
    gaps = rain[:, : len(places)].copy()
    gaps[5:, 0] = np.nan
    with pytest.raises(DataError, match="14 gauges and 5 steps"):
        krige(gaps, places, cells)
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process.kernels", None)
    with pytest.raises(ConfigError, match="needs scikit-learn"):
        krige(rain[:, : len(places)], places, cells)


@pytest.mark.filterwarnings("error")
def test_a_trend_drives_the_range_to_its_bound_without_a_warning() -> None:
    _, places, cells = field()
    rng = np.random.default_rng(3)
    measured = 50 + places[:, 0] / 2000 * rng.uniform(1, 2, (30, 1)) + rng.normal(0, 0.05, (30, len(places)))
    found = krige(measured, places, cells)
    assert found.metres > 50_000
    assert found.nugget < 0.05


def test_inverse_distance_leaves_missing_gauges_out() -> None:
    squared = np.array([[1e6, 4e6, 9e6], [0.0, 1e6, 1e6]])
    found = inverse_distance(np.array([[3.0, 6.0, np.nan], [np.nan] * 3]), squared)
    np.testing.assert_allclose(found[0, 0], (3 * 4 + 6) / 5)
    np.testing.assert_allclose(found[0, 1], 3.0, rtol=1e-5)
    assert np.isnan(found[1]).all()
