"""Choose the grid of a stack: pixels, projection and extent."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.rasters.ground import Bounds, Ground, crs_name, linear_metres, utm_code
from zoo.rasters.layers import RADAR, BandFile, Layer, open_layer

MAX_PIXELS = 4_000_000_000
"""Maximum pixels of a grid; a larger one (some forty Sentinel-2 tiles) is a mistake in --resolution or --bounds."""

MAX_STRETCH = 0.05
"""Maximum scale error of a projection: UTM stays within 0.001 in its zone, national grids within 0.01 [O]. Slopes use
the local scale, but flow and buffers assume square pixels."""

_RESOLUTION_ORDER = (("green", "red", "nir"), ("swir", "swir2"), ("dem",), RADAR)


class Grid(Protocol):
    """Pixel grid of an open raster."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        ...

    @property
    def crs(self) -> CRS:
        """Coordinate reference system."""
        ...

    @property
    def transform(self) -> Affine:
        """Transform from (column, row) to coordinates."""
        ...


@dataclass(frozen=True)
class PixelGrid:
    """A :class:`Grid` without a raster."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]


def grid_around(places: NDArray[np.float64]) -> PixelGrid:
    """Return a grid in degrees that contains places, longitude and latitude (N, 2)."""
    step = 0.01
    left, bottom = places.min(axis=0) - step
    right, top = places.max(axis=0) + step
    shape = math.ceil((top - bottom) / step), math.ceil((right - left) / step)
    return PixelGrid(CRS.from_epsg(4326), Affine(step, 0, left, 0, -step, top), shape)


def windows(shape: tuple[int, int], size: int) -> list[Window]:
    """Return windows of at most ``size`` x ``size`` pixels that cover each pixel of a raster once, row by row."""
    rows, columns = shape
    return [
        Window(column, row, min(size, columns - column), min(size, rows - row))
        for row in range(0, rows, size)
        for column in range(0, columns, size)
    ]


def base_layer(layers: Sequence[Layer]) -> Layer:
    """Return the layer that defines the pixels of the stack: the finest of green, red and NIR, else SWIR, DEM, radar.

    Raises:
        DataError: if there is no such layer.
    """
    for roles in _RESOLUTION_ORDER:
        candidates = [layer for layer in layers if layer.role in roles]
        if candidates:
            return min(candidates, key=lambda layer: layer.pixel_metres)
    raise DataError("no optical band and no DEM is given", hint="Give --dem FILE, or --red FILE and --nir FILE")


def choose_grid(
    layers: Sequence[Layer],
    *,
    like: str | os.PathLike[str] | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    bounds: Bounds | None = None,
) -> GeoBox:
    """Choose the grid of a stack.

    The default is the grid of :func:`base_layer`, cropped to the intersection of all layers.

    Args:
        layers: all layers of the stack.
        like: a raster whose whole grid is used, so that stacks of several dates share one grid. A south-up raster
            gives the same pixels with north up.
        crs: another coordinate reference system, such as "EPSG:32643". Pixels then have the base layer's size in whole
            metres and are aligned to multiples of it.
        resolution: another pixel size, in units of the target system.
        bounds: (left, bottom, right, top) in the target system; the grid covers them, even where layers do not.

    Returns:
        A north-up GeoBox.

    Raises:
        ConfigError: if the options contradict each other or are out of range.
        DataError: if two layers, or a layer and the bounds, do not overlap; the message names them.
    """
    if like is not None:
        if crs is not None or resolution is not None or bounds is not None:
            raise ConfigError(
                "a grid file cannot be combined with a CRS, a resolution or bounds",
                hint="Give only --grid, or leave it out",
            )
        pattern = open_layer("dem", BandFile(os.fspath(like)))
        grid = GeoBox(pattern.shape, pattern.transform, pattern.crs.to_wkt())
        _require_overlap(layers, pattern.crs, pattern.bounds(), f"the grid of {pattern.path}")
        return _checked(grid)
    if bounds is not None and not (bounds[0] < bounds[2] and bounds[1] < bounds[3] and all(map(math.isfinite, bounds))):
        raise ConfigError(f"bounds {bounds} are empty", hint="Give left,bottom,right,top in the stack's coordinates")
    base = base_layer(layers)
    target = base.crs if crs is None else parse_crs(crs)
    lattice = _lattice(base, target, resolution)
    if bounds is not None:
        _require_overlap(layers, target, bounds, "the bounds")
        return _checked(_crop_lattice(lattice, target, bounds, outward=True))
    return _checked(_crop_lattice(lattice, target, _intersection(layers, target), outward=False))


def parse_crs(text: str) -> CRS:
    """Parse a coordinate reference system from "EPSG:32643", WKT or PROJ text.

    Raises:
        ConfigError: if the text is not a coordinate reference system.
    """
    try:
        return CRS.from_user_input(text)
    except (CRSError, ValueError) as error:
        raise ConfigError(f"{text!r} is not a coordinate reference system", hint="Write it like EPSG:32643") from error


def grid_box(grid: Grid) -> GeoBox:
    """Return a grid as an odc-geo ``GeoBox``."""
    return GeoBox(grid.shape, grid.transform, grid.crs.to_wkt())


def grid_crs(grid: GeoBox) -> CRS:
    """Return the coordinate reference system of a grid as a rasterio ``CRS``."""
    assert grid.crs is not None  # every grid made here has one
    return CRS.from_wkt(grid.crs.to_wkt())


def share_outside(layer: Layer, grid: Grid, places: int = 64) -> float:
    """Return the share of a grid's pixels outside a layer, from a sample of ``places`` x ``places`` pixel centres."""
    rows, columns = ((np.arange(places) + 0.5) * side / places for side in grid.shape)
    across, down = np.meshgrid(columns, rows)
    x, y = grid.transform * (across.ravel(), down.ravel())
    if layer.crs != grid.crs:
        x, y = (np.asarray(one) for one in transform_points(grid.crs, layer.crs, x, y))
    column, row = ~layer.transform * (x, y)
    inside = (column >= 0) & (column <= layer.shape[1]) & (row >= 0) & (row <= layer.shape[0])
    return 1 - float(inside.mean())


