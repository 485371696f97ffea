"""The paper's seven channels on one grid in one file, made of satellite bands, a DEM and a source of soil moisture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_CHANNELS, Band, IndexParameters, OptramEdges, OptramFit
from zoo.physics.slope_safety import SAFETY_CHANNELS, check_size
from zoo.rasters.alignment import AlignedBand, windows
from zoo.rasters.cog import StackWriter
from zoo.rasters.grid import choose_grid, grid_crs, require_metres
from zoo.rasters.layers import Layer, crs_name, crs_unit, linear_metres, open_layer, utm_code
from zoo.rasters.sources import OPTICAL, Sources
from zoo.rasters.stacking.channels import STR, ChannelMaker, Plan, in_unit, plan_channels
from zoo.rasters.stacking.moisture import VOLUMETRIC, moisture_range
from zoo.rasters.stacking.moments import RunningStatistics
from zoo.rasters.stacking.optical import (
    Calibration,
    Samples,
    calibrate,
    check_reflectance,
    check_swapped,
    clouded,
    sample,
)
from zoo.rasters.stacking.options import StackOptions, StackReport
from zoo.rasters.stacking.scene_channels import finish_index, finish_optram, finish_safety, rain_factor, settle_ranges
from zoo.rasters.stacking.tags import band_sources, band_tags, file_tags

WINDOW = 1024
"""Side of the squares that are worked on: ten bands of 4 MB at a time."""

_FEET = frozenset({"ft", "foot", "feet", "us-ft", "us survey foot", "ftus"})
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
) -> StackReport:
    """Make a stack: the same as the command ``zoo stack``.

    Memory stays the same for any size of scene. ``out`` appears when it is whole.

    Args:
        sources: files by role.
        out: a GeoTIFF; :class:`zoo.rasters.stacks.Stack` reads it.
        options: all others; see :class:`StackOptions`.
        progress: called with (windows done, all windows).

    Returns:
        what was made, of what, and what is doubtful about it. No Python warning is issued: read ``warnings``.

    Raises:
        ZooError: if a file is missing, damaged, without CRS or all nodata, inputs do not overlap, the grid is in
            degrees and a slope is wanted, options contradict each other, bands look swapped, or the disk is full.
    """
    options = options or StackOptions()
    path = Path(out)
    _check_output(path, sources, options)
    plan = plan_channels(sources.files, options.moisture, options.index.weights)
    used = _used_roles(plan, sources)
    layers = {role: open_layer(role, sources.files[role]) for role in used}
    grid = choose_grid(
        list(layers.values()),
        like=options.like,
        crs=options.crs,
        resolution=options.resolution,
        bounds=options.bounds,
    )
    _check_terrain(plan, layers, grid)
    if options.soil is not None:
        _check_flow(plan, grid)
    with ExitStack() as exits:
        bands = {role: exits.enter_context(AlignedBand(layer, grid)) for role, layer in layers.items()}
        scene = _Scene(sources, options, plan, bands, path.name)
        writer = exits.enter_context(StackWriter(path, grid, scene.output))
        scene.fill(writer, progress)
        return scene.publish(writer)


class _Scene:
    """A stack while it is made."""

    def __init__(
        self, sources: Sources, options: StackOptions, plan: Plan, bands: Mapping[str, AlignedBand], name: str
    ) -> None:
        self._sources, self._options, self._bands, self._name = sources, options, bands, name
        self._layers = {role: band.layer for role, band in bands.items()}
        self._grid: GeoBox = next(iter(bands.values())).grid
        self._notes: list[str] = list(sources.notes)
        self._warnings: list[str] = []
        self._plan = plan
        self._index: IndexParameters | None = None
        self._edges: OptramEdges | None = None
        samples = sample(bands)
        for role, values in samples.items():
            if not np.isfinite(values).any():
                raise DataError("is nodata all over the stack's grid", where=self._layers[role].path)
        self._calibrations = self._settle_optics(samples)
        self._moisture_range = self._settle_moisture(samples)
        self._factor, rain_note = rain_factor(options.index, options.rain, bands)
        if "LSI" in plan.channels:
            self._notes.append(rain_note)
        self._tell_grid()
        self.output: tuple[Band, ...] = tuple(band for band in PAPER_CHANNELS if band.name in plan.channels)
        if options.soil is not None:
            self.output += SAFETY_CHANNELS
        self._statistics = {band.name: RunningStatistics(band) for band in self.output}

    def _settle_optics(self, samples: Samples) -> dict[str, Calibration]:
        optical = {role: layer for role, layer in self._layers.items() if role in OPTICAL}
        if not optical:
            return {}
        options = self._options
        calibrations, notes = calibrate(
            optical,
            samples,
            found_baseline=self._sources.baseline,
            baseline=options.baseline,
            offset=options.offset,
            scale=options.scale,
        )
        self._notes += notes
        reflectances = {role: calibrations[role].apply(samples[role]) for role in optical}
        if "scl" in samples:
            for values in reflectances.values():
                values[clouded(samples["scl"])] = np.nan
        self._warnings += check_reflectance(reflectances, calibrations)
        if "nir" in optical:
            try:
                check_swapped(reflectances, self._layers["nir"].path)
            except DataError as error:
                if not options.force:
                    raise
                self._warnings.append(f"{error.problem} Taken as they are, as told")
        return calibrations

    def _settle_moisture(self, samples: Samples) -> tuple[float, float]:
        if self._plan.moisture == "ndmi":
            self._warnings.append(
                "SMI is NDMI, which is -NDBI: the channel adds no information, and weights on both cancel"
            )
        if self._plan.moisture == "optram":
            self._notes.append("SMI by OPTRAM is modelled from B12 and NDVI; no radiometer sees soil moisture at 10 m")
        if self._plan.moisture != "product":
            return VOLUMETRIC
        layer = self._layers["moisture"]
        if layer.pixel_metres > 2 * abs(self._grid.resolution.x):
            self._notes.append(
                f"{layer.label}: pixels of {layer.pixel_metres:.0f} m were interpolated; SMI tells regions apart, "
                "not slopes"
            )
        if self._options.moisture_range is not None:
            return self._options.moisture_range
        found, note = moisture_range(layer, in_unit(layer, samples["moisture"]))
        self._notes.append(note)
        return found

    def _tell_grid(self) -> None:
        crs = grid_crs(self._grid)
        for layer in self._layers.values():
            if layer.crs != crs:
                how = self._bands[layer.role].resampling
                told = f"{layer.label}: reprojected from {crs_name(layer.crs)} to {crs_name(crs)} ({how})"
                if told not in self._notes:
                    self._notes.append(told)
        if crs.is_geographic:
            box = self._grid.boundingbox
            zone = utm_code((box.left, box.bottom, box.right, box.top), crs)
            self._warnings.append(
                f"the grid is in degrees: its pixels are not square on the ground, and landslides are measured in "
                f"metres. --crs {zone} projects it"
            )

    def fill(self, writer: StackWriter, progress: Callable[[int, int], None] | None) -> None:
        """Write every channel, in one pass over the inputs and up to three over what was written."""
        squares = windows(self._grid, WINDOW)
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

        maker = ChannelMaker(self._plan, self._bands, self._calibrations, self._moisture_range)
        fit = OptramFit()
        for window in steps():
            made = maker.make(window)
            if STR in made:
                fit.add(made["NDVI"], made[STR])
                writer.write("SMI", made.pop(STR), window)
            for name in self._statistics.keys() & made.keys():
                self._statistics[name].add(made[name])
                writer.write(name, made[name], window)
        self._check_filled(maker)
        if self._plan.moisture == "optram":
            self._edges = fit.edges()
            finish_optram(writer, self._edges, self._statistics["SMI"], steps())
        if "LSI" in self._plan.channels:
            self._fill_index(writer, steps())
        self._fill_safety(writer, steps())

    def _fill_safety(self, writer: StackWriter, steps: Iterator[Window]) -> None:
        options = self._options
        if options.soil is None or options.rain is None:
            return
        unstable = finish_safety(writer, _metres(self._grid), options.rain, options.soil, self._statistics, steps)
        self._notes.append(f"factor of safety below 1 on {unstable:.1%} of the area, with one soil everywhere")

    def _fill_index(self, writer: StackWriter, steps: Iterator[Window]) -> None:
        self._index = settle_ranges(self._options.index, self._statistics, self._sources.scene or self._name)
        if not self._options.index.ranges:
            self._notes.append(
                "LSI is scaled with this scene's own 0.5-99.5 percentiles, so it compares slopes within it alone: "
                "--save-weights FILE stores them, and --weights FILE scales the next scene with them"
            )
        negative = finish_index(writer, self._index, self._factor, self._statistics["LSI"], steps)
        rain = self._options.rain is not None or "rain_intensity" in self._bands
        if negative > 0.001 and rain:
            self._warnings.append(
                f"the weighted sum of the LSI is negative in {negative:.1%} of the pixels: more rain lowers the "
                "index there"
            )
        if self._statistics["LSI"].valid == 0:
            raise DataError("no pixel has all the channels that the LSI is made of")

    def _check_filled(self, maker: ChannelMaker) -> None:
        pixels = math.prod(self._grid.shape)
        for name, count in maker.outside.items():
            if count > 0.001 * pixels:
                band = next(band for band in PAPER_CHANNELS if band.name == name)
                self._warnings.append(
                    f"{name}: {count / pixels:.1%} of the pixels were outside {band.valid_min:g} to {band.valid_max:g}"
                    f"{'' if band.unit == '1' else ' ' + band.unit} and became nodata"
                )
        for name, statistics in self._statistics.items():
            later = name not in self._plan.channels or name == "LSI"
            later = later or (name == "SMI" and self._plan.moisture == "optram")
            if not later and statistics.valid == 0:
                raise DataError("not one pixel has a value: clouds, nodata or the wrong scale everywhere", where=name)

    def publish(self, writer: StackWriter) -> StackReport:
        """Put everything into its tags, give the file its name, and report."""
        options = self._options
        words = band_sources(
            self._plan, self._bands, self._calibrations, self._moisture_range, self._edges, self._index, options.soil
        )
        tags = file_tags(
            self._sources, options, self._bands, self._calibrations, self._index, (*self._warnings, *self._notes)
        )
        writer.publish(
            tags, {band.name: band_tags(band, words[band.name], self._statistics[band.name]) for band in self.output}
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
            sources=words,
            missing=self._plan.missing,
            index=self._index,
            notes=tuple(self._notes),
            warnings=tuple(self._warnings),
        )


def _check_output(path: Path, sources: Sources, options: StackOptions) -> None:
    if path.is_dir():
        raise ConfigError("is a folder", where=path, hint="Name a file, such as stack.tif")
    if path.exists():
        if any(Path(file.path).exists() and path.samefile(file.path) for file in sources.files.values()):
            raise ConfigError("is one of the inputs", where=path, hint="Name another file for the stack")
        if not options.overwrite:
            raise ConfigError("is there already", where=path, hint="Name another file, or replace it with --overwrite")


def _used_roles(plan: Plan, sources: Sources) -> list[str]:
    used = set(_SMI_USES[plan.moisture])
    for name in plan.channels:
        used |= _USED_BY.get(name, set())
    if used & set(OPTICAL):
        used.add("scl")
    return [role for role in sources.files if role in used]


def _check_flow(plan: Plan, grid: GeoBox) -> None:
    if "DEM" not in plan.channels:
        raise ConfigError("wetness and factor of safety need an elevation", hint="Give it with --dem FILE")
    if not math.isclose(abs(grid.resolution.x), abs(grid.resolution.y), rel_tol=1e-6):
        raise DataError(
            f"flow of water needs square pixels, and these are {abs(grid.resolution.x):g} x {abs(grid.resolution.y):g}",
            hint="Give the grid one side with --resolution",
        )
    check_size((grid.shape[0], grid.shape[1]))


def _metres(grid: GeoBox) -> float:
    """Side of a pixel in metres."""
    return abs(float(grid.resolution.x)) * linear_metres(grid_crs(grid))


def _check_terrain(plan: Plan, layers: Mapping[str, Layer], grid: GeoBox) -> None:
    if "slope" not in plan.channels:
        return
    require_metres(grid)
    unit = layers["dem"].unit
    if unit.strip().lower() in _FEET:
        raise DataError(
            f"elevation in {unit}",
            where=layers["dem"].path,
            hint="Turn it into metres: gdal_calc.py -A DEM --calc=A*0.3048 --outfile=OUT",
        )
