"""Build a stack: the paper's seven channels on one grid in one file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.files import check_output, check_outputs
from zoo.physics import PAPER_CHANNELS, Band, IndexParameters, OptramEdges, OptramFit
from zoo.physics.running import BinnedMoments
from zoo.physics.stability import SAFETY_CHANNELS, SAFETY_SOURCES, Soil, check_size
from zoo.rasters.alignment import AlignedBand, in_unit
from zoo.rasters.cog import CogWriter, check_geotiff_name
from zoo.rasters.coregistration import Shift
from zoo.rasters.elevation import doubtful_elevation, elevation_warnings, require_metres_up
from zoo.rasters.grid import PixelGrid, choose_grid, grid_crs, require_metres, windows
from zoo.rasters.ground import Bounds, crs_name, crs_unit, true_scale, utm_code
from zoo.rasters.layers import OPTICAL, Layer, Sources, open_layer
from zoo.rasters.optical import Calibration, Samples, UserOptics, choose_optics, sample
from zoo.rasters.reading import RasterReader, is_remote
from zoo.rasters.sentinel1 import Radar, RadarOptions, check_radar_dates, radar_layers
from zoo.rasters.stack_channels import (
    MOISTURE_SOURCES,
    STR,
    VALID_RANGES,
    VOLUMETRIC,
    ChannelMaker,
    Moisture,
    Plan,
    choose_ranges,
    finish_index,
    finish_optram,
    finish_safety,
    moisture_range,
    plan_channels,
    rain_factor,
)
from zoo.rasters.stacks import (
    FORMAT_VERSION,
    SOFTWARE,
    TAG_DATE,
    TAG_DATE_BEFORE,
    TAG_FORMAT,
    TAG_PHASE,
    TAG_RAIN,
    TAG_SCENE,
    TAG_SOURCE,
)
from zoo.rasters.two_dates import Changes, EarlierImage, plan_changes
from zoo.schema import JsonValue, encode_json, to_plain

PHASES = ("", "pre", "post")


@dataclass(frozen=True)
class StackOptions:
    """Options of a stack. The defaults are those of the paper, or depend on the files.

    Attributes:
        moisture: source of the SMI: "product", "optram", "ndmi", or "none" to omit SMI and LSI; ``None`` for the
            product if one is given.
        moisture_range: dry and saturated value of the product, in its unit; ``None`` to use its unit and numbers.
        rain: (intensity in mm/h, duration in days) of the rainfall factor; ``None`` for rain rasters or a factor of 1.
        index: weights, ranges and rain parameters of the LSI; without ranges, those of the scene are used.
        soil: soil for the channels wetness and factor_of_safety under ``rain``; ``None`` omits them.
        save_weights: file for the index parameters with the ranges used.
        like: raster whose grid is used; see :func:`zoo.rasters.grid.choose_grid` for this and the next three.
        crs, resolution, bounds: another grid.
        baseline, offset, scale: the user's statements about the digital numbers; see
            :func:`zoo.rasters.optical.calibrate`.
        phase: "pre" or "post" failure, "" when unknown.
        looks: equivalent number of looks of Sentinel-1, to filter speckle; ``None`` for no filter.
        coregister: align the images before the landslides with those after them.
        force: accept bands that look swapped, and dates that are shifted.
        overwrite: replace an existing file.

    Raises:
        ConfigError: for an unknown phase or source of moisture, a soil without rain, or numbers that are not finite.
    """

    moisture: Moisture | None = None
    moisture_range: tuple[float, float] | None = None
    rain: tuple[float, float] | None = None
    index: IndexParameters = field(default_factory=IndexParameters)
    soil: Soil | None = None
    save_weights: Path | None = None
    like: str | os.PathLike[str] | None = None
    crs: str | None = None
    resolution: float | None = None
    bounds: Bounds | None = None
    baseline: str | None = None
    offset: float | None = None
    scale: float | None = None
    phase: str = ""
    looks: float | None = None
    coregister: bool = False
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ConfigError(f"unknown phase {self.phase!r}", hint="Choose pre or post (the landslides)")
        if self.moisture is not None and self.moisture not in MOISTURE_SOURCES:
            raise ConfigError(
                f"unknown source of moisture {self.moisture!r}", hint=f"Choose from {', '.join(MOISTURE_SOURCES)}"
            )
        if self.soil is not None and self.rain is None:
            raise ConfigError(
                "wetness and factor of safety need the rain as two numbers",
                hint="Give it like --rain 12,2 (mm/h, days)",
            )
        for name in ("offset", "scale", "resolution"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{value:g} is not a finite number", where=f"option {name}")

    @property
    def optics(self) -> UserOptics:
        """The user's statements about the optical numbers."""
        return UserOptics(self.baseline, self.offset, self.scale, self.force)


