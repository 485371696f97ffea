"""The risk index over a stack of any size: read, computed and written at the same time, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics import Band, RainParameters, rainfall_factor
from zoo.rasters.alignment import RainLayers
from zoo.rasters.cog import MapWriter
from zoo.rasters.stacks import Stack
from zoo.risk.classes import CLASS_COLOURS, CLASS_NAMES, ClassBreaks
from zoo.risk.index import LEAST_FACTOR, RiskIndex

if TYPE_CHECKING:
    from rasterio.windows import Window

CHUNK = 1 << 16
"""Pixels worked on at a time: their sums stay in the processor's cache from the first band to the sigmoid."""

PREVIEW = 1200
"""Longer side of the classes that are kept for a picture, in pixels."""

Factor = float | NDArray[np.float32]
Values = NDArray[np.float32]


class Surface(Protocol):
    """What gives a risk to pixels: an index, or a fitted risk model."""

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """Give the risk of a window.

        Args:
            image: float32 (C, H, W), the stack's bands, NaN where nothing is known; may be overwritten. An infinity is
                no value either.
            factor: R_m, one number or float32 (H, W).

        Returns:
            float32 (H, W), 0..1, NaN where unknown; and the number of pixels where more rain lowers it.
        """
        ...


class IndexSurface:
    """A :class:`RiskIndex` on the bands of one stack, in single precision and place.

    Args:
        index: with ranges; see :meth:`RiskIndex.check_bands` for what is refused.
        bands: of the stack.
        where: the stack.

    Raises:
        ZooError: if index and bands do not fit each other.

    Attributes:
        notes: on bands whose unit is not known.
    """

    def __init__(self, index: RiskIndex, bands: Sequence[Band], where: object = None) -> None:
        self.notes = index.check_bands(bands, where)
        self._index = index
        names = [band.name for band in bands]
        self._terms = [_term(index, name, names.index(name)) for name in index.features]

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """See :class:`Surface`."""
        shape = image.shape[1:]
        flat = image.reshape(image.shape[0], -1)
        factors = None if isinstance(factor, float) else np.broadcast_to(factor, shape).reshape(-1)
        result = np.empty(flat.shape[1], dtype=np.float32)
        scratch = np.empty(min(CHUNK, flat.shape[1]), dtype=np.float32)
        negative = 0
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, flat.shape[1], CHUNK):
                part = slice(start, start + CHUNK)
                total = result[part]
                total[:] = 0
                term = scratch[: len(total)]
                for band, low, scale, least, most in self._terms:
                    # The difference first: elevations of thousands of metres leave few digits for a product.
                    np.subtract(flat[band, part], low, out=term)
                    # One pass tells whether there is an infinity, which the bounds below would take for a large value.
                    if not math.isfinite(np.add.reduce(term)):
                        term[np.isinf(term)] = np.nan
                    np.multiply(term, scale, out=term)
                    np.maximum(term, least, out=term)
                    np.minimum(term, most, out=term)
                    np.add(total, term, out=total)
                negative += self._finish(total, factor if factors is None else factors[part])
        return result.reshape(shape), negative

    def _finish(self, total: Values, factor: Any) -> int:
        """Turn weighted sums into the index, in place; gives how many of them more rain would lower."""
        negative = 0
        if self._index.form == "multiplicative":
            if any(least < 0 for *_, least, _ in self._terms):
                negative = int(np.count_nonzero(total < 0))
            np.multiply(total, factor, out=total)
        else:
            np.multiply(total, np.float32(self._index.slope), out=total)
            rain = np.log(np.maximum(factor, np.float32(LEAST_FACTOR)))
            np.add(total, np.float32(self._index.intercept) + np.float32(self._index.gain) * rain, out=total)
        # sigmoid(z) = (1 + tanh(z / 2)) / 2, which neither overflows nor takes a division.
        half = np.float32(0.5)
        np.multiply(total, half, out=total)
        np.tanh(total, out=total)
        np.multiply(total, half, out=total)
        np.add(total, half, out=total)
        return negative


def _term(index: RiskIndex, name: str, band: int) -> tuple[int, np.float32, np.float32, np.float32, np.float32]:
    weight, span = index.index.weights[name], index.index.ranges[name]
    return (
        band,
        np.float32(span.low),
        np.float32(weight / (span.high - span.low)),
        np.float32(min(weight, 0.0)),
        np.float32(max(weight, 0.0)),
    )


