"""The offset of Sentinel-2: numbers by hand, and what dark pixels tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics import baseline_offset, dark_pixels, guess_offset, harmonize, ndvi


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.14", 0.0), ("03.01", 0.0), ("04.00", -1000.0), ("05.09", -1000.0), ("N0301", 0.0), ("N0510", -1000.0)],
)
def test_the_offset_came_with_baseline_four(baseline: str, offset: float) -> None:
    assert baseline_offset(baseline) == offset


@pytest.mark.parametrize("text", ["", "5", "five", "05.09.1", "N05", "99999", "-4.0"])
def test_an_invalid_baseline_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a processing baseline"):
        baseline_offset(text)


def test_reflectance_by_hand() -> None:
    numbers = np.array([[0, 1000, 1200], [4500, 900, 11000]], dtype=np.uint16)
    expected = np.array([[np.nan, 0.0, 0.02], [0.35, -0.01, 1.0]])
    np.testing.assert_allclose(harmonize(numbers, "05.09"), expected, atol=1e-12)
    np.testing.assert_allclose(harmonize(numbers, "03.01"), expected + 0.1, atol=1e-12)
    np.testing.assert_allclose(harmonize(numbers, offset=0.0, scale=2e-4, nodata=None)[0], [0.0, 0.2, 0.24])
    assert harmonize(numbers.astype(np.float32), "05.09").dtype == np.float32


def test_old_and_new_baseline_give_the_same_ndvi() -> None:
    red, nir = np.array([300, 800], dtype=np.uint16), np.array([3000, 2000], dtype=np.uint16)
    old = ndvi(harmonize(nir, "03.01"), harmonize(red, "03.01"))
    new = ndvi(harmonize(nir + 1000, "05.10"), harmonize(red + 1000, "05.10"))
    np.testing.assert_allclose(new, old)
    # 2700 / 3300 against 2700 / 5300: a normalised difference does not cancel the offset.
    np.testing.assert_allclose(ndvi(nir + 1000, red + 1000)[0], 2700 / 5300)


def test_an_offset_is_reported_once() -> None:
    with pytest.raises(ConfigError, match="give either"):
        harmonize(np.ones(3))
    with pytest.raises(ConfigError, match="give either"):
        harmonize(np.ones(3), "05.09", offset=0.0)
    with pytest.raises(ConfigError, match="scale"):
        harmonize(np.ones(3), "05.09", scale=0.0)


def scene(seed: int) -> dict[str, np.ndarray]:
    """Reflectance of forest with a little water and soil."""
    rng = np.random.default_rng(seed)
    dark = rng.random(20_000) < 0.05
    bands = {"green": 0.05, "red": 0.03, "nir": 0.30, "swir": 0.15}
    return {
        name: np.where(dark, 0.01, level) + rng.normal(0, 0.004, dark.size) + 0.1 * (rng.random(dark.size) < 0.1)
        for name, level in bands.items()
    }


@given(st.integers(0, 1000), st.booleans())
def test_dark_pixels_reveal_a_remaining_offset(seed: int, offset: bool) -> None:
    numbers = {name: np.round(values * 10_000) + 1000.0 * offset for name, values in scene(seed).items()}
    assert guess_offset(numbers) == (-1000.0 if offset else 0.0)
    assert dark_pixels({name: values / 10_000 for name, values in numbers.items()}).verdict == (
        "left in" if offset else "plausible"
    )


def test_dark_pixels_reveal_an_offset_removed_twice() -> None:
    seen = dark_pixels({name: values - 0.1 for name, values in scene(0).items()})
    assert seen.verdict == "removed twice"
    assert seen.band in ("green", "red")
    assert seen.negative > 0.8


def test_dark_pixels_need_valid_values() -> None:
    with pytest.raises(DataError, match="no band"):
        dark_pixels({"red": np.full(9, np.nan)})
