"""Explanation of a prediction in one window of a scene: the channels and parts of the image that it depends on.

Occlusion (Zeiler & Fergus 2014 [S]) replaces a channel, or a square of the image, by its training mean and measures
the change in the prediction. It only needs forward passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import __version__
from zoo.deploy.attention_maps import AttentionMap, record_attention
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.jobs import ProgressCallback
from zoo.mapping.inference import smallest_side
from zoo.mapping.probability import probability_text
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import PixelRange
from zoo.physics import Band
from zoo.rasters.ground import Bounds, crs_name, crs_unit, window_bounds
from zoo.rasters.inventory import read_truth
from zoo.rasters.reading import window_of
from zoo.schema import write_json
from zoo.training.bundle import Bundle
from zoo.training.predictor import PlausibleRange, Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rasterio.windows import Window

BATCH_SIZE = 4
"""Number of images per batch."""

MAX_WINDOW_SIDE = 1024
"""Largest side of a window in pixels: the model runs about 150 times on it."""

MIN_REPORTED_CHANGE = 0.01
"""Smaller changes of the mean probability are not reported."""

Crop = tuple[slice, slice]


@dataclass(frozen=True)
class Occluded:
    """The prediction without one channel, or without several.

    Attributes:
        names: names of the channels that were replaced by their training mean.
        units: units of these channels.
        means: their training means, in those units.
        probability: mean landslide probability of the target, 0..1.
        change: difference to the prediction with all channels; negative if the channels support a landslide.
        logit_change: difference of the target's mean log odds.
        kept: Dice of the mask against the mask with all channels; 1 if nothing changes or both are empty.
        dice: Dice of the mask against the truth; None without truth, or if the truth has no landslide.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    means: tuple[float, ...]
    probability: float
    change: float
    logit_change: float
    kept: float
    dice: float | None

    @property
    def label(self) -> str:
        """Names, units and replacements: ``slope [degree] = 21.3``."""
        return " + ".join(
            f"{name}{'' if unit == '1' else f' [{unit}]'} = {mean:{',.0f' if abs(mean) >= 1000 else '.3g'}}"
            for name, unit, mean in zip(self.names, self.units, self.means, strict=True)
        )


@dataclass(frozen=True)
class Explanation:
    """Explanation of the prediction in a window.

    Attributes:
        probability: landslide probability of the window, float32 (H, W), NaN where a band is missing.
        target: bool (H, W), the pixels whose probability is tracked: those classified as landslide, or all valid
            pixels if there are none.
        landslide: whether the target is classified as landslide.
        base: the prediction with all channels.
        channels: the prediction without each channel, in the order of the bands.
        together: the prediction without each requested group of channels.
        ground: change of the target's mean probability when a square is hidden, float32 (H, W); negative if the ground
            supports a landslide, NaN where the whole square is missing.
        around: the same, only over the target pixels outside the hidden square; NaN if there are none.
        cell: side of a hidden square in pixels.
        attention: maps of the model's attention blocks in execution order, each ``spatial`` on the window's pixels,
            (H, W); empty for a model without attention blocks.
        context: pixels of context around the window: (above, below, left, right).
    """

    probability: NDArray[np.float32]
    target: NDArray[np.bool_]
    landslide: bool
    base: Occluded
    channels: tuple[Occluded, ...]
    together: tuple[Occluded, ...]
    ground: NDArray[np.float32]
    around: NDArray[np.float32]
    cell: int
    attention: tuple[AttentionMap, ...]
    context: tuple[int, int, int, int]

    def ranked(self) -> tuple[Occluded, ...]:
        """Return the channels, strongest support for a landslide first, then the groups of channels."""
        return (*sorted(self.channels, key=lambda one: one.change), *self.together)

    def sentences(self, threshold: float) -> list[str]:
        """Return the main results in sentences."""
        pixels, known = int(self.target.sum()), int(np.isfinite(self.probability).sum())
        level, mean = probability_text(threshold), f"{self.base.probability:.2f}"
        if self.landslide:
            first = (
                f"The model classifies {pixels:,} of {known:,} pixels as landslide (p >= {level}); "
                f"their mean probability is {mean}"
            )
        else:
            first = (
                f"The model classifies no pixel of the window as landslide (p >= {level}); "
                f"the mean probability of its {known:,} pixels is {mean}"
            )
        sentences = [first]
        ranked = sorted(self.channels, key=lambda one: one.change)
        for start, chosen in (
            ("Channels that support it most", [effect for effect in ranked if effect.change <= -MIN_REPORTED_CHANGE]),
            (
                "Channels that oppose it most",
                [effect for effect in reversed(ranked) if effect.change >= MIN_REPORTED_CHANGE],
            ),
        ):
            if chosen:
                descriptions = (
                    f"{' and '.join(effect.names)} ({effect.probability:.2f} without it)" for effect in chosen[:3]
                )
                sentences.append(f"{start}: {', '.join(descriptions)}")
        if len(sentences) == 1:
            sentences.append(
                f"No single channel changes it by {MIN_REPORTED_CHANGE} or more. Channels with the same information "
                f"can stand in for each other: leave them out together (--together)"
            )
        return sentences