@dataclass(frozen=True)
class Rain:
    """Rain on a stack.

    Attributes:
        intensity: P in mm/h; None for rasters or no rain.
        duration: D in days; None likewise.
        layers: rasters; None for numbers or no rain.
        parameters: reference rain and exponents.
        clip: bounds of the factor; None for none.
    """

    parameters: RainParameters
    clip: tuple[float, float] | None
    intensity: float | None = None
    duration: float | None = None
    layers: RainLayers | None = None

    @property
    def given(self) -> bool:
        """Whether it rains otherwise than the reference."""
        return self.layers is not None or self.intensity is not None

    def factor(self, window: Window) -> Factor:
        """R_m of a window.

        Raises:
            DataError: if an intensity or duration is negative or infinite; with the file's name.
        """
        if self.layers is not None:
            try:
                found = rainfall_factor(
                    self.layers.intensity(window), self.layers.duration(window), self.parameters, self.clip
                )
            except DataError as error:
                raise DataError(error.problem, where=self.layers.path, hint=error.hint) from error
            return found.astype(np.float32)
        if self.intensity is None or self.duration is None:
            return 1.0
        return float(rainfall_factor(self.intensity, self.duration, self.parameters, self.clip))

    def words(self) -> str:
        """One sentence on where R_m comes from."""
        if self.layers is not None:
            bounds = "" if self.clip is None else f", R_m clipped to {self.clip[0]:g}-{self.clip[1]:g}"
            return f"rain from {Path(self.layers.path).name}{bounds}"
        if self.intensity is None or self.duration is None:
            return "no rain is given: R_m = 1, the reference rain"
        free = float(rainfall_factor(self.intensity, self.duration, self.parameters))
        used = float(rainfall_factor(self.intensity, self.duration, self.parameters, self.clip))
        cut = "" if free == used else f", clipped from {free:.3g}"
        days = "day" if self.duration == 1 else "days"
        return f"rain {self.intensity:g} mm/h over {self.duration:g} {days}: R_m = {used:.3g}{cut}"


@dataclass
class MapReport:
    """What became of a map.

    Attributes:
        pixels: number of pixels by class, (4,), nodata first.
        pixel_area: m2; None when the stack is not in metres.
        negative: share of the known pixels where more rain lowers the index.
        low, high: smallest and largest index.
        preview: uint8, every ``step``-th class of every ``step``-th row.
        relief: float32 like ``preview``, elevation; None without DEM.
        step: pixels from one of the preview to the next.
    """

    pixels: NDArray[np.int64]
    pixel_area: float | None
    preview: NDArray[np.uint8]
    relief: Values | None
    step: int
    negative: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    notes: list[str] = field(default_factory=list)

    @property
    def areas(self) -> tuple[float, ...] | None:
        """km2 of low, medium and high; None when the stack is not in metres."""
        if self.pixel_area is None:
            return None
        return tuple(float(count) * self.pixel_area / 1e6 for count in self.pixels[1:])


def map_risk(
    stack: Stack,
    surface: Surface,
    breaks: ClassBreaks,
    rain: Rain,
    out: Path,
    classes_out: Path | None = None,
    *,
    tags: dict[str, str] | None = None,
    compress: str = "deflate",
    progress: Callable[[int, int], None] | None = None,
) -> MapReport:
    """Write the risk of every pixel, and its class.

    Memory stays the same for any size of stack. Each file appears when it is whole.

    Args:
        stack: an open one.
        surface: what gives the risk.
        breaks: where low and medium end.
        rain: given to the surface as R_m.
        out: float32 risk, a cloud-optimised GeoTIFF.
        classes_out: uint8 classes 1 low, 2 medium, 3 high, 0 nodata, with colours; None for none.
        tags: of both files.
        compress: one of :data:`zoo.rasters.cog.COMPRESSIONS`.
        progress: called with (windows done, all windows).

    Raises:
        ZooError: if a file is truncated, the disk is full, rain is negative, or no pixel has all the bands.
    """
    report = _empty_report(stack)
    relief_band = next((number for number, band in enumerate(stack.bands) if band.name == "DEM"), None)
    negative = 0
    with ExitStack() as exits:
        risk_writer = exits.enter_context(MapWriter(out, stack, "float32", compress))
        class_writer = None
        if classes_out is not None:
            class_writer = exits.enter_context(MapWriter(classes_out, stack, "uint8", compress))
        writing: list[Future[None]] = []
        writer = exits.enter_context(ThreadPoolExecutor(1))
        windows = list(stack.windows())
        for number, (window, image) in enumerate(_read_ahead(stack, windows)):
            if relief_band is not None and report.relief is not None:
                _pick(report.relief, image[relief_band], window, report.step)
            risk, below = surface.evaluate(image, rain.factor(window))
            classes = _classify(risk, breaks, report)
            negative += below
            _pick(report.preview, classes, window, report.step)
            writing.append(writer.submit(_write, risk_writer, class_writer, risk, classes, window))
            # One window on its way to the disk is enough; more would only fill the memory.
            if len(writing) > 1:
                writing.pop(0).result()
            if progress is not None:
                progress(number + 1, len(windows))
        for one in writing:
            one.result()
        known = int(report.pixels[1:].sum())
        if known == 0:
            raise DataError("no pixel has a value in each band that the risk is made of", where=stack.path)
        report.negative = negative / known
        _publish(risk_writer, class_writer, breaks, tags or {}, report)
    return report


