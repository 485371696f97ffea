"""Unit of an elevation: read it from the file, and check that it is metres."""

from __future__ import annotations

import re

import pyproj

from zoo.errors import DataError
from zoo.rasters.ground import crs_unit, linear_metres
from zoo.rasters.layers import Layer
from zoo.rasters.reading import RasterReader

_FOOT, _US_FOOT = 0.3048, 1200 / 3937
_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot"), _FOOT),
    **dict.fromkeys(("us-ft", "us survey foot", "us survey feet", "ftus", "foot_us", "feet_us", "us feet"), _US_FOOT),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("dm", "decimetre", "decimetres", "decimeter", "decimeters"), 0.1),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
}
"""Metres per unit of elevation, by unit name as found in files."""

_FEET = re.compile(r"(?<![a-z])(us[ -]?(?:survey )?)?(?:feet|foot|ft)(?![a-z])")
_METRE = re.compile(r"(?<![a-z])(?:m|met(?:re|er)s?)(?![a-z])")


def elevation_unit(dem: Layer) -> str:
    """Return the unit of an elevation, from the band, its vertical coordinate system or its description.

    Returns:
        The unit; "" if the file states none, or the description names both feet and metres.
    """
    if dem.unit:
        return dem.unit
    vertical = [one for one in pyproj.CRS.from_user_input(dem.crs.to_wkt()).sub_crs_list if one.is_vertical]
    if vertical:
        return str(vertical[0].axis_info[0].unit_name)
    with RasterReader(dem.path) as reader:
        band = next(one for one in reader.bands if one.index == dem.file.band)
        text = f"{band.name} {reader.tags.get('TIFFTAG_IMAGEDESCRIPTION', '')}".casefold().replace("_", " ")
    feet = _FEET.search(text)
    if feet is None or _METRE.search(text):
        return ""
    return "US survey feet" if feet[1] else "feet"


def require_metres_up(dem: Layer) -> None:
    """Reject an elevation that is not in metres.

    Raises:
        DataError: if the file states another unit.
    """
    unit = elevation_unit(dem)
    metres = _METRES.get(_plain(unit), 1.0)
    if metres != 1:
        raise DataError(
            f"the elevation is in {unit}, but metres are needed",
            where=dem.path,
            hint=f"Convert it: gdal_calc.py -A DEM --calc=A*{metres:.7g} --outfile=OUT",
        )


def doubtful_elevation(dem: Layer) -> str:
    """Return the reason why a file may not hold an elevation in metres; "" if there is none."""
    unit = elevation_unit(dem)
    if dem.dtype.name == "uint8" and dem.tagged == (1.0, 0.0):
        return f"{dem.label} holds 8-bit numbers, as a hillshade or another picture does; they were read as metres"
    if _plain(unit):
        known = _plain(unit) in _METRES
        return "" if known else f"{dem.label}: the unit {unit!r} is unknown, so the elevation was read as metres"
    if dem.crs.is_geographic or linear_metres(dem.crs) == 1:
        return ""
    return (
        f"{dem.label} has no unit of elevation, and its coordinates are in {crs_unit(dem.crs)}: the elevation was read "
        f"as metres. If it is not, every slope is wrong: gdal_calc.py -A DEM --calc=A*{linear_metres(dem.crs):.7g} "
        "--outfile=OUT converts it"
    )


def _plain(unit: str) -> str:
    return unit.strip(" []").casefold()