@torch.inference_mode()
def explain_window(
    predictor: Predictor,
    image: NDArray[np.float32],
    bands: Sequence[Band],
    crop: Crop,
    threshold: float,
    *,
    truth: NDArray[np.bool_] | None = None,
    together: Sequence[Sequence[str]] = (),
    cells: int = 12,
    progress: ProgressCallback | None = None,
) -> Explanation:
    """Explain the prediction in a window.

    Args:
        predictor: predictor in eval mode.
        image: float32 (C, rows, columns), in the units of ``bands``, NaN where missing: the window and its context.
        bands: bands of the image.
        crop: the window in ``image``.
        threshold: probability at or above which a pixel counts as landslide.
        truth: landslide mask of the window, bool (H, W); None if it is unknown.
        together: groups of channels to remove together, because channels with the same information can replace each
            other.
        cells: number of squares, hidden one at a time, along the window's longer side.
        progress: called with the number of predictions done and the total.

    Raises:
        DataError: if no pixel of the window is valid.
        UnknownNameError: if a channel does not exist.
        ConfigError: if there are fewer than two cells.
    """
    if cells < 2:
        raise ConfigError(f"{cells} squares along the window are too few", hint="Use two or more")
    names = [band.name for band in bands]
    groups = [[_index(name, names) for name in group] for group in together]
    image = image.copy()
    missing, _ = PlausibleRange.of(predictor).clean(image)
    known: NDArray[np.bool_] = ~missing[crop]
    if not known.any():
        raise DataError("no pixel of the window is valid: a band is missing or implausible in every pixel")
    means = predictor.mean.flatten().tolist()
    whole = torch.from_numpy(image).to(predictor.mean.device)
    left_out = [[band] for band in range(len(names))] + groups
    squares = _squares(known.shape, cells)
    runs = _CountingRunner(predictor, crop, 1 + len(left_out) + len(squares), progress)

    with record_attention(predictor.model) as attention:
        (plain,) = runs.predict([whole])
    probability, odds = plain
    called: NDArray[np.bool_] = (probability >= np.float32(threshold)) & known
    target: NDArray[np.bool_] = called if called.any() else known
    mapped = np.zeros_like(known) if truth is None else truth & known

    def occluded(indexes: Sequence[int], prediction: _Prediction) -> Occluded:
        found, found_odds = prediction
        mask = (found >= np.float32(threshold)) & known
        return Occluded(
            names=tuple(names[index] for index in indexes),
            units=tuple(bands[index].unit for index in indexes),
            means=tuple(means[index] for index in indexes),
            probability=_mean(found, target),
            change=_mean(found, target) - _mean(probability, target),
            logit_change=_mean(found_odds, target) - _mean(odds, target),
            kept=_dice(mask, called),
            dice=_dice(mask, mapped) if mapped.any() else None,
        )

    def without(indexes: Sequence[int]) -> Tensor:
        changed = whole.clone()
        changed[list(indexes)] = predictor.mean[list(indexes)]
        return changed

    predictions = list(runs.predict(without(indexes) for indexes in left_out))
    results = [occluded(indexes, found) for indexes, found in zip(left_out, predictions, strict=True)]
    ground, around = _hide_ground(runs, squares, probability, target, predictor.mean, whole)
    rows, columns = image.shape[1:]
    return Explanation(
        probability=np.where(known, probability, np.float32(np.nan)),
        target=target,
        landslide=bool(called.any()),
        base=occluded((), plain),
        channels=tuple(results[: len(names)]),
        together=tuple(results[len(names) :]),
        ground=np.where(known, ground, np.float32(np.nan)),
        around=np.where(known, around, np.float32(np.nan)),
        cell=squares[0][0].stop - squares[0][0].start,
        attention=tuple(_in_window(block, crop, image.shape[1:], predictor.model) for block in attention),
        context=(crop[0].start, rows - crop[0].stop, crop[1].start, columns - crop[1].stop),
    )


