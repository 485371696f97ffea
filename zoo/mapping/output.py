"""The files of a map: probability, classes and polygons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.mapping.journal import Journal
from zoo.mapping.probability import ProbabilityClasses, probability_colours
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import UINT8_NODATA, UINT8_STEPS, Plan, first_step, is_missing, join
from zoo.physics.bands import Band
from zoo.rasters.cog import MapWriter
from zoo.rasters.grid import Grid
from zoo.rasters.polygons import PolygonOptions, PolygonReport, write_polygons
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import Stack

if TYPE_CHECKING:
    from rasterio.windows import Window


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


SLOPE, DEGREE = "slope", "degree"

PLAIN_CLASS = "landslide"
"""Of all polygons when no classes are named."""

KEPT_TAGS = ("MODEL", "WEIGHTS_SHA256", "SCENE", "DATE", "BANDS", "ZOO_VERSION")
"""Tags of the map that its polygons carry on."""


class MadeMap:
    """A map that ``zoo map`` wrote, read window by window; a context manager.

    Args:
        path: the probabilities, uint8 or float32.

    Raises:
        DataError: if it cannot be read, or is no map.
    """

    def __init__(self, path: Path) -> None:
        self.stack = Stack(path)
        if [band.name for band in self.stack.bands] != [PROBABILITY.name]:
            self.stack.close()
            raise DataError(f"holds no {PROBABILITY.name}", where=path, hint="Name a map that zoo map wrote with --out")
        # In a byte lie steps; the file says so by its scale.
        self._steps = np.float32(UINT8_STEPS) if self.stack.scaled else None

    def read(self, window: Window) -> NDArray[np.float32]:
        """Probabilities of a window, float32 (rows, columns), NaN for nodata."""
        values: NDArray[np.float32] = self.stack.read(window)[0]
        if self._steps is not None:
            # The stack has multiplied by 0.004, which no binary number is; the same step is to be the same number.
            values = np.rint(values * self._steps) / self._steps
        return values

    def threshold(self, probability: float) -> float:
        """The probability from which the map counts a pixel as a landslide: of bytes the first step not below."""
        if self._steps is None:
            return probability
        return float(np.float32(first_step(probability)) / self._steps)

    def close(self) -> None:
        """Close the file."""
        self.stack.close()

    def __enter__(self) -> MadeMap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def map_polygons(
    made: MadeMap,
    scene: Scene | None,
    out: Path,
    threshold: float,
    *,
    least_area: float = 0.0,
    classes: ProbabilityClasses | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PolygonReport:
    """Write the landslides of a map as polygons; see :func:`zoo.rasters.polygons.write_polygons`.

    Args:
        made: the map.
        scene: that it was made of; its band ``slope`` in degrees gives each polygon its mean slope, whether the model
            takes that band or not. None for no slope.
        out: GeoPackage or GeoParquet.
        threshold: probability from which a pixel belongs to a landslide.
        least_area: m2 below which a polygon is left out.
        classes: of the mean probability; None calls all of them a landslide.
        progress: called with (blocks done, all blocks).

    Raises:
        ZooError: if a raster is truncated, or the file cannot be written.
    """
    starts: tuple[tuple[float, str], ...] = ((0.0, PLAIN_CLASS),)
    if classes is not None:
        starts = tuple(zip((0.0, *classes.breaks), classes.names, strict=True))
    return write_polygons(
        out,
        shape=made.stack.shape,
        transform=made.stack.transform,
        crs=made.stack.crs,
        probability=made.read,
        options=PolygonOptions(made.threshold(threshold), least_area, starts),
        slope=None if scene is None else _slope(scene),
        metadata=_kept(made.stack.tags),
        progress=progress,
    )


def map_picture(made: MadeMap, scene: Scene, out: Path, threshold: float, *, title: str = "", found: str = "") -> None:
    """Draw a map over the relief or the colours of its scene, with scale bar, legend and north arrow.

    Args:
        made: the map.
        scene: that it was made of.
        out: the picture, in the format of its name.
        threshold: probability from which a pixel is called a landslide.
        title: above the map; the scene's name where it is empty.
        found: what stands in the legend under the threshold.

    Raises:
        ZooError: if a raster is truncated, or the file cannot be written.
    """
    from zoo.mapping.map_picture import draw_probability, find_peaks, read_ground
    from zoo.rasters.map_frame import save_picture

    level = made.threshold(threshold)
    peaks = find_peaks(made.stack.shape, made.read, level)
    tags = made.stack.tags
    told = [
        tags.get("DATE", ""),
        f"model {tags['MODEL']}" if "MODEL" in tags else "",
        f"weights {tags['WEIGHTS_SHA256'][:12]}" if "WEIGHTS_SHA256" in tags else "",
        f"each pixel of the picture shows the highest of {peaks.step} x {peaks.step}" if peaks.step > 1 else "",
    ]
    figure = draw_probability(
        peaks,
        read_ground(scene),
        scene,
        threshold=level,
        title=title or f"Landslides: {tags.get('SCENE') or Path(scene.mosaic.paths[0]).stem}",
        found=found,
        footnote="; ".join(part for part in told if part),
    )
    save_picture(figure, out)


def _slope(scene: Scene) -> Callable[[Window], NDArray[np.float32]] | None:
    raster = scene.mosaic
    for place, band in enumerate(raster.bands):
        if band.name.casefold() == SLOPE and band.unit == DEGREE:
            return lambda window: raster.read(window, [place])[0]
    return None


def _kept(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[name] for name in KEPT_TAGS if name in tags}
