"""Spectral indices and the soil moisture index, against numbers computed another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo.errors import ConfigError, DataError
from zoo.physics import (
    OptramEdges,
    OptramFit,
    ndbi,
    ndmi,
    ndvi,
    ndwi,
    normalized_difference,
    scale_moisture,
    transformed_swir,
)

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
    with pytest.raises(DataError, match="are not on one grid"):
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


def test_a_product_is_scaled_and_clipped() -> None:
    values = np.array([0.05, 0.10, 0.25, 0.40, 0.60, np.nan])
    np.testing.assert_allclose(scale_moisture(values, 0.1, 0.4), [0.0, 0.0, 0.5, 1.0, 1.0, np.nan])
    with pytest.raises(ConfigError, match="range"):
        scale_moisture(values, 0.4, 0.1)


def test_ndmi_is_ndbi_over_again() -> None:
    rng = np.random.default_rng(0)
    nir, swir = rng.random((2, 50)) + 0.01
    np.testing.assert_array_equal(ndmi(nir, swir), -ndbi(swir, nir))


def test_transformed_swir_by_hand() -> None:
    # (1 - 0.2)^2 / 0.4 = 1.6; (1 - 0.5)^2 / 1 = 0.25; (1 - 0.05)^2 / 0.1 = 9.025
    np.testing.assert_allclose(transformed_swir([0.2, 0.5, 0.05]), [1.6, 0.25, 9.025])
    assert np.isnan(transformed_swir([0.0, -0.01, 1.0, 1.2, np.nan])).all()
    assert transformed_swir(np.float32([0.2])).dtype == np.float32


def test_moisture_between_edges_by_hand() -> None:
    edges = OptramEdges(dry_intercept=0.0, dry_slope=1.0, wet_intercept=2.0, wet_slope=3.0)
    # At NDVI 0.5: dry 0.5, wet 3.5; STR 2 is half-way, 0.2 is drier than dry.
    np.testing.assert_allclose(edges.moisture([0.5, 0.5, 0.5, 0.0], [2.0, 0.2, 9.0, 1.0]), [0.5, 0.0, 1.0, 0.5])
    assert np.isnan(edges.moisture([-3.0], [1.0])).all()  # there the edges have crossed
    with pytest.raises(ConfigError, match="finite"):
        OptramEdges(0.0, np.nan, 1.0, 1.0)


def trapezoid(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vegetation, moisture = rng.uniform(0, 1, count), rng.uniform(0, 1, count)
    dry, wet = 0.4 + 1.5 * vegetation, 3.0 + 5.0 * vegetation
    return vegetation, dry + moisture * (wet - dry), moisture


def test_fitted_edges_are_those_of_exact_quantiles() -> None:
    vegetation, value, _ = trapezoid(200_000, 1)
    fit = OptramFit()
    for part in np.array_split(np.arange(vegetation.size), 7):
        fit.add(vegetation[part], value[part])
    edges = fit.edges()
    bins = np.minimum((vegetation * 50).astype(int), 49)
    centres = (np.arange(50) + 0.5) / 50
    exact = {
        share: np.linalg.lstsq(
            np.stack([np.ones(50), centres], axis=1),
            np.array([np.quantile(value[bins == row], share) for row in range(50)]),
            rcond=None,
        )[0]
        for share in (0.05, 0.95)
    }
    np.testing.assert_allclose([edges.dry_intercept, edges.dry_slope], exact[0.05], rtol=0.005, atol=0.003)
    np.testing.assert_allclose([edges.wet_intercept, edges.wet_slope], exact[0.95], rtol=0.005, atol=0.003)


def test_moisture_is_recovered_from_a_trapezoid() -> None:
    vegetation, value, moisture = trapezoid(100_000, 2)
    fit = OptramFit()
    fit.add(vegetation, value)
    # The edges are at 5 and 95 %, so that 0 stands for 0.05 and 1 for 0.95.
    expected = np.clip((moisture - 0.05) / 0.9, 0, 1)
    found = fit.edges().moisture(vegetation, value)
    assert np.abs(found - expected).max() < 0.03


@given(st.integers(1, 9))
def test_parts_do_not_matter(parts: int) -> None:
    vegetation, value, _ = trapezoid(9_000, 3)
    whole, split = OptramFit(), OptramFit()
    whole.add(vegetation, value)
    for part in np.array_split(np.arange(vegetation.size), parts):
        split.add(vegetation[part], value[part])
    assert whole.edges() == split.edges()


def test_water_and_nodata_do_not_count() -> None:
    vegetation, value, _ = trapezoid(50_000, 4)
    clean, dirty = OptramFit(), OptramFit()
    clean.add(vegetation, value)
    dirty.add(
        np.concatenate([vegetation, np.full(9_000, -0.3), np.full(10, np.nan), [0.5]]),
        np.concatenate([value, np.full(9_000, 400.0), np.full(10, 1.0), [np.nan]]),
    )
    assert clean.edges() == dirty.edges()


def test_a_scene_that_shows_no_trapezoid_is_refused() -> None:
    fit = OptramFit()
    fit.add(np.full(5_000, 0.5), np.linspace(1, 2, 5_000))
    with pytest.raises(DataError, match="NDVI bins"):
        fit.edges()
    flat = OptramFit()
    flat.add(np.linspace(0, 1, 50_000), np.full(50_000, 1.0))
    with pytest.raises(DataError, match="cross"):
        flat.edges()
    with pytest.raises(ConfigError, match="share"):
        OptramFit(share=0.5)