@dataclass(frozen=True)
class StackReport:
    """The result of :func:`build_stack`.

    Attributes:
        path: the stack.
        shape: (rows, columns).
        crs: coordinate system, such as "EPSG:32643".
        resolution: side of a pixel.
        unit: unit of ``resolution``: "m", "degree" or the unit of ``crs``.
        statistics: statistics by channel, in the order of the bands.
        sources: inputs and formula of each channel, as text.
        missing: reason for each omitted channel.
        index: parameters of the LSI with the ranges used; ``None`` without LSI.
        shift: shift of the image before the landslides relative to the one after them; ``None`` for one date, or
            unknown.
        radar_shifts: the same for Sentinel-1 by orbit: "asc", "desc", or "" for an unknown one.
        notes: findings and decisions.
        warnings: reasons why the stack may be wrong.
    """

    path: Path
    shape: tuple[int, int]
    crs: str
    resolution: float
    unit: str
    statistics: Mapping[str, BinnedMoments]
    sources: Mapping[str, str]
    missing: Mapping[str, str]
    index: IndexParameters | None
    shift: Shift | None
    radar_shifts: Mapping[str, Shift]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


TAG_SOURCES = "SOURCES"
"""JSON by role: the file's name, band, grid, resampling, offset and scale (:class:`SourceEntry`)."""

TAG_INDEX = "LSI_PARAMETERS"
"""JSON in the format of :class:`zoo.physics.IndexParameters`."""

TAG_NOTES = "NOTES"
"""JSON: the warnings and notes for the user."""

_FORMULAS = {
    "NDBI": ("(SWIR - NIR) / (SWIR + NIR)", ("swir", "nir")),
    "NDVI": ("(NIR - Red) / (NIR + Red)", ("nir", "red")),
    "NDWI": ("(Green - NIR) / (Green + NIR)", ("green", "nir")),
    "slope": ("Horn (1981)", ("dem",)),
    "DEM": ("elevation", ("dem",)),
}


def band_sources(
    plan: Plan,
    bands: Mapping[str, AlignedBand],
    calibrations: Mapping[str, Calibration],
    moisture_range: tuple[float, float],
    edges: OptramEdges | None,
    index: IndexParameters | None,
    soil: Soil | None,
) -> dict[str, str]:
    """Return the inputs and the formula of each channel as text, by channel."""

    def files(*roles: str) -> str:
        labels = []
        for role in roles:
            band = bands[role]
            how = "" if band.resampling == "none" else f" [{band.resampling}]"
            labels.append(f"{band.layer.label}{how}")
        return ", ".join(dict.fromkeys(labels))

    def optics(*roles: str) -> str:
        ways = dict.fromkeys(calibrations[role].how for role in roles if role in calibrations)
        mask = f"; masked by {files('scl')}" if "scl" in bands and ways else ""
        return f"; {'; '.join(ways)}{mask}" if ways else ""

    formulas = {}
    for name in plan.channels:
        if name in _FORMULAS:
            formula, roles = _FORMULAS[name]
            formulas[name] = f"{formula} of {files(*roles)}{optics(*roles)}"
        elif name == "SMI" and plan.moisture == "product":
            low, high = moisture_range
            formulas[name] = f"coarse product {files('moisture')}, {low:g} to {high:g} scaled to 0-1"
        elif name == "SMI" and plan.moisture == "ndmi":
            formulas[name] = (
                f"(NDMI + 1) / 2 of {files('nir', 'swir')}, the same as (1 - NDBI) / 2{optics('nir', 'swir')}"
            )
        elif name == "SMI" and edges is not None:
            formulas[name] = (
                f"OPTRAM (Sadeghi et al. 2017) of {files('swir2', 'nir', 'red')}; STR dry {edges.dry_intercept:.4g} + "
                f"{edges.dry_slope:.4g} NDVI, wet {edges.wet_intercept:.4g} + {edges.wet_slope:.4g} NDVI"
                f"{optics('swir2', 'nir', 'red')}"
            )
        elif name == "LSI" and index is not None:
            terms = " ".join(f"{weight:+g} {channel}" for channel, weight in index.weights.items())
            formulas[name] = f"sigmoid(R_m ({terms})), channels scaled to 0-1 with the ranges of {index.source}"
    if soil is not None:
        formulas |= {name: f"{source}; one soil for the whole area: {soil}" for name, source in SAFETY_SOURCES.items()}
    return formulas


