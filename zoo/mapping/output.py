"""The files of a map: probability and classes, the map read again, and its polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.files import Closable
from zoo.jobs import ProgressCallback
from zoo.mapping.journal import Journal
from zoo.mapping.probability import (
    UINT8_NODATA,
    UINT8_STEPS,
    MapDtype,
    ProbabilityClasses,
    is_missing,
    map_threshold,
    probability_colours,
    probability_text,
)
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Plan, join
from zoo.physics.bands import Band
from zoo.rasters.cog import CogWriter
from zoo.rasters.grid import Grid
from zoo.rasters.polygons import PolygonOptions, PolygonReport, write_polygons
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import Stack

if TYPE_CHECKING:
    from rasterio.windows import Window

PROBABILITY = Band("landslide_probability", "1", 0.0, 1.0)
LANDSLIDE_CLASS = Band("landslide_class", "1")
SLOPE, DEGREE = "slope", "degree"

DEFAULT_CLASS = "landslide"
"""Class of all polygons if no classes are named."""

KEPT_TAGS = ("LABEL", "MODEL", "QUALITY", "WEIGHTS_SHA256", "SCENE", "DATE", "BANDS", "ZOO_VERSION")
"""Tags of the map that its polygons repeat."""


@dataclass
class MapReport:
    """Outcome of a map.

    Attributes:
        out: file of the probabilities.
        classes_out: file of the classes; None for none.
        shape: (rows, columns).
        tiles: number of tiles of the scene, including those without a pixel to map.
        pixel_area: mean area of a pixel on the ground in m2.
        blocks: number of blocks of the map.
        resumed: number of blocks that an earlier run had finished.
        damaged: number of damaged blocks of an earlier run, which were computed again.
        threshold: probability from which a pixel counts as landslide, as the map applies it.
        classes: classes as the map applies them; None for none.
        missing: number of pixels that are nodata.
        implausible: number of those with an infinite value, or one too far from the training data.
        undefined: number of those for which the model gave no finite probability.
        hidden: number of those that clouds or snow hide.
        seconds: time that the map took; None if it was not measured.
        peak_memory: largest memory of the process so far in bytes; None if it is unknown.
        above: number of pixels at or above the threshold.
        class_pixels: number of pixels by class name.
        polygons: outcome of the polygons; None for none.
        picture: file of the picture; None for none.
        files: final names of the rasters, which may be addresses.
        notes: sentences about values of the scene that were read as missing although no tag says so.
        model_warnings: sentences about a model that is poor, or finds an unlikely share of landslides.
    """

    out: Path
    classes_out: Path | None
    shape: tuple[int, int]
    tiles: int
    pixel_area: float | None
    blocks: int
    resumed: int
    threshold: float
    classes: ProbabilityClasses | None = None
    damaged: int = 0
    missing: int = 0
    implausible: int = 0
    undefined: int = 0
    hidden: int = 0
    seconds: float | None = None
    peak_memory: int | None = None
    above: int = 0
    class_pixels: dict[str, int] = field(default_factory=dict)
    polygons: PolygonReport | None = None
    picture: Path | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model_warnings: tuple[str, ...] = ()

    @property
    def mapped(self) -> int:
        """Number of pixels that have a probability."""
        return self.shape[0] * self.shape[1] - self.missing

    def area(self, pixels: int) -> float | None:
        """Return the area of a number of pixels in km2; None if the scene is not in metres."""
        return None if self.pixel_area is None else pixels * self.pixel_area / 1e6

    def lines(self) -> Iterator[str]:
        """Yield the outcome in lines of text."""
        rows, columns = self.shape
        hidden = f" and {self.hidden:,} under clouds or snow" if self.hidden else ""
        yield f"{rows} x {columns} pixels, {self.missing - self.hidden:,} without data{hidden}"
        yield f"{self._amount(self.above)} at or above {probability_text(self.threshold)}"
        if self.classes is not None:
            for name, reach in zip(self.classes.names, self.classes.ranges(), strict=True):
                yield f"  {name} ({reach}): {self._amount(self.class_pixels[name])}"

    def warnings(self) -> Iterator[str]:
        """Yield what a reader of the map must know, in sentences."""
        yield from self.model_warnings
        yield from self.notes
        if self.implausible:
            yield (
                f"{self.implausible:,} pixels are nodata in the map because a band is infinite or more than 10,000 "
                "standard deviations from its training mean: a fill value without a nodata tag, or another unit"
            )
        if self.undefined:
            yield f"{self.undefined:,} pixels are nodata in the map because the model gave no finite probability there"
        if self.damaged:
            yield f"{self.damaged} damaged blocks of an earlier run were computed again"

    def cost(self) -> str:
        """Return time and memory in words, and the speed of a run that was not resumed; empty if not measured."""
        if self.seconds is None:
            return ""
        minutes, seconds = divmod(round(self.seconds), 60)
        parts = [f"{minutes} min {seconds} s"]
        if not self.resumed:
            parts.append(f"{self.shape[0] * self.shape[1] / max(self.seconds, 1e-9) / 1e6:.2f} million pixels a second")
        if self.peak_memory is not None:
            parts.append(f"{self.peak_memory / 2**20:,.0f} MB of memory at most")
        return ", ".join(parts)

    def _amount(self, pixels: int) -> str:
        area = self.area(pixels)
        return f"{pixels:,} pixels ({pixels / self.mapped:.2%}" + (")" if area is None else f", {area:,.3f} km2)")


def write_map(
    report: MapReport,
    grid: Grid,
    plan: Plan,
    journal: Journal,
    *,
    dtype: MapDtype,
    tags: Mapping[str, str],
    compress: str,
    progress: ProgressCallback | None = None,
) -> None:
    """Join the blocks of a journal and publish the files of ``report``, whose counts are filled in.

    Raises:
        DataError: if no pixel has a probability.
        ZooError: if the disk is full.
    """
    classes = report.classes
    counts = np.zeros(1 if classes is None else len(classes.names) + 1, dtype=np.int64)
    known_missing = np.zeros(3, dtype=np.int64)
    rows, columns = plan.block_shape
    with ExitStack() as exits:
        writer = exits.enter_context(
            CogWriter(
                report.out,
                grid,
                [PROBABILITY],
                dtype,
                compress,
                nodata=UINT8_NODATA,
                average=True,
                within=journal.folder,
            )
        )
        class_writer = None
        if report.classes_out is not None and classes is not None:
            class_writer = exits.enter_context(
                CogWriter(report.classes_out, grid, [LANDSLIDE_CLASS], "uint8", compress, within=journal.folder)
            )
        level = round(report.threshold * UINT8_STEPS) if dtype == "uint8" else np.float32(report.threshold)
        for number, block in enumerate(plan.blocks()):
            across, along, values = join(plan, block, journal.load)
            window = window_of((across.start, across.stop), (along.start, along.stop))
            missing = is_missing(values)
            report.missing += int(np.count_nonzero(missing))
            report.above += int(np.count_nonzero((values >= level) & ~missing))
            known_missing += journal.load(block, "counts")
            writer.write(values, window)
            if class_writer is not None and classes is not None:
                found = classes.classify(values)
                counts += np.bincount(found.ravel(), minlength=len(counts))
                class_writer.write(found, window)
            if progress is not None:
                progress(number + 1, rows * columns)
        report.undefined = report.missing - int(known_missing[0])
        report.implausible, report.hidden = int(known_missing[1]), int(known_missing[2])
        _check_mapped(report)
        shared = {**tags, "THRESHOLD": probability_text(report.threshold)}
        label = _labelled(tags)
        about = {"LONG_NAME": f"probability of a landslide{label}", "VALID_MIN": "0", "VALID_MAX": "1"}
        if dtype == "uint8":
            writer.finish(shared, {PROBABILITY.name: about}, probability_colours(), scale=1 / UINT8_STEPS)
        else:
            writer.finish(shared, {PROBABILITY.name: about})
        if class_writer is not None and classes is not None:
            names = {f"CLASS_{number}": name for number, name in enumerate(classes.names, 1)}
            report.class_pixels = {name: int(n) for name, n in zip(classes.names, counts[1:], strict=True)}
            class_writer.finish(
                {**shared, "CLASS_BREAKS": ",".join(map(probability_text, classes.breaks))},
                {LANDSLIDE_CLASS.name: {"LONG_NAME": f"class of the probability of a landslide{label}", **names}},
                classes.colours(),
            )
        journal.begin_publishing()
        for one in (class_writer, writer):
            if one is not None:
                one.place()


def _labelled(tags: Mapping[str, str]) -> str:
    """Return the label of the bundle that made a map, such as `` (demo)``; empty for none."""
    return f" ({tags['LABEL']})" if "LABEL" in tags else ""


def _check_mapped(report: MapReport) -> None:
    if report.mapped:
        return
    if report.undefined:
        raise DataError(
            "the model gives no finite probability for any pixel",
            hint="Check the values and units of the bands (zoo describe), or train the model again",
        )
    if report.implausible:
        raise DataError(
            "every pixel has a band that is infinite or more than 10,000 standard deviations from its training mean",
            hint="Check the units and scale of the bands (zoo describe) against those of the training data",
        )
    if report.hidden:
        raise DataError(
            f"clouds or snow hide all {report.hidden:,} pixels with data, so there is nothing to map",
            hint="Use an image with fewer clouds, or leave out --mask-clouds and --cloud-mask",
        )
    raise DataError("no pixel has a value in each band that the bundle takes, so there is nothing to map")


class ProbabilityMap(Closable):
    """A map that ``zoo map`` wrote, read window by window; a context manager.

    Args:
        path: file of the probabilities, uint8 or float32.

    Raises:
        DataError: if it cannot be read, or holds no landslide probability.
    """

    def __init__(self, path: Path) -> None:
        self.stack = Stack(path)
        if [band.name for band in self.stack.bands] != [PROBABILITY.name]:
            self.stack.close()
            raise DataError(
                f"has no band {PROBABILITY.name}", where=path, hint="Name a map that zoo map wrote with --out"
            )
        # The file's scale says that uint8 values are steps.
        self._dtype: MapDtype = "uint8" if self.stack.scaled else "float32"

    def read(self, window: Window) -> NDArray[np.float32]:
        """Return the probabilities of a window, float32 (rows, columns), NaN for nodata."""
        values: NDArray[np.float32] = self.stack.read(window)[0]
        if self._dtype == "uint8":
            # 0.004 has no exact binary form, and the same step must always give the same number.
            values = np.rint(values * np.float32(UINT8_STEPS)) / np.float32(UINT8_STEPS)
        return values

    def threshold(self, probability: float) -> float:
        """Return the probability from which the map counts a pixel as landslide (:func:`map_threshold`)."""
        return map_threshold(probability, self._dtype)

    def close(self) -> None:
        """Close the file."""
        self.stack.close()


def map_polygons(
    probability: ProbabilityMap,
    scene: Scene | None,
    out: Path,
    threshold: float,
    *,
    min_area: float = 0.0,
    classes: ProbabilityClasses | None = None,
    progress: ProgressCallback | None = None,
) -> PolygonReport:
    """Write the landslides of a map as polygons; see :func:`zoo.rasters.polygons.write_polygons`.

    Args:
        probability: the map.
        scene: the scene that was mapped; its band ``slope`` in degrees gives each polygon its mean slope, whether the
            model takes that band or not. None for no slope.
        out: GeoPackage or GeoParquet file.
        threshold: probability from which a pixel belongs to a landslide.
        min_area: area in m2 below which a polygon is left out.
        classes: classes of the mean probability; None calls all polygons ``landslide``.
        progress: called with the number of blocks done and the number of all blocks.

    Raises:
        ZooError: if a raster is truncated, or the file cannot be written.
    """
    starts: tuple[tuple[float, str], ...] = ((0.0, DEFAULT_CLASS),)
    if classes is not None:
        starts = tuple(zip((0.0, *classes.breaks), classes.names, strict=True))
    starts = tuple((start, name + _labelled(probability.stack.tags)) for start, name in starts)
    return write_polygons(
        out,
        shape=probability.stack.shape,
        transform=probability.stack.transform,
        crs=probability.stack.crs,
        probability=probability.read,
        options=PolygonOptions(probability.threshold(threshold), min_area, starts),
        slope=None if scene is None else _slope(scene),
        metadata={name: probability.stack.tags[name] for name in KEPT_TAGS if name in probability.stack.tags},
        progress=progress,
    )


def _slope(scene: Scene) -> Callable[[Window], NDArray[np.float32]] | None:
    raster = scene.mosaic
    for place, band in enumerate(raster.bands):
        if band.name.casefold() == SLOPE and band.unit == DEGREE:
            return lambda window: raster.read(window, [place])[0]
    return None
