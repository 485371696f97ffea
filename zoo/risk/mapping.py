"""Risk maps: risk and class of each pixel of a stack of any size, computed window by window."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.files import check_outputs
from zoo.jobs import ProgressCallback
from zoo.physics import Band
from zoo.physics.rain import check_rain
from zoo.physics.stability import Soil
from zoo.rasters.alignment import RainLayers
from zoo.rasters.cog import CogWriter
from zoo.rasters.ground import PixelAreas
from zoo.rasters.inventory import read_inventory
from zoo.rasters.pixel_sample import extent_of
from zoo.rasters.reading import gdal_threads
from zoo.rasters.stacks import Stack, read_ahead
from zoo.risk.failure import map_safety
from zoo.risk.index import CLASS_COLOURS, CLASS_NAMES, ClassBreaks
from zoo.risk.surfaces import (
    CHUNK_PIXELS,
    Breaks,
    MapInputs,
    Surface,
    Values,
    Weights,
    input_path,
    prepare_index,
    prepare_model,
)

if TYPE_CHECKING:
    from rasterio.windows import Window

PREVIEW = 1200
"""Longer side in pixels of the class preview for the picture."""

MAX_SHARE = 0.8
"""Share of the area in one class above which a map hardly distinguishes places [O]."""


RISK = Band("risk", "1", 0.0, 1.0, description="landslide risk")
RISK_CLASS = Band("risk_class", "1", description="landslide risk class")


@dataclass
class MapReport:
    """Summary of a map.

    Attributes:
        pixels: number of pixels by class, (4,), nodata first.
        areas: ground area in km2 of low, medium and high; None if the coordinate system is local.
        preview: uint8, every ``step``-th class of every ``step``-th row.
        relief: float32 elevation of the same pixels as ``preview``; None without DEM.
        step: pixels from one pixel of the preview to the next.
        negative: share of known pixels where more rain lowers the index.
        low, high: smallest and largest risk.
        dry: shares of the area by class under the reference rain, estimated on the preview; None without rain.
        safety: share of the area with a factor of safety below 1; None without ``--safety``.
        files: files written.
        notes: findings and decisions, as sentences.
        warnings: problems that affect the usefulness of the map.
    """

    pixels: NDArray[np.int64]
    areas: tuple[float, ...] | None
    preview: NDArray[np.uint8]
    relief: Values | None
    step: int
    negative: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    dry: tuple[float, float, float] | None = None
    safety: float | None = None
    files: tuple[Path, ...] = ()
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of low, medium and high in the area with data, 0..1."""
        known = max(int(self.pixels[1:].sum()), 1)
        return tuple(float(count) / known for count in self.pixels[1:])

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(CLASS_NAMES, self.shares, strict=True))
        return f"MapReport({shares}; files: {', '.join(map(str, self.files))})"


