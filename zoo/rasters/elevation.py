"""Checks of elevation models: the unit that the file states, seams between wrongly assembled tiles, and voids of 0."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.rasters.ground import crs_unit, linear_metres
from zoo.rasters.layers import Layer
from zoo.rasters.reading import RasterReader

_FOOT, _US_FOOT = 0.3048, 1200 / 3937
_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot"), _FOOT),
    **dict.fromkeys(("us-ft", "us survey foot", "us survey feet", "ftus", "foot_us", "feet_us", "us feet"), _US_FOOT),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("dm", "decimetre", "decimetres", "decimeter", "decimeters"), 0.1),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
}
"""Metres per unit of elevation, by unit name as found in files."""

_FEET = re.compile(r"(?<![a-z])(us[ -]?(?:survey )?)?(?:feet|foot|ft)(?![a-z])")
_METRE = re.compile(r"(?<![a-z])(?:m|met(?:re|er)s?)(?![a-z])")


def elevation_unit(dem: Layer) -> str:
    """Return the unit of an elevation, from the band, its vertical coordinate system or its description.

    Returns:
        The unit; "" if the file states none, or the description names both feet and metres.
    """
    if dem.unit:
        return dem.unit
    vertical = [one for one in pyproj.CRS.from_user_input(dem.crs.to_wkt()).sub_crs_list if one.is_vertical]
    if vertical:
        return str(vertical[0].axis_info[0].unit_name)
    with RasterReader(dem.path) as reader:
        band = next(band for band in reader.bands if band.index == dem.file.band)
        text = f"{band.name} {reader.tags.get('TIFFTAG_IMAGEDESCRIPTION', '')}".casefold().replace("_", " ")
    feet = _FEET.search(text)
    if feet is None or _METRE.search(text):
        return ""
    return "US survey feet" if feet[1] else "feet"


def require_metres_up(dem: Layer) -> None:
    """Reject an elevation that is not in metres.

    Raises:
        DataError: if the file states another unit.
    """
    unit = elevation_unit(dem)
    metres = _METRES.get(_normalise_unit(unit), 1.0)
    if metres != 1:
        raise DataError(
            f"the elevation is in {unit}, but metres are needed",
            where=dem.path,
            hint=f"Convert it: gdal_calc.py -A DEM --calc=A*{metres:.7g} --outfile=OUT",
        )


def doubtful_elevation(dem: Layer) -> str:
    """Return the reason why a file may not hold an elevation in metres; "" if there is none."""
    unit = elevation_unit(dem)
    if dem.dtype.name == "uint8" and dem.tagged == (1.0, 0.0):
        return f"{dem.label} holds 8-bit numbers, as a hillshade or another picture does; they were read as metres"
    if _normalise_unit(unit):
        known = _normalise_unit(unit) in _METRES
        return "" if known else f"{dem.label}: the unit {unit!r} is unknown, so the elevation was read as metres"
    if dem.crs.is_geographic or linear_metres(dem.crs) == 1:
        return ""
    return (
        f"{dem.label} has no unit of elevation, and its coordinates are in {crs_unit(dem.crs)}: the elevation was read "
        f"as metres. If it is not, every slope is wrong: gdal_calc.py -A DEM --calc=A*{linear_metres(dem.crs):.7g} "
        "--outfile=OUT converts it"
    )


def _normalise_unit(unit: str) -> str:
    return unit.strip(" []").casefold()


TILE_SIDES: tuple[int, ...] = (
    *(16, 32, 50, 64, 100, 128, 200, 250, 256, 300, 400, 500, 512, 600, 1000, 1024, 1200, 1201, 1800, 2000, 2048),
    *(3600, 3601, 4096),
)
"""Sides of tiles, in pixels, in which rasters are stored or delivered."""

STEP = 4.0
"""Minimum ratio of a seam to the usual step from pixel to pixel [O]. Steps are means over a whole row or column, in
which single cliffs vanish."""

MIN_SEAM_STEP = 1.0
"""Step in metres below which a seam is harmless."""

VOID_STEP, VOID_GRADIENT = 100.0, 2.0
"""Minimum step at the edge of a void, in metres and relative to the pixel size [O]. A patch of exactly 0 m is a void if
at least half of its edge is such a step; of the edge of the sea, cliffs are a small part."""

ENCLOSED_STEP, ENCLOSED_SHARE = 10.0, 0.9
"""Minimum step in metres at the edge of an enclosed void, and the share of the edge that has it [O].

