"""Add Sentinel-1 to a stack: VV, VH and their ratio in dB, of both orbits, and log-ratios of two dates.

Speckle is filtered on request, and the shift between two dates is measured in each orbit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from rasterio.windows import Window, intersection

from zoo.errors import DataError
from zoo.files import Closable, working_folder
from zoo.physics import Band
from zoo.physics.speckle import WINDOW_SIDE, filter_speckle, local_looks
from zoo.rasters.alignment import AlignedBand, Values, in_unit, physical
from zoo.rasters.cog import CogWriter
from zoo.rasters.coregistration import Image, Shift, register
from zoo.rasters.grid import PixelGrid, grid_box, grid_crs, windows
from zoo.rasters.image_folder import RASTERS, check_folder, day_of_names, split_words
from zoo.rasters.layers import RADAR, BandFile, Layer, Sources, open_layer
from zoo.rasters.optical import sample
from zoo.rasters.reading import RasterReader

Scale = Literal["dB", "power", "amplitude"]

_ORBITS = {"asc": "asc", "ascending": "asc", "desc": "desc", "dsc": "desc", "descending": "desc"}
_SUFFIXES = ("", "_asc", "_desc")
_ORBIT_TAGS = ("orbitProperties_pass", "sat:orbit_state", "PASS", "ORBIT_DIRECTION", "FLIGHT_DIRECTION")
_DECIBEL = frozenset({"db", "decibel", "decibels"})
_POWER = frozenset({"power", "linear", "intensity", "lin"})
_AMPLITUDE = frozenset({"amplitude", "amp"})
_KINDS: tuple[tuple[Scale, frozenset[str]], ...] = (("dB", _DECIBEL), ("power", _POWER), ("amplitude", _AMPLITUDE))
# Letters in the names of HyP3: gamma0 or sigma0; power, dB or amplitude; unmasked or water masked; not filtered or
# filtered; entire or clipped; dead reckoning or DEM matching (Sentinel-1 RTC product guide of ASF, table 3).
_HYP3 = re.compile(r"(?:^|_)[gs]([pda])[uw]([nf])[ec][dm]_")
_HYP3_SCALES: Mapping[str, Scale] = {"p": "power", "d": "dB", "a": "amplitude"}
_RADAR_GEOMETRY = (
    "Correct it for terrain first: Range-Doppler Terrain Correction of SNAP, or the RTC products of HyP3 and Planetary "
    "Computer"
)
_RANGE = (-60.0, 40.0)
"""Backscatter in dB: noise is near -35, corner reflectors near 30 [O]."""
_ORBIT_NAMES = {"": "", "_asc": " (ascending)", "_desc": " (descending)"}
_POWER_BAND = Band("backscatter", "power", description="backscatter without speckle")
_BLURRED = 1.5
"""Ratio of measured to stated looks above which a warning is given [O]."""
_LOW_PASS_STD = 0.1
"""Low-pass filter of the phase correlation, in cycles per pixel of the file: higher ones are speckle [O]."""
_MIN_SHIFT = 0.25
"""Pixels below which a shift is not corrected: speckle alone causes such shifts in small scenes [O]."""
_WINDOW = 1024


def open_radar(path: Path) -> Sources:
    """Find the terrain-corrected backscatter of one acquisition, or of one per orbit, in a folder.

    Rasters may be in subfolders. A raster holds one polarisation, with ``VV`` or ``VH`` as a word in its name, or
    several bands with these names. The orbit direction is a word in the path (``asc``, ``desc``) or a tag.

    Args:
        path: the folder.

    Returns:
        The bands by role, with the date if the names state it.

    Raises:
        DataError: if there is no backscatter, it is in radar geometry, or two files have the same band and orbit.
    """
    check_folder(path, "Name a folder with terrain-corrected rasters of VV and VH")
    if list(path.rglob("manifest.safe")) or path.suffix.upper() == ".SAFE":
        raise DataError("is a Sentinel-1 product in radar geometry", where=path, hint=_RADAR_GEOMETRY)
    files: dict[str, BandFile] = {}
    rasters = sorted(file for file in path.rglob("*") if file.suffix.lower() in RASTERS)
    for file in rasters:
        for role, band in _polarisations(file, path):
            if role in files:
                names = f"{Path(files[role].path).name} and {file.name}"
                raise DataError(
                    f"has two rasters of {role.replace('_', ' ')}: {names}",
                    where=path,
                    hint="Keep one date, and put asc or desc into the names of files or folders of two orbits",
                )
            files[role] = BandFile(str(file), band)
    if not files:
        raise DataError(
            "contains no backscatter",
            where=path,
            hint="Name the rasters or their bands VV and VH, such as scene_VV.tif",
        )
    used = {Path(file.path) for file in files.values()}
    return Sources({role: files[role] for role in RADAR if role in files}, date=day_of_names(sorted(used)))


def _polarisations(file: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Yield the role and band number of each polarisation in a file."""
    tokens = split_words(str(file.relative_to(root)))
    named = [name for name in ("vv", "vh") if name in split_words(file.stem)]
    found: list[tuple[str, int]]
    with RasterReader(file) as reader:
        if len(named) == 1 and len(reader.bands) == 1:
            found = [(named[0], 1)]
        else:
            found = [
                (name, band.index)
                for band, name in product(reader.bands, ("vv", "vh"))
                if name in split_words(band.name)
            ]
        if found and not reader.placed and reader.source.gcps[0]:
            raise DataError(
                "is in radar geometry: it has ground control points instead of a map grid",
                where=file,
                hint=_RADAR_GEOMETRY,
            )
        tags = [reader.tags.get(tag, "").lower() for tag in _ORBIT_TAGS]
    orbits = {_ORBITS[word] for word in (*tokens, *tags) if word in _ORBITS}
    if len(orbits) > 1:
        raise DataError(
            "is of both an ascending and a descending orbit", where=file, hint="Correct its name or its tags"
        )
    for name, index in found:
        yield "_".join((name, *orbits)), index


