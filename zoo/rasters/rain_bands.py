"""Write the rain at one time on the grid of a stack (intensity, duration, rain before the event), and read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.files import check_output, working_folder
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band
from zoo.physics.rain import check_rain
from zoo.physics.rain_events import ANTECEDENT_DAYS, API_DAYS, EventRules, RainState, parse_time, rain_at, time_text
from zoo.physics.running import RunningMoments
from zoo.rasters.alignment import AlignedBand, physical
from zoo.rasters.cog import CogWriter, check_geotiff_name
from zoo.rasters.grid import PixelGrid, grid_box
from zoo.rasters.ground import near_longitude
from zoo.rasters.inventory import parse_day
from zoo.rasters.layers import BandFile, open_layer
from zoo.rasters.rain_files import RainField, RainPaths, find_files, read_rain
from zoo.rasters.rain_series import RainReading
from zoo.rasters.reading import RasterReader
from zoo.rasters.stacks import SOFTWARE, TAG_DATE, TAG_SOURCE, Stack

TAG_RAIN_AT = "RAIN_AT"
"""Tag with the time that a raster of rain describes, and the rules of its events."""

INTENSITY = Band("intensity", "mm/h", description="mean intensity of the rain event (P)")
DURATION = Band("duration", "day", description="duration of the rain event (D)")
API = Band("api", "mm", description=f"antecedent precipitation index over {API_DAYS} days before the event")
ANTECEDENT: Mapping[int, Band] = MappingProxyType(
    {
        days: Band(f"antecedent_{days}d", "mm", description=f"rain in the {days} days before the event")
        for days in ANTECEDENT_DAYS
    }
)
"""Band of the rain before the event, by number of days."""

_BANDS = {band.name: band for band in (INTENSITY, DURATION, API, *ANTECEDENT.values())}


@dataclass(frozen=True)
class RainReport:
    """Summary of rain on the grid of a stack.

    Attributes:
        out: output file.
        at: time of the rain, such as ``2024-06-11T12:00Z``.
        bands: by name, the unit, smallest, mean and largest value, and the share of pixels with a value.
        notes: findings and decisions, as sentences.
    """

    out: Path
    at: str
    bands: Mapping[str, tuple[str, float, float, float, float]]
    notes: tuple[str, ...]


def make_rain(
    paths: RainPaths,
    grid: Path,
    out: Path,
    *,
    at: str | None = None,
    rules: EventRules | None = None,
    reading: RainReading | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> RainReport:
    """Write the rain at one time on the grid of a raster; see :func:`zoo.api.preparation.rain`."""
    rules, reading = rules or EventRules(), reading or RainReading()
    check_geotiff_name(out)
    files = find_files(paths)
    check_output(out, [grid, *files], overwrite=overwrite)
    chosen = None if at is None else parse_time(at, "--at")
    with Stack(grid) as stack:
        field = read_rain(files, stack, reading, progress)
        if chosen is None:
            check_reaches_date(field, stack)
        moment = field.series.ends[-1] if chosen is None else chosen
        state = rain_at(field.series, moment, rules)
        values, notes = source_bands(field, state, moment, reading.max_missing)
        with working_folder(out) as folder:
            statistics = _write(values, field, stack, out, folder, f"{time_text(moment)}; {rules}", len(files))
    return RainReport(out, time_text(moment), statistics, (*field.notes, *notes, str(rules)))


def check_reaches_date(field: RainField, stack: Stack) -> None:
    """Check that rain data do not end before the date of a stack.

    Raises:
        DataError: if they do.
    """
    if TAG_DATE not in stack.tags:
        return
    day = np.datetime64(parse_day(stack.tags[TAG_DATE], f"{stack.name}, tag {TAG_DATE}"), "s")
    last = field.series.ends[-1]
    if last < day:
        raise DataError(
            f"the rain ends at {time_text(last)}, before the date of {stack.name} ({stack.tags[TAG_DATE]})",
            hint="Add the files up to that day, or give the intended time with --at",
        )


def source_bands(
    field: RainField, state: RainState, at: np.datetime64, max_missing: float
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Return the bands of a state on the grid of the rain, and notes on missing hours.

    Args:
        field: the rain.
        state: its state at ``at``.
        at: the time.
        max_missing: maximum share of missing hours; a cell with more is NaN.

    Raises:
        DataError: if no cell has enough hours, or the rain exceeds the records.
    """
    notes = []
    minimum, maximum = float(state.missing_hours.min()), float(state.missing_hours.max())
    enough = state.missing_hours <= max_missing * state.hours + 1e-6
    if not enough.any():
        raise DataError(
            f"{minimum:g} of {state.hours:g} hours are missing, more than {max_missing:.1%}",
            hint="Add the missing files, or allow it with --max-missing; missing hours count as dry",
        )
    if maximum > 1e-6:
        refused = "" if enough.all() else f"; {np.mean(~enough):.1%} of the cells lack more and have no value"
        span = f"{minimum:g}" if minimum == maximum else f"{minimum:g} to {maximum:g}"
        notes.append(
            f"{span} of {state.hours:g} hours are missing and count as dry (at most {max_missing:.1%} may be){refused}"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(state.days > 0, state.depth / (24 * state.days), 0.0)
    check_rain(intensity, state.days)
    bands = {INTENSITY.name: intensity, DURATION.name: state.days}
    before = {**{ANTECEDENT[days].name: depth for days, depth in state.antecedent.items()}, API.name: state.api}
    bands |= {name: values for name, values in before.items() if np.isfinite(values).any()}
    absent = [name for name in _BANDS if name not in bands]
    if absent:
        notes.append(f"left out: {', '.join(absent)}, because the rain begins at {time_text(field.series.starts[0])}")
    raining = float(np.mean(state.depth[enough] > 0))
    notes.append(f"at {time_text(at)} a rain event is in progress in {raining:.1%} of the cells")
    return {name: np.where(enough, values, np.nan).astype(np.float32) for name, values in bands.items()}, notes


def write_source(bands: Mapping[str, NDArray[np.float32]], field: RainField, path: Path) -> None:
    """Write bands on the grid of the rain as a small GeoTIFF that :class:`zoo.rasters.alignment.RainLayers` reads."""
    rows, columns = next(iter(bands.values())).shape
    grid = PixelGrid(field.crs, field.transform, (rows, columns))
    with CogWriter(path, grid, [_BANDS[name] for name in bands], average=True) as writer:
        for name, values in bands.items():
            writer.write(values, Window(0, 0, columns, rows), name)
        writer.publish({})


def _write(
    bands: Mapping[str, NDArray[np.float32]],
    field: RainField,
    stack: Stack,
    out: Path,
    folder: Path,
    described: str,
    files: int,
) -> dict[str, tuple[str, float, float, float, float]]:
    source = folder / "source.tif"
    write_source(bands, field, source)
    named = [_BANDS[name] for name in bands]
    found = {band.name: RunningMoments() for band in named}
    with CogWriter(out, stack, named, average=True) as writer:
        for number, moments in enumerate(found.values(), 1):
            with AlignedBand(open_layer("rain_intensity", BandFile(str(source), number)), grid_box(stack)) as aligned:
                for window in stack.windows():
                    values = physical(aligned, window)
                    writer.write(values, window, named[number - 1].name)
                    moments.add(values)
            if not moments.count:
                raise DataError("the rain has no value anywhere on the grid", where=stack.name)
        tags = {TAG_RAIN_AT: described, "RAIN_FILES": str(files), **SOFTWARE}
        source_tag = {TAG_SOURCE: f"zoo rain, {files} files"}
        writer.publish(tags, {name: {**source_tag, **moments.gdal_tags()} for name, moments in found.items()})
    return {
        band.name: (band.unit, one.minimum, one.mean, one.maximum, one.valid_percent / 100)
        for band, one in zip(named, found.values(), strict=True)
    }


def rain_maps(files: Sequence[Path], rules: EventRules, reading: RainReading) -> dict[np.datetime64, Path]:
    """Return the rasters of ``zoo rain`` by time; empty if the files are a rain time series.

    Raises:
        DataError: if only some files are such rasters, or two have the same time.
        ConfigError: if their event rules differ, or options for reading rain are given.
    """
    described = {path: _read_rain_tags(path) for path in files}
    if not any(described.values()):
        return {}
    found: dict[np.datetime64, Path] = {}
    for path, text in described.items():
        if not text:
            raise DataError(
                "was not written by zoo rain, but other files were", where=path, hint="Give one kind of file"
            )
        time, _, made_with = text.partition("; ")
        if made_with != str(rules):
            raise ConfigError(
                f"was made with other event rules ({made_with}) than those given ({rules})",
                where=path,
                hint="Give the --dry-gap, --wet and --min-depth that zoo rain was given",
            )
        at = parse_time(time, str(path))
        if at in found:
            raise DataError(f"describes {time}, as {found[at]} does", where=path, hint="Give one of them")
        found[at] = path
    if reading != RainReading():
        raise ConfigError("rasters of zoo rain state their unit and time", hint="Leave out the options of reading rain")
    return dict(sorted(found.items()))


def _read_rain_tags(path: Path) -> str:
    """Return the time and rules that a raster of ``zoo rain`` states; empty for another file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return ""
    with RasterReader(path) as reader:
        return reader.tags.get(TAG_RAIN_AT, "")


def rain_of_pixels(
    path: Path, places: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], list[tuple[NDArray[np.bool_], float, float]]]:
    """Return the rain of each pixel that contains a place.

    Args:
        path: a raster of ``zoo rain``.
        places: longitude and latitude, (N, 2).

    Returns:
        A mask of the places on the raster, (N,); and for each pixel a mask of the places in it, (N,), its intensity
        (mm/h) and its duration (days), NaN where unknown.

    Raises:
        DataError: if a band is missing or in another unit.
    """
    with Stack(path) as stack:
        bands = [_band_index(stack, band) for band in (INTENSITY, DURATION)]
        x, y = transform_points(CRS.from_epsg(4326), stack.crs, places[:, 0], places[:, 1])
        x, y = np.array(x), np.array(y)
        if stack.crs.is_geographic:
            x = near_longitude(x, stack.transform.c + stack.transform.a * stack.shape[1] / 2)
        columns, rows = (np.floor(axis).astype(np.int64) for axis in ~stack.transform * (x, y))
        inside = (rows >= 0) & (rows < stack.shape[0]) & (columns >= 0) & (columns < stack.shape[1])
        found = []
        for row, column in sorted(set(zip(rows[inside].tolist(), columns[inside].tolist(), strict=True))):
            intensity, duration = stack.read(Window(column, row, 1, 1))[bands, 0, 0].tolist()
            found.append((inside & (rows == row) & (columns == column), intensity, duration))
    return inside, found


def _band_index(stack: Stack, band: Band) -> int:
    """Return the index of a rain band.

    Raises:
        DataError: if the band is missing or in another unit.
    """
    for number, one in enumerate(stack.bands):
        if one.name == band.name and one.unit == band.unit:
            return number
    raise DataError(f"has no band {band.name} in {band.unit}", where=stack.path, hint="Make it with zoo rain")
