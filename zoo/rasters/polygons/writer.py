"""A GeoPackage or GeoParquet file, written batch by batch, whole or not at all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.crs import CRS

from zoo.errors import ConfigError
from zoo.files import atomic_path, unwritable
from zoo.rasters.writing import as_bytes, free_space, working_folder

if TYPE_CHECKING:
    import pyarrow

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
