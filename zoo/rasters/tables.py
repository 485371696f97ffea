"""Attribute tables of vector files, with a place for each row."""

from __future__ import annotations

import os
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray

from zoo.errors import DataError


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
    if frame.crs.is_geographic or any(axis.unit_conversion_factor != 1 for axis in frame.crs.axis_info[:2]):
        shapes = shapes.to_crs(shapes.estimate_utm_crs())
    centres = shapely.get_coordinates(shapely.centroid(shapes.to_numpy()))
    if not np.isfinite(centres).all():
        raise DataError("has places that cannot be brought to metres", where=path)
    return pd.DataFrame(frame.drop(columns=frame.geometry.name)), centres
