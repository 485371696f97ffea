"""Work with a finished map: ``zoo.polygons`` outlines its landslides; ``zoo.draw_sample`` and ``zoo.accuracy`` estimate
its accuracy and the areas of its classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import PathLike, check_output

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.windows import Window

    from zoo.evaluation.area_accuracy import AreaAccuracy
    from zoo.jobs import ProgressCallback
    from zoo.mapping.output import ProbabilityMap
    from zoo.rasters.class_map import ClassMap, SamplePoints, Stratum
    from zoo.rasters.polygons import PolygonReport


BACKGROUND, LANDSLIDE = "background", "landslide"


def accuracy(
    map: PathLike,
    samples: PathLike,
    *,
    column: str = "reference",
    threshold: float | None = None,
    progress: ProgressCallback | None = None,
) -> AreaAccuracy:
    """Estimate the accuracy of a map and the true areas of its classes from a stratified random sample of points.

    Counting the pixels of a map gives biased areas, because the map has errors. The points correct the bias: each
    point represents a share of its class on the map. Source: Olofsson et al. (2014), doi:10.1016/j.rse.2014.02.015.

    Args:
        map: a raster of classes (integers), such as the output of ``zoo map --classes``; or a probability that ``zoo
            map`` wrote, whose classes are ``background`` and ``landslide``.
        samples: vector file of points in any coordinate system, drawn at random within each class of the map, as by
            :func:`draw_sample`.
        column: column with the class on the ground, by name or by number.
        threshold: probability at or above which a pixel of a probability map counts as landslide; ``None`` for the
            map's.
        progress: called with the number of windows done and the total.

    Returns:
        The error matrix in points and in shares of the area; overall, user's and producer's accuracy (0..1); areas in
        km2, geodesic; all with standard errors.

    Raises:
        DataError: if a file cannot be read, the raster is not a class map, or a point has no class or an unknown one,
            is outside the map or on nodata, shares its pixel with another point, or was drawn from another map; or if a
            class of the map has fewer than two points.
        ConfigError: if the map has no threshold and needs one, or a threshold is given for a map of classes.

    Examples:
        >>> found = zoo.accuracy("prob.tif", "points.gpkg")  # doctest: +SKIP
        >>> found.area_km2, found.area_intervals()  # doctest: +SKIP
    """
    from zoo.evaluation.area_accuracy import estimate_areas
    from zoo.rasters.class_map import read_points, survey

    with _opened(Path(map), threshold) as classes:
        points = read_points(Path(samples), classes, column)
        strata, numbers = survey(classes, places=points.places, progress=progress)
    counts = _count(points, strata, numbers)
    return estimate_areas(
        [stratum.name for stratum in strata], counts, np.array([stratum.area / 1e6 for stratum in strata])
    )


def draw_sample(
    map: PathLike,
    out: PathLike,
    count: int,
    *,
    threshold: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, int]:
    """Draw a stratified random sample of the pixels of a map, for visual interpretation.

    A rare class gets 50 points; the others get a number in proportion to their area, as Olofsson et al. (2014) advise.
    The points are in random order.

    Args:
        map: see :func:`accuracy`.
        out: GeoPackage of points in the coordinates of the map, with the columns ``id``, ``map_class`` and an empty
            ``reference``; it appears when it is complete.
        count: number of points, at least two for each class.
        threshold: see :func:`accuracy`.
        seed: random seed; the same seed gives the same points.
        overwrite: replace an existing file.
        progress: called with the number of windows done and the total.

    Returns:
        The number of points by class; a class with fewer pixels than that gets one point per pixel.

    Raises:
        ConfigError: if ``out`` exists or has another suffix, or ``count`` is too small.
        DataError: if the raster cannot be read or is not a class map.

    Examples:
        >>> zoo.draw_sample("prob.tif", "points.gpkg", 300)  # doctest: +SKIP
        {'background': 250, 'landslide': 50}
    """
    from zoo.evaluation.area_accuracy import allocate_points
    from zoo.rasters.class_map import check_points, survey, write_points

    out = Path(out)
    check_points(out)
    check_output(out, [Path(map)], overwrite=overwrite)
    if count < 1:
        raise ConfigError(f"a sample cannot have {count} points", hint="Give a number such as 300")
    with _opened(Path(map), threshold) as classes:
        strata, _ = survey(classes, draw=count, seed=seed, progress=progress)
        if count < 2 * len(strata):
            raise ConfigError(
                f"{count} points are too few for {len(strata)} classes", hint="Give at least 50 for each class"
            )
        shares = allocate_points([stratum.pixels for stratum in strata], count)
        places = np.concatenate([stratum.drawn[:share] for stratum, share in zip(strata, shares, strict=True)])
        names = [stratum.name for stratum, share in zip(strata, shares, strict=True) for _ in range(share)]
        # Points ordered by class would reveal the class on the map to the interpreter.
        order = np.random.default_rng(seed).permutation(len(places))
        write_points(out, classes, places[order], [names[index] for index in order], seed)
    return {stratum.name: share for stratum, share in zip(strata, shares, strict=True)}


@contextmanager
def _opened(path: Path, threshold: float | None) -> Iterator[ClassMap]:
    """Open a map of classes, or the two classes of a probability that ``zoo map`` wrote."""
    from zoo.mapping.output import PROBABILITY, ProbabilityMap
    from zoo.rasters.class_map import ClassMap, open_class_map
    from zoo.rasters.grid import PixelGrid
    from zoo.rasters.reading import RasterReader

    with RasterReader(path, classes=True) as reader:
        if reader.bands[0].name != PROBABILITY.name:
            if threshold is not None:
                raise ConfigError("holds classes, which need no threshold", where=path, hint="Leave out --threshold")
            yield open_class_map(reader)
            return
    with ProbabilityMap(path) as found:
        stack = found.stack
        level = np.float32(found.threshold(_tagged_threshold(found, path) if threshold is None else threshold))
        grid = PixelGrid(stack.crs, stack.transform, stack.shape)

        def read(window: Window) -> NDArray[np.float32]:
            values = found.read(window)
            return np.where(np.isnan(values), np.nan, values >= level).astype(np.float32)

        yield ClassMap(path, grid, {0: BACKGROUND, 1: LANDSLIDE}, read)


def _count(points: SamplePoints, strata: tuple[Stratum, ...], numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the error matrix in points, int64 (k, k)."""
    order = {stratum.number: place for place, stratum in enumerate(strata)}
    columns = {str(stratum.number): place for place, stratum in enumerate(strata)}
    columns |= {stratum.name: place for place, stratum in enumerate(strata)}
    counts = np.zeros((len(strata), len(strata)), np.int64)
    for row, (number, reference) in enumerate(zip(numbers, points.references, strict=True)):
        if np.isnan(number):
            raise DataError(f"row {row + 1} lies on nodata of the map", where=points.path, hint="Leave it out")
        stratum = strata[order[int(number)]]
        if points.mapped is not None and points.mapped[row] not in (stratum.name, str(stratum.number)):
            raise DataError(
                f"row {row + 1} was drawn as {points.mapped[row]}, but the map says {stratum.name}",
                where=points.path,
                hint="Name the map and the threshold that the sample was drawn from: strata of another map make the "
                "estimates wrong",
            )
        if reference not in columns:
            raise UnknownNameError(
                "class", reference, [stratum.name for stratum in strata], where=f"{points.path}, row {row + 1}"
            )
        counts[order[int(number)], columns[reference]] += 1
    return counts


