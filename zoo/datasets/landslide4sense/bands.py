"""The 14 bands of Landslide4Sense, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics.bands import PAPER_CHANNELS, Band

DIVISORS = MappingProxyType(
    {
        "B1": 1111.81236406,
        "B2": 824.63171476,
        "B3": 663.41636217,
        "B4": 445.17289745,
        "B5": 645.8582926,
        "B6": 1547.73508126,
        "B7": 1960.44401001,
        "B8": 1941.32229668,
        "B9": 674.07572865,
        "B10": 9.04787384,
        "B11": 1113.98338755,
        "B12": 519.90397929,
        "slope": 20.29228266,
        "DEM": 772.83144788,
    }
)
"""What each band was divided by, in digital numbers, degrees and metres [O].

The authors publish no constants. In each of 14 genuine files every value times its divisor is a whole number to within
1e-12, neighbouring values differ by one, and the divisor has eight decimals: it is what they divided by, most likely
the band's mean over their scenes. :func:`to_physical` proves it anew on every patch that it converts."""

NAMES: tuple[str, ...] = tuple(DIVISORS)

REFLECTANCE = 10_000.0
"""Digital numbers of reflectance 1 in Sentinel-2 products before processing baseline 04.00 [S]. The images were taken
before it, so there is no offset; B10 exists in level-1C products alone, so it is reflectance at the top of the
atmosphere."""

_WAVELENGTHS = {
    "B1": "coastal aerosol, 443 nm",
    "B2": "blue, 490 nm",
    "B3": "green, 560 nm",
    "B4": "red, 665 nm",
    "B5": "red edge, 705 nm",
    "B6": "red edge, 740 nm",
    "B7": "red edge, 783 nm",
    "B8": "near infrared, 842 nm",
    "B9": "water vapour, 945 nm",
    "B10": "cirrus, 1375 nm",
    "B11": "shortwave infrared, 1610 nm",
    "B12": "shortwave infrared, 2190 nm",
    "slope": "slope from the ALOS PALSAR DEM",
    "DEM": "ALOS PALSAR elevation",
}
_TOLERANCE = 0.02
"""How far from a whole number a value may be [O]: float32 files differ by 0.003, other scalings by up to 0.5."""


def parse_bands(bands: str | Sequence[str]) -> tuple[str, ...] | None:
    """Read the option ``bands``.

    Args:
        bands: "all", "paper", "B4,B3,B2", or a sequence of names.

    Returns:
        Names in the order asked for; None for the paper's channels.

    Raises:
        UnknownNameError: for a band that does not exist.
        ConfigError: for none at all, one named twice, or B8A.
    """
    if isinstance(bands, str):
        if bands.strip().lower() == "paper":
            return None
        if bands.strip().lower() == "all":
            return NAMES
        bands = bands.split(",")
    known = {name.casefold(): name for name in NAMES}
    chosen = []
    for band in bands:
        name = str(band).strip()
        if name.casefold() == "b8a":
            raise ConfigError(
                "Landslide4Sense has no B8A: the band after B9 is B10 (cirrus)",
                where="option bands",
                hint="B8 is the near infrared band of 10 m",
            )
        if name.casefold() not in known:
            raise UnknownNameError("band", name, (*NAMES, "all", "paper"), where="option bands")
        chosen.append(known[name.casefold()])
    if not chosen:
        raise ConfigError("no bands", where="option bands", hint="Write all, paper, or names such as B4,B3,B2")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{max(chosen, key=chosen.count)} is named twice", where="option bands")
    return tuple(chosen)


def describe_bands(names: Sequence[str] | None, units: str) -> tuple[Band, ...]:
    """Give the bands of an image with honest units.

    Args:
        names: as :func:`parse_bands` gives them.
        units: "published" or "physical"; the paper's channels have their own.
    """
    if names is None:
        return PAPER_CHANNELS
    return tuple(_physical(name) if units == "physical" else _published(name) for name in names)


def to_physical(image: NDArray[np.float64], names: Sequence[str], where: object) -> NDArray[np.float64]:
    """Undo the scaling of some bands.

    Args:
        image: (C, H, W) as published, the bands of ``names`` in that order.
        names: of the bands.
        where: the file, for errors.

    Returns:
        float64 (C, H, W): reflectance at the top of the atmosphere, 1; slope, degrees; elevation, m.

    Raises:
        DataError: if the values are not whole numbers over the divisors, so that their scaling is not known.
    """
    divisors = np.array([DIVISORS[name] for name in names])[:, None, None]
    numbers = image * divisors
    whole = np.rint(numbers)
    wrong = np.abs(numbers - whole).max(axis=(1, 2)) > _TOLERANCE
    if wrong.any():
        raise DataError(
            f"band {names[int(np.argmax(wrong))]} is not scaled as in the published files, so its unit is not known",
            where=where,
            hint="Use units=published, or the files as they were published",
        )
    counts = np.array([REFLECTANCE if name.startswith("B") else 1.0 for name in names])[:, None, None]
    return np.asarray(whole / counts, dtype=np.float64)


def _published(name: str) -> Band:
    unit = {"slope": "degree", "DEM": "m"}.get(name, "DN")
    # A value of 1 is so many digital numbers: that is its unit, and no reflectance.
    return Band(name, f"{DIVISORS[name]:g} {unit}", description=f"{_WAVELENGTHS[name]}, divided by {DIVISORS[name]}")


def _physical(name: str) -> Band:
    if name == "slope":
        return Band(name, "degree", 0.0, 90.0, description=_WAVELENGTHS[name])
    if name == "DEM":
        return Band(name, "m", -450.0, 8900.0, description=_WAVELENGTHS[name])
    return Band(name, "1", valid_min=0.0, description=f"{_WAVELENGTHS[name]}, reflectance at the top of the atmosphere")
