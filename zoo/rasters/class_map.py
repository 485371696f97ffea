"""Class maps: area of each class, random samples per class, and classes at given points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.rasters.grid import PixelGrid, windows
from zoo.rasters.ground import PixelAreas, bounds_text, crs_name, window_bounds
from zoo.rasters.pixel_sample import ReservoirSample
from zoo.rasters.polygons import GEOPACKAGE, FeatureWriter
from zoo.rasters.reading import RasterReader
from zoo.rasters.vectors import project, read_vector

BLOCK = 512
"""Side of a window in pixels. All pixels of a window are assigned its mean pixel area."""

MAX_CLASSES = 100
"""Maximum number of classes; a raster with more distinct values holds measurements [O]."""

MAP_CLASS, REFERENCE = "map_class", "reference"
"""Columns of a sample: the class on the map, and the reference class, to be filled in by hand."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class ClassMap:
    """A raster of classes.

    Attributes:
        path: file of the map.
        grid: grid of the map.
        names: class names by number; a class without a name is shown by its number.
        read: function that returns the class numbers of a window, float32 (rows, columns), NaN for nodata.
    """

    path: Path
    grid: PixelGrid
    names: Mapping[int, str]
    read: Callable[[Window], NDArray[np.float32]]

    def name(self, number: int) -> str:
        """Return the name of a class."""
        return self.names.get(number, str(number))


@dataclass(frozen=True)
class Stratum:
    """A class of a map.

    Attributes:
        number: number of the class on the map.
        name: name of the class.
        pixels: number of pixels.
        area: geodesic area in m2.
        drawn: row and column of random pixels, in random order, int64 (n, 2).
    """

    number: int
    name: str
    pixels: int
    area: float
    drawn: Places


@dataclass(frozen=True)
class SamplePoints:
    """Points of a sample on the grid of a map.

    Attributes:
        path: file of the points.
        places: row and column of the pixel under each point, int64 (N, 2).
        references: reference class of each point, as in the file.
        mapped: class on the map stated in the file for each point; None if the file has no such column.
    """

    path: Path
    places: Places
    references: tuple[str, ...]
    mapped: tuple[str, ...] | None


def open_class_map(reader: RasterReader) -> ClassMap:
    """Return the class map of an open raster; class names come from its tags ``CLASS_1``, ``CLASS_2``, ...

    Raises:
        DataError: if the raster has several bands or no georeference.
    """
    path = Path(reader.path)
    if len(reader.bands) != 1:
        raise DataError(f"has {len(reader.bands)} bands; a class map has one", where=path)
    crs = reader.require_place()
    tags = reader.band_tags(0)
    numbered = {key.removeprefix("CLASS_"): name for key, name in tags.items() if key.startswith("CLASS_")}
    names = {int(key): name for key, name in numbered.items() if key.isdecimal()}
    grid = PixelGrid(crs, reader.transform, reader.shape)
    return ClassMap(path, grid, names, lambda window: reader.read(window)[0])