def require_metres(grid: GeoBox) -> None:
    """Check that slopes are meaningful on a grid.

    Raises:
        DataError: if the grid is in degrees, or its scale is wrong by more than 5 %, as in Web Mercator away from the
            equator; the hint names the UTM zone.
    """
    crs, box = grid_crs(grid), grid.boundingbox
    if crs.is_geographic:
        problem = f"the stack's grid is in degrees ({crs_name(crs)}), but a slope needs metres in both directions"
    else:
        scale = Ground(crs).scale((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        stretch = max((factor / linear_metres(crs) for factor in scale), key=lambda factor: abs(factor - 1))
        if abs(stretch - 1) <= MAX_STRETCH:
            return
        problem = f"a metre of {crs_name(crs)} is {stretch:.2f} m on the ground here, so every slope would be wrong"
    zone = utm_code((box.left, box.bottom, box.right, box.top), crs)
    raise DataError(problem, hint=f"Project it with --crs {zone}, the UTM zone of this area")


def _lattice(base: Layer, target: CRS, resolution: float | None) -> Affine:
    """Return the pixel size and origin, without an extent."""
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0):
        raise ConfigError(f"a resolution of {resolution:g}", hint="Give the side of a pixel, such as 10")
    if target == base.crs and resolution is None:
        return base.transform
    if resolution is None:
        resolution = _round_pixel_size(base, target)
    left, _, _, top = base.bounds(target)
    return Affine(
        resolution,
        0,
        math.floor(left / resolution) * resolution,
        0,
        -resolution,
        math.ceil(top / resolution) * resolution,
    )


def _round_pixel_size(base: Layer, target: CRS) -> float:
    if target.is_geographic:
        return base.pixel_degrees()
    left, bottom, right, top = base.bounds(target)
    # The height of a pixel in degrees is nearly constant; its width depends on latitude.
    _, height = base.pixel_size_in(target, ((left + right) / 2, (bottom + top) / 2))
    metres = height * linear_metres(target)
    return (round(metres) if metres >= 2 else float(f"{metres:.2g}")) / linear_metres(target)


def _intersection(layers: Sequence[Layer], target: CRS) -> Bounds:
    boxes = {layer.path: (layer, layer.bounds(target)) for layer in layers}
    for (one, box), (other, other_box) in combinations(boxes.values(), 2):
        if _empty(_intersect(box, other_box)):
            raise DataError(
                f"does not overlap {other.path}",
                where=one.path,
                hint=f"They lie at {_box_text(box)} and {_box_text(other_box)} in {crs_name(target)}. Does one of "
                f"them cover another area, or is it labelled with a wrong coordinate reference system?",
            )
    found = (-math.inf, -math.inf, math.inf, math.inf)
    for _, box in boxes.values():
        found = _intersect(found, box)
    return found


def _require_overlap(layers: Sequence[Layer], target: CRS, bounds: Bounds, what: str) -> None:
    for layer in layers:
        box = layer.bounds(target)
        if _empty(_intersect(box, bounds)):
            raise DataError(
                f"does not overlap {what}",
                where=layer.path,
                hint=f"They lie at {_box_text(box)} and {_box_text(bounds)} in {crs_name(target)}",
            )


def _crop_lattice(lattice: Affine, target: CRS, bounds: Bounds, *, outward: bool) -> GeoBox:
    """Return the pixels of a lattice that touch ``bounds`` (outward), or whose centres are inside."""
    left, bottom, right, top = bounds
    columns = ((left - lattice.c) / lattice.a, (right - lattice.c) / lattice.a)
    rows = ((top - lattice.f) / lattice.e, (bottom - lattice.f) / lattice.e)
    slack = 1e-3
    if outward:
        first, last = (
            (math.floor(rows[0] + slack), math.floor(columns[0] + slack)),
            (math.ceil(rows[1] - slack), math.ceil(columns[1] - slack)),
        )
    else:
        first, last = (
            (math.ceil(rows[0] - 0.5 - slack), math.ceil(columns[0] - 0.5 - slack)),
            (math.floor(rows[1] + 0.5 + slack), math.floor(columns[1] + 0.5 + slack)),
        )
    shape = (last[0] - first[0], last[1] - first[1])
    if min(shape) < 1:
        raise DataError("the inputs overlap by less than one pixel of the grid")
    return GeoBox(shape, lattice * Affine.translation(first[1], first[0]), target.to_wkt())


def _checked(grid: GeoBox) -> GeoBox:
    rows, columns = grid.shape
    if rows * columns > MAX_PIXELS:
        raise ConfigError(
            f"the grid would have {columns:,} x {rows:,} pixels", hint="Check --resolution, --bounds and --crs"
        )
    return grid


def _intersect(a: Bounds, b: Bounds) -> Bounds:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _empty(box: Bounds) -> bool:
    return not (box[0] < box[2] and box[1] < box[3])


def _box_text(box: Bounds) -> str:
    return "(" + ", ".join(f"{value:.6g}" if abs(value) < 1000 else f"{value:.0f}" for value in box) + ")"
