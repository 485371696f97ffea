"""Read a landslide inventory: project it to a raster, repair and date it, and rasterise it."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.rasters.grid import Grid
from zoo.rasters.ground import Bounds, Ground, bounds_text, crs_name, window_bounds
from zoo.rasters.palettes import check_background
from zoo.rasters.stacks import Stack, same_pixels

if TYPE_CHECKING:
    import geopandas

PHASES: tuple[str, ...] = ("pre", "post")
"""Whether an image shows the ground before or after the landslides of its mask."""

IGNORED = 255
"""Mask value of ignored pixels."""

Period: TypeAlias = tuple[date, date]
"""First and last day of a period."""

_DATE = re.compile(r"(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ].*)?)?)?$")
_WITH_OFFSET = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:.*[+-]\d{2}:?\d{2}$")
_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7


@dataclass(frozen=True)
class Inventory:
    """Landslides in the coordinates of a raster.

    Attributes:
        path: file of the inventory.
        crs: coordinate system of ``shapes``, that of the raster.
        shapes: valid polygons and multipolygons with an area that touch the raster's extent, object (N,).
        known: bool (N,): true if the landslide belongs to the mask; false if its date does not tell, so that its
            pixels are ignored.
        notes: sentences about features that were dropped, repaired, reprojected or excluded.
    """

    path: Path
    crs: CRS
    shapes: NDArray[np.object_]
    known: NDArray[np.bool_]
    notes: tuple[str, ...]
    _tree: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", shapely.STRtree(self.shapes))

    def burn(self, transform: Affine, shape: tuple[int, int], *, all_touched: bool = False) -> NDArray[np.int32]:
        """Rasterise the landslides that touch a window.

        Args:
            transform: transform from (column, row) of the window to coordinates.
            shape: (rows, columns) of the window.
            all_touched: burn all pixels that a polygon touches, not only those whose centre it covers.

        Returns:
            int32 (rows, columns): number of the landslide in ``shapes``, from 1, the later one where two overlap;
            negative where all landslides have a false ``known``; 0 for none.
        """
        near = np.sort(self._tree.query(shapely.box(*window_bounds(transform, shape))))
        numbers = np.zeros(shape, np.int32)
        for known, sign in ((False, -1), (True, 1)):
            chosen = [(self.shapes[one], sign * (int(one) + 1)) for one in near if self.known[one] == known]
            if chosen:
                rasterize(chosen, out=numbers, transform=transform, all_touched=all_touched)
        return numbers

    def areas(self) -> NDArray[np.float64]:
        """Return the geodesic areas of the landslides in m2, float64 (N,)."""
        return Ground(self.crs).areas(self.shapes)


def read_inventory(
    path: Path,
    crs: CRS,
    extent: Bounds,
    *,
    layer: str | None = None,
    where: str | None = None,
    buffer: float | None = None,
    date_column: str | None = None,
    image_date: date | None = None,
    phase: str | None = None,
) -> Inventory:
    """Read the landslides that touch a raster.

    A landslide must be older than a "post" image, or the image does not show it, and younger than a "pre" image, or
    its scar is already visible. With ``date_column``, other landslides are excluded. A missing date, or a year or month
    that includes the day of the image, does not decide this: such a landslide is kept with ``known`` false [O].

    Args:
        path: GeoPackage, Shapefile, GeoJSON or another GDAL format.
        crs: coordinate system of the raster, to which shapes are projected.
        extent: (left, bottom, right, top) of the raster in ``crs``.
        layer: name of the layer; ``None`` for the only one.
        where: SQL condition on the attributes, such as "Year_obs >= 2010"; ``None`` for all.
        buffer: buffer radius in metres on the ground that turns points and lines into polygons; ``None`` rejects them.
        date_column: column with the day, month or year of each landslide; ``None`` ignores dates.
        image_date: day of the image; required with ``date_column``.
        phase: "pre" or "post"; required with ``date_column``.

    Raises:
        DataError: if the file is missing, damaged or empty, has no coordinate system, holds points or lines without
            ``buffer``, or does not overlap the raster.
        ConfigError: if the condition is not SQL, or an option lacks another that it requires.
        UnknownNameError: if a layer or column does not exist.
    """
    from zoo.rasters.vectors import read_vector  # imports geopandas; many commands need only the dates of this module

    if date_column is not None and (image_date is None or phase not in PHASES):
        raise ConfigError(
            "dates of landslides can be used only with the date and phase of the image",
            where="option date_column",
            hint="Give the image's date and phase too",
        )
    if buffer is not None and not (buffer > 0 and np.isfinite(buffer)):
        raise ConfigError(f"{buffer} is not a positive number of metres", where="option buffer")
    columns = [date_column] if date_column else []
    frame = read_vector(path, layer=layer, where=where, columns=columns, what="inventory")
    notes = [] if where is None else [f"{len(frame)} landslides fulfil {where}"]
    shapes = frame.geometry.to_numpy()
    nothing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if nothing.all():
        raise DataError(
            "holds no landslide" if len(shapes) == 0 else f"none of its {len(shapes)} landslides has a geometry",
            where=path,
            hint=None if where is None else f"Check the condition {where!r}",
        )
    if nothing.any():
        notes.append(f"{nothing.sum()} without a geometry were dropped")
    frame, shapes = _project(frame[~nothing], crs, extent, path, notes)
    shapes = _with_area(shapes, crs, buffer, path, notes)
    shapes, kept = _repair(shapes, path, notes)
    inside = shapely.intersects(shapely.box(*extent), shapes)
    if not inside.any():
        raise DataError(
            f"no landslide lies in the scene: they extend over {bounds_text(shapely.total_bounds(shapes))}, "
            f"the scene over {bounds_text(extent)} ({crs_name(crs)})",
            where=path,
            hint="Is it the inventory of another area, or are its coordinates labelled with a wrong system?",
        )
    if not inside.all():
        notes.append(f"{(~inside).sum()} lie outside the scene")
    shapes, kept = shapes[inside], kept[inside]
    known = np.ones(len(shapes), bool)
    if date_column is not None and image_date is not None:
        periods = [parse_period(value) for value in frame[date_column].to_numpy()[kept]]
        wanted, known = _select_by_date(periods, image_date, str(phase), date_column, path, notes)
        shapes, known = shapes[wanted], known[wanted]
    return Inventory(path, crs, shapes, known, tuple(notes))


def _project(
    frame: geopandas.GeoDataFrame, crs: CRS, extent: Bounds, path: Path, notes: list[str]
) -> tuple[geopandas.GeoDataFrame, NDArray[np.object_]]:
    """Return the rows that can be projected to a coordinate system, and their projected shapes."""
    from zoo.rasters.vectors import project

    if CRS.from_user_input(frame.crs) != crs:
        notes.append(f"reprojected from {crs_name(frame.crs)} to {crs_name(crs)}")
    shapes, placed = project(frame, crs, extent)
    if not placed.any():
        raise DataError(
            f"has coordinates that do not exist in {crs_name(frame.crs)} or in the scene's {crs_name(crs)}",
            where=path,
            hint="Check whether its coordinates are labelled with a wrong system",
        )
    if not placed.all():
        notes.append(f"{(~placed).sum()} have coordinates that do not exist in {crs_name(crs)}, so they were dropped")
    return frame[placed], shapes[placed]


def _with_area(
    shapes: NDArray[np.object_], crs: CRS, buffer: float | None, path: Path, notes: list[str]
) -> NDArray[np.object_]:
    flat = shapely.get_dimensions(shapes) < 2
    if not flat.any():
        return shapes
    kinds = ", ".join(sorted({str(shape.geom_type) for shape in shapes[flat]}))
    if buffer is None:
        raise DataError(
            f"{flat.sum()} of {len(shapes)} landslides have no area ({kinds}), and a mask needs areas",
            where=path,
            hint="Draw polygons, or turn points into discs with --buffer METRES if rough locations are enough",
        )
    notes.append(f"{flat.sum()} points or lines became areas of radius {buffer:g} m, so their outlines are not real")
    widened = shapes.copy()
    widened[flat] = Ground(crs).buffer(shapes[flat], buffer)
    return widened


def _repair(shapes: NDArray[np.object_], path: Path, notes: list[str]) -> tuple[NDArray[np.object_], NDArray[np.intp]]:
    """Return valid polygons and their indices in ``shapes``; those without an area are dropped."""
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        notes.append(f"{broken.sum()} invalid outlines were repaired")
        shapes = shapes.copy()
        shapes[broken] = [_polygons(shape) for shape in shapely.make_valid(shapes[broken])]
    collections = shapely.get_type_id(shapes) == _COLLECTION
    if collections.any():
        shapes = shapes.copy()
        shapes[collections] = [_polygons(shape) for shape in shapes[collections]]
    kept = np.flatnonzero(shapely.area(shapes) > 0)
    if len(kept) < len(shapes):
        notes.append(f"{len(shapes) - len(kept)} without an area were dropped")
    if len(kept) == 0:
        raise DataError(f"none of its {len(shapes)} landslides has an area", where=path)
    return shapes[kept], kept


def _polygons(shape: Any) -> Any:
    """Return the polygons of a shape, because a repaired bow tie may also contain lines."""
    parts = shapely.get_parts(shapely.get_parts([shape]))
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (_POLYGON, _MULTIPOLYGON))])


def _select_by_date(
    periods: Sequence[Period | None], image: date, phase: str, column: str, path: Path, notes: list[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the landslides that may be in the mask, and of those that certainly are."""
    if not any(period is not None for period in periods):
        raise DataError(
            f"no value of column {column!r} is a date", where=path, hint="Write 2010, 2010-07 or 2010-07-31"
        )
    before = np.array([period is not None and period[1] <= image for period in periods], bool)
    after = np.array([period is not None and period[0] > image for period in periods], bool)
    certain, excluded = (before, after) if phase == "post" else (after, before)
    if excluded.any():
        side = "after" if phase == "post" else "before"
        notes.append(f"{excluded.sum()} happened {side} the image of {image}, so they were not drawn")
    doubtful = ~certain & ~excluded
    if doubtful.any():
        notes.append(
            f"{doubtful.sum()} may have happened before or after {image} (column {column} is not exact enough), so "
            "their pixels are ignored"
        )
    if not certain.any():
        raise DataError(
            f"no landslide of a {phase} image of {image} is left after comparing the dates in {column!r}",
            where=path,
            hint="Check the date of the image and its phase",
        )
    return ~excluded, certain