def file_tags(
    sources: Sources,
    options: StackOptions,
    bands: Mapping[str, AlignedBand],
    calibrations: Mapping[str, Calibration],
    index: IndexParameters | None,
    earlier: EarlierImage | None,
    notes: Sequence[str],
) -> dict[str, str]:
    """Return the tags of the file, without empty ones."""
    entries = {role: _entry(band, calibrations.get(role)) for role, band in bands.items()}
    if earlier is not None:
        entries |= {
            f"{role} before": _entry(band, earlier.calibrations.get(role)) for role, band in earlier.bands.items()
        }
    tags = {
        TAG_FORMAT: FORMAT_VERSION,
        TAG_SCENE: sources.scene,
        TAG_DATE: sources.date,
        TAG_DATE_BEFORE: "" if earlier is None else earlier.sources.date,
        TAG_PHASE: options.phase,
        TAG_RAIN: "" if options.rain is None else f"{options.rain[0]:g},{options.rain[1]:g}",
        "SOIL": "" if options.soil is None else str(options.soil),
        TAG_SOURCES: encode_json(entries),
        TAG_INDEX: "" if index is None else encode_json(index.to_dict()),
        TAG_NOTES: encode_json(list(notes)) if notes else "",
        "BASELINE": options.baseline or sources.baseline,
        **SOFTWARE,
    }
    return {name: text for name, text in tags.items() if text}


@dataclass(frozen=True)
class SourceEntry:
    """One input in the tag :data:`TAG_SOURCES`.

    Attributes:
        file: name of the file, without its folder.
        band: number of the band in the file.
        crs: short name of its coordinate system.
        pixel_m: side of its pixels in metres.
        resampling: resampling to the grid.
        offset, scale, calibration: conversion of numbers to reflectance, and the reason; omitted for other inputs.
    """

    file: str
    band: int
    crs: str
    pixel_m: float
    resampling: str
    offset: float | None = None
    scale: float | None = None
    calibration: str | None = None


def _entry(band: AlignedBand, calibration: Calibration | None) -> dict[str, JsonValue]:
    layer = band.layer
    entry = SourceEntry(
        file=layer.label,
        band=layer.file.band,
        crs=crs_name(layer.crs),
        pixel_m=round(layer.pixel_metres, 3),
        resampling=band.resampling,
        offset=None if calibration is None else calibration.offset,
        scale=None if calibration is None else calibration.scale,
        calibration=None if calibration is None else calibration.how,
    )
    return {name: value for name, value in to_plain(entry).items() if value is not None}


WINDOW = 1024
"""Side of a window in pixels: ten bands of 4 MB."""

_USED_BY = {
    "NDBI": {"swir", "nir"},
    "NDVI": {"nir", "red"},
    "NDWI": {"green", "nir"},
    "slope": {"dem"},
    "DEM": {"dem"},
    "LSI": {"rain_intensity", "rain_duration"},
}
_SMI_USES = {"product": {"moisture"}, "optram": {"swir2", "nir", "red"}, "ndmi": {"nir", "swir"}, "none": set[str]()}