_Prediction = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Probability and log odds of the window, float32 (H, W) each."""


class _CountingRunner:
    """Runs the model on modified images and counts the runs."""

    def __init__(self, predictor: Predictor, crop: Crop, total: int, progress: ProgressCallback | None) -> None:
        self._predictor, self.crop = predictor, crop
        self._total, self._done, self._progress = total, 0, progress

    def predict(self, images: Iterable[Tensor]) -> Iterator[_Prediction]:
        """Yield the prediction in the window for every image (C, rows, columns)."""
        batch: list[Tensor] = []
        for image in images:
            batch.append(image)
            if len(batch) == BATCH_SIZE:
                yield from self._run(batch)
                batch = []
        if batch:
            yield from self._run(batch)

    def _run(self, batch: list[Tensor]) -> Iterator[_Prediction]:
        logits = self._predictor(torch.stack(batch))[..., self.crop[0], self.crop[1]]
        probability = self._predictor.landslide_probability(logits).cpu().numpy()
        odds = log_odds(logits).cpu().numpy()
        if not np.isfinite(probability).all():
            raise DataError(
                "the model gives no finite probability in the window",
                hint="Check the values and units of the bands (zoo describe)",
            )
        self._done += len(batch)
        if self._progress is not None:
            self._progress(self._done, self._total)
        yield from zip(probability, odds, strict=True)


def log_odds(logits: Tensor) -> Tensor:
    """Return the log odds of landslide against background, float32 (B, H, W), for logits (B, K, H, W)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[:, 1:].logsumexp(1) - logits[:, 0]


