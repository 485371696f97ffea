"""Landslide polygons from a probability raster of any size, read block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine, array_bounds
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.rasters.layers import linear_metres
from zoo.rasters.polygons.areas import geodesic_areas, planar
from zoo.rasters.polygons.components import Region, RegionSweep
from zoo.rasters.polygons.writer import PolygonWriter

BLOCK = 1024
"""Pixels along a side of the blocks that are looked at."""

BATCH = 20_000
"""Polygons that are held before they are written."""

ROUNDING = 1e-9
"""A polygon of the least area stays, whatever the last digit of a product does."""

Reader = Callable[[Window], NDArray[np.float32]]


@dataclass(frozen=True)
class PolygonOptions:
    """Which polygons are written, and what they are called.

    Attributes:
        threshold: probability from which a pixel belongs to a landslide, 0..1.
        least_area: m2 below which a polygon is left out.
        classes: (least mean probability, name), rising from 0; the last that a polygon reaches is its class.
        block: pixels along a side of the blocks that are looked at; the polygons do not depend on it.

    Raises:
        ConfigError: for a threshold outside 0..1, an area that is negative, or classes that do not rise from 0.
    """

    threshold: float
    least_area: float = 0.0
    classes: Sequence[tuple[float, str]] = ((0.0, "landslide"),)
    block: int = BLOCK

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold {self.threshold:g}", hint="A probability between 0 and 1")
        if not (math.isfinite(self.least_area) and self.least_area >= 0):
            raise ConfigError(f"least area {self.least_area:g} m2", hint="Give square metres, such as 500")
        starts = [start for start, _ in self.classes]
        if not starts or starts[0] != 0 or any(one >= other for one, other in pairwise(starts)):
            raise ConfigError("classes of polygons do not rise from 0", hint="Such as 0 low, 0.5 medium, 0.8 high")


@dataclass
class PolygonReport:
    """What was written.

    Attributes:
        polygons: number of polygons.
        area: of all of them, m2.
        left_out: number of regions below the least area.
        by_class: number of polygons by class.
        geodesic: whether areas were computed on the ellipsoid, rather than on the map.
    """

    polygons: int = 0
    area: float = 0.0
    left_out: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    geodesic: bool = False


def write_polygons(
    out: Path,
    *,
    shape: tuple[int, int],
    transform: Affine,
    crs: CRS,
    probability: Reader,
    options: PolygonOptions,
    slope: Reader | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PolygonReport:
    """Write a polygon for every group of pixels that touch by their sides and reach the threshold.

    The polygons are those of the whole raster, whatever the blocks; memory is that of a block and of the polygons that
    cross the row of blocks reached. Columns: ``id`` from 1, ``area_m2``, ``pixels``, ``mean_probability``,
    ``max_probability``, ``mean_slope_degree`` where there is a slope (NaN where it is not known), ``class``.

    Args:
        out: GeoPackage or GeoParquet by its suffix; appears when it is whole, and is valid without polygons too.
        shape: (rows, columns) of the raster.
        transform: from (column, row) to coordinates of ``crs``.
        crs: of the raster and of the polygons.
        probability: gives float32 (rows, columns) of a window, 0..1, NaN for nodata.
        options: threshold, least area, classes.
        slope: gives the slope in degrees likewise; None for none.
        metadata: kept in the file.
        progress: called with (blocks done, all blocks).

    Raises:
        ConfigError: for another suffix.
        ZooError: if a raster is truncated, or the disk is full.
    """
    pixel_area = None
    if planar(crs, array_bounds(*shape, transform)):
        pixel_area = abs(transform.determinant) * linear_metres(crs) ** 2
    report = PolygonReport(geodesic=pixel_area is None, by_class={name: 0 for _, name in options.classes})
    least_pixels = 1 if pixel_area is None else max(1, math.ceil(options.least_area / pixel_area * (1 - ROUNDING)))
    sweep = RegionSweep(shape[1], least_pixels)
    threshold = np.float32(options.threshold)
    windows = list(_windows(shape, options.block))
    tags = {"THRESHOLD": f"{options.threshold:.6g}", "LEAST_AREA_M2": f"{options.least_area:g}", **(metadata or {})}
    with PolygonWriter(out, crs, tags) as writer:
        # The first batch, of nothing, tells the columns even when there is no landslide.
        writer.write(_frame([], crs, transform, pixel_area, options, report, slope is not None))
        waiting: list[Region] = []
        for number, window in enumerate(windows, 1):
            values = probability(window)
            with np.errstate(invalid="ignore"):
                mask = values >= threshold
            layers = [values]
            if slope is not None:
                layers.append(slope(window) if mask.any() else values)
            waiting += sweep.add(window, mask, layers)
            if number == len(windows):
                waiting += sweep.finish()
            if len(waiting) >= BATCH or (waiting and number == len(windows)):
                writer.write(_frame(waiting, crs, transform, pixel_area, options, report, slope is not None))
                waiting = []
            if progress is not None:
                progress(number, len(windows))
        report.left_out += sweep.left_out
        writer.publish()
    return report


def _windows(shape: tuple[int, int], block: int) -> Iterator[Window]:
    rows, columns = shape
    for row in range(0, rows, block):
        for column in range(0, columns, block):
            yield Window(column, row, min(block, columns - column), min(block, rows - row))


def _frame(
    regions: Sequence[Region],
    crs: CRS,
    transform: Affine,
    pixel_area: float | None,
    options: PolygonOptions,
    report: PolygonReport,
    with_slope: bool,
) -> geopandas.GeoDataFrame:
    """The regions that are large enough as rows, counted in ``report``."""
    outlines = np.empty(len(regions), object)
    outlines[:] = [region.outline for region in regions]
    a, b, c, d, e, f = transform[:6]
    # North-up grids turn the order of corners round; rings go on the map as vector formats want them.
    placed = shapely.orient_polygons(
        shapely.transform(outlines, lambda x, y: (a * x + b * y + c, d * x + e * y + f), interleaved=False)
    )
    pixels = np.array([region.pixels for region in regions], np.int64)
    areas = geodesic_areas(placed, crs) if pixel_area is None else pixels * pixel_area
    kept = np.flatnonzero(areas >= options.least_area * (1 - ROUNDING))
    means = np.array([region.means() for region in regions], np.float64).reshape(len(regions), 1 + with_slope)
    starts = [start for start, _ in options.classes]
    names = np.array([name for _, name in options.classes], object)
    probability = means[kept, 0]
    classes = names[np.searchsorted(starts, probability, side="right") - 1]
    columns: dict[str, NDArray[np.generic]] = {
        "id": np.arange(report.polygons + 1, report.polygons + 1 + len(kept), dtype=np.int64),
        "area_m2": areas[kept],
        "pixels": pixels[kept],
        "mean_probability": probability,
        "max_probability": np.array([region.highest for region in regions], np.float64)[kept],
    }
    if with_slope:
        columns["mean_slope_degree"] = means[kept, 1]
    columns["class"] = classes.astype(object)
    report.polygons += len(kept)
    report.left_out += len(regions) - len(kept)
    report.area += float(areas[kept].sum())
    for name in classes:
        report.by_class[name] += 1
    return geopandas.GeoDataFrame(columns, geometry=placed[kept], crs=crs.to_wkt())
