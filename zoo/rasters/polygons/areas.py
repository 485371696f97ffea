"""Areas on the ground of polygons in any coordinate reference system."""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from zoo.rasters.grid import MOST_STRETCH
from zoo.rasters.layers import Bounds, metres_on_ground

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
