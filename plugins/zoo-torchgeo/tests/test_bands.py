"""Bands are read by name and matched by name or wavelength."""

from __future__ import annotations

import pytest
from zoo_torchgeo.bands import match, read_name

SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8a", "B9", "B10", "B11", "B12")


@pytest.mark.parametrize(
    ("name", "sensor", "key", "wavelength"),
    [
        ("B4", "sentinel2", "B4", 665),
        ("B04", "sentinel2", "B4", 665),
        ("b8a", "sentinel2", "B8A", 865),
        ("B04_post", "sentinel2", "B4", 665),
        ("B4", "landsat_tm", "B4", 830),
        ("SR_B5", "landsat_oli", "B5", 865),
        ("B6_VCID_1", "landsat_etm", "B6_VCID_1", 11450),
        ("red", "sentinel2", "RED", 665),
        ("red_edge1", "sentinel2", "REDEDGE1", 705),
        ("red-edge-1", "sentinel2", "REDEDGE1", 705),
        ("swir16", "sentinel2", "SWIR16", 1610),
        ("VV_pre", "sentinel2", "VV", None),
        ("NDVI", "sentinel2", "NDVI", None),
        ("slope", "sentinel2", "", None),
        ("DEM", "sentinel2", "", None),
        ("", "sentinel2", "", None),
    ],
)
def test_names_are_read(name: str, sensor: str, key: str, wavelength: int | None) -> None:
    channel = read_name(name, sensor)
    assert (channel.key, channel.wavelength) == (key, wavelength)


def test_order_does_not_matter_and_the_rest_is_named() -> None:
    found = match(["slope", "B04", "B2", "B8A"], SENTINEL2, "sentinel2", "sentinel2")
    assert found.feeds == ((), (3,), (1,), (8,))
    assert found.extra == (0,)
    assert [SENTINEL2[slot] for slot in found.missing] == [
        "B1",
        "B3",
        "B5",
        "B6",
        "B7",
        "B8",
        "B9",
        "B10",
        "B11",
        "B12",
    ]
    text = found.describe()
    assert "B04 -> B4" in text
    assert "extra slope" in text
    assert "missing B1, B3" in text


def test_other_sensors_match_by_wavelength() -> None:
    """Near infrared of Landsat 8 is B8A, the second short-wave infrared B12; a red edge is no red."""
    landsat = ("B2", "B3", "B4", "B5", "B6", "B7")
    found = match(["B2", "B4", "B5", "B8", "B8A", "B11", "B12"], landsat, "sentinel2", "landsat_oli")
    assert found.feeds == ((0,), (2,), (), (), (3,), (4,), (5,))


def test_colours_match_by_wavelength() -> None:
    assert match(["red", "green", "blue", "nir"], ("B4", "B3", "B2"), "sentinel2", "sentinel2").feeds == (
        (0,), (1,), (2,), (),
    )  # fmt: skip


def test_dates() -> None:
    """The last date feeds weights for one date; weights for two dates get both, or the one date twice."""
    pair = ("B4", "B8", "B4", "B8")
    dates = ["B4_pre", "B8_pre", "B4_post", "B8_post"]
    assert match(dates, ("B4", "B8"), "sentinel2", "sentinel2").feeds == ((), (), (0,), (1,))
    assert match(dates, pair, "sentinel2", "sentinel2").feeds == ((0,), (1,), (2,), (3,))
    assert match(["B8", "B4"], pair, "sentinel2", "sentinel2").feeds == ((1, 3), (0, 2))


def test_nothing_in_common() -> None:
    found = match(["SMI", "slope"], SENTINEL2, "sentinel2", "sentinel2")
    assert not found.fits
    assert "no band of the data is among the trained bands" in found.describe()