def build_stack(
    sources: Sources,
    out: str | os.PathLike[str],
    options: StackOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    before: Sources | None = None,
    radar: Sources | None = None,
    radar_before: Sources | None = None,
) -> StackReport:
    """Build a stack; :func:`zoo.stack` and the command ``zoo stack`` call this.

    Memory does not grow with the scene. ``out`` is written atomically.

    Args:
        sources: files by role.
        out: GeoTIFF to write; :class:`zoo.rasters.stacks.Stack` reads it.
        options: see :class:`StackOptions`.
        progress: called with the number of windows done and the total.
        before: image before the landslides; adds the differences between ``sources`` and it.
        radar: backscatter of Sentinel-1; adds its channels in dB.
        radar_before: the same before the landslides; adds log-ratios.

    Returns:
        The channels and their sources. Warnings are in its ``warnings``; none is issued.

    Raises:
        ZooError: if a file is missing, damaged, without georeference or all nodata, inputs do not overlap, the grid is
            in degrees and a slope is wanted, options contradict each other, bands look swapped, two dates are shifted
            by more than a pixel, or the disk is full.
    """
    options = options or StackOptions()
    path = Path(out)
    if not path.is_dir():
        check_geotiff_name(path)
    images = [one for one in (sources, before, radar, radar_before) if one is not None]
    inputs = [file.path for image in images for file in image.files.values()]
    inputs += [] if options.like is None else [os.fspath(options.like)]
    inputs = [name for name in inputs if not is_remote(name)]
    check_output(path, [Path(name) for name in inputs], overwrite=options.overwrite)
    # Index parameters may be replaced, but rasters may not.
    check_outputs([options.save_weights], [*inputs, path], overwrite=True)
    radar_only = radar is not None and not sources.files
    plan = Plan((), {}, "none") if radar_only else plan_channels(sources.files, options.moisture, options.index.weights)
    if radar is not None and radar_before is not None:
        sources = replace(sources, notes=(*sources.notes, *check_radar_dates(radar, radar_before)))
    if radar is not None and not sources.date:
        sources = replace(sources, date=radar.date)
    changes = None if before is None else plan_changes(sources, before)
    for one in images:
        _check_different(one)
    layers = {role: open_layer(role, sources.files[role]) for role in _used_roles(plan, sources, changes)}
    earlier = {} if before is None or changes is None else changes.open_layers(before)
    radar_files = [layer for one in (radar, radar_before) if one is not None for layer in radar_layers(one).values()]
    grid = choose_grid(
        [*layers.values(), *earlier.values(), *radar_files],
        like=options.like,
        crs=options.crs,
        resolution=options.resolution,
        bounds=options.bounds,
    )
    _check_terrain(plan, layers, grid)
    if options.soil is not None:
        _check_flow(plan, grid)
    rows, columns = grid.shape
    with ExitStack() as exits:
        bands = {role: exits.enter_context(AlignedBand(layer, grid)) for role, layer in layers.items()}
        image = None
        if before is not None and changes is not None:
            image = exits.enter_context(EarlierImage(before, changes, earlier, grid))
        backscatter = None
        if radar is not None:
            chosen = RadarOptions(options.looks, coregister=options.coregister, force=options.force)
            backscatter = exits.enter_context(Radar(radar, radar_before, grid, path, chosen))
        scene = _Scene(sources, options, plan, bands, grid, path.name, image, backscatter)
        writer = exits.enter_context(
            CogWriter(path, PixelGrid(grid_crs(grid), grid.transform, (rows, columns)), scene.output, average=True)
        )
        scene.fill(writer, progress)
        return scene.publish(writer)


