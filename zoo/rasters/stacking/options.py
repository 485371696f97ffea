"""What may be asked of a stack, and what is told about it afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import ConfigError
from zoo.physics import IndexParameters
from zoo.physics.slope_safety import Soil
from zoo.rasters.layers import Bounds
from zoo.rasters.stacking.channels import MOISTURE_SOURCES, Moisture
from zoo.rasters.stacking.moments import RunningStatistics

PHASES = ("", "pre", "post")


@dataclass(frozen=True)
class StackOptions:
    """How a stack is made; each default is what the paper or the files say.

    Attributes:
        moisture: source of the SMI: "product", "optram", "ndmi", or "none" to go without SMI and LSI; None for the
            product where one is given.
        moisture_range: dry and saturated value of the product, in its unit; None to go by unit and numbers.
        rain: (intensity in mm/h, duration in days) of the rainfall factor; None for rasters of rain, or a factor of 1.
        index: weights, ranges and rain parameters of the LSI; ranges from the scene itself where it has none.
        soil: adds the channels wetness and factor_of_safety of this soil under ``rain``; None to leave them out.
        save_weights: file that gets the index parameters with the ranges that were used.
        like: raster whose grid is taken; see :func:`zoo.rasters.grid.choose_grid` for this and the next three.
        crs, resolution, bounds: another grid.
        baseline, offset, scale: what the user says of the optical numbers; see
            :func:`zoo.rasters.stacking.optical.calibrate`.
        phase: "pre" or "post" failure, "" when unknown.
        force: take bands that look swapped as they are.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: for an unknown phase or source of moisture, or a soil without rain.
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
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ConfigError(f"phase {self.phase!r}", hint="It is pre or post: before or after the landslides")
        if self.moisture is not None and self.moisture not in MOISTURE_SOURCES:
            raise ConfigError(f"source of moisture {self.moisture!r}", hint=f"One of: {', '.join(MOISTURE_SOURCES)}")
        if self.soil is not None and self.rain is None:
            raise ConfigError(
                "wetness and factor of safety need the rain as two numbers", hint="Such as --rain 12,2 (mm/h, days)"
            )


@dataclass(frozen=True)
class StackReport:
    """What became of a stack.

    Attributes:
        path: the file.
        shape: (rows, columns).
        crs: such as "EPSG:32643".
        resolution: side of a pixel.
        unit: of ``resolution``: "m", "degree" or what ``crs`` counts in.
        statistics: by channel, in the order of the bands.
        sources: what each channel was made of, in words.
        missing: channels that were not made, and why.
        index: parameters of the LSI with the ranges that were used; None without LSI.
        notes: what was found and decided on the way.
        warnings: what may spoil the stack.
    """

    path: Path
    shape: tuple[int, int]
    crs: str
    resolution: float
    unit: str
    statistics: Mapping[str, RunningStatistics]
    sources: Mapping[str, str]
    missing: Mapping[str, str]
    index: IndexParameters | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