def read_truth(path: Path, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """Return the landslide pixels in a window of a raster.

    Args:
        path: GeoTIFF mask on the pixels of ``grid``: 0 for none, another number for landslide and 255 for unknown, or
            for landslide if 0 and 255 are the only numbers; or any vector file of polygons.
        grid: grid of the scene.
        window: window within the grid.

    Returns:
        bool (rows, columns) of the window.

    Raises:
        DataError: if the file is missing or damaged, does not overlap the scene, is a mask on another grid, or holds
            several numbers other than 0 and 255.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        with Stack(path, classes=True) as mask:
            if not same_pixels(mask, grid):
                raise DataError(
                    "the mask is not on the pixel grid of the scene",
                    where=path,
                    hint="Make it with gdal_rasterize on the scene's grid, or name the vector file",
                )
            drawn: NDArray[np.bool_] = mask.read(window, [0])[0] == _landslide_number(mask)
        return drawn
    inventory = read_inventory(path, grid.crs, window_bounds(grid.transform, grid.shape))
    place = grid.transform * Affine.translation(window.col_off, window.row_off)
    return inventory.burn(place, (int(window.height), int(window.width))) > 0


def _landslide_number(mask: Stack) -> float:
    """Return the number of the landslides in a mask; NaN if it has none.

    Raises:
        DataError: if the mask has several bands or numbers, or its palette draws another number as the background.
    """
    if len(mask.bands) > 1:
        raise DataError(f"has {len(mask.bands)} bands; a mask has one", where=mask.path)
    found: set[float] = set()
    for part in mask.windows():
        values = mask.read(part)[0]
        found |= set(np.unique(values[np.isfinite(values)]).tolist())
        numbers = sorted(found - {0.0, float(IGNORED)})
        if len(numbers) > 1:
            raise DataError(
                f"holds {numbers[0]:g} and {numbers[1]:g}, and it is unknown which number is the landslide",
                where=mask.path,
                hint="Write a mask of 0 (none), 1 (landslide) and 255 (unknown)",
            )
    check_background(mask.palette, {int(number) for number in found}, mask.path)
    return numbers[0] if numbers else float(IGNORED) if IGNORED in found else math.nan


def parse_period(value: Any) -> Period | None:
    """Return the period of a day, a month ("2010-07") or a year (2010, "2010"); times with an offset convert to UTC.

    Args:
        value: text, number, date or time from a column of a vector file.

    Returns:
        First and last day; ``None`` if the value is not a date, such as None, NaN, 0 or "unknown".
    """
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[s]").item()
    if isinstance(value, str) and _WITH_OFFSET.match(value.strip()):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime) and value == value and value.tzinfo is not None:
        value = value.astimezone(UTC)
    if isinstance(value, datetime):
        # NaT of pandas is a datetime that is not equal to itself.
        return (value.date(), value.date()) if value == value else None
    if isinstance(value, date):
        return value, value
    if isinstance(value, (float, np.floating)):
        if not float(value).is_integer():
            return None
        value = int(value)
    match = _DATE.match(str(value).strip())
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        if year is None or month is None:
            return date(year or 0, 1, 1), date(year or 0, 12, 31)
        if day is None:
            return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
        return date(year, month, day), date(year, month, day)
    except ValueError:
        return None


def parse_day(text: str, where: str) -> date:
    """Parse the day of an ISO date; the time of day is ignored.

    Raises:
        ConfigError: if the text is not a single day.
    """
    period = parse_period(text)
    if period is None or period[0] != period[1]:
        raise ConfigError(f"{text!r} is not a date", where=where, hint="Write year-month-day, such as 2024-06-15")
    return period[0]
