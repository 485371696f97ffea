"""Files of a map: write probability and classes with their tags, read a map, and write its polygons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.evaluation.quality import NOT_MEASURED, PredictionSets, quality_line
from zoo.files import Closable
from zoo.jobs import ProgressCallback
from zoo.mapping.domain_shift import TileDistances
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
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import Stack

if TYPE_CHECKING:
    from rasterio.windows import Window

    from zoo.rasters.polygons import PolygonReport
    from zoo.training.bundle import Bundle

PROBABILITY = Band("landslide_probability", "1", 0.0, 1.0, description="probability of a landslide")
LANDSLIDE_CLASS = Band("landslide_class", "1", description="class of the probability of a landslide")
SPREAD = Band("probability_spread", "1", 0.0, 0.5, description="standard deviation of the predicted probabilities")
SETS = Band("prediction_set", "1", description="prediction set")
DISTANCE = Band(
    "training_distance", "1", 0.0, description="distance of a tile from the training data in standard deviations"
)
SET_NAMES = ("background", "landslide", "both", "neither")
SET_COLOURS = {1: (224, 224, 224), 2: (153, 52, 4), 3: (254, 196, 79), 4: (106, 61, 154)}
SLOPE, DEGREE = "slope", "degree"

DEFAULT_CLASS = "landslide"
"""Class of all polygons if no classes are named."""

KEPT_TAGS = ("LABEL", "MODEL", "QUALITY", "WEIGHTS_SHA256", "SCENE", "DATE", "BANDS", "ZOO_VERSION")
"""Tags of the map to copy to its polygons."""


@dataclass
class MapReport:
    """Outcome of a map.

    Attributes:
        out: file of the probabilities.
        classes_out: file of the classes; None for none.
        shape: (rows, columns).
        tiles: number of tiles of the scene, including those without pixels to map.
        pixel_area: mean area of a pixel on the ground in m2.
        blocks: number of blocks of the map.
        resumed: number of blocks finished by an earlier run.
        damaged: number of damaged blocks of an earlier run, which were recomputed.
        threshold: probability at or above which a pixel counts as landslide, as the map applies it.
        classes: classes as the map applies them; None for none.
        missing: number of nodata pixels.
        implausible: number of those with an infinite value, or a value too far from the training data.
        undefined: number of those for which the model returned no finite probability.
        hidden: number of those hidden by clouds or snow.
        seconds: run time; None if it was not measured.
        peak_memory: peak memory of the process so far in bytes; None if it is unknown.
        above: number of pixels at or above the threshold.
        class_pixels: number of pixels by class name.
        polygons: outcome of the polygons; None for none.
        picture: file of the picture; None for none.
        spread_out: file of the spread of several predictions; None for none.
        spread: mean spread over all mapped pixels, and over those at or above the threshold (NaN without one); None
            without a spread.
        sets: file of the prediction sets, and the sets; None for none.
        set_pixels: number of pixels by set.
        unlike: file of the distance from the training data, and the distances; None for none.
        unlike_pixels: number of pixels in tiles that are farther than usual.
        files: final paths or URLs of the rasters.
        notes: sentences about values of the scene that were read as missing although no tag declares them.
        model_warnings: sentences about a poor model, or an unlikely share of landslides.
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
    spread_out: Path | None = None
    spread: tuple[float, float] | None = None
    sets: tuple[Path, PredictionSets] | None = None
    set_pixels: dict[str, int] = field(default_factory=dict)
    unlike: tuple[Path, TileDistances] | None = None
    unlike_pixels: int = 0
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
        """Yield the outcome as lines of text."""
        rows, columns = self.shape
        hidden = f" and {self.hidden:,} under clouds or snow" if self.hidden else ""
        yield f"{rows} x {columns} pixels, {self.missing - self.hidden:,} without data{hidden}"
        yield f"{self._amount(self.above)} at or above {probability_text(self.threshold)}"
        if self.classes is not None:
            for name, reach in zip(self.classes.names, self.classes.ranges(), strict=True):
                yield f"  {name} ({reach}): {self._amount(self.class_pixels[name])}"
        if self.spread is not None:
            everywhere, landslides = self.spread
            above = f", {landslides:.3f} where it is at or above the threshold" if self.above else ""
            yield f"spread of the probability: {everywhere:.3f} on average{above}"
        if self.sets is not None:
            yield f"prediction sets of stated coverage {self.sets[1].coverage:.0%}:"
            for name, pixels in self.set_pixels.items():
                yield f"  {name}: {self._amount(pixels)}"
        if self.unlike is not None:
            distances = self.unlike[1]
            yield distances.sentence()
            if distances.usual is not None:
                yield f"  farther: {self._amount(self.unlike_pixels)}"

    def warnings(self) -> Iterator[str]:
        """Yield warnings for readers of the map, as sentences."""
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
        """Return time and memory as text, and the speed of a run that was not resumed; empty if not measured."""
        if self.seconds is None:
            return ""
        minutes, seconds = divmod(round(self.seconds), 60)
        parts = [f"{minutes} min {seconds} s"]
        if not self.resumed:
            parts.append(
                f"{self.shape[0] * self.shape[1] / max(self.seconds, 1e-9) / 1e6:.2f} million pixels per second"
            )
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
    """Join the blocks of a journal, publish the files of ``report`` and fill in its counts.

    Raises:
        DataError: if no pixel has a probability.
        ZooError: if the disk is full.
    """
    counts = np.zeros(3, dtype=np.int64)
    rows, columns = plan.block_shape
    with ExitStack() as exits:
        quantity = partial(
            CogWriter,
            grid=grid,
            dtype=dtype,
            compress=compress,
            nodata=UINT8_NODATA,
            average=True,
            within=journal.folder,
        )
        labels = partial(CogWriter, grid=grid, dtype="uint8", compress=compress, within=journal.folder)
        writer = exits.enter_context(quantity(report.out, bands=[PROBABILITY]))
        others: list[_ClassLayer | _DistanceLayer | _SetLayer | _SpreadLayer] = []
        if report.classes_out is not None and report.classes is not None:
            made = exits.enter_context(labels(report.classes_out, bands=[LANDSLIDE_CLASS]))
            others.append(_ClassLayer(made, report.classes))
        if report.spread_out is not None:
            others.append(_SpreadLayer(exits.enter_context(quantity(report.spread_out, bands=[SPREAD]))))
        if report.sets is not None:
            others.append(_SetLayer(exits.enter_context(labels(report.sets[0], bands=[SETS])), report.sets[1]))
        if report.unlike is not None:
            made = exits.enter_context(quantity(report.unlike[0], bands=[DISTANCE], dtype="float32"))
            others.append(_DistanceLayer(made, report.unlike[1]))
        level = round(report.threshold * UINT8_STEPS) if dtype == "uint8" else np.float32(report.threshold)
        for number, block in enumerate(plan.blocks()):
            across, along, joined = join(plan, block, journal.load)
            window = window_of((across.start, across.stop), (along.start, along.stop))
            layers = joined if joined.ndim == 3 else joined[None]
            values = layers[0]
            missing = is_missing(values)
            above = (values >= level) & ~missing
            report.missing += int(np.count_nonzero(missing))
            report.above += int(np.count_nonzero(above))
            counts += journal.load(block, "counts")
            writer.write(values, window)
            for layer in others:
                layer.write(layers, window, missing, above)
            if progress is not None:
                progress(number + 1, rows * columns)
        report.undefined = report.missing - int(counts[0])
        report.implausible, report.hidden = int(counts[1]), int(counts[2])
        _check_mapped(report)
        shared = {**tags, "THRESHOLD": probability_text(report.threshold)}
        label = _labelled(tags)
        scale = 1 / UINT8_STEPS if dtype == "uint8" else None
        writer.finish(
            shared, _band_attributes(PROBABILITY, label), probability_colours() if scale else None, scale=scale
        )
        for layer in others:
            layer.finish(report, shared, label)
        journal.begin_publishing()
        for layer in others:
            layer.writer.place()
        writer.place()