def find_scale(layer: Layer, name: str, numbers: NDArray[np.float32]) -> tuple[Scale, str]:
    """Return the scale of a backscatter band, and the reason: its unit or name, checked by its values, else its values.

    Args:
        layer: the header.
        name: name of the band in the file, "" when it has none.
        numbers: values of a sample of its pixels.

    Raises:
        DataError: if the values contradict the unit or name, or do not determine the scale.
    """
    known = numbers[np.isfinite(numbers) & (numbers != 0)]
    if not known.size:
        raise DataError("is nodata on the whole grid of the stack", where=layer.path)
    middle, negative = float(np.median(known)), float(np.mean(known < 0))
    tokens = split_words(layer.unit) | split_words(Path(layer.path).stem) | split_words(name)
    code = _HYP3.search(Path(layer.path).name)
    stated: list[tuple[Scale, str]] = [] if code is None else [(_HYP3_SCALES[code[1]], "name of the HyP3 product")]
    stated += [(scale, f"word {min(tokens & known_words)!r}") for scale, known_words in _KINDS if tokens & known_words]
    range_text = f"half of its values are below {middle:.3g}, and {negative:.0%} are negative"
    if len({scale for scale, _ in stated}) > 1:
        raise DataError(f"is named {' and '.join(f'{s} ({why})' for s, why in stated)}", where=layer.path)
    if stated:
        scale, why = stated[0]
        if (scale == "dB") is not (negative > 0.5):
            raise DataError(
                f"is named {scale} ({why}), but {range_text}", where=layer.path, hint="Correct its unit or its name"
            )
        return scale, f"{scale} by {why}"
    if layer.dtype.kind in "ui" and layer.tagged == (1, 0):
        raise DataError(
            "holds digital numbers without a unit or a scale, so it is not calibrated backscatter",
            where=layer.path,
            hint="Calibrate it to sigma0 or gamma0",
        )
    if negative > 0.5 and -45 < middle < 0:
        return "dB", f"dB according to its values: {range_text}"
    if negative <= 0.01 and middle < 2:
        return "power", f"linear power according to its values: {range_text}"
    raise DataError(
        f"is neither dB nor linear power: {range_text}",
        where=layer.path,
        hint="Set its unit to dB, power or amplitude, such as in its name: scene_VV_dB.tif",
    )


def decibels(values: Values, scale: Scale) -> Values:
    """Return backscatter in dB, float32; NaN where it is missing, 0, or not positive on a linear scale."""
    if scale == "dB":
        return np.where(values == 0, np.float32(np.nan), values)
    factor = np.float32(10 if scale == "power" else 20)
    positive = np.where(values > 0, values, np.float32(np.nan))
    return np.asarray(factor * np.log10(positive), dtype=np.float32)


