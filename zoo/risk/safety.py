"""Factor of safety and wetness of a stack's terrain, in a file beside a map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import zoo
from zoo.errors import DataError, UnknownNameError
from zoo.physics.stability import SAFETY_CHANNELS, SAFETY_SOURCES, Soil, check_size, safety_channels
from zoo.rasters.cog import stack_writer
from zoo.rasters.stacks import TAG_RAIN, TAG_SOURCE, TAG_VALID, Stack


def map_safety(
    stack: Stack, out: Path, rain: tuple[float, float], soil: Soil | None = None, tags: Mapping[str, str] | None = None
) -> float:
    """Write wetness and factor of safety of a stack's slope and DEM as a cloud-optimised GeoTIFF of two bands.

    Args:
        stack: with bands ``slope`` (degrees) and ``DEM`` (m), in metres, square pixels.
        out: the file.
        rain: intensity in mm/h, duration in days.
        soil: of the whole area.
        tags: of the file.

    Returns:
        share of the known pixels whose factor of safety is below 1.

    Raises:
        DataError: if a band is missing or in another unit, pixels are not square metres, or the stack is too large.
        ZooError: if the file cannot be written.
    """
    soil = soil or Soil()
    bands = {band.name: (number, band.unit) for number, band in enumerate(stack.bands)}
    for name, unit in (("slope", "degree"), ("DEM", "m")):
        if name not in bands:
            raise UnknownNameError("band", name, bands, where=stack.path)
        if bands[name][1] not in (unit, "unknown"):
            raise DataError(f"{name} is in {bands[name][1]!r}, not in {unit!r}", where=stack.path)
    if stack.pixel_size is None:
        raise DataError(
            "flow of water needs square pixels in metres", where=stack.path, hint="Warp the stack to its UTM zone"
        )
    check_size(stack.shape, stack.path)
    terrain = np.empty((2, *stack.shape), dtype=np.float32)
    for window in stack.windows():
        image = stack.read(window)
        rows = slice(window.row_off, window.row_off + window.height)
        columns = slice(window.col_off, window.col_off + window.width)
        terrain[:, rows, columns] = image[[bands["DEM"][0], bands["slope"][0]]]
    made = safety_channels(terrain[0], terrain[1], stack.pixel_size, rain, soil)
    told = {
        band.name: {
            TAG_SOURCE: SAFETY_SOURCES[band.name],
            "LONG_NAME": band.description,
            **{name: f"{bound:g}" for name, bound in zip(TAG_VALID, (band.valid_min, band.valid_max), strict=True)},
        }
        for band in SAFETY_CHANNELS
    }
    given = {TAG_SOURCE: stack.path.name, "TIFFTAG_SOFTWARE": f"landslide-zoo {zoo.__version__}", **(tags or {})}
    with stack_writer(out, stack, SAFETY_CHANNELS) as writer:
        for window in stack.windows():
            rows = slice(window.row_off, window.row_off + window.height)
            columns = slice(window.col_off, window.col_off + window.width)
            for band, values in zip(SAFETY_CHANNELS, made, strict=True):
                writer.write(band.name, np.ascontiguousarray(values[rows, columns]), window)
        writer.publish({**given, "SOIL": str(soil), TAG_RAIN: f"{rain[0]:g},{rain[1]:g}"}, told)
    known = np.isfinite(made[1])
    return float(np.mean(made[1][known] < 1)) if known.any() else math.nan