def survey(
    classes: ClassMap,
    *,
    draw: int = 0,
    seed: int = 0,
    places: Places | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[tuple[Stratum, ...], NDArray[np.float32]]:
    """Read a class map once, window by window.

    Args:
        classes: the map.
        draw: number of pixels to draw from each class, uniformly at random; all pixels if the class has fewer.
        seed: random seed.
        places: row and column of pixels to look up, int64 (N, 2); None for none.
        progress: called with the number of windows done and the total.

    Returns:
        The classes by number, and the class number at each place, float32 (N,), NaN on nodata.

    Raises:
        DataError: if the map has no classes, too many classes, or fractional values.
    """
    areas = PixelAreas(classes.grid.crs, classes.grid.transform, classes.grid.shape)
    places = np.empty((0, 2), np.int64) if places is None else places
    at = np.full(len(places), np.nan, np.float32)
    pixels: dict[int, int] = {}
    metres: dict[int, float] = {}
    samples: dict[int, ReservoirSample] = {}
    blocks = windows(classes.grid.shape, BLOCK)
    for position, window in enumerate(blocks):
        values = classes.read(window)
        corner = np.array([window.row_off, window.col_off])
        inside = ((places >= corner) & (places < corner + values.shape)).all(axis=1)
        rows, columns = (places[inside] - corner).T
        at[inside] = values[rows, columns]
        numbers, counts = np.unique(values[np.isfinite(values)], return_counts=True)
        if (numbers != np.rint(numbers)).any() or len({*pixels, *numbers.tolist()}) > MAX_CLASSES:
            raise DataError(
                f"holds fractions or more than {MAX_CLASSES} numbers, so it is not a class map",
                where=classes.path,
                hint="Name a map of classes (zoo map --classes), or a probability that zoo map wrote",
            )
        rng = np.random.default_rng([seed, position])
        for number, count in zip(numbers.astype(int).tolist(), counts.tolist(), strict=True):
            pixels[number] = pixels.get(number, 0) + count
            metres[number] = metres.get(number, 0.0) + count * areas.mean(window)
            if draw:
                found = (np.argwhere(values == number) + corner).astype(np.float64)
                samples.setdefault(number, ReservoirSample(draw, 2)).offer(rng.random(count), found.__getitem__)
        if progress is not None:
            progress(position + 1, len(blocks))
    if not pixels:
        raise DataError("has no pixel with a class", where=classes.path)
    nothing = np.empty((0, 2), np.int64)
    return tuple(
        Stratum(
            number,
            classes.name(number),
            pixels[number],
            metres[number],
            samples[number].rows().astype(np.int64) if draw else nothing,
        )
        for number in sorted(pixels)
    ), at


def write_points(path: Path, classes: ClassMap, places: Places, names: list[str], seed: int) -> None:
    """Write pixel centres as points with their class on the map and an empty reference class.

    Args:
        path: GeoPackage; written atomically.
        classes: the map.
        places: row and column of each point, int64 (N, 2).
        names: class of each point on the map.
        seed: random seed of the sample, stored in the file.

    Raises:
        ZooError: if the file cannot be written.
    """
    rows, columns = places.T
    x, y = classes.grid.transform * (columns + 0.5, rows + 0.5)
    frame = geopandas.GeoDataFrame(
        {"id": np.arange(1, len(places) + 1), MAP_CLASS: names, REFERENCE: [""] * len(places)},
        geometry=shapely.points(x, y),
        crs=classes.grid.crs.to_wkt(),
    )
    with FeatureWriter(path, classes.grid.crs, {"MAP": classes.path.name, "SEED": str(seed)}, "Point") as writer:
        writer.write(frame)
        writer.publish()


def check_points(path: Path) -> None:
    """Check the file name of a sample before it is drawn.

    Raises:
        ConfigError: if the name does not end in .gpkg.
    """
    if path.suffix.lower() not in GEOPACKAGE:
        raise ConfigError("points are written as GeoPackage", where=path, hint="Name it points.gpkg")


def read_points(path: Path, classes: ClassMap, column: str = REFERENCE) -> SamplePoints:
    """Read the points of a sample and locate them on the pixels of a map.

    Args:
        path: vector file of points, in any coordinate system.
        classes: the map.
        column: column with the reference class.

    Raises:
        DataError: if the file cannot be read or holds no points, or a point has no reference class, is outside the
            map, or is in the same pixel as another point.
        UnknownNameError: if there is no such column.
    """
    frame = read_vector(path, several="Save the layer as a separate file", what="sample")
    if column not in frame.columns:
        # The error of this call lists the columns of the file.
        read_vector(path, columns=[column])
    if not len(frame):
        raise DataError("holds no points", where=path)
    shapes = frame.geometry
    _raise_row_error(
        path, np.asarray(shapes.isna() | shapes.is_empty | (shapes.geom_type != "Point")), "is not a point"
    )
    references = _labels(frame[column])
    _raise_row_error(
        path,
        np.array([not reference for reference in references]),
        f"has no {column}",
        "Fill in the reference class of every point. Leaving out a point makes the estimates wrong",
    )
    bounds = window_bounds(classes.grid.transform, classes.grid.shape)
    points, placed = project(frame, classes.grid.crs, bounds)
    _raise_row_error(path, ~placed, f"has coordinates that do not exist in {crs_name(classes.grid.crs)}")
    columns, rows = ~classes.grid.transform * shapely.get_coordinates(points).T
    places = np.floor(np.stack([rows, columns], axis=1)).astype(np.int64)
    map_bounds = bounds_text(bounds)
    own_bounds = bounds_text(shapely.total_bounds(points))
    _raise_row_error(
        path,
        ((places < 0) | (places >= classes.grid.shape)).any(axis=1),
        "lies outside the map",
        f"In {crs_name(classes.grid.crs)} the map is {map_bounds}, and the points are {own_bounds}. "
        "Check the coordinate reference system of the points",
    )
    _, first = np.unique(places, axis=0, return_index=True)
    repeated = np.ones(len(places), bool)
    repeated[first] = False
    _raise_row_error(path, repeated, "lies in the same pixel as an earlier one", "Leave it out: a pixel counts once")
    mapped = tuple(_labels(frame[MAP_CLASS])) if MAP_CLASS in frame.columns else None
    return SamplePoints(path, places, tuple(references), mapped)


def _labels(values: geopandas.GeoSeries) -> list[str]:
    """Return classes as text: integers without a decimal point, and an empty string for missing values."""
    numeric = values.dtype.kind in "iuf"
    return [
        "" if missing else f"{value:g}" if numeric else str(value).strip()
        for value, missing in zip(values, values.isna(), strict=True)
    ]


def _raise_row_error(path: Path, wrong: NDArray[np.bool_], problem: str, hint: str | None = None) -> None:
    if not wrong.any():
        return
    first, more = int(np.flatnonzero(wrong)[0]) + 1, int(wrong.sum()) - 1
    raise DataError(f"row {first} {problem}{f' (and {more} more)' if more else ''}", where=path, hint=hint)