def _plausible(decibel: Values) -> Values:
    """Return backscatter in dB, NaN where it is impossible."""
    low, high = _RANGE
    with np.errstate(invalid="ignore"):
        return np.where((decibel >= low) & (decibel <= high), decibel, np.float32(np.nan))


@dataclass(frozen=True)
class RadarOptions:
    """Options for backscatter.

    Attributes:
        looks: equivalent number of looks, to filter speckle (:func:`zoo.physics.filter_speckle`); ``None`` for no
            filter.
        coregister: align the earlier date with the later one.
        force: accept dates that are shifted by more than a pixel.
    """

    looks: float | None = None
    coregister: bool = False
    force: bool = False


@dataclass(frozen=True)
class _Date:
    """One of the two dates: its sources, and by role the bands of its files, the bands to read, and their scales."""

    sources: Sources
    inputs: dict[str, AlignedBand]
    bands: Mapping[str, AlignedBand]
    scales: Mapping[str, Scale]

    def read(self, role: str, window: Window) -> Values:
        return _plausible(decibels(physical(self.bands[role], window), self.scales[role]))


def _filter_file(band: AlignedBand, scale: Scale, path: Path, looks: float) -> float:
    """Write speckle-filtered backscatter, as linear power, for the pixels of its file that a grid needs.

    Returns:
        The median of the equivalent number of looks over the squares.
    """
    layer = band.layer
    code = _HYP3.search(Path(layer.path).name)
    if code is not None and code[2] == "f":
        raise DataError(
            "its speckle is already filtered, according to the name of the HyP3 product",
            where=layer.path,
            hint="Leave --s1-looks out",
        )
    native = _window_around(layer, band.grid)
    reach = WINDOW_SIDE // 2
    seen = []
    with AlignedBand(layer, grid_box(native)) as source, CogWriter(path, native, [_POWER_BAND]) as writer:
        for window in windows(native.shape, _WINDOW):
            wide = _expand_window(window, reach, native.shape)
            values = 10 ** (_plausible(decibels(physical(source, wide), scale)) / 10)
            top, left = window.row_off - wide.row_off, window.col_off - wide.col_off
            inner = np.s_[top : top + window.height, left : left + window.width]
            writer.write(filter_speckle(values, looks)[inner], window)
            seen.append(local_looks(values)[inner][reach::WINDOW_SIDE, reach::WINDOW_SIDE].ravel())
        writer.publish({})
    shown = np.concatenate(seen)
    shown = shown[np.isfinite(shown)]
    return float(np.median(shown)) if shown.size else 0.0


