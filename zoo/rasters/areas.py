"""An area of interest from any vector file, brought onto a raster and drawn window by window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.features import rasterize
from rasterio.transform import Affine, array_bounds
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from zoo.errors import DataError
from zoo.rasters.layers import crs_name
from zoo.rasters.map_writer import Grid
from zoo.rasters.reading import first_line


class Area:
    """Polygons on the grid of a raster.

    Args:
        path: GeoPackage, Shapefile, GeoJSON or whatever else GDAL reads, in any coordinate reference system.
        grid: the raster.

    Raises:
        DataError: if the file is missing or damaged, has no CRS or no polygon, or lies elsewhere than the raster.
    """

    def __init__(self, path: Path, grid: Grid) -> None:
        self.path = path
        self._transform = grid.transform
        shapes = _polygons(path, grid)
        box = shapely.box(*array_bounds(*grid.shape, grid.transform))
        self._shapes = shapes[shapely.intersects(shapes, box)]
        if len(self._shapes) == 0:
            raise DataError(
                "no polygon of the area touches the scene",
                where=path,
                hint=f"In {crs_name(grid.crs)} the scene is {_words(box.bounds)}, "
                f"and the area {_words(shapely.total_bounds(shapes))}",
            )
        self._tree: Any = shapely.STRtree(self._shapes)

    def covers(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window have their centre in the area, bool (rows, columns)."""
        shape = (int(window.height), int(window.width))
        transform: Affine = window_transform(window, self._transform)
        near = self._tree.query(shapely.box(*array_bounds(*shape, transform)))
        drawn = np.zeros(shape, dtype=np.uint8)
        if len(near):
            rasterize([(self._shapes[one], 1) for one in np.sort(near)], out=drawn, transform=transform)
        return drawn.astype(bool)


def _polygons(path: Path, grid: Grid) -> NDArray[np.object_]:
    if not path.exists():
        raise DataError("there is no such file", where=path)
    try:
        frame = geopandas.read_file(path, columns=[], engine="pyogrio")
    except (DataSourceError, DataLayerError, OSError, ValueError) as error:
        raise DataError(
            "cannot be read as a vector file: it is truncated or not what its name says",
            where=path,
            hint=f"GeoPackage, Shapefile and GeoJSON are read, and all that GDAL knows ({first_line(error)})",
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DataError("is a table without geometries", where=path)
    if frame.crs is None:
        raise DataError(
            "has no coordinate reference system, so it cannot be laid over a scene",
            where=path,
            hint="Set the one it was drawn in: ogr2ogr -a_srs EPSG:CODE OUT IN (a Shapefile has lost its .prj)",
        )
    given = frame.geometry.to_numpy()
    flat = ~shapely.is_missing(given) & (shapely.get_dimensions(given) == 2) & ~shapely.is_empty(given)
    if not flat.any():
        raise DataError("holds no polygon, and an area is made of polygons", where=path)
    shapes: NDArray[np.object_] = shapely.make_valid(
        shapely.force_2d(frame[flat].to_crs(grid.crs.to_wkt()).geometry.to_numpy())
    )
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise DataError(f"has coordinates that do not exist in {crs_name(grid.crs)}", where=path)
    return shapes


def _words(bounds: Any) -> str:
    digits = 4 if max(abs(float(bound)) for bound in bounds) <= 360 else 0
    left, bottom, right, top = (f"{float(bound):.{digits}f}" for bound in bounds)
    return f"x {left} to {right}, y {bottom} to {top}"
