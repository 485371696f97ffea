"""Coordinate systems and measurements on the ground: names, units, scale, distances and areas.

A metre of a projection is not a metre on the ground: in Web Mercator at 50 degrees north it is 0.64 m. All reported
lengths and areas are therefore computed here, on the ellipsoid of the coordinate system (pyproj).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import DataError

Bounds: TypeAlias = tuple[float, float, float, float]
"""(left, bottom, right, top)."""

METRES_PER_DEGREE = 111_320.0
"""Approximate metres per degree of latitude."""

NEGLIGIBLE_STRETCH = 0.002
"""Scale error that is ignored for pixel sizes and slopes, whose data are less exact [O]. UTM stays within 0.001 inside
its zone. Areas are always geodesic."""

MAX_SIDE_DEGREES = 0.1
"""Maximum side of a polygon in degrees. Longer sides are divided before they are projected or measured, because a
straight line on the map is not a geodesic."""


def crs_name(crs: Any) -> str:
    """Return the short name of a coordinate system: ``EPSG:32643``, or the name in its definition."""
    code = crs.to_epsg()
    authority = ("EPSG", str(code)) if code is not None else crs.to_authority()
    if authority:
        return ":".join(authority)
    text = crs.to_wkt()
    name = text.split('"')[1] if '"' in text else str(crs.to_string())
    return name if len(name) < 60 else f"{name[:57]}..."


def near_longitude(longitude: Any, middle: float) -> Any:
    """Return longitudes shifted by multiples of 360 degrees to within 180 degrees of ``middle``."""
    return middle + (longitude - middle + 180) % 360 - 180


def narrowest_longitudes(longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes shifted by multiples of 360 degrees to span the smallest range.

    The middle of the range is between -180 and 180.

    >>> narrowest_longitudes(np.array([179.5, -179.5, 181.5])).tolist()
    [-180.5, -179.5, -178.5]
    """
    wrapped = longitude % 360
    ordered = np.unique(wrapped)
    widest = int(np.argmax(np.diff(ordered, append=ordered[:1] + 360)))
    first = ordered[(widest + 1) % len(ordered)]
    found = wrapped + 360 * (wrapped < first)
    middle = (found.min() + found.max()) / 2
    found -= 360 * math.floor((middle + 180) / 360)
    # Values that need no shift remain exactly the same.
    shifted: NDArray[np.float64] = longitude + 360 * np.rint((found - longitude) / 360)
    return shifted


def crs_unit(crs: CRS) -> str:
    """Return "m", "degree", or the name of the system's unit."""
    if crs.is_geographic:
        return "degree"
    return "m" if linear_metres(crs) == 1 else str(crs.linear_units)


def linear_metres(crs: CRS) -> float:
    """Return the nominal metres in one unit of a projected system."""
    return float(crs.linear_units_factor[1])


_OUTLIER_FACTOR = 10.0
"""A place is an outlier if its distance from the middle is this multiple of the 90 % quantile [O]."""

_MAX_OUTLIER_SHARE = 0.05
"""Maximum share of outliers; a larger share is a second region [O]."""


