"""What a channel is: its name, unit, valid range and nodata value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from zoo.errors import DataError


@dataclass(frozen=True)
class Band:
    """One channel of an image.

    Args:
        name: name as the data set writes it, "NDVI".
        unit: unit of the values; "1" when they have none.
        valid_min: smallest value that can be true, in ``unit``; None if there is no bound.
        valid_max: largest value that can be true, in ``unit``; None if there is no bound.
        nodata: value that stands for "not measured"; None if there is none. NaN is always not measured.
        description: one line for people.

    Raises:
        DataError: if the name or unit is empty, or the valid range is empty or not finite.
    """

    name: str
    unit: str
    valid_min: float | None = None
    valid_max: float | None = None
    nodata: float | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise DataError("a band without a name", hint="Give it one, such as 'NDVI'")
        if not self.unit:
            raise DataError("a band without a unit", where=self.name, hint="Write '1' when it is dimensionless")
        for bound in (self.valid_min, self.valid_max):
            if bound is not None and not math.isfinite(bound):
                raise DataError(f"valid range ends at {bound}", where=self.name, hint="Write None for no bound")
        if self.valid_min is not None and self.valid_max is not None and self.valid_min >= self.valid_max:
            raise DataError(f"empty valid range [{self.valid_min}, {self.valid_max}]", where=self.name)

    def to_dict(self) -> dict[str, str | float | None]:
        """Return the fields as JSON can hold them; a NaN nodata value is written as the string "nan"."""
        values: dict[str, str | float | None] = asdict(self)
        if self.nodata is not None and math.isnan(self.nodata):
            values["nodata"] = "nan"
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Band:
        """Return the band that :meth:`to_dict` wrote.

        Raises:
            DataError: if a field is missing, unknown or of another type.
        """
        where = f"band {values.get('name', '?')}"
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DataError(f"unknown field {unknown[0]!r}", where=where)
        return cls(
            name=_text(values, "name", where),
            unit=_text(values, "unit", where),
            valid_min=_number(values, "valid_min", where),
            valid_max=_number(values, "valid_max", where),
            nodata=_number(values, "nodata", where),
            description=_text(values, "description", where, default=""),
        )


def _text(values: Mapping[str, object], key: str, where: str, default: str | None = None) -> str:
    value = values.get(key, default)
    if not isinstance(value, str):
        raise DataError(f"field {key!r} is {value!r}, not a text", where=where)
    return value


def _number(values: Mapping[str, object], key: str, where: str) -> float | None:
    value = values.get(key)
    if value == "nan":
        return math.nan
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise DataError(f"field {key!r} is {value!r}, not a number", where=where)


PAPER_CHANNELS: tuple[Band, ...] = (
    Band("SMI", "1", 0.0, 1.0, description="soil moisture index: 0 dry, 1 saturated"),
    Band("NDBI", "1", -1.0, 1.0, description="built-up index (SWIR - NIR) / (SWIR + NIR), equation 1"),
    Band("NDVI", "1", -1.0, 1.0, description="vegetation index (NIR - Red) / (NIR + Red), equation 3"),
    Band("NDWI", "1", -1.0, 1.0, description="water index (Green - NIR) / (Green + NIR), equation 2"),
    Band("slope", "degree", 0.0, 90.0, description="steepest slope by Horn (1981)"),
    # From below the shore of the Dead Sea to above Everest.
    Band("DEM", "m", -450.0, 8900.0, description="elevation above sea level"),
    Band("LSI", "1", 0.0, 1.0, description="landslide risk index, equation 4"),
)
"""The seven channels of the paper, in its order [P]; valid ranges are those that the quantities can take [O]."""

_COLOURS = (("red", "green", "blue"), ("b4", "b3", "b2"), ("b04", "b03", "b02"))


def display_bands(bands: Sequence[Band]) -> tuple[int, ...]:
    """Choose the bands a person looks at: red, green, blue by name, else the first three, else the first alone.

    Args:
        bands: the bands of an image, in order. Colours are called "red", or "B4" or "B04" as Sentinel-2's are; of
            several dates, told by a suffix ("B04_post"), the last is shown.

    Returns:
        Three indices, or one.
    """
    return colour_bands(bands) or ((0, 1, 2) if len(bands) >= 3 else (0,))


def colour_bands(bands: Sequence[Band]) -> tuple[int, int, int] | None:
    """Red, green and blue by name, as :func:`display_bands` tells them; None without them."""
    names = [band.name.lower() for band in bands]
    for colours in _COLOURS:
        for name in reversed(names):
            stem, sign, date = name.partition("_")
            wanted = [f"{colour}{sign}{date}" for colour in colours]
            if stem == colours[0] and set(wanted) <= set(names):
                return names.index(wanted[0]), names.index(wanted[1]), names.index(wanted[2])
    return None