def _squares(shape: tuple[int, ...], cells: int) -> list[Crop]:
    """Return squares that cover the window, in pixels of the window."""
    side = max(1, -(-max(shape) // cells))
    return [
        (slice(row, min(row + side, shape[0])), slice(column, min(column + side, shape[1])))
        for row in range(0, shape[0], side)
        for column in range(0, shape[1], side)
    ]


def _hide_ground(
    runs: _CountingRunner,
    squares: Sequence[Crop],
    probability: NDArray[np.float32],
    target: NDArray[np.bool_],
    mean: Tensor,
    whole: Tensor,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    top, left = runs.crop[0].start, runs.crop[1].start

    def hidden(square: Crop) -> Tensor:
        changed = whole.clone()
        rows, columns = square
        changed[:, top + rows.start : top + rows.stop, left + columns.start : left + columns.stop] = mean
        return changed

    ground, around = np.zeros(target.shape, np.float32), np.full(target.shape, np.nan, np.float32)
    for square, (found, _) in zip(squares, runs.predict(map(hidden, squares)), strict=True):
        ground[square] = _mean(found, target) - _mean(probability, target)
        seen = target.copy()
        seen[square] = False
        if seen.any():
            around[square] = _mean(found, seen) - _mean(probability, seen)
    return ground, around


def _in_window(found: AttentionMap, crop: Crop, shape: tuple[int, ...], model: torch.nn.Module) -> AttentionMap:
    """Return the spatial map resampled to the window's pixels: deep blocks have a coarser grid of the padded image."""
    if found.spatial is None:
        return found
    stride = int(getattr(model, "stride", 1))
    places = [
        np.arange(part.start, part.stop) * cells // (-(-length // stride) * stride)
        for part, length, cells in zip(crop, shape, found.spatial.shape, strict=True)
    ]
    return replace(found, spatial=found.spatial[np.ix_(*places)])


def _index(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise UnknownNameError("channel", name, names)
    return list(names).index(name)


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(values[where].mean(dtype=np.float64))


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


@dataclass(frozen=True)
class SceneWindow:
    """A window of a scene and the context around it.

    Attributes:
        rows: rows of the window.
        columns: columns of the window.
        seen_rows: rows of the model's input, context included.
        seen_columns: columns of the model's input, context included.
    """

    rows: PixelRange
    columns: PixelRange
    seen_rows: PixelRange
    seen_columns: PixelRange

    @property
    def crop(self) -> Crop:
        """The window within the model's input."""
        return self.rows.within(self.seen_rows), self.columns.within(self.seen_columns)

    @property
    def raster_window(self) -> Window:
        """The window as a rasterio ``Window``."""
        return window_of((self.rows.start, self.rows.stop), (self.columns.start, self.columns.stop))

    def bounds(self, scene: Scene) -> Bounds:
        """Return (left, bottom, right, top) of the window in the scene's coordinates."""
        place = scene.mosaic.transform
        x0, y0 = place * (self.columns.start, self.rows.start)
        x1, y1 = place * (self.columns.stop, self.rows.stop)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def pixel_window(scene: Scene, column: int, row: int, width: int, height: int, context: int) -> SceneWindow:
    """Return the window given by its upper left pixel and size, as in GDAL's ``-srcwin``.

    Args:
        scene: the scene.
        column: column of the upper left pixel, from 0.
        row: row of the upper left pixel, from 0.
        width: width in pixels.
        height: height in pixels.
        context: number of pixels of context around the window, where the scene has them.

    Raises:
        ConfigError: if the window extends beyond the scene, is empty or is too large.
    """
    rows, columns = scene.shape
    if width < 1 or height < 1:
        raise ConfigError(f"a window of {width} x {height} pixels is empty", hint="Give COL,ROW,WIDTH,HEIGHT in pixels")
    if max(width, height) > MAX_WINDOW_SIDE:
        raise ConfigError(
            f"a window of {width} x {height} pixels is too large to explain",
            hint=f"Use at most {MAX_WINDOW_SIDE} x {MAX_WINDOW_SIDE} pixels: the model runs on it about 150 times",
        )
    if column < 0 or row < 0 or column + width > columns or row + height > rows:
        raise ConfigError(
            f"the window of columns {column} to {column + width - 1} and rows {row} to {row + height - 1} reaches "
            "beyond the scene",
            where=scene.mosaic.paths[0],
            hint=f"The scene has {columns} columns and {rows} rows",
        )
    return SceneWindow(
        PixelRange(row, row + height),
        PixelRange(column, column + width),
        PixelRange(max(0, row - context), min(rows, row + height + context)),
        PixelRange(max(0, column - context), min(columns, column + width + context)),
    )


def place_window(scene: Scene, x: float, y: float, size: int, context: int) -> SceneWindow:
    """Return a square window around a point in the scene's coordinates, shifted inwards at the scene's edges.

    Raises:
        ConfigError: if the point is outside the scene, or as in :func:`pixel_window`.
    """
    rows, columns = scene.shape
    place = ~scene.mosaic.transform * (x, y)
    inside = all(math.isfinite(one) for one in place) and 0 <= place[0] < columns and 0 <= place[1] < rows
    if not inside:
        left, bottom, right, top = window_bounds(scene.mosaic.transform, scene.shape)
        raise ConfigError(
            f"the point {x:g}, {y:g} lies outside the scene",
            where=scene.mosaic.paths[0],
            hint=f"In {crs_name(scene.mosaic.crs)} [{crs_unit(scene.mosaic.crs)}] the scene spans x {left:.10g} to "
            f"{right:.10g} and y {bottom:.10g} to {top:.10g}",
        )
    column, row = (math.floor(one) for one in place)
    width, height = min(size, columns), min(size, rows)
    return pixel_window(
        scene,
        min(max(column - width // 2, 0), columns - width),
        min(max(row - height // 2, 0), rows - height),
        width,
        height,
        context,
    )


@dataclass(frozen=True)
class SceneExplanation:
    """An explanation together with its window of the scene.

    Attributes:
        explanation: the explanation.
        image: image of the window, float32 (C, H, W), in the units of ``bands``.
        bands: bands of the image.
        bounds: (left, bottom, right, top) of the window.
        crs: coordinate reference system of the bounds, as rasterio represents it.
        threshold: probability at or above which a pixel counts as landslide.
        truth: landslide mask, bool (H, W); None if it is unknown.
        title: model, scene and window as text.
        source: bundle, scene, window and version, as JSON values.
        warnings: reasons why the explanation may be unreliable, as sentences.
    """

    explanation: Explanation
    image: NDArray[np.float32]
    bands: tuple[Band, ...]
    bounds: Bounds
    crs: Any
    threshold: float
    truth: NDArray[np.bool_] | None
    title: str
    source: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def figure(self) -> Figure:
        """Return the explanation as a figure: scene, probability, channels, ground, attention."""
        from zoo.mapping.pictures import draw_explanation

        return draw_explanation(self)

    def save(self, path: Path) -> None:
        """Write the figure in the format of the path's suffix.

        Raises:
            ConfigError: if the format is unknown.
            ZooError: if the file cannot be written.
        """
        from zoo.rasters.map_frame import save_picture

        save_picture(self.figure(), path)

    def save_numbers(self, path: Path) -> None:
        """Write all numbers as JSON.

        Raises:
            ZooError: if the file cannot be written.
        """
        write_json(path, {**self.source, **_record(self.explanation, self.threshold)})

    def sentences(self) -> list[str]:
        """Return the main results in sentences."""
        return self.explanation.sentences(self.threshold)


def explain_scene(
    bundle: Bundle,
    predictor: Predictor,
    paths: Sequence[str],
    *,
    window: tuple[int, int, int, int] | None,
    at: tuple[float, float] | None,
    size: int,
    context: int,
    truth: Path | None,
    together: tuple[tuple[str, ...], ...],
    cells: int,
    names: Sequence[str] | None,
    threshold: float | None,
    label: str,
    progress: ProgressCallback | None,
) -> SceneExplanation:
    """Explain the prediction of a bundle in a window of a scene; see :meth:`zoo.TrainedModel.explain`.

    Args:
        bundle: a trained model.
        predictor: the bundle's predictor, on the device to use.
        paths: see :class:`zoo.mapping.scene.Scene`.
        label: folder of the bundle; empty if it has none.

    Raises:
        ZooError: if the scene does not fit the bundle, or the window is outside it, too small or without data.
    """
    threshold = bundle.threshold if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold of {threshold:g} is not a probability", hint="Give a number from 0 to 1")
    if (window is None) == (at is None):
        raise ConfigError("no window is given, or two", hint="Give either --window COL,ROW,WIDTH,HEIGHT or --at X,Y")
    with Scene(paths, bundle.input_bands, names=names) as scene:
        if window is not None:
            place = pixel_window(scene, *window, context)
        else:
            assert at is not None
            place = place_window(scene, *at, size, context)
        smallest = smallest_side(predictor)
        if min(len(place.seen_rows), len(place.seen_columns)) < smallest:
            raise ConfigError(
                f"the window and its context are {len(place.seen_columns)} x {len(place.seen_rows)} pixels, but the "
                f"model needs {smallest} x {smallest}",
                hint="Use a larger --window, --size or --context",
            )
        image = scene.read(place.seen_rows, place.seen_columns)
        mapped = None if truth is None else read_truth(truth, scene.mosaic, place.raster_window)
        try:
            found = explain_window(
                predictor,
                image,
                bundle.bands,
                place.crop,
                threshold,
                truth=mapped,
                together=together,
                cells=cells,
                progress=progress,
            )
        except DataError as error:
            raise DataError(error.problem, where=paths[0], hint=error.hint) from error
        columns, rows = place.columns, place.rows
        described = f"columns {columns.start}-{columns.stop - 1}, rows {rows.start}-{rows.stop - 1}"
        bounds = place.bounds(scene)
        return SceneExplanation(
            explanation=found,
            image=image[:, place.crop[0], place.crop[1]],
            bands=bundle.bands,
            bounds=bounds,
            crs=scene.mosaic.crs,
            threshold=threshold,
            truth=mapped,
            title=f"{bundle.model}{f' ({Path(label).name})' if label else ''} on {scene.stem}, {described}",
            source={
                "bundle": label,
                "model": bundle.model,
                "weights_sha256": bundle.weights_sha256,
                "scene": list(scene.mosaic.paths),
                "window": [columns.start, rows.start, len(columns), len(rows)],
                "bounds": list(bounds),
                "crs": crs_name(scene.mosaic.crs),
                "version": __version__,
            },
            warnings=(*scene.notes, *_size_warnings(scene, bundle), *_truth_warnings(mapped, found)),
        )


def _truth_warnings(truth: NDArray[np.bool_] | None, found: Explanation) -> tuple[str, ...]:
    if truth is None or found.base.dice is not None:
        return ()
    return ("the reference has no landslide in the window, so the Dice is undefined",)


def _size_warnings(scene: Scene, bundle: Bundle) -> tuple[str, ...]:
    try:
        scene.check_pixel_size(bundle.pixel_size)
    except DataError as error:
        return (f"the scene {error.problem}",)
    return ()


def _record(found: Explanation, threshold: float) -> dict[str, Any]:
    """Return plain JSON values; ``ground`` is listed by square, row by row, None where it is unknown."""
    cell = found.cell
    return {
        "threshold": threshold,
        "target": "landslide" if found.landslide else "window",
        "target_pixels": int(found.target.sum()),
        "window_pixels": int(found.target.size),
        "known_pixels": int(np.isfinite(found.probability).sum()),
        "context_pixels": dict(zip(("above", "below", "left", "right"), found.context, strict=True)),
        "probability": found.base.probability,
        "dice": found.base.dice,
        "channels": [_occluded_record(effect) for effect in found.channels],
        "together": [_occluded_record(effect) for effect in found.together],
        "ground": {
            "square_pixels": cell,
            "change_of_probability": _square_values(found.ground, cell),
            "change_of_probability_around": _square_values(found.around, cell),
        },
        "attention": [
            {
                "name": block.name,
                "block": block.block,
                "fusion": block.fusion,
                "channel_weights": None
                if block.channel is None
                else [round(float(value), 5) for value in block.channel],
                "spatial_weights": None if block.spatial is None else _spread(block.spatial),
            }
            for block in found.attention
        ],
    }


def _occluded_record(one: Occluded) -> dict[str, Any]:
    return {
        "names": list(one.names),
        "units": list(one.units),
        "replaced_by": list(one.means),
        "probability": one.probability,
        "change_of_probability": one.change,
        "change_of_log_odds": one.logit_change if math.isfinite(one.logit_change) else None,
        "dice_with_unchanged_mask": one.kept,
        "dice": one.dice,
    }


def _square_values(values: NDArray[np.float32], cell: int) -> list[list[float | None]]:
    rows, columns = (-(-side // cell) for side in values.shape)
    grid: list[list[float | None]] = []
    for row in range(rows):
        line: list[float | None] = []
        for column in range(columns):
            part = values[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
            finite = part[np.isfinite(part)]
            line.append(round(float(finite[0]), 6) if finite.size else None)
        grid.append(line)
    return grid


def _spread(values: NDArray[np.float32]) -> dict[str, float]:
    return {"least": float(values.min()), "mean": float(values.mean()), "most": float(values.max())}