class _Scene:
    """State of a stack during the build."""

    def __init__(
        self,
        sources: Sources,
        options: StackOptions,
        plan: Plan,
        bands: Mapping[str, AlignedBand],
        grid: GeoBox,
        name: str,
        earlier: EarlierImage | None,
        radar: Radar | None,
    ) -> None:
        self._sources, self._options, self._bands, self._name = sources, options, bands, name
        self._earlier, self._radar = earlier, radar
        self._layers = {role: band.layer for role, band in bands.items()}
        self._grid = grid
        self._notes: list[str] = list(sources.notes)
        self._warnings: list[str] = []
        self._plan = plan
        self._index: IndexParameters | None = None
        self._edges: OptramEdges | None = None
        samples: Samples = sample(bands) if bands else {}
        for role, values in samples.items():
            if not np.isfinite(values).any():
                raise DataError("is nodata on the whole grid of the stack", where=self._layers[role].path)
        self._calibrations, notes, warnings = choose_optics(self._layers, samples, sources.baseline, options.optics)
        self._notes += notes
        self._warnings += warnings
        self._moisture_range = self._choose_moisture(samples)
        self._factor, rain_note = rain_factor(options.index, options.rain, bands)
        if "LSI" in plan.channels:
            self._notes.append(rain_note)
        self._note_inputs()
        self._note_grid()
        if earlier is not None:
            notes, warnings = earlier.choose_calibrations(
                bands, sources.date, options.optics, coregister=options.coregister
            )
            self._notes += notes
            self._warnings += warnings
        self.output: tuple[Band, ...] = tuple(band for band in PAPER_CHANNELS if band.name in plan.channels)
        if options.soil is not None:
            self.output += SAFETY_CHANNELS
        if earlier is not None:
            self.output += earlier.changes.channels
        if radar is not None:
            self.output += radar.channels
            self._notes += radar.notes
            self._warnings += radar.warnings
        self._statistics = {band.name: BinnedMoments(band) for band in self.output}

    def _choose_moisture(self, samples: Samples) -> tuple[float, float]:
        if self._plan.moisture == "ndmi":
            self._warnings.append(
                "SMI is NDMI, which equals -NDBI: the channel adds no information, and weights on both cancel"
            )
        if self._plan.moisture == "optram":
            self._notes.append("SMI by OPTRAM is a model of B12 and NDVI; no radiometer measures soil moisture at 10 m")
        if self._plan.moisture != "product":
            return VOLUMETRIC
        layer = self._layers["moisture"]
        if layer.pixel_metres > 2 * _metres(self._grid):
            self._notes.append(
                f"{layer.label}: pixels of {layer.pixel_metres:.0f} m were interpolated, so SMI shows regions, "
                "not single slopes"
            )
        if self._options.moisture_range is not None:
            return self._options.moisture_range
        found, note = moisture_range(layer, in_unit(layer, samples["moisture"]))
        self._notes.append(note)
        return found

    def _note_inputs(self) -> None:
        for layer in self._layers.values():
            code = next(iter(self._bands[layer.role].codes), layer.untagged)
            if code is not None:
                self._notes.append(f"{layer.label} holds {code:g} without a nodata tag: such pixels count as missing")
        if "dem" in self._layers:
            layer = self._layers["dem"]
            doubt = doubtful_elevation(layer)
            if doubt:
                self._warnings.append(doubt)
            with RasterReader(layer.path) as reader:
                place = [band.index for band in reader.bands].index(layer.file.band)
                found = elevation_warnings(
                    lambda window: in_unit(layer, reader.numbers(window, [place])[0]), layer.shape, layer.pixel_metres
                )
            self._warnings += [f"{layer.label}: {text}" for text in found]

    def _note_grid(self) -> None:
        crs = grid_crs(self._grid)
        for layer in self._layers.values():
            if layer.crs != crs:
                how = self._bands[layer.role].resampling
                note = f"{layer.label}: reprojected from {crs_name(layer.crs)} to {crs_name(crs)} ({how})"
                if note not in self._notes:
                    self._notes.append(note)
        if crs.is_geographic:
            box = self._grid.boundingbox
            zone = utm_code((box.left, box.bottom, box.right, box.top), crs)
            self._warnings.append(
                "the grid is in degrees, so its pixels are not square on the ground, and landslides are measured in "
                f"metres: --crs {zone} projects it"
            )

    def fill(self, writer: CogWriter, progress: Callable[[int, int], None] | None) -> None:
        """Write all channels, in one pass over the inputs and up to three passes over the output."""
        squares = windows((self._grid.shape[0], self._grid.shape[1]), WINDOW)
        later = (self._plan.moisture == "optram", "LSI" in self._plan.channels, self._options.soil is not None)
        passes = 1 + sum(later)
        done = 0

        def steps() -> Iterator[Window]:
            nonlocal done
            for window in squares:
                yield window
                done += 1
                if progress is not None:
                    progress(done, passes * len(squares))

        indices = () if self._earlier is None else self._earlier.changes.indices
        plan = replace(self._plan, channels=tuple(dict.fromkeys((*self._plan.channels, *indices))))
        maker = ChannelMaker(plan, self._bands, self._calibrations, self._moisture_range)
        fit = OptramFit()
        for window in steps():
            made = maker.make(window)
            if self._earlier is not None:
                made |= self._earlier.differences(made, window)
            if self._radar is not None:
                made |= self._radar.make(window)
            if STR in made:
                fit.add(made["NDVI"], made[STR])
                writer.write(made.pop(STR), window, "SMI")
            for name in self._statistics.keys() & made.keys():
                self._statistics[name].add(made[name])
                writer.write(made[name], window, name)
        self._check_filled(maker)
        if self._plan.moisture == "optram":
            self._edges = fit.edges()
            finish_optram(writer, self._edges, self._statistics["SMI"], steps())
        if "LSI" in self._plan.channels:
            self._fill_index(writer, steps())
        self._fill_safety(writer, steps())

    def _fill_safety(self, writer: CogWriter, steps: Iterator[Window]) -> None:
        options = self._options
        if options.soil is None or options.rain is None:
            return
        unstable = finish_safety(writer, _metres(self._grid), options.rain, options.soil, self._statistics, steps)
        self._notes.append(
            f"the factor of safety is below 1 on {unstable:.1%} of the area, with the same soil everywhere"
        )

    def _fill_index(self, writer: CogWriter, steps: Iterator[Window]) -> None:
        self._index = choose_ranges(self._options.index, self._statistics, self._sources.scene or self._name)
        if not self._options.index.ranges:
            self._notes.append(
                "LSI is scaled with this scene's own 0.5-99.5 percentiles, so it compares slopes of this scene only. "
                "--save-weights FILE stores them, and --weights FILE scales the next scene with them"
            )
        negative = finish_index(writer, self._index, self._factor, self._statistics["LSI"], steps)
        rain = self._options.rain is not None or "rain_intensity" in self._bands
        if negative > 0.001 and rain:
            self._warnings.append(
                f"the weighted sum of the LSI is negative in {negative:.1%} of the pixels, where more rain lowers the "
                "index"
            )
        if self._statistics["LSI"].count == 0:
            raise DataError("no pixel has all the channels that the LSI uses")

    def _check_filled(self, maker: ChannelMaker) -> None:
        pixels = math.prod(self._grid.shape)
        for name, count in maker.outside.items():
            if count > 0.001 * pixels:
                low, high = VALID_RANGES[name]
                unit = next((f" {band.unit}" for band in self.output if band.name == name and band.unit != "1"), "")
                share = f"{name}: {count / pixels:.1%} of the pixels"
                self._warnings.append(f"{share} were outside {low:g} to {high:g}{unit} and became nodata")
        for name, statistics in self._statistics.items():
            if name != "slope" and statistics.count > 1 and statistics.minimum == statistics.maximum:
                self._warnings.append(f"{name} is {statistics.minimum:g} in every pixel; is its file empty?")
        changed = () if self._earlier is None else self._earlier.changes.channels
        for band in (*changed, *(() if self._radar is None else self._radar.channels)):
            if self._statistics[band.name].count == 0:
                raise DataError("no pixel is visible on both dates: clouds or nodata everywhere", where=band.name)
        for name, statistics in self._statistics.items():
            later = name not in self._plan.channels or name == "LSI"
            later = later or (name == "SMI" and self._plan.moisture == "optram")
            if not later and statistics.count == 0:
                raise DataError("no pixel has a value: clouds, nodata or a wrong scale everywhere", where=name)

    def publish(self, writer: CogWriter) -> StackReport:
        """Write the tags, move the file to its final name, and return the report."""
        options = self._options
        formulas = band_sources(
            self._plan, self._bands, self._calibrations, self._moisture_range, self._edges, self._index, options.soil
        )
        notes = (*self._warnings, *self._notes)
        tags = file_tags(
            self._sources,
            options,
            {**self._bands, **({} if self._radar is None else self._radar.bands)},
            self._calibrations,
            self._index,
            self._earlier,
            notes,
        )
        missing = dict(self._plan.missing)
        if self._earlier is not None:
            formulas |= self._earlier.formulas(self._sources.date)
            missing |= self._earlier.changes.missing
        if self._radar is not None:
            formulas |= self._radar.formulas
        writer.publish(
            tags, {name: {TAG_SOURCE: formulas[name], **found.gdal_tags()} for name, found in self._statistics.items()}
        )
        if options.save_weights is not None and self._index is not None:
            self._index.save(options.save_weights)
        return StackReport(
            path=writer.path,
            shape=(self._grid.shape[0], self._grid.shape[1]),
            crs=crs_name(grid_crs(self._grid)),
            resolution=float(self._grid.resolution.x),
            unit=crs_unit(grid_crs(self._grid)),
            statistics=self._statistics,
            sources=formulas,
            missing=missing,
            index=self._index,
            shift=None if self._earlier is None else self._earlier.shift,
            radar_shifts={} if self._radar is None else self._radar.shifts,
            notes=tuple(self._notes),
            warnings=tuple(self._warnings),
        )