def _empty_report(stack: Stack) -> MapReport:
    step = max(1, -(-max(stack.shape) // PREVIEW))
    small = tuple(-(-side // step) for side in stack.shape)
    has_relief = any(band.name == "DEM" for band in stack.bands)
    return MapReport(
        pixels=np.zeros(4, dtype=np.int64),
        pixel_area=None if stack.pixel_size is None else stack.pixel_size**2,
        preview=np.zeros(small, dtype=np.uint8),
        relief=np.full(small, np.nan, dtype=np.float32) if has_relief else None,
        step=step,
    )


def _read_ahead(stack: Stack, windows: Sequence[Window]) -> Iterator[tuple[Window, Values]]:
    """Each window and its pixels, the next one being read meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(stack.read, windows[0])
        for number, window in enumerate(windows):
            image = coming.result()
            if number + 1 < len(windows):
                coming = reader.submit(stack.read, windows[number + 1])
            yield window, image


def _classify(risk: Values, breaks: ClassBreaks, report: MapReport) -> NDArray[np.uint8]:
    classes = np.empty(risk.shape, dtype=np.uint8)
    flat, values = classes.reshape(-1), risk.reshape(-1)
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        found = breaks.classify(values[part])
        flat[part] = found
        counts = [int(np.count_nonzero(found == number)) for number in (1, 2, 3)]
        report.pixels += (len(found) - sum(counts), *counts)
        if sum(counts):
            report.low = min(report.low, float(np.fmin.reduce(values[part])))
            report.high = max(report.high, float(np.fmax.reduce(values[part])))
    return classes


def _pick(preview: NDArray[Any], values: NDArray[Any], window: Window, step: int) -> None:
    top, left = -window.row_off % step, -window.col_off % step
    picked = values[top::step, left::step]
    row, column = (window.row_off + top) // step, (window.col_off + left) // step
    preview[row : row + picked.shape[0], column : column + picked.shape[1]] = picked


def _write(
    risk_writer: MapWriter,
    class_writer: MapWriter | None,
    risk: Values,
    classes: NDArray[np.uint8],
    window: Window,
) -> None:
    risk_writer.write(risk, window)
    if class_writer is not None:
        class_writer.write(classes, window)


def _publish(
    risk_writer: MapWriter,
    class_writer: MapWriter | None,
    breaks: ClassBreaks,
    tags: dict[str, str],
    report: MapReport,
) -> None:
    told = {**tags, "CLASS_BREAKS": f"{breaks.low:.9g},{breaks.high:.9g}", "CLASS_METHOD": breaks.method}
    risk_writer.publish(
        Band("risk", "1", 0.0, 1.0),
        told,
        {"LONG_NAME": "landslide risk", "VALID_MIN": "0", "VALID_MAX": "1"},
    )
    if class_writer is None:
        return
    names = {f"CLASS_{number}": name for number, name in enumerate(CLASS_NAMES, 1)}
    areas = report.areas
    if areas is not None:
        names |= {f"AREA_KM2_{number}": f"{area:.6g}" for number, area in enumerate(areas, 1)}
    class_writer.publish(
        Band("risk_class", "1"), told, {"LONG_NAME": "landslide risk class", **names}, colours=CLASS_COLOURS
    )