A patch of exactly 0 m whose whole edge lies in one window is also a void if the step onto this share of its edge
exceeds both the minimum and :data:`STEP` times the mean step from there to the next pixel. The ground falls to water
as steeply as behind the shore, and a lake or lagoon at 0 m has a low outlet; dikes and quays are lower than 10 m, and
polders lie below 0. Of a coast with cliffs, no window holds the whole edge."""

WINDOW = 1024

WINDOWS_PER_SIDE = 4
"""Number of windows along each side that are checked: tiles are assembled incorrectly everywhere or nowhere."""


def is_terrain(band: Band) -> bool:
    """Return whether a band is an elevation, by its name or unit."""
    return band.unit == "m" or band.name.casefold() in ("dem", "dtm", "dsm", "elevation", "height")


def elevation_warnings(
    read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int], pixel_size: float
) -> list[str]:
    """Return sentences about the seams between the tiles of a DEM, and about voids that are stored as 0.

    At most 4,096 x 4,096 pixels in the middle of the raster are read.

    Args:
        read: returns float32 (rows, columns) of a window, NaN where missing.
        shape: (rows, columns) of the raster.
        pixel_size: side of a pixel on the ground in metres.
    """
    steps = _Steps(shape)
    voids = _Voids(max(VOID_STEP, VOID_GRADIENT * pixel_size))
    spans = []
    for length in shape:
        first = max(0, (length - WINDOWS_PER_SIDE * WINDOW) // 2)
        spans.append(range(first, min(length, first + WINDOWS_PER_SIDE * WINDOW), WINDOW))
    for row in spans[0]:
        for column in spans[1]:
            # One pixel more, because a step may lie at the border of two windows.
            height, width = min(WINDOW + 1, shape[0] - row), min(WINDOW + 1, shape[1] - column)
            window = Window(column, row, width, height)
            values = read(window)
            steps.add(values, window)
            voids.add(values, window)
    return [note for note in (steps.note(), voids.note()) if note]


class _Voids:
    """Counts the pixels of voids that are stored as 0, window by window.

    Args:
        step: minimum step at the edge of a void in metres.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._pixels = self._seen = 0
        self._first: tuple[int, int] | None = None

    def add(self, values: NDArray[np.float32], window: Window) -> None:
        """Count the voids inside a window; arguments as in :meth:`_Steps.add`."""
        # Windows overlap by one pixel.
        own = (slice(0, WINDOW), slice(0, WINDOW))
        self._seen += int(np.isfinite(values[own]).sum())
        void = _voids(values, self._step)[own]
        if not void.any():
            return
        self._pixels += int(void.sum())
        row, column = np.argwhere(void)[0].tolist()
        self._first = self._first or (row + window.row_off, column + window.col_off)

    def note(self) -> str:
        """Return a sentence about the voids that were found; "" without any."""
        if self._first is None:
            return ""
        row, column = self._first
        return (
            f"{self._pixels:,} pixels ({self._pixels / self._seen:.2%}), the first at row {row}, column {column}, are "
            "exactly 0 and far below the ground beside them: they are probably voids, and the slopes there are wrong. "
            "gdal_edit.py -a_nodata 0 FILE declares 0 as missing"
        )


