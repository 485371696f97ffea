"""Write landslide polygons from a probability raster that is read block by block."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.crs import CRS
from rasterio.transform import Affine, array_bounds
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.files import atomic_path, unwritable
from zoo.rasters.cog import as_bytes, free_space, working_folder
from zoo.rasters.ground import geodesic_areas, linear_metres, planar
from zoo.rasters.regions import Region, RegionSweep

if TYPE_CHECKING:
    import pyarrow


BLOCK = 1024
"""Pixels along a side of the blocks that are looked at."""

BATCH = 20_000
"""Polygons that are held before they are written."""

ROUNDING = 1e-9
"""A polygon of the least area stays, whatever the last digit of a product does."""

Reader = Callable[[Window], NDArray[np.float32]]


@dataclass(frozen=True)
class PolygonOptions:
    """Which polygons are written, and what they are called.

    Attributes:
        threshold: probability from which a pixel belongs to a landslide, 0..1.
        least_area: m2 below which a polygon is left out.
        classes: (least mean probability, name), rising from 0; the last that a polygon reaches is its class.
        block: pixels along a side of the blocks that are looked at; the polygons do not depend on it.

    Raises:
        ConfigError: for a threshold outside 0..1, an area that is negative, or classes that do not rise from 0.
    """

    threshold: float
    least_area: float = 0.0
    classes: Sequence[tuple[float, str]] = ((0.0, "landslide"),)
    block: int = BLOCK

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold {self.threshold:g}", hint="A probability between 0 and 1")
        if not (math.isfinite(self.least_area) and self.least_area >= 0):
            raise ConfigError(f"least area {self.least_area:g} m2", hint="Give square metres, such as 500")
        starts = [start for start, _ in self.classes]
        if not starts or starts[0] != 0 or any(one >= other for one, other in pairwise(starts)):
            raise ConfigError("classes of polygons do not rise from 0", hint="Such as 0 low, 0.5 medium, 0.8 high")


@dataclass
class PolygonReport:
    """What was written.

    Attributes:
        polygons: number of polygons.
        area: of all of them, m2.
        left_out: number of regions below the least area.
        by_class: number of polygons by class.
        geodesic: whether areas were computed on the ellipsoid, rather than on the map.
    """

    polygons: int = 0
    area: float = 0.0
    left_out: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    geodesic: bool = False


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
    """Write a polygon for every group of pixels that touch by their sides and reach the threshold.

    The polygons are those of the whole raster, whatever the blocks; memory is that of a block and of the polygons that
    cross the row of blocks reached. Columns: ``id`` from 1, ``area_m2``, ``pixels``, ``mean_probability``,
    ``max_probability``, ``mean_slope_degree`` where there is a slope (NaN where it is not known), ``class``.

    Args:
        out: GeoPackage or GeoParquet by its suffix; appears when it is whole, and is valid without polygons too.
        shape: (rows, columns) of the raster.
        transform: from (column, row) to coordinates of ``crs``.
        crs: of the raster and of the polygons.
        probability: gives float32 (rows, columns) of a window, 0..1, NaN for nodata.
        options: threshold, least area, classes.
        slope: gives the slope in degrees likewise; None for none.
        metadata: kept in the file.
        progress: called with (blocks done, all blocks).

    Raises:
        ConfigError: for another suffix.
        ZooError: if a raster is truncated, or the disk is full.
    """
    pixel_area = None
    if planar(crs, array_bounds(*shape, transform)):
        pixel_area = abs(transform.determinant) * linear_metres(crs) ** 2
    report = PolygonReport(geodesic=pixel_area is None, by_class={name: 0 for _, name in options.classes})
    least_pixels = 1 if pixel_area is None else max(1, math.ceil(options.least_area / pixel_area * (1 - ROUNDING)))
    sweep = RegionSweep(shape[1], least_pixels)
    threshold = np.float32(options.threshold)
    windows = list(_windows(shape, options.block))
    tags = {"THRESHOLD": f"{options.threshold:.6g}", "LEAST_AREA_M2": f"{options.least_area:g}", **(metadata or {})}
    with PolygonWriter(out, crs, tags) as writer:
        # The first batch, of nothing, tells the columns even when there is no landslide.
        writer.write(_polygon_frame([], crs, transform, pixel_area, options, report, slope is not None))
        waiting: list[Region] = []
        for number, window in enumerate(windows, 1):
            values = probability(window)
            with np.errstate(invalid="ignore"):
                mask = values >= threshold
            layers = [values]
            if slope is not None:
                layers.append(slope(window) if mask.any() else values)
            waiting += sweep.add(window, mask, layers)
            if number == len(windows):
                waiting += sweep.finish()
            if len(waiting) >= BATCH or (waiting and number == len(windows)):
                writer.write(_polygon_frame(waiting, crs, transform, pixel_area, options, report, slope is not None))
                waiting = []
            if progress is not None:
                progress(number, len(windows))
        report.left_out += sweep.left_out
        writer.publish()
    return report


def _windows(shape: tuple[int, int], block: int) -> Iterator[Window]:
    rows, columns = shape
    for row in range(0, rows, block):
        for column in range(0, columns, block):
            yield Window(column, row, min(block, columns - column), min(block, rows - row))


def _polygon_frame(
    regions: Sequence[Region],
    crs: CRS,
    transform: Affine,
    pixel_area: float | None,
    options: PolygonOptions,
    report: PolygonReport,
    with_slope: bool,
) -> geopandas.GeoDataFrame:
    """The regions that are large enough as rows, counted in ``report``."""
    outlines = np.empty(len(regions), object)
    outlines[:] = [region.outline for region in regions]
    a, b, c, d, e, f = transform[:6]
    # North-up grids turn the order of corners round; rings go on the map as vector formats want them.
    placed = shapely.orient_polygons(
        shapely.transform(outlines, lambda x, y: (a * x + b * y + c, d * x + e * y + f), interleaved=False)
    )
    pixels = np.array([region.pixels for region in regions], np.int64)
    areas = geodesic_areas(placed, crs) if pixel_area is None else pixels * pixel_area
    kept = np.flatnonzero(areas >= options.least_area * (1 - ROUNDING))
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
    return geopandas.GeoDataFrame(columns, geometry=placed[kept], crs=crs.to_wkt())


GEOPACKAGE, GEOPARQUET = (".gpkg",), (".parquet", ".geoparquet")

_OF_PYOGRIO = (DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)


def check_polygons(path: Path) -> None:
    """Refuse a file of polygons by its name, before any work is done for it.

    Raises:
        ConfigError: for a suffix that is neither GeoPackage's nor GeoParquet's, or where GeoParquet needs a package
            that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in GEOPACKAGE + GEOPARQUET:
        raise ConfigError(
            f"polygons of type {suffix!r} are not written" if suffix else "the name has no suffix",
            where=path,
            hint="Name it .gpkg (GeoPackage) or .parquet (GeoParquet)",
        )
    if suffix in GEOPARQUET and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("GeoParquet needs pyarrow", where=path, hint="pip install pyarrow, or name it .gpkg")


