"""Rasters that ``zoo rain`` wrote: the time that each describes, and its rain at places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics.bands import Band
from zoo.physics.rain_events import EventRules, parse_time
from zoo.rasters.rain_bands import DURATION, INTENSITY, TAG_RAIN_AT
from zoo.rasters.rain_series import RainReading
from zoo.rasters.reading import RasterReader
from zoo.rasters.stacks import Stack


def rain_maps(files: Sequence[Path], rules: EventRules, reading: RainReading) -> dict[np.datetime64, Path]:
    """Return the rasters of ``zoo rain`` by the time that they describe; none if the files are rain over time.

    Raises:
        DataError: if only some are such rasters, or two describe one time.
        ConfigError: if they were made with other rules of events, or options are given that say how rain is read.
    """
    described = {path: _described(path) for path in files}
    if not any(described.values()):
        return {}
    found: dict[np.datetime64, Path] = {}
    for path, text in described.items():
        if not text:
            raise DataError(
                "is not a raster of zoo rain, but other files are", where=path, hint="Give one kind of file"
            )
        time, _, made_with = text.partition("; ")
        if made_with != str(rules):
            raise ConfigError(
                f"was made with other rules of events ({made_with}) than are given ({rules})",
                where=path,
                hint="Give the --dry-gap, --wet and --min-depth that zoo rain was given",
            )
        at = parse_time(time, str(path))
        if at in found:
            raise DataError(f"describes {time}, as {found[at]} does", where=path, hint="Give one of them")
        found[at] = path
    if reading != RainReading():
        raise ConfigError("rasters of zoo rain state their unit and time", hint="Leave out the options of reading rain")
    return dict(sorted(found.items()))


def _described(path: Path) -> str:
    """Return the time and rules that a raster of ``zoo rain`` states; empty for another file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return ""
    with RasterReader(path) as reader:
        return reader.tags.get(TAG_RAIN_AT, "")


def rain_of_pixels(
    path: Path, places: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], list[tuple[NDArray[np.bool_], float, float]]]:
    """Return the rain of each pixel that holds a place.

    Args:
        path: a raster of ``zoo rain``.
        places: longitude and latitude, (N, 2).

    Returns:
        Which places lie on the raster, (N,). And for each pixel the places in it, (N,), its intensity (mm/h) and its
        duration (days), NaN where unknown.

    Raises:
        DataError: if a band is missing or in another unit.
    """
    with Stack(path) as stack:
        bands = [_place_of(stack, band) for band in (INTENSITY, DURATION)]
        x, y = transform_points(CRS.from_epsg(4326), stack.crs, places[:, 0], places[:, 1])
        columns, rows = (np.floor(axis).astype(np.int64) for axis in ~stack.transform * (np.array(x), np.array(y)))
        inside = (rows >= 0) & (rows < stack.shape[0]) & (columns >= 0) & (columns < stack.shape[1])
        found = []
        for row, column in sorted(set(zip(rows[inside].tolist(), columns[inside].tolist(), strict=True))):
            intensity, duration = stack.read(Window(column, row, 1, 1))[bands, 0, 0].tolist()
            found.append((inside & (rows == row) & (columns == column), intensity, duration))
    return inside, found


def _place_of(stack: Stack, band: Band) -> int:
    """Return the position of a band of rain.

    Raises:
        DataError: if it is missing or in another unit.
    """
    for number, one in enumerate(stack.bands):
        if one.name == band.name and one.unit == band.unit:
            return number
    raise DataError(f"has no band {band.name} in {band.unit}", where=stack.path, hint="Make it with zoo rain")