def polygons(
    probability: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scene: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    threshold: float | None = None,
    min_area: float = 0.0,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> PolygonReport:
    """Outline the landslides of a finished map; the threshold and the minimum area may differ from the map's.

    Args:
        probability: a map that ``zoo map`` or :meth:`TrainedModel.map` wrote.
        out: GeoPackage (``.gpkg``) or GeoParquet (``.parquet``) file; it appears when it is complete.
        scene: the rasters that were mapped; their band ``slope`` gives each polygon its mean slope.
        threshold: probability at or above which a pixel belongs to a landslide; ``None`` for the map's.
        min_area: area in m2 below which a polygon is left out.
        overwrite: replace an existing file.
        progress: called with the number of blocks done and the total.

    Returns:
        The number of polygons, their area, and the number of polygons left out.

    Raises:
        ConfigError: if ``out`` exists or has another suffix, or the threshold is not a probability.
        DataError: if ``probability`` is not such a map or has no threshold, or ``scene`` is not on its pixel grid.

    Example:
        >>> report = zoo.polygons("prob.tif", "slides.gpkg", threshold=0.7, min_area=1000)  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        57 polygons, 1.234 km2; 12 smaller ones left out
    """
    from zoo.mapping.output import ProbabilityMap, map_polygons
    from zoo.mapping.scene import Scene
    from zoo.rasters.polygons import check_polygons
    from zoo.rasters.stacks import same_pixels

    probability, out = Path(probability), Path(out)
    rasters = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
    check_polygons(out)
    check_output(out, [probability, *map(Path, rasters)], overwrite=overwrite)
    with ExitStack() as exits:
        found = exits.enter_context(ProbabilityMap(probability))
        if threshold is None:
            threshold = _tagged_threshold(found, probability)
        mapped = exits.enter_context(Scene(rasters, ())) if rasters else None
        if mapped is not None and not same_pixels(mapped.mosaic, found.stack):
            raise DataError(
                "is not on the pixel grid of the map", where=rasters[0], hint="Name the rasters that were mapped"
            )
        return map_polygons(found, mapped, out, threshold, min_area=min_area, progress=progress)


def _tagged_threshold(found: ProbabilityMap, path: Path) -> float:
    tag = found.stack.tags.get("THRESHOLD")
    if tag is None:
        raise DataError("has no threshold in its tags", where=path, hint="Give one: --threshold 0.5")
    try:
        threshold = float(tag)
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise DataError(f"its threshold tag is {tag!r}", where=path, hint="Give --threshold 0.5")
    return threshold
