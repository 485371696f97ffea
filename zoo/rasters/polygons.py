"""Write landslide polygons from a probability raster of any size, read block by block."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import geopandas
import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError, first_line
from zoo.files import Closable, move_into_place, unwritable, working_folder
from zoo.rasters.cog import as_bytes, free_space
from zoo.rasters.grid import windows
from zoo.rasters.ground import Ground, PixelAreas
from zoo.rasters.regions import Region, RegionSweep

if TYPE_CHECKING:
    import pyarrow


BLOCK = 1024
"""Side of a block in pixels."""

WRITE_BATCH = 20_000
"""Number of polygons per write."""

AREA_TOLERANCE = 1e-9
"""Tolerance that keeps a polygon of exactly the minimum area in spite of rounding."""

Reader = Callable[[Window], NDArray[np.float32]]


@dataclass(frozen=True)
class PolygonOptions:
    """Options for polygons: threshold, minimum area and classes.

    Attributes:
        threshold: probability at or above which a pixel belongs to a landslide, 0..1.
        min_area: minimum area of a polygon in m2; smaller ones are excluded.
        classes: (minimum mean probability, name), increasing from 0; a polygon gets the last class that it reaches.
        block: side of a block in pixels; the polygons do not depend on it.

    Raises:
        ConfigError: if the threshold is outside 0..1, the area is negative, or the classes do not increase from 0.
    """

    threshold: float
    min_area: float = 0.0
    classes: Sequence[tuple[float, str]] = ((0.0, "landslide"),)
    block: int = BLOCK

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"a threshold of {self.threshold:g}", hint="Give a probability from 0 to 1")
        if not (math.isfinite(self.min_area) and self.min_area >= 0):
            raise ConfigError(f"a minimum area of {self.min_area:g} m2", hint="Give square metres, such as 500")
        starts = [start for start, _ in self.classes]
        if not starts or starts[0] != 0 or any(one >= other for one, other in pairwise(starts)):
            raise ConfigError(
                "the class breaks of polygons do not increase from 0", hint="Such as 0 low, 0.5 medium, 0.8 high"
            )


@dataclass
class PolygonReport:
    """The result of :func:`write_polygons`.

    Attributes:
        polygons: number of polygons.
        area: total geodesic area in m2.
        left_out: number of regions below the minimum area.
        by_class: number of polygons by class.
    """

    polygons: int = 0
    area: float = 0.0
    left_out: int = 0
    by_class: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        small = f"; {self.left_out:,} smaller ones left out" if self.left_out else ""
        return f"{self.polygons:,} polygons, {self.area / 1e6:,.3f} km2{small}"


def write_polygons(
    out: Path,
    *,
    shape: tuple[int, int],
    transform: Affine,
    crs: CRS,
    probability: Reader,
    options: PolygonOptions,
    slope: Reader | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PolygonReport:
    """Write a polygon for each connected region (4-neighbourhood) of pixels at or above the threshold.

    The polygons do not depend on the blocks. Only one block and the polygons that cross the current row of blocks are
    in memory. Columns: ``id`` from 1, ``area_m2`` (geodesic), ``pixels``, ``mean_probability``, ``max_probability``,
    ``mean_slope_degree`` if there is a slope (NaN where it is unknown), ``class``.

    Args:
        out: GeoPackage or GeoParquet, by suffix; written atomically, and valid even without polygons.
        shape: (rows, columns) of the raster.
        transform: transform from (column, row) to coordinates of ``crs``.
        crs: coordinate system of the raster and the polygons.
        probability: function that returns a window, float32 (rows, columns), 0..1, NaN for nodata.
        options: threshold, minimum area, classes.
        slope: function that returns the slope in degrees likewise; ``None`` for none.
        metadata: metadata to store in the file.
        progress: called with the number of blocks done and the total.

    Raises:
        ConfigError: if the suffix is unknown.
        ZooError: if a raster is truncated, or the disk is full.
    """
    report = PolygonReport(by_class={name: 0 for _, name in options.classes})
    ground = Ground(crs)
    sweep = RegionSweep(shape[1], _min_pixels(options.min_area, crs, transform, shape))
    threshold = np.float32(options.threshold)
    blocks = windows(shape, options.block)
    tags = {"THRESHOLD": f"{options.threshold:.6g}", "LEAST_AREA_M2": f"{options.min_area:g}", **(metadata or {})}
    with FeatureWriter(out, crs, tags) as writer:
        # The first batch is empty: it defines the columns even when there is no landslide.
        writer.write(_polygon_frame([], ground, transform, options, report, slope is not None))
        waiting: list[Region] = []
        for number, window in enumerate(blocks, 1):
            values = probability(window)
            with np.errstate(invalid="ignore"):
                mask = values >= threshold
            layers = [values]
            if slope is not None:
                layers.append(slope(window) if mask.any() else values)
            waiting += sweep.add(window, mask, layers)
            if number == len(blocks):
                waiting += sweep.finish()
            if len(waiting) >= WRITE_BATCH or (waiting and number == len(blocks)):
                writer.write(_polygon_frame(waiting, ground, transform, options, report, slope is not None))
                waiting = []
            if progress is not None:
                progress(number, len(blocks))
        report.left_out += sweep.left_out
        writer.publish()
    return report


def _min_pixels(min_area: float, crs: CRS, transform: Affine, shape: tuple[int, int]) -> int:
    """Return the minimum pixels of a region with the minimum area, to drop smaller ones early."""
    areas = PixelAreas(crs, transform, shape)
    corners = [areas.mean(window) for window in windows(shape, max(1, -(-max(shape) // 8)))]
    # The pixel area varies within these windows, and only regions that are certainly too small may be dropped here.
    return max(1, math.ceil(min_area / (1.05 * max(corners))))


def _polygon_frame(
    regions: Sequence[Region],
    ground: Ground,
    transform: Affine,
    options: PolygonOptions,
    report: PolygonReport,
    with_slope: bool,
) -> geopandas.GeoDataFrame:
    """Return the regions that are large enough as rows, and count them in ``report``."""
    outlines = np.empty(len(regions), object)
    outlines[:] = [region.outline for region in regions]
    a, b, c, d, e, f = transform[:6]
    # North-up grids reverse the order of corners; vector formats want exterior rings counter-clockwise.
    placed = shapely.orient_polygons(
        shapely.transform(outlines, lambda x, y: (a * x + b * y + c, d * x + e * y + f), interleaved=False)
    )
    pixels = np.array([region.pixels for region in regions], np.int64)
    areas = ground.areas(placed)
    kept = np.flatnonzero(areas >= options.min_area * (1 - AREA_TOLERANCE))
    means = np.array([region.means() for region in regions], np.float64).reshape(len(regions), 1 + with_slope)
    starts = [start for start, _ in options.classes]
    names = np.array([name for _, name in options.classes], object)
    probability = means[kept, 0]
    classes = names[np.searchsorted(starts, probability, side="right") - 1]
    columns: dict[str, NDArray[np.generic]] = {
        "id": np.arange(report.polygons + 1, report.polygons + 1 + len(kept), dtype=np.int64),
        "area_m2": areas[kept],
        "pixels": pixels[kept],
        "mean_probability": probability,
        "max_probability": np.array([region.highest for region in regions], np.float64)[kept],
    }
    if with_slope:
        columns["mean_slope_degree"] = means[kept, 1]
    columns["class"] = classes.astype(object)
    report.polygons += len(kept)
    report.left_out += len(regions) - len(kept)
    report.area += float(areas[kept].sum())
    for name in classes:
        report.by_class[name] += 1
    return geopandas.GeoDataFrame(columns, geometry=placed[kept], crs=ground.crs.to_wkt())


GEOPACKAGE, GEOPARQUET = (".gpkg",), (".parquet", ".geoparquet")

GEOPACKAGE_DATE = "1980-01-01T00:00:00.000Z"
"""Date of change in every GeoPackage, so that the same command writes the same bytes."""

_PYOGRIO_ERRORS = (DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)


def check_polygons(path: Path) -> None:
    """Check the name of a polygon file before any work is done.

    Raises:
        ConfigError: if the suffix is neither GeoPackage nor GeoParquet, or pyarrow is not installed for GeoParquet.
    """
    suffix = path.suffix.lower()
    if suffix not in GEOPACKAGE + GEOPARQUET:
        raise ConfigError(
            f"polygons cannot be written as {suffix!r}" if suffix else "the name has no suffix",
            where=path,
            hint="Name it .gpkg (GeoPackage) or .parquet (GeoParquet)",
        )
    if suffix in GEOPARQUET and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("GeoParquet needs pyarrow", where=path, hint="Run: pip install pyarrow, or name it .gpkg")


class FeatureWriter(Closable):
    """Writer of polygons or points with attributes; a context manager.

    The working file is in a hidden folder next to ``path``, which is removed when the block ends, even on Ctrl-C.
    ``path`` is created only by :meth:`publish`. All batches have the columns of the first one; a single empty batch
    gives a valid file.

    Args:
        path: see :func:`check_polygons`.
        crs: coordinate system of the features.
        metadata: metadata to store in the file, by name.
        geometry: geometry type of the features.

    Raises:
        ConfigError: as in :func:`check_polygons`.
        ZooError: if the folder cannot be written to.
    """

    def __init__(
        self, path: Path, crs: CRS, metadata: Mapping[str, str], geometry: Literal["Polygon", "Point"] = "Polygon"
    ) -> None:
        check_polygons(path)
        self.path, self._metadata, self._geometry = path, dict(metadata), geometry
        self.crs = pyproj.CRS.from_user_input(crs.to_wkt())
        self._exits = ExitStack()
        self._work = self._exits.enter_context(working_folder(path)) / f"work{path.suffix.lower()}"
        self._parquet: Any = None
        self._bounds: list[tuple[float, float, float, float]] = []
        self._started = False

    def write(self, polygons: geopandas.GeoDataFrame) -> None:
        """Add features, in the coordinates of ``crs``.

        Raises:
            ZooError: if the disk is full.
        """
        with self._writing():
            if self.path.suffix.lower() in GEOPACKAGE:
                self._to_geopackage(polygons)
            else:
                self._to_geoparquet(polygons)
        self._started = True

    def publish(self) -> None:
        """Move the file to its final name.

        Raises:
            ZooError: if the disk is full, or nothing was written, not even an empty batch.
        """
        assert self._started, "a file without a batch has no columns"
        with self._writing():
            if self._parquet is not None:
                self._parquet.add_key_value_metadata({"geo": json.dumps(self._geo())})
                self._parquet.close()
                self._parquet = None
        move_into_place(self._work, self.path)

    def _to_geopackage(self, polygons: geopandas.GeoDataFrame) -> None:
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": GEOPACKAGE_DATE})
        try:
            pyogrio.write_dataframe(
                polygons,
                self._work,
                layer=self.path.stem,
                driver="GPKG",
                geometry_type=self._geometry,
                append=self._started,
                layer_metadata=None if self._started else self._metadata,
            )
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})

    def _to_geoparquet(self, polygons: geopandas.GeoDataFrame) -> None:
        from pyarrow import parquet

        table = _arrow(polygons)
        if self._parquet is None:
            table = table.replace_schema_metadata(self._metadata)
            self._parquet = parquet.ParquetWriter(self._work, table.schema, compression="zstd")
        if len(polygons):
            self._bounds.append(tuple(polygons.total_bounds))
        self._parquet.write_table(table.replace_schema_metadata(self._metadata))

    def _geo(self) -> dict[str, Any]:
        """Return the metadata of the geometry column according to GeoParquet 1.0.0."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": [self._geometry] if self._bounds else [],
            "crs": self.crs.to_json_dict(),
        }
        if self._bounds:
            low, high = np.min(self._bounds, axis=0)[:2], np.max(self._bounds, axis=0)[2:]
            column["bbox"] = [*low.tolist(), *high.tolist()]
        return {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (*_PYOGRIO_ERRORS, OSError) as error:
            raise unwritable(
                self.path, f"{first_line(error)}; {as_bytes(free_space(self.path.parent))} are free"
            ) from error

    def close(self) -> None:
        """Remove the working file."""
        try:
            if self._parquet is not None:
                self._parquet.close()
        finally:
            self._exits.close()


def _arrow(polygons: geopandas.GeoDataFrame) -> pyarrow.Table:
    import pyarrow

    columns = {}
    for name in polygons.columns.drop("geometry"):
        values = polygons[name].to_numpy()
        # The type of an empty column of strings cannot be inferred.
        kind = None if values.dtype.kind in "iufb" else pyarrow.string()
        columns[name] = pyarrow.array(values, kind)
    wkb = shapely.to_wkb(polygons.geometry.to_numpy()).tolist()
    return pyarrow.table({**columns, "geometry": pyarrow.array(wkb, pyarrow.binary())})
