"""Band metadata: name, unit, valid range and nodata value of a channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from zoo.errors import DataError
from zoo.schema import Number, from_plain, restore_numbers


@dataclass(frozen=True)
class Band:
    """One channel of an image.

    :mod:`zoo.schema` writes and reads it as JSON; a NaN nodata value is written as "nan".

    Args:
        name: name of the channel in the data set, such as "NDVI".
        unit: unit of the values; "1" when they are dimensionless.
        valid_min: smallest possible value, in ``unit``; None if there is no bound.
        valid_max: largest possible value, in ``unit``; None if there is no bound.
        nodata: value that marks a missing measurement; None if there is none. NaN is always missing.
        description: one line for the reader.

    Raises:
        DataError: if the name or unit is empty, or the valid range is empty or not finite.
    """

    name: str
    unit: str
    valid_min: float | None = None
    valid_max: float | None = None
    nodata: Number | None = None
    description: str = ""

    def __post_init__(self) -> None:
        restore_numbers(self, "nodata")
        if not self.name:
            raise DataError("a band has no name", hint="Give it one, such as 'NDVI'")
        if not self.unit:
            raise DataError("the band has no unit", where=self.name, hint="Write '1' when it is dimensionless")
        for bound in (self.valid_min, self.valid_max):
            if bound is not None and not math.isfinite(bound):
                raise DataError(f"the valid range ends at {bound}", where=self.name, hint="Write None for no bound")
        if self.valid_min is not None and self.valid_max is not None and self.valid_min >= self.valid_max:
            raise DataError(f"the valid range [{self.valid_min}, {self.valid_max}] is empty", where=self.name)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Band:
        """Return the band that :func:`zoo.schema.to_plain` wrote.

        Raises:
            DataError: if a field is missing, unknown or of another type.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DataError(f"unknown field {unknown[0]!r}", where=f"band {values.get('name', '?')}")
        return from_plain(values, cls, what="band", where=values.get("name"), error=DataError)


PAPER_CHANNELS: tuple[Band, ...] = (
    Band("SMI", "1", 0.0, 1.0, description="soil moisture index: 0 dry, 1 saturated"),
    Band("NDBI", "1", -1.0, 1.0, description="built-up index (SWIR - NIR) / (SWIR + NIR), equation 1"),
    Band("NDVI", "1", -1.0, 1.0, description="vegetation index (NIR - Red) / (NIR + Red), equation 3"),
    Band("NDWI", "1", -1.0, 1.0, description="water index (Green - NIR) / (Green + NIR), equation 2"),
    Band("slope", "degree", 0.0, 90.0, description="steepest slope by Horn (1981)"),
    # From below the shore of the Dead Sea to above Mount Everest.
    Band("DEM", "m", -450.0, 8900.0, description="elevation above sea level"),
    Band("LSI", "1", 0.0, 1.0, description="landslide risk index, equation 4"),
)
"""The seven channels of the paper, in its order [P]; each valid range covers all possible values [O]."""

CHANGE_CHANNELS: tuple[Band, ...] = (
    Band("dNDBI", "1", -2.0, 2.0, description="NDBI after the landslides minus NDBI before"),
    Band("dNDVI", "1", -2.0, 2.0, description="NDVI after the landslides minus NDVI before"),
    Band("dNDWI", "1", -2.0, 2.0, description="NDWI after the landslides minus NDWI before"),
    Band("dBSI", "1", -2.0, 2.0, description="bare soil index after the landslides minus before"),
)
"""Differences between two dates, later minus earlier [O]: a landslide lowers NDVI and raises BSI."""

_NO_LIGHT = frozenset(("degree", "degrees", "m", "db", "class"))
_INDICES = frozenset(band.name.lower() for band in (*PAPER_CHANNELS, *CHANGE_CHANNELS))
_COLOURS = (("red", "green", "blue"), ("b4", "b3", "b2"), ("b04", "b03", "b02"))


def canonical_name(name: str) -> str:
    """Return the band name in lower case; B4, B3 and B2 of Sentinel-2 become ``red``, ``green`` and ``blue``."""
    lower = name.lower()
    return next((_COLOURS[0][colours.index(lower)] for colours in _COLOURS if lower in colours), lower)


def records_light(band: Band) -> bool:
    """Return whether a band holds brightness, such as reflectance, which depends on illumination and sensor.

    The unit rules out slope, elevation, backscatter and classes; the name rules out the channels of the paper and
    differences between dates.
    """
    return band.unit.lower().split()[-1] not in _NO_LIGHT and band.name.lower() not in _INDICES


def display_bands(bands: Sequence[Band]) -> tuple[int, ...]:
    """Return the bands to display: red, green and blue by name, else the first three, else only the first.

    Args:
        bands: the bands of an image, in order. Colours are named "red", or "B4" or "B04" as in Sentinel-2. If
            suffixes name several dates ("B04_post"), the last date is used.

    Returns:
        Three indices or one index.
    """
    return colour_bands(bands) or ((0, 1, 2) if len(bands) >= 3 else (0,))


def colour_bands(bands: Sequence[Band]) -> tuple[int, int, int] | None:
    """Return the indices of red, green and blue by name, as in :func:`display_bands`; None if one is missing."""
    names = [band.name.lower() for band in bands]
    for colours in _COLOURS:
        for name in reversed(names):
            stem, sign, date = name.partition("_")
            wanted = [f"{colour}{sign}{date}" for colour in colours]
            if stem == colours[0] and set(wanted) <= set(names):
                return names.index(wanted[0]), names.index(wanted[1]), names.index(wanted[2])
    return None