def _check_different(image: Sources) -> None:
    """Refuse one band that is given for two quantities.

    Raises:
        ConfigError: if there is one; red that is NIR would give an NDVI of 0 everywhere.
    """
    seen: dict[tuple[str, int], str] = {}
    for role, file in image.files.items():
        place = file.path if is_remote(file.path) else os.path.realpath(file.path)
        other = seen.setdefault((place, file.band), role)
        if other != role:
            raise ConfigError(
                f"band {file.band} is given as {other} and as {role}",
                where=file.path,
                hint="Name the file or the band (FILE:BAND) of each",
            )


def _used_roles(plan: Plan, sources: Sources, changes: Changes | None) -> list[str]:
    used = set(_SMI_USES[plan.moisture])
    for name in plan.channels:
        used |= _USED_BY.get(name, set())
    if changes is not None:
        used |= changes.roles
    if used & set(OPTICAL):
        used.add("scl")
    return [role for role in sources.files if role in used]


def _check_flow(plan: Plan, grid: GeoBox) -> None:
    if "DEM" not in plan.channels:
        raise ConfigError("wetness and factor of safety need an elevation", hint="Give it with --dem FILE")
    if not math.isclose(abs(grid.resolution.x), abs(grid.resolution.y), rel_tol=1e-6):
        raise DataError(
            f"the flow of water needs square pixels; these are {abs(grid.resolution.x):g} x {abs(grid.resolution.y):g}",
            hint="Make them square with --resolution",
        )
    check_size((grid.shape[0], grid.shape[1]))


def _metres(grid: GeoBox) -> float:
    """Return the side of a pixel on the ground in metres."""
    box = grid.boundingbox
    across, along = true_scale(grid_crs(grid), (box.left + box.right) / 2, (box.bottom + box.top) / 2)
    return abs(float(grid.resolution.x)) * math.sqrt(across * along)


def _check_terrain(plan: Plan, layers: Mapping[str, Layer], grid: GeoBox) -> None:
    if "slope" not in plan.channels:
        return
    require_metres(grid)
    require_metres_up(layers["dem"])
