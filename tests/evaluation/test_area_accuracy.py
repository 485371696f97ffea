"""Area estimates from a stratified sample: the published example, and repeated sampling of a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.evaluation.area_accuracy import Z_95, allocate_points, estimate_areas

CLASSES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED_KM2 = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 900 / 1e6
"""Table 8 of Olofsson et al. (2014): points, and Landsat pixels of 30 m."""


def test_the_worked_example_of_olofsson_2014() -> None:
    """Published figures: section 5.2, in hectares, with half the width of the 95 % interval.

    Two intervals of producer's accuracy are left out: the printed 0.23 of forest gain and 0.01 of stable non-forest
    contradict the paper's equation 7, which gives 0.254 and 0.018.
    """
    found = estimate_areas(CLASSES, COUNTS, MAPPED_KM2)
    np.testing.assert_allclose(found.area_km2 * 100, [21_158, 11_686, 285_770, 581_386], atol=0.5)
    np.testing.assert_allclose(found.area_error_km2 * 100 * Z_95, [6_158, 3_756, 15_510, 16_282], atol=0.5)
    np.testing.assert_allclose(found.users, [0.88, 0.73, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(found.users_error * Z_95, [0.07, 0.10, 0.04, 0.02], atol=0.005)
    np.testing.assert_allclose(found.producers, [0.75, 0.85, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(found.producers_error[[0, 2]] * Z_95, [0.21, 0.03], atol=0.005)
    assert found.overall == pytest.approx(0.95, abs=0.005)
    assert found.overall_error * Z_95 == pytest.approx(0.02, abs=0.005)
    assert found.shares.sum() == pytest.approx(1)
    assert not list(found.warnings())


def test_repeated_samples_scatter_by_the_standard_errors() -> None:
    """2,000 samples of a known truth: the means are right, and the spread is what a single sample states."""
    rng = np.random.default_rng(0)
    truth = np.array([[0.95, 0.05], [0.2, 0.8]])  # share of each reference class within each map class
    mapped = np.array([90.0, 10.0])
    drawn = [estimate_areas("ab", np.array([rng.multinomial(200, row) for row in truth]), mapped) for _ in range(2000)]
    shares = mapped[:, None] / 100 * truth
    producers = np.diag(shares) / shares.sum(axis=0)
    for name, error, expected in (
        ("area_km2", "area_error_km2", shares.sum(axis=0) * 100),
        ("producers", "producers_error", producers),
        ("users", "users_error", np.diag(truth)),
    ):
        values = np.array([getattr(one, name) for one in drawn])
        stated = np.array([getattr(one, error) for one in drawn]).mean(axis=0)
        np.testing.assert_allclose(values.mean(axis=0), expected, rtol=0.02)
        np.testing.assert_allclose(values.std(axis=0), stated, rtol=0.06)
    inside = [
        (one.area_intervals()[:, 0] <= expected_area) & (expected_area <= one.area_intervals()[:, 1])
        for one in drawn
        for expected_area in [shares.sum(axis=0) * 100]
    ]
    assert 0.93 < np.mean(inside) < 0.97


def test_a_class_without_reference_points_has_no_producers_accuracy() -> None:
    found = estimate_areas("ab", np.array([[50, 0], [50, 0]]), np.array([1.0, 1.0]))
    assert np.isnan(found.producers[1])
    assert found.area_km2.tolist() == [2.0, 0.0]
    assert "no point mapped as b is correct" in " ".join(found.warnings())


@pytest.mark.parametrize(("row", "words"), [([0, 0], "no points"), ([0, 1], "1 point;")])
def test_a_stratum_without_points_is_refused(row: list[int], words: str) -> None:
    with pytest.raises(DataError, match=f"class b of the map has {words}"):
        estimate_areas("ab", np.array([[5, 5], row]), np.array([1.0, 1.0]))


def test_few_points_and_points_without_an_error_cause_warnings() -> None:
    told = " ".join(estimate_areas("ab", np.array([[60, 0], [3, 9]]), np.array([9.0, 1.0])).warnings())
    assert "every point mapped as a is correct" in told
    assert "only 12 points are mapped as b" in told


def test_rare_classes_get_fifty_points() -> None:
    # 540 points are left for the two large classes, 3.2 to 6.45: 179.07 and 360.93.
    assert allocate_points([200_000, 150_000, 3_200_000, 6_450_000], 640) == (50, 50, 179, 361)
    assert allocate_points([5, 1000], 100) == (5, 95)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), st.integers(1, 2000))
def test_points_are_allocated_whole(pixels: list[int], count: int) -> None:
    found = allocate_points(pixels, count)
    assert sum(found) <= count
    assert all(0 <= one <= size for one, size in zip(found, pixels, strict=True))
    if min(pixels) >= count:
        assert sum(found) == count
        assert min(found) >= min(50, count // len(pixels))