def map_risk(
    stack: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    classes_out: str | os.PathLike[str] | None = None,
    picture: str | os.PathLike[str] | None = None,
    weights: Weights = None,
    rain: tuple[float, float] | str | os.PathLike[str] | None = None,
    duration: float | None = None,
    classes: Breaks = None,
    model: str | None = None,
    inventory: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    where: str | None = None,
    buffer: float | None = None,
    safety: str | os.PathLike[str] | None = None,
    soil: Soil | None = None,
    title: str | None = None,
    compress: str = "deflate",
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> MapReport:
    """Map the landslide risk of a stack. The command is ``zoo risk map``.

    Memory does not grow with the stack. Each file is written atomically.

    Args:
        stack: raster with the bands of the index or of the risk model.
        out: risk, float32, 0..1, NaN for nodata: a cloud-optimised GeoTIFF.
        classes_out: classes, uint8, 1 low, 2 medium, 3 high, 0 nodata: a GeoTIFF with a colour table.
        picture: picture of the classes, PNG, PDF or SVG.
        weights: file of ``zoo risk calibrate``, or the result of :func:`zoo.risk.calibrate`; None for Table 1.
        rain: (mm/h, days), or a raster with bands intensity and duration; None for the reference rain.
        duration: duration in days, if the raster holds only the intensity.
        classes: "jenks", "quantile" or "scenario" (Jenks under ``rain``) fitted to this scene, or two breaks; None for
            the breaks of the weights.
        model: name of a risk model to map instead of the index; it is fitted to ``inventory``.
        inventory: landslides for ``model``.
        layer, where, buffer: layer, SQL condition, and buffer in metres of the inventory.
        safety: wetness and factor of safety under ``rain``: a GeoTIFF.
        soil: soil for ``safety``.
        title: title of the picture.
        compress: compression of the GeoTIFFs, one of :data:`zoo.rasters.cog.COMPRESSIONS`.
        seed: seed of the pixels drawn and of the model.
        overwrite: replace existing outputs.
        progress: called with the number of windows done and the total.

    Returns:
        Areas by class, notes and warnings.

    Raises:
        ZooError: if an input is missing, damaged or incompatible, options contradict each other, or an output exists
            or cannot be written.

    Example:
        >>> import zoo
        >>> report = zoo.risk.map("stack.tif", "risk.tif", weights="weights.json", rain=(12, 2))  # doctest: +SKIP
        >>> report.shares  # doctest: +SKIP
        (0.138, 0.399, 0.462)
    """
    rain_file = input_path(rain)
    numbers = rain if isinstance(rain, tuple) else None
    _check_options(model, inventory, layer, where, buffer, weights, numbers, rain_file, duration, safety, soil)
    if numbers is not None:
        check_rain(*numbers, where="--rain")
    stack = Path(stack)
    outputs = [Path(one) for one in (out, classes_out, picture, safety) if one is not None]
    inputs = [path for path in map(input_path, (stack, weights, inventory, rain)) if path is not None]
    check_outputs(outputs, inputs, overwrite=overwrite)
    if picture is not None:
        from zoo.rasters.map_frame import check_picture

        check_picture(Path(picture))
    with gdal_threads(stack), ExitStack() as exits:
        opened = exits.enter_context(Stack(stack))
        if model is None:
            layers = None if rain_file is None else exits.enter_context(RainLayers(rain_file, opened, duration))
            prepared = prepare_index(
                opened, weights, rain=layers or numbers, classes=classes, seed=seed, progress=progress
            )
        else:
            assert inventory is not None
            slides = read_inventory(
                Path(inventory), opened.crs, extent_of(opened), layer=layer, where=where, buffer=buffer
            )
            prepared = prepare_model(opened, model, slides, classes=classes, seed=seed, progress=progress)
        unstable = None
        if safety is not None and numbers is not None:
            unstable = map_safety(opened, Path(safety), numbers, soil)
        report = write_map(
            opened,
            prepared,
            Path(out),
            None if classes_out is None else Path(classes_out),
            compress=compress,
            progress=progress,
        )
        report.safety = unstable
        if picture is not None:
            from zoo.rasters.map_frame import save_picture
            from zoo.risk.pictures import draw_map

            save_picture(draw_map(opened, prepared, report, title), Path(picture))
    report.files = tuple(outputs)
    return report


def _check_options(
    model: str | None,
    inventory: object,
    layer: str | None,
    where: str | None,
    buffer: float | None,
    weights: object,
    numbers: tuple[float, float] | None,
    rain_file: Path | None,
    duration: float | None,
    safety: object,
    soil: Soil | None,
) -> None:
    if soil is not None and safety is None:
        raise ConfigError("--soil needs --safety", hint="Name the output with --safety FILE")
    if duration is not None and rain_file is None:
        raise ConfigError(
            "a duration can only be given with a rain raster",
            where="--duration",
            hint="Write numbers as --rain 12,2 (mm/h, days)",
        )
    if safety is not None and numbers is None:
        raise ConfigError("--safety needs rain as numbers", hint="For example --rain 12,2 (mm/h, days)")
    if model is None:
        for name, value in (("inventory", inventory), ("layer", layer), ("where", where), ("buffer", buffer)):
            if value is not None:
                raise ConfigError(f"--{name} needs --model", hint="To fit the index, use zoo risk calibrate")
        return
    if inventory is None:
        raise ConfigError("--model needs landslides", hint="Name them with --inventory")
    if weights is not None or rain_file is not None:
        raise ConfigError("--model uses neither --weights nor a rain raster", hint="Leave one of them out")
    if numbers is not None and safety is None:
        raise ConfigError("--model does not use rain", hint="Leave --rain out, or map the index")


def write_map(
    stack: Stack,
    prepared: MapInputs,
    out: Path,
    classes_out: Path | None = None,
    *,
    compress: str = "deflate",
    progress: ProgressCallback | None = None,
) -> MapReport:
    """Write the risk and class of each pixel.

    Args:
        stack: an open stack.
        prepared: source of risk, class breaks, rain and tags.
        out: see :func:`map_risk`.
        classes_out: see :func:`map_risk`.
        compress: one of :data:`zoo.rasters.cog.COMPRESSIONS`.
        progress: called with the number of windows done and the total.

    Raises:
        ZooError: if a file is truncated, the disk is full, rain is negative, or no pixel has all the bands.
    """
    report = _empty_report(stack)
    surface, breaks, rain = prepared.surface, prepared.breaks, prepared.rain
    relief_band = next((number for number, band in enumerate(stack.bands) if band.name == "DEM"), None)
    negative = 0
    dry = np.zeros(4, dtype=np.int64)
    with ExitStack() as exits:
        risk_writer = exits.enter_context(CogWriter(out, stack, [RISK], "float32", compress))
        class_writer = None
        if classes_out is not None:
            class_writer = exits.enter_context(CogWriter(classes_out, stack, [RISK_CLASS], "uint8", compress))
        writing: list[Future[None]] = []
        writer = exits.enter_context(ThreadPoolExecutor(1))
        windows = list(stack.windows())
        pixels = PixelAreas(stack.crs, stack.transform, stack.shape)
        for number, (window, image) in enumerate(read_ahead(windows, lambda window: (window, stack.read(window)))):
            if relief_band is not None and report.relief is not None:
                _pick(report.relief, image[relief_band], window, report.step)
            if rain.given:
                dry += _count(surface, breaks, _thinned(image, window, report.step))
            risk, below = surface.evaluate(image, rain.factor(window))
            before = report.pixels.copy()
            classes = _classify(risk, breaks, report)
            if report.areas is not None:
                size = pixels.mean(window) / 1e6
                report.areas = tuple(np.add(report.areas, size * (report.pixels - before)[1:]).tolist())
            negative += below
            _pick(report.preview, classes, window, report.step)
            writing.append(writer.submit(_write, risk_writer, class_writer, risk, classes, window))
            # One pending window is enough; more would only use memory.
            if len(writing) > 1:
                writing.pop(0).result()
            if progress is not None:
                progress(number + 1, len(windows))
        for one in writing:
            one.result()
        known = int(report.pixels[1:].sum())
        if known == 0:
            raise DataError("no pixel has a value in every band that the risk needs", where=stack.path)
        report.negative = negative / known
        if rain.given and dry[1:].sum():
            low, medium, high = (float(count) for count in dry[1:] / dry[1:].sum())
            report.dry = (low, medium, high)
        tags = dict(prepared.tags)
        if prepared.index is not None:
            tags["RAIN_FACTOR"] = rain.describe()
        _publish(risk_writer, class_writer, breaks, tags, report)
    report.notes += [*prepared.notes, *([] if prepared.index is None else [rain.describe()])]
    report.warnings += [*prepared.warnings, *_map_warnings(report, prepared)]
    return report


def _map_warnings(report: MapReport, prepared: MapInputs) -> list[str]:
    found = []
    additive = "calibrate with --form log-additive, where rain shifts the index instead of multiplying it"
    multiplicative = prepared.index is not None and prepared.index.form == "multiplicative"
    if report.negative > 0 and prepared.rain.given:
        found.append(
            f"the weighted sum is negative in {report.negative:.1%} of the pixels, where more rain LOWERS the index. "
            f"To avoid this, {additive}"
        )
    for name, share in zip(CLASS_NAMES, report.shares, strict=True):
        if share > MAX_SHARE:
            advice = "choose other breaks with --classes"
            if prepared.rain.given:
                advice = "fit the breaks to this rain with --classes scenario"
                advice += f", or {additive}" if multiplicative else ""
            found.append(f"{share:.1%} of the area is {name}, so the map hardly distinguishes places; {advice}")
    return found


def _empty_report(stack: Stack) -> MapReport:
    step = max(1, -(-max(stack.shape) // PREVIEW))
    small = tuple(-(-side // step) for side in stack.shape)
    has_relief = any(band.name == "DEM" for band in stack.bands)
    return MapReport(
        pixels=np.zeros(4, dtype=np.int64),
        areas=(0.0, 0.0, 0.0) if stack.crs.is_projected or stack.crs.is_geographic else None,
        preview=np.zeros(small, dtype=np.uint8),
        relief=np.full(small, np.nan, dtype=np.float32) if has_relief else None,
        step=step,
    )


def _count(surface: Surface, breaks: ClassBreaks, image: Values) -> NDArray[np.int64]:
    """Return the number of pixels by class under the reference rain, (4,), nodata first."""
    risk, _ = surface.evaluate(image, 1.0)
    return np.bincount(breaks.classify(risk).ravel(), minlength=4).astype(np.int64)


def _classify(risk: Values, breaks: ClassBreaks, report: MapReport) -> NDArray[np.uint8]:
    classes = np.empty(risk.shape, dtype=np.uint8)
    flat, values = classes.reshape(-1), risk.reshape(-1)
    for start in range(0, len(flat), CHUNK_PIXELS):
        part = slice(start, start + CHUNK_PIXELS)
        found = breaks.classify(values[part])
        flat[part] = found
        counts = [int(np.count_nonzero(found == number)) for number in (1, 2, 3)]
        report.pixels += (len(found) - sum(counts), *counts)
        if sum(counts):
            report.low = min(report.low, float(np.fmin.reduce(values[part])))
            report.high = max(report.high, float(np.fmax.reduce(values[part])))
    return classes


def _thinned(values: NDArray[Any], window: Window, step: int) -> NDArray[Any]:
    """Return a copy of every ``step``-th pixel of a window, counted from the corner of the stack."""
    return values[..., -window.row_off % step :: step, -window.col_off % step :: step].copy()


def _pick(preview: NDArray[Any], values: NDArray[Any], window: Window, step: int) -> None:
    picked = _thinned(values, window, step)
    row, column = -(-window.row_off // step), -(-window.col_off // step)
    preview[row : row + picked.shape[0], column : column + picked.shape[1]] = picked


def _write(
    risk_writer: CogWriter, class_writer: CogWriter | None, risk: Values, classes: NDArray[np.uint8], window: Window
) -> None:
    risk_writer.write(risk, window)
    if class_writer is not None:
        class_writer.write(classes, window)


def _publish(
    risk_writer: CogWriter, class_writer: CogWriter | None, breaks: ClassBreaks, tags: dict[str, str], report: MapReport
) -> None:
    tags = {**tags, "CLASS_BREAKS": f"{breaks.low:.9g},{breaks.high:.9g}", "CLASS_METHOD": breaks.method}
    risk_writer.publish(tags)
    if class_writer is None:
        return
    names = {f"CLASS_{number}": name for number, name in enumerate(CLASS_NAMES, 1)}
    areas = report.areas
    if areas is not None:
        names |= {f"AREA_KM2_{number}": f"{area:.6g}" for number, area in enumerate(areas, 1)}
    class_writer.publish(tags, {RISK_CLASS.name: names}, CLASS_COLOURS)
