"""Test the frame of a map: lengths on the ground, the scale bar, and the places of the layers."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.crs import CRS

from zoo.errors import ConfigError
from zoo.rasters.ground import ground_size, width_on_ground
from zoo.rasters.map_frame import check_picture, framed_map, round_length, save_picture

UTM, DEGREES, MERCATOR = (CRS.from_epsg(code) for code in (32643, 4326, 3857))


def test_lengths_on_the_ground() -> None:
    assert width_on_ground(UTM, (450_000, 3_790_000, 460_000, 3_800_000)) == pytest.approx(10_000, rel=1e-3)
    # A degree of longitude at 60 degrees north on WGS 84.
    assert width_on_ground(DEGREES, (10, 59.5, 11, 60.5)) == pytest.approx(55_800, rel=1e-3)
    assert width_on_ground(MERCATOR, (0, 8_399_000, 1000, 8_400_000)) == pytest.approx(500, rel=0.01)
    assert width_on_ground(CRS.from_epsg(2229), (6_500_000, 1_800_000, 6_503_280, 1_803_280)) == pytest.approx(
        1000, rel=1e-3
    )


def test_pixels_in_degrees_are_not_square() -> None:
    down, across = ground_size(DEGREES, (10, 59.5, 11, 60.5), (100, 100))
    assert across == pytest.approx(558, rel=1e-2)
    assert down == pytest.approx(1114, rel=1e-2)


@pytest.mark.parametrize(("metres", "length"), [(1, 1), (9.99, 5), (10, 10), (2600, 2000), (0.3, 0.2)])
def test_scale_bars_have_round_lengths(metres: float, length: float) -> None:
    assert round_length(metres) == pytest.approx(length)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    bounds = (10.0, 59.5, 11.0, 60.5)
    _, ax = framed_map([(np.zeros((10, 10, 4)), bounds)], title="t", crs=DEGREES)
    label = next(text.get_text() for text in ax.texts if "m" in text.get_text())
    number, unit = label.split()
    metres = float(number) * {"km": 1000, "m": 1}[unit]
    parts = [patch.get_width() for patch in ax.patches][1:]
    assert sum(parts) * width_on_ground(DEGREES, bounds) == pytest.approx(metres)
    assert ax.get_aspect() == pytest.approx(2, rel=1e-3)


def test_pictures_are_whole_files_of_known_types(tmp_path) -> None:
    figure, _ = framed_map([(np.zeros((4, 4, 3)), (0, 0, 40, 40))], title="t", crs=UTM, footnote="f" * 300)
    save_picture(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ConfigError, match="xyz"):
        check_picture(tmp_path / "a.xyz")
