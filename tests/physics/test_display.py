"""Colours for display, as ESA's true-colour images have them."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.physics.display import SATURATION, display_from_reflectance, is_bright


@pytest.mark.parametrize("level", ["2A", "1C"])
def test_reflectance_becomes_1_to_255(level: str) -> None:
    top = SATURATION[level]
    found = display_from_reflectance(np.array([-0.1, 0, top / 2, top, 2, np.nan]), top)
    np.testing.assert_allclose(found, [1, 1, 128, 255, 255, np.nan], rtol=1e-6)


def test_white_is_bright_and_soil_snowless_ground_and_nothing_are_not() -> None:
    colours = np.array([[250, 240, 235], [255, 190, 140], [60, 70, 60], [np.nan, 250, 250], [200, 200, 255]]).T
    assert is_bright(colours.reshape(3, 5, 1)).ravel().tolist() == [True, False, False, False, False]