class Radar(Closable):
    """Channels of Sentinel-1 on the grid of a stack; a context manager.

    Args:
        sources: files of the later date, or of the only one.
        earlier: files of the earlier date, with the same bands; adds log-ratios.
        grid: grid of the stack.
        out: file of the stack; filtered backscatter is in a hidden folder next to it.
        options: speckle filter and handling of shifts.

    Raises:
        DataError: if a band has no value on the grid, its scale is unknown or contradictory, or the dates are shifted
            by more than a pixel.

    Attributes:
        channels: the channels, in the order of the file.
        notes: the scale of each file and its reason, and the shifts.
        warnings: reasons why the channels may be wrong.
        shifts: shift of the earlier date relative to the later one, by orbit: "asc", "desc", or "" where it is unknown.
        formulas: formula of each channel, by name.
    """

    def __init__(
        self, sources: Sources, earlier: Sources | None, grid: GeoBox, out: Path, options: RadarOptions | None = None
    ) -> None:
        self._exits = ExitStack()
        self._grid, self._options = grid, options or RadarOptions()
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.shifts: dict[str, Shift] = {}
        self._moved: dict[str, str] = {}
        try:
            self._later = self._open(sources, "")
            self._earlier = None if earlier is None else self._open(earlier, "image before: ")
            if self._earlier is not None:
                self._register(self._later, self._earlier)
            if self._options.looks is not None:
                folder = self._exits.enter_context(working_folder(out))
                self._later = self._filtered(self._later, folder / "later", "", self._options.looks)
                if self._earlier is not None:
                    self._earlier = self._filtered(
                        self._earlier, folder / "earlier", "image before: ", self._options.looks
                    )
        except BaseException:
            self._exits.close()
            raise
        self.formulas: dict[str, str] = {}
        self.channels = tuple(self._describe())

    def _open(self, sources: Sources, prefix: str) -> _Date:
        layers = radar_layers(sources)
        bands = self._aligned(layers, self._grid)
        samples, scales = sample(bands), {}
        for role, layer in layers.items():
            with RasterReader(layer.path) as reader:
                name = next(band.name for band in reader.bands if band.index == layer.file.band)
            scales[role], why = find_scale(layer, name, in_unit(layer, samples[role]))
            self.notes.append(f"{prefix}{layer.label}, {role.partition('_')[0].upper()}: {why}")
        return _Date(sources, bands, bands, scales)

    def _aligned(self, layers: Mapping[str, Layer], grid: GeoBox) -> dict[str, AlignedBand]:
        return {role: self._exits.enter_context(AlignedBand(layer, grid)) for role, layer in layers.items()}

    def _filtered(self, date: _Date, folder: Path, prefix: str, looks: float) -> _Date:
        """Return a speckle-filtered date, whose files are in a folder."""
        folder.mkdir()
        bands, shown = {}, {}
        for role, band in date.inputs.items():
            path = folder / f"{role}.tif"
            shown[role] = _filter_file(band, date.scales[role], path, looks)
            bands[role] = self._exits.enter_context(AlignedBand(open_layer(role, BandFile(str(path))), band.grid))
        minimum, maximum = min(shown.values()), max(shown.values())
        span = f"{minimum:.2g}" if f"{minimum:.2g}" == f"{maximum:.2g}" else f"{minimum:.2g} to {maximum:.2g}"
        found = f"half of the squares of {WINDOW_SIDE} x {WINDOW_SIDE} pixels show at least {span} equivalent looks"
        self.notes.append(f"{prefix}speckle was filtered with {looks:g} equivalent looks; {found}")
        if maximum > _BLURRED * looks:
            self.warnings.append(
                f"{prefix}{found}, but --s1-looks is {looks:g}: the filter blurs an image that was already averaged, "
                f"resampled or filtered. Give about {maximum:.2g}, or leave --s1-looks out"
            )
        return replace(date, bands=bands, scales=dict.fromkeys(bands, "power"))

    def _register(self, later: _Date, earlier: _Date) -> None:
        """Measure the shift of each orbit, whose images were taken at different times, and correct it on request."""
        for orbit, name in _ORBIT_NAMES.items():
            roles = [role for role in (f"vv{orbit}", f"vh{orbit}") if role in later.bands]
            if not roles:
                continue
            role = roles[0]
            layer = earlier.inputs[role].layer

            def move(shift: Shift, roles: list[str] = roles, role: str = role) -> Image:
                layers = {role: earlier.inputs[role].layer for role in roles}
                earlier.inputs.update(self._aligned(layers, self._grid.translate_pix(shift.columns, shift.rows)))
                self._moved.update(dict.fromkeys(roles, f"; moved from {shift}"))
                return partial(earlier.read, role)

            # Measure before the speckle filter, whose artefacts hide the shift.
            found = register(
                partial(later.read, role),
                partial(earlier.read, role),
                move,
                (self._grid.shape[0], self._grid.shape[1]),
                names=(f"Sentinel-1 before{name}", "that after"),
                of=f"{role[:2].upper()} in dB",
                where=layer.path,
                coregister=self._options.coregister,
                force=self._options.force,
                cut=_LOW_PASS_STD * min(1.0, abs(self._grid.resolution.x) / _pixel_on(layer, self._grid)),
                smallest=_MIN_SHIFT,
            )
            if found.shift is not None:
                self.shifts[orbit.removeprefix("_")] = found.shift
            self.notes += found.notes
            self.warnings += found.warnings

    def _describe(self) -> Iterator[Band]:
        """Yield the channels, and record their formulas."""
        looks = self._options.looks
        speckle = "" if looks is None else f"; speckle filtered with {looks:g} looks (Lee)"
        for orbit in _SUFFIXES:
            roles = [role for role in (f"vv{orbit}", f"vh{orbit}") if role in self._later.bands]
            for role in roles:
                name = _channel(role)
                self.formulas[name] = f"backscatter of {self._label(self._later, role)} in dB{speckle}"
                yield Band(name, "dB", *_RANGE, description=f"backscatter {name}")
            if len(roles) == 2:
                self.formulas[f"VV_VH{orbit}"] = f"VV minus VH in dB, {self._label(self._later, roles[0])}{speckle}"
                yield Band(f"VV_VH{orbit}", "dB", -100.0, 100.0, description="ratio VV / VH")
        if self._earlier is not None:
            for role in self._later.bands:
                name = f"d{_channel(role)}"
                files = f"{self._label(self._later, role)} minus {self._label(self._earlier, role)}"
                self.formulas[name] = f"log-ratio in dB: {files}{speckle}{self._moved.get(role, '')}"
                yield Band(name, "dB", -100.0, 100.0, description="log-ratio after / before the landslides")

    def _label(self, date: _Date, role: str) -> str:
        day = f" of {date.sources.date}" if date.sources.date else ""
        return f"{date.inputs[role].layer.label}{day}"

    def make(self, window: Window) -> dict[str, Values]:
        """Return the channels of a window by name, float32, NaN where missing."""
        made: dict[str, Values] = {}
        for role in self._later.bands:
            name = _channel(role)
            made[name] = self._later.read(role, window)
            if self._earlier is not None:
                made[f"d{name}"] = made[name] - self._earlier.read(role, window)
        for orbit in _SUFFIXES:
            if {f"VV{orbit}", f"VH{orbit}"} <= made.keys():
                made[f"VV_VH{orbit}"] = made[f"VV{orbit}"] - made[f"VH{orbit}"]
        return made

    @property
    def bands(self) -> dict[str, AlignedBand]:
        """All bands of the files by role; those of the earlier date have the suffix ``before``."""
        earlier = {} if self._earlier is None else self._earlier.inputs
        return {**self._later.inputs, **{f"{role} before": band for role, band in earlier.items()}}

    def close(self) -> None:
        """Close the files."""
        self._exits.close()


