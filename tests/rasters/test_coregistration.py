"""Shifts that are known, because the second image is the first one interpolated at other places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage

from zoo.rasters.coregistration import Image, Shift, find_peak, measure_shift, phase_spectrum


def ground(side: int, seed: int = 0) -> np.ndarray:
    """A field as rough as land seen from above: amplitudes fall with the power -1.5 of the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(fft.fftfreq(side)[:, None], fft.fftfreq(side)[None])
    frequency[0, 0] = 1
    field = fft.ifft2(frequency**-1.5 * np.exp(2j * np.pi * rng.random((side, side)))).real
    return (field - field.mean()) / field.std()


def measured(reference: np.ndarray, moved: np.ndarray) -> Shift | None:
    def reader(values: np.ndarray) -> Image:
        return lambda window: values[window.toslices()].astype(np.float32)

    return measure_shift(reader(reference), reader(moved), reference.shape)


@pytest.mark.parametrize("shift", [(0, 0), (0.3, -0.45), (1.7, 2.2), (-12.25, 30.6)])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_known_shift_is_found(shift: tuple[float, float], noise: float) -> None:
    rng, field = np.random.default_rng(1), ground(512)
    inside = np.s_[100:400, 100:400]
    reference = field[inside] + noise * rng.standard_normal((300, 300))
    moved = ndimage.shift(field, shift, order=3)[inside] * 0.8 + 5 + noise * rng.standard_normal((300, 300))
    found = measured(reference, moved)
    assert found is not None
    assert found.known
    assert (found.rows, found.columns) == pytest.approx(shift, abs=0.12)
    assert found.pixels == pytest.approx(np.hypot(*shift), abs=0.15)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(-60, 60), columns=st.integers(-60, 60))
def test_whole_shifts_of_a_torus_are_exact(rows: int, columns: int) -> None:
    """Without edges and interpolation the phase is exact: the peak is at the shift, in any direction."""
    image = ground(128)
    found = find_peak(phase_spectrum(image, np.roll(image, (rows, columns), (0, 1))))
    assert (found.rows, found.columns) == pytest.approx((rows, columns), abs=1e-6)


def test_clouds_with_sharp_edges_do_not_hide_a_shift() -> None:
    rng, field = np.random.default_rng(2), ground(512)
    cloud = ndimage.gaussian_filter(rng.standard_normal((256, 256)), 12)
    hidden = cloud > np.quantile(cloud, 0.85)
    moved = np.where(hidden, np.nan, ndimage.shift(field, (0.5, -0.75), order=3)[100:356, 100:356])
    found = measured(field[100:356, 100:356], moved)
    assert found is not None
    assert (found.rows, found.columns) == pytest.approx((0.5, -0.75), abs=0.1)


def test_images_of_other_ground_have_no_known_shift() -> None:
    found = measured(ground(300, 3), ground(300, 4))
    assert found is not None
    assert not found.known


def test_too_little_overlap_gives_no_shift() -> None:
    field = ground(128)
    hidden = field.copy()
    hidden[:64] = np.nan
    assert measured(field, hidden) is None
    assert measured(np.ones((64, 64)), np.ones((64, 64))) is None


def test_a_shift_in_words() -> None:
    assert str(Shift(0.31, -0.12, 50.0)) == "0.31 pixels down and 0.12 pixels left"
    assert str(Shift(-2, 1, 50.0)) == "2.00 pixels up and 1.00 pixels right"