def _voids(values: NDArray[np.float32], step: float) -> NDArray[np.bool_]:
    """Return the mask of pixels in voids, by :data:`VOID_STEP` and :data:`ENCLOSED_STEP`.

    Args:
        values: float32 (rows, columns), NaN where missing.
        step: minimum step at the edge of a void that is not enclosed, in metres.
    """
    zero: NDArray[np.bool_] = values == 0
    labels, count = ndimage.label(zero)
    if not count:
        return zero
    shore = np.argwhere(zero & ~ndimage.binary_erosion(zero))
    padded = np.pad(values, 2, constant_values=np.nan)
    edges = pd.concat(
        pd.DataFrame(
            {
                "patch": labels[tuple(shore.T)],
                "ground": padded[tuple((shore + 2 + direction).T)],
                "beyond": padded[tuple((shore + 2 + 2 * direction).T)],
            }
        )
        for direction in np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
    )
    edges = edges[edges.ground != 0]
    edges["relief"] = (edges.beyond - edges.ground).abs().where(edges.beyond != 0)
    patches = edges.groupby("patch")
    enclosed = patches.ground.count() == patches.ground.size()
    edges = edges.dropna(subset="ground").join((STEP * patches.relief.mean()).rename("needed"), on="patch")
    edges["high"] = edges.ground > step
    edges["enclosed"] = edges.ground > edges.needed.clip(lower=ENCLOSED_STEP)
    shares = edges.groupby("patch")[["high", "enclosed"]].mean()
    void = (shares.high >= 0.5) | (enclosed & (shares.enclosed >= ENCLOSED_SHARE))
    found: NDArray[np.bool_] = np.isin(labels, void.index[void])
    return found


class _Steps:
    """Compares the steps at the borders of tiles with those between all other pixels, window by window.

    A DEM whose tiles were stored transposed or shifted jumps at every border of a tile. Its slope is a grid of cliffs,
    which a model learns. Natural terrain has no reason to jump at every 128th pixel.

    Args:
        shape: (rows, columns) of the raster.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        # Sum and number of the absolute steps onto each row and each column.
        self._sums = tuple(np.zeros(length) for length in shape)
        self._counts = tuple(np.zeros(length, np.int64) for length in shape)

    def add(self, values: NDArray[np.float32], window: Window) -> None:
        """Count the steps inside a window.

        Args:
            values: float32 (rows, columns), NaN where missing.
            window: window of the values.
        """
        for axis, first in ((0, window.row_off), (1, window.col_off)):
            steps = np.abs(np.diff(values, axis=axis))
            known = np.isfinite(steps)
            across = 1 - axis
            part = slice(first + 1, first + values.shape[axis])
            self._sums[axis][part] += np.where(known, steps, 0).sum(axis=across, dtype=np.float64)
            self._counts[axis][part] += known.sum(axis=across)

    def note(self) -> str:
        """Return a sentence about the seams that were found; "" without any."""
        worst: tuple[float, int, float] | None = None
        for sums, counts in zip(self._sums, self._counts, strict=True):
            found = _seam(sums, counts)
            if found is not None and (worst is None or found[0] > worst[0]):
                worst = found
        if worst is None:
            return ""
        ratio, side, step = worst
        return (
            f"the elevation jumps by {step:.0f} m at every {side}th pixel, {ratio:.0f} times the usual step: its tiles "
            "seem to be stored transposed or shifted, and the slope has a cliff at each seam"
        )


def _seam(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, int, float] | None:
    """Return ratio, side of the tiles and step of the clearest seams along one axis; ``None`` without any."""
    known = np.flatnonzero(counts >= 8)
    if len(known) < 32:
        return None
    steps = sums[known] / counts[known]
    best: tuple[float, int, float] | None = None
    for side in TILE_SIDES:
        border = known % side == 0
        if border.sum() < 2 or border.sum() > len(known) // 8:
            continue
        # Every border has to jump: one cliff at a border is terrain.
        lowest, usual = float(np.quantile(steps[border], 0.1, method="lower")), float(np.median(steps[~border]))
        if lowest >= MIN_SEAM_STEP and lowest > STEP * usual:
            ratio = lowest / max(usual, 1e-6)
            if best is None or ratio > 1.05 * best[0]:
                best = ratio, side, float(steps[border].mean())
    return best
