"""Read vector files: areas of interest and attribute tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine, array_bounds
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from zoo.errors import DataError
from zoo.rasters.grid import Grid
from zoo.rasters.ground import bounds_text, crs_name, planar
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
        shapes = _area_polygons(path, grid)
        box = shapely.box(*array_bounds(*grid.shape, grid.transform))
        self._shapes = shapes[shapely.intersects(shapes, box)]
        if len(self._shapes) == 0:
            raise DataError(
                "no polygon of the area touches the scene",
                where=path,
                hint=f"In {crs_name(grid.crs)} the scene is {bounds_text(box.bounds)}, "
                f"and the area {bounds_text(shapely.total_bounds(shapes))}",
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


def _area_polygons(path: Path, grid: Grid) -> NDArray[np.object_]:
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
        raise DataError("holds no polygon, and an area is made of _area_polygons", where=path)
    shapes: NDArray[np.object_] = shapely.make_valid(
        shapely.force_2d(frame[flat].to_crs(grid.crs.to_wkt()).geometry.to_numpy())
    )
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise DataError(f"has coordinates that do not exist in {crs_name(grid.crs)}", where=path)
    return shapes


def read_features(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Read a vector file of points or polygons as a table.

    Args:
        path: GeoPackage, Shapefile, GeoJSON or FlatGeobuf with one layer of features.

    Returns:
        The attributes, without the geometry, and the centroid of each row: x and y in metres, float64 (N, 2). A file
        in degrees, or in feet, is brought to the UTM zone of its middle.

    Raises:
        DataError: if the file is missing or cannot be read, has several layers, no coordinate reference system, or a
            row without a place.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("there is no such file", where=path)
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise DataError("has no layer with places", where=path, hint="A table without places can be CSV")
        if len(layers) > 1:
            raise DataError(
                f"has {len(layers)} layers: {', '.join(layers)}", where=path, hint="Save the one to use as a file"
            )
        frame = geopandas.read_file(path, layer=layers[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot be read ({reason})", where=path, hint="Is it a whole vector file?") from error
    without = frame.geometry.isna() | frame.geometry.is_empty
    if without.any():
        raise DataError(
            f"row {int(np.flatnonzero(without)[0]) + 1} has no geometry",
            where=path,
            hint="Leave such rows out, or use a table without places",
        )
    if frame.crs is None:
        raise DataError("has no coordinate reference system", where=path, hint="Assign the one that it is in")
    shapes = frame.geometry
    in_feet = any(axis.unit_conversion_factor != 1 for axis in frame.crs.axis_info[:2])
    # Metres of Web Mercator are too long away from the equator.
    if in_feet or not planar(CRS.from_wkt(frame.crs.to_wkt()), tuple(shapes.total_bounds)):
        shapes = shapes.to_crs(shapes.estimate_utm_crs())
    centres = shapely.get_coordinates(shapely.centroid(shapes.to_numpy()))
    if not np.isfinite(centres).all():
        raise DataError("has places that cannot be brought to metres", where=path)
    return pd.DataFrame(frame.drop(columns=frame.geometry.name)), centres