class PolygonWriter:
    """Polygons with attributes; a context manager.

    The working file lies in a hidden folder beside ``path``, which goes when the block ends, Ctrl-C included. ``path``
    appears only with :meth:`publish`. Every batch has the columns of the first, and a file of one empty batch is valid.

    Args:
        path: see :func:`check_polygons`.
        crs: of the polygons.
        metadata: kept in the file, by name.

    Raises:
        ConfigError: as :func:`check_polygons`.
        ZooError: if the folder cannot be written to.
    """

    def __init__(self, path: Path, crs: CRS, metadata: Mapping[str, str]) -> None:
        check_polygons(path)
        self.path, self._metadata = path, dict(metadata)
        self.crs = pyproj.CRS.from_user_input(crs.to_wkt())
        self._exits = ExitStack()
        self._work = Path(self._exits.enter_context(working_folder(path))) / f"work{path.suffix.lower()}"
        self._parquet: Any = None
        self._bounds: list[tuple[float, float, float, float]] = []
        self._started = False

    def write(self, polygons: geopandas.GeoDataFrame) -> None:
        """Add polygons, in the coordinates of ``crs``.

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
        with atomic_path(self.path) as temporary:
            self._work.replace(temporary)

    def _to_geopackage(self, polygons: geopandas.GeoDataFrame) -> None:
        pyogrio.write_dataframe(
            polygons,
            self._work,
            layer=self.path.stem,
            driver="GPKG",
            geometry_type="Polygon",
            append=self._started,
            layer_metadata=None if self._started else self._metadata,
        )

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
        """What GeoParquet 1.0.0 says of the geometry column."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"] if self._bounds else [],
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
        except (*_OF_PYOGRIO, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise unwritable(self.path, f"{reason}; {as_bytes(free_space(self.path.parent))} are free") from error

    def close(self) -> None:
        """Remove the working file."""
        try:
            if self._parquet is not None:
                self._parquet.close()
        finally:
            self._exits.close()

    def __enter__(self) -> PolygonWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _arrow(polygons: geopandas.GeoDataFrame) -> pyarrow.Table:
    import pyarrow

    columns = {}
    for name in polygons.columns.drop("geometry"):
        values = polygons[name].to_numpy()
        # Of an empty column of texts nobody could tell what it holds.
        kind = None if values.dtype.kind in "iufb" else pyarrow.string()
        columns[name] = pyarrow.array(values, kind)
    wkb = shapely.to_wkb(polygons.geometry.to_numpy()).tolist()
    return pyarrow.table({**columns, "geometry": pyarrow.array(wkb, pyarrow.binary())})
