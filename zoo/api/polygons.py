"""``zoo.polygons``: outline the landslides of a finished map."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.jobs import ProgressCallback
    from zoo.mapping.output import ProbabilityMap
    from zoo.rasters.polygons import PolygonReport


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
    """Outline the landslides of a finished map, with another threshold or smallest area than the map's.

    Args:
        probability: a map that ``zoo map`` or :meth:`TrainedModel.map` wrote.
        out: GeoPackage (``.gpkg``) or GeoParquet (``.parquet``) file; it appears when it is complete.
        scene: the rasters that were mapped; their band ``slope`` gives each polygon its mean slope.
        threshold: probability from which a pixel belongs to a landslide; ``None`` for the map's.
        min_area: area in m2 below which a polygon is left out.
        overwrite: replace an existing file.
        progress: called with the number of blocks done and the number of all blocks.

    Returns:
        The number of polygons, their area, and the number that was left out.

    Raises:
        ConfigError: if ``out`` exists or has another suffix, or the threshold is not a probability.
        DataError: if ``probability`` is no such map, has no threshold, or ``scene`` does not lie on its pixels.

    Example:
        >>> report = zoo.polygons("prob.tif", "slides.gpkg", threshold=0.7, min_area=1000)  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        57 polygons, 1.234 km2; 12 smaller ones left out
    """
    from zoo.files import check_output
    from zoo.mapping.output import ProbabilityMap, map_polygons
    from zoo.mapping.scene import Scene
    from zoo.rasters.polygons import check_polygons

    probability, out = Path(probability), Path(out)
    rasters = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
    check_polygons(out)
    check_output(out, [probability, *map(Path, rasters)], overwrite=overwrite)
    with ExitStack() as exits:
        found = exits.enter_context(ProbabilityMap(probability))
        if threshold is None:
            threshold = own_threshold(found, probability)
        mapped = exits.enter_context(Scene(rasters, ())) if rasters else None
        if mapped is not None and (mapped.shape != found.stack.shape or mapped.mosaic.crs != found.stack.crs):
            raise DataError(
                "does not lie on the pixels of the map", where=rasters[0], hint="Name the rasters that were mapped"
            )
        return map_polygons(found, mapped, out, threshold, min_area=min_area, progress=progress)


def own_threshold(found: ProbabilityMap, path: Path) -> float:
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