@dataclass
class _ClassLayer:
    """Writer of the classes of a map."""

    writer: CogWriter
    classes: ProbabilityClasses

    def __post_init__(self) -> None:
        self._counts = np.zeros(len(self.classes.names) + 1, dtype=np.int64)

    def write(self, layers: NDArray[Any], window: Window, missing: NDArray[np.bool_], above: NDArray[np.bool_]) -> None:
        found = self.classes.classify(layers[0])
        self._counts += np.bincount(found.ravel(), minlength=len(self._counts))
        self.writer.write(found, window)

    def finish(self, report: MapReport, tags: Mapping[str, str], label: str) -> None:
        names = {f"CLASS_{number}": name for number, name in enumerate(self.classes.names, 1)}
        report.class_pixels = _counts_by_name(self.classes.names, self._counts)
        self.writer.finish(
            {**tags, "CLASS_BREAKS": ",".join(map(probability_text, self.classes.breaks))},
            _band_attributes(LANDSLIDE_CLASS, label, **names),
            self.classes.colours(),
        )


@dataclass
class _SpreadLayer:
    """Writer of the spread of several predictions."""

    writer: CogWriter

    def __post_init__(self) -> None:
        self._sums = np.zeros(2)
        self._scale: float | None = None

    def write(self, layers: NDArray[Any], window: Window, missing: NDArray[np.bool_], above: NDArray[np.bool_]) -> None:
        self._scale = 1 / UINT8_STEPS if layers.dtype == np.uint8 else None
        size = layers[1] * np.float64(self._scale or 1)
        self._sums += size[~missing].sum(), size[above].sum()
        self.writer.write(layers[1], window)

    def finish(self, report: MapReport, tags: Mapping[str, str], label: str) -> None:
        everywhere, landslides = self._sums
        report.spread = everywhere / report.mapped, landslides / report.above if report.above else math.nan
        self.writer.finish(tags, _band_attributes(SPREAD, label), scale=self._scale)