def _pixel_on(layer: Layer, grid: GeoBox) -> float:
    """Return the side of a pixel of a layer in units of a grid."""
    box = grid.boundingbox
    return max(layer.pixel_size_in(grid_crs(grid), ((box.left + box.right) / 2, (box.bottom + box.top) / 2)))


def _window_around(layer: Layer, grid: GeoBox) -> PixelGrid:
    """Return the pixels of a layer around a grid, with a margin for the filter and for interpolation."""
    rows, columns = layer.shape
    box = grid.boundingbox
    left, bottom, right, top = transform_bounds(
        grid_crs(grid), layer.crs, box.left, box.bottom, box.right, box.top, densify_pts=21
    )
    first, last = ~layer.transform * (left, top), ~layer.transform * (right, bottom)
    margin = WINDOW_SIDE // 2 + 2
    column, row = (math.floor(place) - margin for place in first)
    wanted = Window(column, row, math.ceil(last[0]) + margin - column, math.ceil(last[1]) + margin - row)
    part = intersection(wanted, Window(0, 0, columns, rows))
    place = layer.transform * Affine.translation(part.col_off, part.row_off)
    return PixelGrid(layer.crs, place, (int(part.height), int(part.width)))


def _expand_window(window: Window, margin: int, shape: tuple[int, int]) -> Window:
    """Return a window with a margin on each side, within a raster."""
    wide = Window(
        window.col_off - margin, window.row_off - margin, window.width + 2 * margin, window.height + 2 * margin
    )
    return intersection(wide, Window(0, 0, shape[1], shape[0]))


def _channel(role: str) -> str:
    """Return the channel of a role: VV_asc of vv_asc."""
    return f"{role[:2].upper()}{role[2:]}"


def radar_layers(sources: Sources) -> dict[str, Layer]:
    """Return the headers of the bands by role."""
    return {role: open_layer(role, file) for role, file in sources.files.items()}


def check_radar_dates(later: Sources, earlier: Sources) -> list[str]:
    """Check that two dates of Sentinel-1 can be compared: each band by the days in the names of its files.

    Returns:
        A note if a day is unknown.

    Raises:
        ConfigError: if a band of the earlier date is not earlier.
        DataError: if they differ in polarisations or orbits.
    """
    differing = sorted(set(later.files) ^ set(earlier.files))
    if differing:
        raise DataError(
            f"the dates of Sentinel-1 differ: only one has {', '.join(differing).replace('_', ' ')}",
            hint="Give both dates the same polarisations and orbits: radar images of two orbits cannot be compared",
        )
    days = [
        [replace(sources, date=day_of_names([Path(sources.files[role].path)])) for sources in (earlier, later)]
        for role in later.files
    ]
    for before, after in days:
        before.check_earlier(after, "Sentinel-1", "Swap --s1-pre and --s1")
    if all(one.date for pair in days for one in pair):
        return []
    return ["a date of Sentinel-1 is unknown, so the order of the two dates was not checked"]
