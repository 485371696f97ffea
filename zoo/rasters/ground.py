"""Coordinate systems and distances on the ground: names, units, true metres, geodesic areas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds


def metres_per_pixel(source: Any) -> float | None:
    """Side of a pixel of an open raster in metres; None unless it is projected, with square pixels."""
    transform = source.transform
    if source.crs is None or not source.crs.is_projected or transform.is_identity:
        return None
    _, metres = source.crs.linear_units_factor
    across, down = math.hypot(transform.a, transform.d) * metres, math.hypot(transform.b, transform.e) * metres
    return across if math.isclose(across, down, rel_tol=1e-3) else None


Bounds = tuple[float, float, float, float]
METRES_PER_DEGREE = 111_320.0


def crs_name(crs: CRS) -> str:
    """``EPSG:32643``, or the name that the definition gives itself."""
    code = crs.to_epsg()
    if code is not None:
        return f"EPSG:{code}"
    text = crs.to_wkt()
    return text.split('"')[1] if '"' in text else str(crs.to_string())


def crs_unit(crs: CRS) -> str:
    """ "m", "degree", or what the system calls its unit."""
    if crs.is_geographic:
        return "degree"
    return "m" if linear_metres(crs) == 1 else str(crs.linear_units)


def linear_metres(crs: CRS) -> float:
    """Metres in a unit of a projected system."""
    return float(crs.linear_units_factor[1])


def metres_on_ground(crs: CRS, centre: tuple[float, float]) -> float:
    """Metres on the ground of a metre of a projected system, near ``centre``; 1 for a true scale."""
    step = 1000.0 / linear_metres(crs)
    x, y = centre
    east, north = transform_points(crs, CRS.from_epsg(4326), [x, x + step, x], [y, y, y + step])
    metres = [
        math.hypot((east[i] - east[0]) * math.cos(math.radians(north[0])), north[i] - north[0]) * METRES_PER_DEGREE
        for i in (1, 2)
    ]
    return math.sqrt(metres[0] * metres[1]) / 1000.0


def utm_code(bounds: Bounds, crs: CRS) -> str:
    """``EPSG:32643``: the UTM zone in whose middle strip the centre of ``bounds`` lies."""
    west, south, east, north = transform_bounds(crs, CRS.from_epsg(4326), *bounds)
    zone = min(int(((west + east) / 2 + 180) // 6) + 1, 60)
    return f"EPSG:{32600 + zone if south + north >= 0 else 32700 + zone}"


MOST_STRETCH = 0.05
"""UTM stays within 0.001 inside its zone, national grids within 0.01 [O]."""


def bounds_text(bounds: Any) -> str:
    digits = 4 if max(abs(float(bound)) for bound in bounds) <= 360 else 0
    left, bottom, right, top = (f"{float(bound):.{digits}f}" for bound in bounds)
    return f"x {left} to {right}, y {bottom} to {top}"


def window_bounds(transform: Affine, shape: tuple[int, int]) -> Bounds:
    """(left, bottom, right, top) of a north-up or south-up grid of ``shape`` (rows, columns)."""
    (x0, y0), (x1, y1) = transform * (0, 0), transform * (shape[1], shape[0])
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def width_on_ground(crs: CRS, bounds: Bounds) -> float:
    """Metres on the ground from the left to the right of ``bounds``, half-way up, on the ellipsoid of ``crs``."""
    left, bottom, right, top = bounds
    # A short way in the middle, scaled: the shortest way across a whole hemisphere would cut its corner.
    middle, step = (left + right) / 2, (right - left) / 200
    xs, ys = [middle - step, middle + step], [(bottom + top) / 2] * 2
    system = pyproj.CRS.from_user_input(crs.to_wkt())
    geographic, ellipsoid = system.geodetic_crs, system.get_geod()
    if geographic is None or ellipsoid is None:
        return (right - left) * float(crs.linear_units_factor[1])
    if not system.is_geographic:
        xs, ys = pyproj.Transformer.from_crs(system, geographic, always_xy=True).transform(xs, ys)
    return 100 * float(ellipsoid.inv(xs[0], ys[0], xs[1], ys[1])[2])


def ground_size(crs: CRS, bounds: Bounds, shape: tuple[int, ...]) -> tuple[float, float]:
    """Metres on the ground (down, across) of a pixel of a picture, (rows, columns), that fills ``bounds``."""
    left, bottom, right, top = bounds
    width = width_on_ground(crs, bounds)
    height = width / (right - left) * (top - bottom) * page_aspect(crs, bounds)
    return height / shape[0], width / shape[1]


def page_aspect(crs: CRS, bounds: Bounds) -> float:
    """Height of a unit on the page by its width: degrees of longitude are narrower than those of latitude."""
    if not crs.is_geographic:
        return 1.0
    return 1 / max(math.cos(math.radians((bounds[1] + bounds[3]) / 2)), 0.05)


def pixel_area(crs: CRS, transform: Affine, shape: tuple[int, int]) -> float | None:
    """Return the area on the ground of a pixel in the middle of a grid of ``shape`` (rows, columns), in m2.

    It is plain map area where that is true (see :func:`planar`), else the geodesic area, and None for a system that is
    neither geographic nor projected.
    """
    if not (crs.is_projected or crs.is_geographic):
        return None
    if planar(crs, window_bounds(transform, shape)):
        return float(abs(transform.a * transform.e)) * linear_metres(crs) ** 2
    corner = transform * (shape[1] / 2 - 0.5, shape[0] / 2 - 0.5)
    opposite = transform * (shape[1] / 2 + 0.5, shape[0] / 2 + 0.5)
    pixel = shapely.box(*np.minimum(corner, opposite), *np.maximum(corner, opposite))
    return float(geodesic_areas(np.array([pixel]), crs)[0])


LONGEST_SIDE = 0.1
"""Degrees: a side along a parallel that is longer is cut, since the shortest way between its ends is another line."""


def planar(crs: CRS, bounds: Bounds) -> bool:
    """Whether areas on the map are areas on the ground, as in UTM and national grids.

    Args:
        crs: of the map.
        bounds: (left, bottom, right, top) in ``crs``, in whose middle it is looked at.

    Returns:
        False for degrees, and for a projection whose metres are more than 5 % off there, such as Web Mercator.
    """
    if not crs.is_projected:
        return False
    left, bottom, right, top = bounds
    return abs(metres_on_ground(crs, ((left + right) / 2, (bottom + top) / 2)) - 1) <= MOST_STRETCH


def geodesic_areas(polygons: NDArray[np.object_], crs: CRS) -> NDArray[np.float64]:
    """Areas of polygons on the ellipsoid of their system in m2, float64 (N,); Karney (2013) through PROJ [S].

    Args:
        polygons: of object (N,), in coordinates of ``crs``.
        crs: geographic or projected.
    """
    system = pyproj.CRS.from_user_input(crs.to_wkt())
    geographic = system.geodetic_crs
    assert geographic is not None  # both kinds have one
    if not system.is_geographic:
        transformer = pyproj.Transformer.from_crs(system, geographic, always_xy=True)
        polygons = shapely.transform(polygons, transformer.transform, interleaved=False)
    ellipsoid = geographic.get_geod()
    assert ellipsoid is not None
    cut = shapely.segmentize(shapely.orient_polygons(polygons), LONGEST_SIDE)
    return np.array([abs(ellipsoid.geometry_area_perimeter(one)[0]) for one in cut], np.float64)