@dataclass
class _SetLayer:
    """Writer of the prediction sets of a map: 1 to 4 in the order of SET_NAMES, 0 for nodata."""

    writer: CogWriter
    sets: PredictionSets

    def __post_init__(self) -> None:
        self._counts = np.zeros(len(SET_NAMES) + 1, dtype=np.int64)

    def write(self, layers: NDArray[Any], window: Window, missing: NDArray[np.bool_], above: NDArray[np.bool_]) -> None:
        landslide, background = self.sets.holds(layers[0])
        found = np.select([missing, landslide & background, landslide, background], [0, 3, 2, 1], 4).astype(np.uint8)
        self._counts += np.bincount(found.ravel(), minlength=len(self._counts))
        self.writer.write(found, window)

    def finish(self, report: MapReport, tags: Mapping[str, str], label: str) -> None:
        report.set_pixels = _counts_by_name(SET_NAMES, self._counts)
        tags_of_sets = {f"CLASS_{number}": name for number, name in enumerate(SET_NAMES, 1)}
        tags_of_sets |= {name.upper(): f"{value:.9g}" for name, value in asdict(self.sets).items()}
        self.writer.finish(tags, _band_attributes(SETS, label, **tags_of_sets), SET_COLOURS)


@dataclass
class _DistanceLayer:
    """Writer of the distance of each tile from the training data."""

    writer: CogWriter
    distances: TileDistances

    def __post_init__(self) -> None:
        self._farther = 0

    def write(self, layers: NDArray[Any], window: Window, missing: NDArray[np.bool_], above: NDArray[np.bool_]) -> None:
        found = self.distances.window(window)
        found[missing] = np.nan
        if self.distances.usual is not None:
            self._farther += int(np.count_nonzero(found > self.distances.usual.limit))
        self.writer.write(found, window)

    def finish(self, report: MapReport, tags: Mapping[str, str], label: str) -> None:
        report.unlike_pixels = self._farther
        usual = {} if self.distances.usual is None else asdict(self.distances.usual)
        further = {name.upper(): f"{value:.6g}" for name, value in {**usual, "side": self.distances.side}.items()}
        self.writer.finish(tags, _band_attributes(DISTANCE, label, **further))


def _band_attributes(band: Band, label: str, **further: str) -> dict[str, dict[str, str]]:
    """Return the tags of a band whose description ends with the label of the bundle."""
    return {band.name: {"LONG_NAME": f"{band.description}{label}", **further}}


