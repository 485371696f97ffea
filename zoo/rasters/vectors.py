"""Read vector files safely: layers, conditions and coordinate systems; areas of interest; attribute tables."""

from __future__ import annotations

import os
import zipfile
import zlib
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
from rasterio.transform import Affine
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from shapely.affinity import translate

from zoo.errors import ConfigError, DataError, UnknownNameError, first_line
from zoo.rasters.grid import Grid
from zoo.rasters.ground import (
    Bounds,
    Ground,
    bounds_text,
    crs_name,
    far_places,
    linear_metres,
    narrowest_longitudes,
    utm_code,
    window_bounds,
    zero_places,
)
from zoo.rasters.reading import check_vector_content

MAX_COORDINATE = 1e8
"""Metres from the origin of a projection beyond which a coordinate is damaged: the Earth's girth is 4e7 m."""

ZIP_SUFFIXES = (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".kml", ".gml")
"""Suffixes of vector files to look for in a zip."""

MAX_UNPACKED_BYTES = 4 * 2**30
"""Maximum unpacked size of a zip in bytes [O]; national inventories are below 1 GiB."""

TRUE_TO_SCALE = 0.01
"""Scale error of a projection above which distances are measured in UTM instead."""


def read_vector(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    where: str | None = None,
    columns: list[str] | None = None,
    what: str = "vector file",
    several: str = "Name one with --layer",
) -> geopandas.GeoDataFrame:
    """Read one layer of a vector file.

    Args:
        path: GeoPackage, Shapefile, GeoJSON, FlatGeobuf or any other format that contains its own features; or a zip
            with one of these, possibly in a folder.
        layer: name of the layer; ``None`` for the only one.
        where: SQL condition on the attributes; ``None`` for all features.
        columns: attributes to read; ``None`` for all. A column that is not read cannot be part of ``where``.
        what: role of the file, for errors.
        several: hint for a file with several layers.

    Raises:
        DataError: if the file is missing, damaged, another file in disguise, a table, or has no coordinate system.
        ConfigError: if the file has several layers and none is named, or the condition is not SQL.
        UnknownNameError: if a layer or column does not exist.
    """
    path = Path(path)
    if path.as_posix().startswith("/vsi"):
        raise DataError("virtual paths of GDAL are not opened", where=path, hint="Name the file, or the zip around it")
    if not path.exists():
        raise DataError(f"there is no such {what}", where=path)
    check_vector_content(path)
    source = _path_in_zip(path) if path.suffix.lower() == ".zip" and path.is_file() else os.fspath(path)
    names: list[str] = []
    try:
        layers = [str(name) for name in pyogrio.list_layers(source)[:, 0]]
        if layer is None and len(layers) > 1:
            raise ConfigError(f"holds several layers: {', '.join(layers)}", where=path, hint=several)
        if layer is not None and layer not in layers:
            raise UnknownNameError("layer", layer, layers, where=path)
        if not layers:
            raise DataError("holds no layer", where=path)
        info = pyogrio.read_info(source, layer=layer)
        names = [str(name) for name in info["fields"]]
        for name in columns or ():
            if name not in names:
                raise UnknownNameError("column", name, names, where=path)
        if info["geometry_type"] is None:
            raise DataError("is a table without geometries", where=path)
        if info["crs"] is None:
            raise DataError(
                "has no coordinate reference system, so it cannot be aligned with a scene",
                where=path,
                hint="Set the one that it was drawn in: ogr2ogr -a_srs EPSG:CODE OUT IN (the .prj of a Shapefile is "
                "missing)",
            )
        # For Shapefiles, GDAL silently finds no rows if a column of the condition is not read.
        wanted = None if where is not None else columns
        frame = geopandas.read_file(source, layer=layer, where=where, columns=wanted, engine="pyogrio")
    except (DataSourceError, OSError) as error:
        raise _unreadable(path, what, error) from error
    except (ValueError, DataLayerError, RuntimeError, shapely.GEOSException) as error:
        if where is None:
            raise _unreadable(path, what, error) from error
        raise ConfigError(
            f"the condition {where!r} cannot be applied",
            where=path,
            hint=f"Columns: {', '.join(names)} ({_reason(error)})",
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DataError("is a table without geometries", where=path)
    return frame


def _path_in_zip(path: Path) -> str:
    """Return GDAL's path of the only vector file in a zip.

    Raises:
        DataError: if the zip is damaged, contains no vector file or several, or is too large when unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if Path(info.filename).suffix.lower() in ZIP_SUFFIXES]
            named = [info for info in members if "__MACOSX" not in info.filename]
            if len(named) != 1:
                found = ", ".join(info.filename for info in named[:5]) or "none"
                raise DataError(
                    f"the zip must hold one vector file ({', '.join(ZIP_SUFFIXES)}); found: {found}",
                    where=path,
                    hint="Unpack it and name the file",
                )
            if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise DataError(
                    "is far too large for a vector file when unpacked", where=path, hint="Unpack it yourself"
                )
            if b"<OGR" in archive.open(named[0]).read(4096):
                raise DataError("holds a file that points to other files", where=path, hint="Save it as a GeoPackage")
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise DataError(
            "is a damaged or encrypted zip", where=path, hint=f"Copy it again, or unpack it ({_reason(error)})"
        ) from error
    return f"/vsizip/{{{path.resolve()}}}/{named[0].filename}"


def project(
    frame: geopandas.GeoDataFrame, crs: CRS, near: Bounds | None = None
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Return two-dimensional shapes in another coordinate system.

    Args:
        frame: shapes, none of them missing or empty.
        crs: target coordinate system.
        near: bounds of a raster in ``crs``. If ``crs`` is in degrees, longitudes are shifted by 360 to be near them: a
            file may use -180..180 or 0..360, and a raster may cross the antimeridian.

    Returns:
        Shapes, object (N,), and a bool (N,) that is false for those whose coordinates are damaged or do not exist in
        ``crs``.
    """
    shapes: NDArray[np.object_] = shapely.force_2d(frame.to_crs(crs.to_wkt()).geometry.to_numpy())
    bounds = np.concatenate([shapely.bounds(shapes), shapely.bounds(frame.geometry.to_numpy())], axis=1)
    limits = np.repeat([_max_coordinate(crs), _max_coordinate(CRS.from_wkt(frame.crs.to_wkt()))], 4)
    with np.errstate(invalid="ignore"):
        placed: NDArray[np.bool_] = (np.abs(bounds) <= limits).all(axis=1)
    # Bounds ignore NaN vertices, which cause errors in GEOS later.
    vertices, owner = shapely.get_coordinates(shapes, return_index=True)
    placed[owner[~np.isfinite(vertices).all(axis=1)]] = False
    if near is not None and crs.is_geographic:
        middle = (near[0] + near[2]) / 2
        left, _, right, _ = shapely.bounds(shapes).T
        far = placed & ((left < middle - 180) | (right > middle + 180) | (right - left > 180))
        shapes[far] = [_shift_longitudes(shape, middle) for shape in shapes[far]]
    return shapes, placed


def _shift_longitudes(shape: Any, middle: float) -> Any:
    """Return a shape whose parts are each shifted by a multiple of 360 degrees to lie nearest a longitude."""
    moved = []
    for part in shapely.get_parts(shape):
        left, _, right, _ = shapely.bounds(part)
        if right - left > 180:
            # An outline from 179.9 to -179.9 degrees crosses the antimeridian; a global one keeps its width.
            joined = shapely.transform(part, lambda points: np.column_stack([points[:, 0] % 360, points[:, 1]]))
            if 0 < np.ptp(shapely.bounds(joined)[[0, 2]]) < 180:
                part = joined
                left, _, right, _ = shapely.bounds(part)
        turns = round((middle - (left + right) / 2) / 360)
        moved.append(translate(part, 360 * turns))
    # Merge a landslide that was divided at the antimeridian.
    return moved[0] if len(moved) == 1 else shapely.union_all(shapely.make_valid(np.array(moved, object)))


def _max_coordinate(crs: CRS) -> float:
    return 1000.0 if crs.is_geographic else MAX_COORDINATE / linear_metres(crs)


def _unreadable(path: Path, what: str, error: Exception) -> DataError:
    return DataError(
        f"the {what} cannot be read: it is truncated or its format does not match its name",
        where=path,
        hint=f"GeoPackage, Shapefile and GeoJSON are read, and most other formats of GDAL ({_reason(error)})",
    )


def _reason(error: Exception) -> str:
    return first_line(error).split(";")[0]


class Area:
    """An area of interest on the grid of a raster.

    Args:
        path: vector file of polygons, in any coordinate system.
        grid: the raster.

    Raises:
        DataError: if the file is missing or damaged, has no coordinate system or no polygon, or covers another area.
    """

    def __init__(self, path: Path, grid: Grid) -> None:
        self.path = path
        self._transform = grid.transform
        shapes, _ = _polygons(path, grid, [])
        self._shapes = shapes[_touching_mask(shapes, grid, path)]
        self._tree: Any = shapely.STRtree(self._shapes)

    def covers(self, window: Window) -> NDArray[np.bool_]:
        """Return the mask of pixels of a window whose centre is in the area, bool (rows, columns)."""
        shape = (int(window.height), int(window.width))
        transform: Affine = window_transform(window, self._transform)
        near = self._tree.query(shapely.box(*window_bounds(transform, shape)))
        drawn = np.zeros(shape, dtype=np.uint8)
        if len(near):
            rasterize([(self._shapes[index], 1) for index in np.sort(near)], out=drawn, transform=transform)
        return drawn.astype(bool)


class Zones:
    """Named polygons, such as districts, on the grid of a raster. Polygons with the same name are one zone.

    Args:
        path: vector file of polygons, in any coordinate system.
        grid: the raster.
        column: attribute with the names.

    Raises:
        DataError: if the file is missing or damaged, has no coordinate system or no polygon, covers another area, or a
            polygon has no name.
        UnknownNameError: if there is no such attribute.

    Attributes:
        names: names of the zones that touch the raster, in alphabetical order.
    """

    def __init__(self, path: Path, grid: Grid, column: str) -> None:
        shapes, frame = _polygons(path, grid, [column])
        texts = frame[column]
        if texts.isna().any() or (texts.astype(str).str.strip() == "").any():
            raise DataError(f"a polygon has no {column}", where=path, hint="Name it, or leave it out")
        inside = _touching_mask(shapes, grid, path)
        found = texts.astype(str).str.strip().to_numpy()[inside]
        self.names: tuple[str, ...] = tuple(sorted(set(found)))
        self._shapes = shapes[inside]
        self._numbers = [self.names.index(name) + 1 for name in found]
        self._transform = grid.transform

    def numbers(self, window: Window) -> NDArray[np.int32]:
        """Return the zone of each pixel of a window, int32 (rows, columns): 1 for the first of ``names``, 0 for none.

        The centre of a pixel determines its zone. Where zones overlap, the last one in the file takes precedence.
        """
        drawn = np.zeros((int(window.height), int(window.width)), dtype=np.int32)
        rasterize(
            list(zip(self._shapes, self._numbers, strict=True)),
            out=drawn,
            transform=window_transform(window, self._transform),
        )
        return drawn


def _polygons(path: Path, grid: Grid, columns: list[str]) -> tuple[NDArray[np.object_], geopandas.GeoDataFrame]:
    """Return the polygons of a file in the coordinates of a raster, and their attributes.

    Raises:
        DataError: if there is no polygon, or one cannot be projected.
    """
    frame = read_vector(path, columns=columns, several="Save the layer as a separate file")
    given = frame.geometry.to_numpy()
    flat = ~shapely.is_missing(given) & (shapely.get_dimensions(given) == 2) & ~shapely.is_empty(given)
    if not flat.any():
        raise DataError("holds no polygon, so it is not an area", where=path)
    shapes, placed = project(frame[flat], grid.crs, window_bounds(grid.transform, grid.shape))
    if not placed.all():
        raise DataError(f"has coordinates that do not exist in {crs_name(grid.crs)}", where=path)
    valid: NDArray[np.object_] = shapely.make_valid(shapes)
    return valid, frame[flat]


def _touching_mask(shapes: NDArray[np.object_], grid: Grid, path: Path) -> NDArray[np.bool_]:
    """Return the mask of polygons that touch a raster.

    Raises:
        DataError: if none does.
    """
    box = shapely.box(*window_bounds(grid.transform, grid.shape))
    inside: NDArray[np.bool_] = shapely.intersects(shapes, box)
    if not inside.any():
        raise DataError(
            "no polygon of the area touches the scene",
            where=path,
            hint=f"In {crs_name(grid.crs)} the scene is {bounds_text(box.bounds)}, "
            f"and the area {bounds_text(shapely.total_bounds(shapes))}",
        )
    return inside


def read_features(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Read a vector file of points or polygons as a table.

    Args:
        path: GeoPackage, Shapefile, GeoJSON or FlatGeobuf with one layer of features.

    Returns:
        The attributes, without the geometry, and the centroid of each row: x and y in metres on the ground, float64
        (N, 2). A file whose units are not metres on the ground is projected to the UTM zone of its centre.

    Raises:
        DataError: if the file is missing or cannot be read, has no coordinate system, or a row has no location.
        ConfigError: if it has several layers.
    """
    frame = read_vector(path, several="Save the layer as a separate file")
    shapes = frame.geometry
    without = shapes.isna() | shapes.is_empty
    if without.any():
        raise DataError(
            f"row {int(np.flatnonzero(without)[0]) + 1} has no geometry",
            where=path,
            hint="Leave such rows out, or use a table without coordinates",
        )
    crs = CRS.from_wkt(frame.crs.to_wkt())
    _, placed = project(frame, crs)
    if not placed.all():
        raise DataError(f"row {int(np.flatnonzero(~placed)[0]) + 1} has damaged coordinates", where=path)
    _check_zeros(_centroids(shapes.to_numpy()), path, degrees=crs.is_geographic)
    centres = _centres_in_metres(frame, crs)
    if not np.isfinite(centres).all():
        raise DataError("has coordinates that cannot be projected to metres", where=path)
    return pd.DataFrame(frame.drop(columns=frame.geometry.name)), centres


def _centres_in_metres(frame: geopandas.GeoDataFrame, crs: CRS) -> NDArray[np.float64]:
    """Return the centroids of features in metres on the ground, float64 (N, 2), NaN where there are none."""
    shapes = frame.geometry
    if not len(shapes) or _is_true_to_scale(crs, shapes.total_bounds):
        return _centroids(shapes.to_numpy())
    flat, placed = project(frame, CRS.from_epsg(4326))
    if not placed.all():
        return np.full((len(frame), 2), np.nan)
    flat = _joined(flat)
    longitude = _centroids(flat)[:, 0]
    turns = np.rint((narrowest_longitudes(longitude) - longitude) / 360)
    flat = np.array([translate(one, 360 * turn) for one, turn in zip(flat, turns, strict=True)], object)
    left, bottom, right, top = (float(bound) for bound in shapely.total_bounds(flat))
    zone = utm_code((left, bottom, right, top), CRS.from_epsg(4326))
    return _centroids(geopandas.GeoSeries(flat, crs="EPSG:4326").to_crs(zone).to_numpy())


def _centroids(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the centroids of shapes, float64 (N, 2)."""
    found: NDArray[np.float64] = shapely.get_coordinates(shapely.centroid(shapes))
    return found


def _joined(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return shapes in degrees, with those that cross 180 degrees joined."""
    left, _, right, _ = shapely.bounds(shapes).T
    found = shapes.copy()
    for place in np.flatnonzero(right - left > 180):
        found[place] = _shift_longitudes(shapes[place], 180.0)
    return found


def read_places(
    path: str | os.PathLike[str],
    columns: list[str],
    notes: list[str],
    *,
    layer: str | None = None,
    where: str | None = None,
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Read the locations of the features of a vector file.

    Args:
        path: points or polygons, such as an inventory.
        columns: attributes to read.
        notes: receives sentences about features without a location, and about locations far from the others.
        layer, where: see :func:`read_vector`.

    Returns:
        The attributes of the features that have a location, and longitude and latitude of their centroids, float64 (N,
        2). Longitudes of places on both sides of 180 degrees go beyond 180.

    Raises:
        DataError: if the file is missing or damaged, or no feature has a location.
    """
    frame = read_vector(path, layer=layer, where=where, columns=columns, what="inventory")
    whole = len(frame)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if not len(frame):
        raise DataError("holds no feature with a geometry", where=path)
    shapes, placed = project(frame, CRS.from_epsg(4326))
    if not placed.any():
        raise DataError("has coordinates that do not exist on Earth", where=path)
    if placed.sum() < whole:
        notes.append(f"{whole - int(placed.sum())} landslides without a valid location were left out")
    centres = _centroids(_joined(shapes[placed]))
    _check_zeros(centres, path, degrees=True)
    centres[:, 0] = narrowest_longitudes(centres[:, 0])
    far = far_places(centres)
    if far.any():
        x, y = centres[far][0]
        notes.append(f"{int(far.sum())} landslides lie far from all others, such as {x:.4f}, {y:.4f}: check them")
    return pd.DataFrame(frame[placed].drop(columns=frame.geometry.name)).reset_index(drop=True), centres


def _check_zeros(centres: NDArray[np.float64], path: str | os.PathLike[str], *, degrees: bool) -> None:
    """Refuse features whose missing coordinates were written as zeros.

    Raises:
        DataError: if there are any.
    """
    zeros = zero_places(centres[:, 0], centres[:, 1], degrees=degrees)
    if zeros.any():
        raise DataError(
            f"{int(zeros.sum())} features lie at 0, 0, which means that their coordinates are missing",
            where=path,
            hint="Leave them out of the file",
        )


def _is_true_to_scale(crs: CRS, bounds: Any) -> bool:
    """Return whether a unit of the system is a metre on the ground in the middle of ``bounds``."""
    left, bottom, right, top = (float(edge) for edge in bounds)
    across, along = Ground(crs).scale((left + right) / 2, (bottom + top) / 2)
    return not crs.is_geographic and max(abs(across - 1), abs(along - 1)) <= TRUE_TO_SCALE
