"""Palettes: check whether they are grey ramps, and whether 0 can be the background of a mask."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import TypeAlias

from zoo.errors import DataError
from zoo.files import PathLike

Palette: TypeAlias = Mapping[int, tuple[int, int, int, int]]
"""Red, green, blue and alpha (0 to 255) by number."""

MAX_GREY_DIFFERENCE = 24
"""Maximum difference between red, green and blue of a grey, on a scale of 255 [O]."""

UNKNOWN_CLASS = 255
"""Value of unknown pixels in a mask that has classes other than 0."""


def is_grey_ramp(palette: Palette) -> bool:
    """Return whether larger numbers are lighter greys, so that the numbers represent brightness."""
    colours = [palette[number] for number in sorted(palette)]
    greys = [red for red, green, blue, _ in colours if red == green == blue]
    return len(greys) == len(colours) and all(one < other for one, other in pairwise(greys))


def check_background(palette: Palette, present: Collection[int], where: PathLike) -> None:
    """Check that the palette of a mask does not draw another value as the background.

    Args:
        palette: palette of the mask; may be empty.
        present: values in the mask that are not nodata.
        where: the file, for messages.

    Raises:
        DataError: if 0 has a colour and another value is black, grey, white or transparent, or if 0 is white or grey
            and another value is black or transparent; 0 is then probably the landslide.
    """
    if 0 not in palette or _is_dark(palette[0]):
        return
    others = sorted(value for value in present if value and value in palette)
    if len(others) > 1:
        others = [value for value in others if value != UNKNOWN_CLASS]
    coloured = not _is_grey(palette[0])
    for value in others:
        if _is_dark(palette[value]) or (coloured and _is_grey(palette[value])):
            raise DataError(
                f"the palette draws value 0 in the colour {palette[0][:3]} and value {value} in "
                f"{_colour_name(palette[value])}, so 0 may be the landslide",
                where=where,
                hint=f"State which is class 0, the background: mask_values={value},0 or mask_values=0,{value}",
            )


def _is_dark(colour: tuple[int, int, int, int]) -> bool:
    return colour[3] == 0 or max(colour[:3]) <= MAX_GREY_DIFFERENCE


def _is_grey(colour: tuple[int, int, int, int]) -> bool:
    return max(colour[:3]) - min(colour[:3]) <= MAX_GREY_DIFFERENCE


def _colour_name(colour: tuple[int, int, int, int]) -> str:
    if colour[3] == 0:
        return "transparent"
    if _is_dark(colour):
        return "black"
    return "white" if min(colour[:3]) >= 255 - MAX_GREY_DIFFERENCE else "grey"