def _counts_by_name(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(names, counts[1:].tolist(), strict=True))


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
    """A map written by ``zoo map``, read window by window; a context manager.

    Args:
        path: file of the probabilities, uint8 or float32.

    Raises:
        DataError: if the file cannot be read, or holds no landslide probability.
    """

    def __init__(self, path: Path) -> None:
        self.stack = Stack(path)
        if [band.name for band in self.stack.bands] != [PROBABILITY.name]:
            self.stack.close()
            raise DataError(
                f"has no band {PROBABILITY.name}", where=path, hint="Name a map that zoo map wrote with --out"
            )
        # A scale in the file means that the values are uint8 steps.
        self._dtype: MapDtype = "uint8" if self.stack.scaled else "float32"

    def read(self, window: Window) -> NDArray[np.float32]:
        """Return the probabilities of a window, float32 (rows, columns), NaN for nodata.

        Raises:
            DataError: if a number is no probability.
        """
        values: NDArray[np.float32] = self.stack.read(window)[0]
        if self._dtype == "uint8":
            # 0.004 has no exact binary form, and the same step must always give the same value.
            values = np.rint(values * np.float32(UINT8_STEPS)) / np.float32(UINT8_STEPS)
        with np.errstate(invalid="ignore"):
            wrong = (values < 0) | (values > 1)
        if wrong.any():
            raise DataError(
                f"band {PROBABILITY.name} holds {values[wrong][0]:g}, but a probability is from 0 to 1",
                where=self.stack.name,
                hint="Name a map as zoo map wrote it",
            )
        return values

    def threshold(self, probability: float) -> float:
        """Return the probability at or above which the map counts a pixel as landslide (:func:`map_threshold`).

        Raises:
            ConfigError: if ``probability`` is outside 0..1.
        """
        if not 0 <= probability <= 1:
            raise ConfigError(f"a threshold of {probability:g}", hint="Give a probability from 0 to 1")
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
        scene: the scene that was mapped; its band ``slope`` in degrees gives each polygon its mean slope, even if the
            model does not use that band. None for no slope.
        out: GeoPackage or GeoParquet file.
        threshold: probability at or above which a pixel belongs to a landslide.
        min_area: minimum area of a polygon in m2.
        classes: classes of the mean probability; None gives all polygons the class ``landslide``.
        progress: called with the number of blocks done and the total.

    Raises:
        ZooError: if a raster is truncated, or the file cannot be written.
    """
    from zoo.rasters.polygons import PolygonOptions, write_polygons

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


def check_ensemble(members: Sequence[Bundle]) -> None:
    """Check that bundles can be mapped together.

    Raises:
        ConfigError: if bands, classes or pixel sizes differ, or two bundles have the same weights.
    """
    first = members[0]
    for number, member in enumerate(members[1:], 2):
        for what, own, other in (
            ("other bands", _bands(first), _bands(member)),
            ("other classes", ", ".join(first.class_names), ", ".join(member.class_names)),
            ("another pixel size", _pixel(first), _pixel(member)),
        ):
            if own != other:
                raise ConfigError(
                    f"bundle {number} of the ensemble has {what}: {other}; the first has {own}",
                    where="--ensemble",
                    hint="Combine bundles that were trained on the same bands, classes and pixel size",
                )
    digests = [member.weights_sha256 for member in members if member.weights_sha256]
    if len(set(digests)) < len(digests):
        raise ConfigError("two bundles have the same weights", where="--ensemble", hint="Name different bundles")


def model_tags(members: Sequence[Bundle], *, adapted: bool) -> dict[str, str]:
    """Return the tags of a map that state its models, their weights and their quality."""
    first = members[0]
    adapted = adapted or first.adaptation is not None
    quality = quality_line(first.quality(adapted=adapted), adapted=adapted)
    ensemble = {}
    if len(members) > 1:
        ensemble["ENSEMBLE"] = str(len(members))
        quality = f"mean of {len(members)} models, {NOT_MEASURED} together; the first: {quality}"
    label = {"LABEL": first.label} if first.label else {}
    return {
        "MODEL": ", ".join(dict.fromkeys(member.model for member in members)),
        "WEIGHTS_SHA256": ", ".join(member.weights_sha256 for member in members),
        "QUALITY": quality,
        **ensemble,
        **label,
    }


def _bands(bundle: Bundle) -> str:
    return ", ".join(f"{band.name} [{band.unit}]" for band in bundle.bands)


def _pixel(bundle: Bundle) -> str:
    return "an unknown size" if bundle.pixel_size is None else f"{bundle.pixel_size:g} m"
