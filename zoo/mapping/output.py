"""Finished blocks joined to a map, and published with what it has to say about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from zoo.errors import DataError
from zoo.mapping.blending import UINT8_NODATA, UINT8_STEPS, first_step, is_missing, join
from zoo.mapping.journal import Journal
from zoo.mapping.legend import ProbabilityClasses, probability_colours
from zoo.mapping.tiling import Plan
from zoo.physics.bands import Band
from zoo.rasters.map_writer import Grid, MapWriter
from zoo.rasters.reading import window_of

PROBABILITY = Band("landslide_probability", "1", 0.0, 1.0)


@dataclass
class MapReport:
    """What became of a map.

    Attributes:
        out: the probabilities.
        classes_out: the classes; None without.
        shape: (rows, columns).
        tiles: tiles of the scene, those without a pixel to map included.
        missing: pixels that are nodata.
        above: pixels at or above the threshold.
        class_pixels: number of pixels by class name.
        pixel_area: m2; None when the scene is not in metres.
        blocks, resumed: blocks of the map, and how many of them an earlier run had finished.
    """

    out: Path
    classes_out: Path | None
    shape: tuple[int, int]
    tiles: int
    pixel_area: float | None
    blocks: int
    resumed: int
    missing: int = 0
    above: int = 0
    class_pixels: dict[str, int] = field(default_factory=dict)

    @property
    def mapped(self) -> int:
        """Pixels that have a probability."""
        return self.shape[0] * self.shape[1] - self.missing

    def area(self, pixels: int) -> float | None:
        """km2 of a number of pixels; None when the scene is not in metres."""
        return None if self.pixel_area is None else pixels * self.pixel_area / 1e6


def write_map(
    report: MapReport,
    grid: Grid,
    plan: Plan,
    journal: Journal,
    *,
    dtype: Literal["uint8", "float32"],
    threshold: float,
    classes: ProbabilityClasses | None,
    tags: Mapping[str, str],
    compress: str,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Join the blocks of a journal and publish the files of ``report``, whose counts are filled in.

    Raises:
        DataError: if no pixel has a probability.
        ZooError: if the disk is full.
    """
    counts = np.zeros(1 if classes is None else len(classes.names) + 1, dtype=np.int64)
    rows, columns = plan.block_shape
    with ExitStack() as exits:
        writer = exits.enter_context(
            MapWriter(report.out, grid, dtype, compress, nodata=UINT8_NODATA, average=True, within=journal.folder)
        )
        class_writer = None
        if report.classes_out is not None and classes is not None:
            class_writer = exits.enter_context(
                MapWriter(report.classes_out, grid, "uint8", compress, within=journal.folder)
            )
        for number, block in enumerate(plan.blocks()):
            across, along, values = join(plan, block, journal.load)
            window = window_of((across.start, across.stop), (along.start, along.stop))
            missing = is_missing(values)
            report.missing += int(np.count_nonzero(missing))
            level = first_step(threshold) if dtype == "uint8" else np.float32(threshold)
            report.above += int(np.count_nonzero((values >= level) & ~missing))
            writer.write(values, window)
            if class_writer is not None and classes is not None:
                found = classes.classify(values)
                counts += np.bincount(found.ravel(), minlength=len(counts))
                class_writer.write(found, window)
            if progress is not None:
                progress(number + 1, rows * columns)
        if report.mapped == 0:
            raise DataError("no pixel has a value in each band that the bundle takes, so there is nothing to map")
        told = {**tags, "THRESHOLD": f"{threshold:.9g}"}
        about = {"LONG_NAME": "probability of a landslide", "VALID_MIN": "0", "VALID_MAX": "1"}
        if dtype == "uint8":
            writer.finish(PROBABILITY, told, about, probability_colours(), scale=1 / UINT8_STEPS)
        else:
            writer.finish(PROBABILITY, told, about)
        if class_writer is not None and classes is not None:
            names = {f"CLASS_{number}": name for number, name in enumerate(classes.names, 1)}
            report.class_pixels = {name: int(n) for name, n in zip(classes.names, counts[1:], strict=True)}
            class_writer.finish(
                Band("landslide_class", "1"),
                {**told, "CLASS_BREAKS": ",".join(f"{one:.9g}" for one in classes.breaks)},
                {"LONG_NAME": "class of the probability of a landslide", **names},
                classes.colours(),
            )
        journal.begin_publishing()
        for one in (class_writer, writer):
            if one is not None:
                one.place()