def far_places(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask of outlying places, probably with wrong coordinates, bool (N,).

    Args:
        places: x and y, (N, 2), in metres or degrees.
    """
    away = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    usual = float(np.quantile(away, 0.9))
    far: NDArray[np.bool_] = away > _OUTLIER_FACTOR * usual
    return far if usual > 0 and far.mean() <= _MAX_OUTLIER_SHARE else np.zeros_like(far)


def zero_places(x: NDArray[np.float64], y: NDArray[np.float64], *, degrees: bool) -> NDArray[np.bool_]:
    """Return the mask of places at x = 0, y = 0 whose coordinates are missing, bool (N,).

    In degrees, there is no land within 500 km of the origin. In other systems, the origin is a valid place if it is no
    farther from the other places than their own extent [O].
    """
    zero: NDArray[np.bool_] = (x == 0) & (y == 0)
    if degrees or not zero.any() or zero.all():
        return zero
    near = all(one.min() - np.ptp(one) <= 0 <= one.max() + np.ptp(one) for one in (x[~zero], y[~zero]))
    return np.zeros_like(zero) if near else zero


@dataclass(frozen=True)
class Ground:
    """Measurements on the ellipsoid of a coordinate system.

    Args:
        crs: a geographic or projected system.

    Raises:
        DataError: if the system is of another kind, such as a local one.
    """

    crs: CRS
    _geod: pyproj.Geod = field(init=False, repr=False, compare=False)
    _to_degrees: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        geod, to_degrees = _ellipsoid(self.crs.to_wkt())
        object.__setattr__(self, "_geod", geod)
        object.__setattr__(self, "_to_degrees", to_degrees)

    def degrees(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return longitude (-180 to 180) and latitude of coordinates, as floats or float64 arrays."""
        if self._to_degrees is not None:
            x, y = self._to_degrees.transform(x, y)
        return (np.asarray(x, np.float64) + 180) % 360 - 180, np.asarray(y, np.float64)

    def distance(self, start: tuple[Any, Any], end: tuple[Any, Any]) -> Any:
        """Return the geodesic distance in metres between points in coordinates of the system."""
        return self._geod.inv(*self.degrees(*start), *self.degrees(*end))[2]

    def scale(self, x: float, y: float) -> tuple[float, float]:
        """Return the metres on the ground per unit along x and along y, at a point.

        Both are measured over about 200 m with Karney's geodesic algorithm [S].
        """
        half = 100.0 / (METRES_PER_DEGREE if self.crs.is_geographic else linear_metres(self.crs))
        across = self.distance((x - half, y), (x + half, y))
        along = self.distance((x, y - half), (x, y + half))
        return float(across) / (2 * half), float(along) / (2 * half)

    def areas(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the geodesic areas of polygons in m2, float64 (N,), by Karney (2013) through PROJ [S].

        Args:
            polygons: object (N,), in coordinates of the system.
        """
        # The orientation of a ring is the same on the map and on the ground, whatever its size.
        shapes = shapely.orient_polygons(polygons)
        if self._to_degrees is None:
            shapes = shapely.segmentize(shapes, MAX_SIDE_DEGREES)
        else:
            unit = METRES_PER_DEGREE / linear_metres(self.crs)
            shapes = shapely.transform(
                shapely.segmentize(shapes, MAX_SIDE_DEGREES * unit), self._to_degrees.transform, interleaved=False
            )
        return np.array([abs(self._geod.geometry_area_perimeter(shape)[0]) for shape in shapes], np.float64)

    def buffer(self, shapes: NDArray[np.object_], metres: float) -> NDArray[np.object_]:
        """Return shapes buffered by a distance on the ground, object (N,).

        The local scale along x and y at each centroid is used, so that a disc is round on the ground.
        """
        widened = np.empty(len(shapes), object)
        for number, shape in enumerate(shapes):
            centre = shapely.get_coordinates(shapely.centroid(shape))[0]
            scale = np.array(self.scale(float(centre[0]), float(centre[1])))
            scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
            flat = shapely.transform(shape, lambda points, c=centre, k=scale: (points - c) * k)
            widened[number] = shapely.transform(
                shapely.buffer(flat, metres), lambda points, c=centre, k=scale: points / k + c
            )
        return widened


@lru_cache(maxsize=64)
def _ellipsoid(wkt: str) -> tuple[pyproj.Geod, Any]:
    """Return the ellipsoid of a system, and its transformer to degrees; ``None`` if it is already in degrees."""
    system = pyproj.CRS.from_user_input(wkt)
    geographic, geod = system.geodetic_crs, system.get_geod()
    if geographic is None or geod is None:
        raise DataError(f"distances on the ground are unknown in {crs_name(system)}", hint="Project it to UTM first")
    if system.is_geographic:
        return geod, None
    return geod, pyproj.Transformer.from_crs(system, geographic, always_xy=True)


def true_scale(crs: CRS, x: float, y: float) -> tuple[float, float]:
    """Return the metres on the ground per unit along x and y at a point.

    If they differ by less than :data:`NEGLIGIBLE_STRETCH` from the nominal ones, these are returned, so that 10 m in
    UTM remain 10 m.
    """
    across, along = Ground(crs).scale(x, y)
    if crs.is_geographic:
        return across, along
    nominal = linear_metres(crs)

    def settle(found: float) -> float:
        return found if math.isfinite(found) and abs(found / nominal - 1) > NEGLIGIBLE_STRETCH else nominal

    return settle(across), settle(along)


def metres_per_pixel(crs: CRS | None, transform: Affine, shape: tuple[int, int]) -> float | None:
    """Return the side of a pixel on the ground in metres, in the middle of a raster.

    Returns:
        The side; ``None`` without a coordinate system, in degrees, or if pixels are not square.
    """
    if crs is None or not crs.is_projected or lacks_georeference(transform):
        return None
    x, y = transform * (shape[1] / 2, shape[0] / 2)
    scale = true_scale(crs, x, y)
    across = math.hypot(transform.a * scale[0], transform.d * scale[1])
    down = math.hypot(transform.b * scale[0], transform.e * scale[1])
    nominal = math.hypot(transform.a, transform.d) * linear_metres(crs)
    if across == nominal:
        return nominal if math.isclose(across, down, rel_tol=1e-3) else None
    # Web Mercator stretches north-south by up to 0.7 % more than east-west, because it treats the Earth as a sphere.
    return float(f"{math.sqrt(across * down):.6g}") if math.isclose(across, down, rel_tol=0.01) else None


class PixelAreas:
    """Areas on the ground of the pixels of a raster, window by window.

    The mean over a window is exact; within a window of 1,024 pixels the area of a pixel varies by less than 0.2 % in
    UTM and in Web Mercator at 60 degrees.

    Args:
        crs: coordinate system of the raster.
        transform: transform from (column, row) to coordinates.
        shape: (rows, columns).

    >>> areas = PixelAreas(CRS.from_epsg(32643), Affine(10, 0, 500000, 0, -10, 3800000), (100, 100))
    >>> round(areas.mean(), 2)
    100.08
    """

    def __init__(self, crs: CRS, transform: Affine, shape: tuple[int, int]) -> None:
        self._ground, self._transform, self._shape = Ground(crs), transform, shape
        self._known: dict[tuple[int, int, int, int], float] = {}

    def mean(self, window: Window | None = None) -> float:
        """Return the mean pixel area in m2 of a window, or of the whole raster without a window."""
        window = window or Window(0, 0, self._shape[1], self._shape[0])
        key = (window.col_off, window.row_off, window.width, window.height)
        if key not in self._known:
            left, top = window.col_off, window.row_off
            right, bottom = left + window.width, top + window.height
            ring = [self._transform * corner for corner in ((left, top), (right, top), (right, bottom), (left, bottom))]
            outline = np.array([shapely.Polygon(ring)], object)
            self._known[key] = float(self._ground.areas(outline)[0]) / (window.width * window.height)
        return self._known[key]


def pixel_area(crs: CRS | None, transform: Affine, shape: tuple[int, int]) -> float | None:
    """Return the mean geodesic pixel area of a raster in m2; ``None`` for a raster without georeference."""
    if crs is None or lacks_georeference(transform):
        return None
    return PixelAreas(crs, transform, shape).mean()


def lacks_georeference(transform: Affine) -> bool:
    """Return whether a transform is in pixels, as GDAL reports for a file without georeference."""
    a, b, c, d, e, f = transform[:6]
    return (abs(a), b, c, d, abs(e), f) == (1, 0, 0, 0, 1, 0)


def utm_code(bounds: Bounds, crs: CRS) -> str:
    """Return the UTM zone of the centre of ``bounds``, such as ``EPSG:32643``."""
    left, bottom, right, top = bounds
    longitude, latitude = Ground(crs).degrees((left + right) / 2, (bottom + top) / 2)
    zone = min(int((float(longitude) + 180) // 6) + 1, 60)
    return f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"


def window_bounds(transform: Affine, shape: tuple[int, int]) -> Bounds:
    """Return the bounds of a grid of ``shape`` (rows, columns), north-up or south-up."""
    (x0, y0), (x1, y1) = transform * (0, 0), transform * (shape[1], shape[0])
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def bounds_text(bounds: Any) -> str:
    """Return bounds as text: "x 500000 to 501000, y 3800000 to 3801000"."""
    digits = 4 if max(abs(float(bound)) for bound in bounds) <= 360 else 0
    left, bottom, right, top = (f"{float(bound):.{digits}f}" for bound in bounds)
    return f"x {left} to {right}, y {bottom} to {top}"


def width_on_ground(crs: CRS, bounds: Bounds) -> float:
    """Return the width of ``bounds`` on the ground in metres, at half their height."""
    left, bottom, right, top = bounds
    # Scale up a short distance in the middle, because the geodesic across a hemisphere leaves the parallel.
    middle, step, height = (left + right) / 2, (right - left) / 200, (bottom + top) / 2
    try:
        return 100 * float(Ground(crs).distance((middle - step, height), (middle + step, height)))
    except DataError:
        return (right - left) * linear_metres(crs)


def ground_size(crs: CRS, bounds: Bounds, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the ground size in metres (down, across) of a pixel of a picture of ``shape`` that fills ``bounds``."""
    left, bottom, right, top = bounds
    width = width_on_ground(crs, bounds)
    height = width / (right - left) * (top - bottom) * page_aspect(crs, bounds)
    return height / shape[0], width / shape[1]


def page_aspect(crs: CRS, bounds: Bounds) -> float:
    """Return the height of a unit on the page divided by its width; degrees of longitude are narrower."""
    if not crs.is_geographic:
        return 1.0
    return 1 / max(math.cos(math.radians((bounds[1] + bounds[3]) / 2)), 0.05)
