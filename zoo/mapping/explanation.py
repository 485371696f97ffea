"""Which channels and which ground a prediction depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.deploy.attention_maps import AttentionMap, record_attention
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Reach
from zoo.physics import Band
from zoo.rasters.ground import Bounds, crs_name, crs_unit, window_bounds
from zoo.rasters.reading import window_of
from zoo.training.predictor import Predictor

if TYPE_CHECKING:
    from rasterio.windows import Window


BATCH = 4
"""Images that are run at a time."""

Crop = tuple[slice, slice]


@dataclass(frozen=True)
class Occluded:
    """The answer without one channel, or without several.

    Attributes:
        names: of the channels that were replaced by their training mean.
        units: of them.
        means: what they were replaced by, in those units.
        probability: mean landslide probability of the target, 0..1.
        change: of that against the answer with all channels; negative where the channels speak for a landslide.
        logit_change: of the mean log-odds of the target.
        kept: Dice of the mask against the mask with all channels; 1 when nothing changes, and when both are empty.
        dice: of the mask against the truth; None without truth.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    means: tuple[float, ...]
    probability: float
    change: float
    logit_change: float
    kept: float
    dice: float | None


@dataclass(frozen=True)
class Explanation:
    """What a window's answer rests on.

    Attributes:
        probability: landslide probability of the window, float32 (H, W), NaN where a band is missing.
        target: bool (H, W), the pixels whose probability is followed: those that are called a landslide, or all that
            are known where none is.
        landslide: whether the target is what is called a landslide.
        base: the answer with all channels, under the name of none.
        channels: the answer without each channel, in the order of the bands.
        together: the answer without each group of channels that was asked for.
        ground: change of the target's mean probability when a square is hidden, float32 (H, W), negative where the
            ground speaks for a landslide; NaN where all of it is unknown already.
        around: the same, counted over the pixels of the target that are not hidden themselves; NaN where none is left.
        cell: pixels along a side of a hidden square.
        attention: of the model's attention blocks, in the order in which they run, each ``spatial`` brought to the
            window's pixels, (H, W); empty for a model without.
        context: pixels around the window that the model saw too: (above, below, left, right).
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
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain the answer in a window.

    Args:
        predictor: in eval mode.
        image: float32 (C, rows, columns), in the units of ``bands``, NaN where missing: the window and the ground
            around it that the model sees too.
        bands: of the image.
        crop: the window in ``image``.
        threshold: probability from which a pixel is called a landslide.
        truth: bool (H, W) of the window: where there is a landslide; None when it is not known.
        together: names of channels that are left out together, as channels that repeat each other hide each other.
        cells: squares along the window's longer side that are hidden one by one.
        progress: called with (answers computed, all answers).

    Raises:
        DataError: if nothing in the window is known.
        UnknownNameError: for a channel that does not exist.
        ConfigError: for fewer than two cells.
    """
    if cells < 2:
        raise ConfigError(f"{cells} squares along the window", hint="Give two or more")
    names = [band.name for band in bands]
    groups = [[_index(name, names) for name in group] for group in together]
    known: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(image[:, crop[0], crop[1]]), axis=0)
    if not known.any():
        raise DataError("nothing in the window is known: a band is missing in every pixel of it")
    # Infinities would spread over all that a convolution touches.
    image = np.where(np.isfinite(image), image, np.float32(np.nan))
    means = predictor.mean.flatten().tolist()
    whole = torch.from_numpy(np.ascontiguousarray(image)).to(predictor.mean.device)
    asked = [[band] for band in range(len(names))] + groups
    squares = _squares(known.shape, crop, cells)
    runs = _Runs(predictor, whole, crop, 1 + len(asked) + len(squares), progress)

    with record_attention(predictor.model) as attention:
        (plain,) = runs.answers([whole])
    probability, odds = plain
    called: NDArray[np.bool_] = (probability >= np.float32(threshold)) & known
    target: NDArray[np.bool_] = called if called.any() else known

    def occluded(indexes: Sequence[int], answer: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Occluded:
        found, found_odds = answer
        mask = (found >= np.float32(threshold)) & known
        return Occluded(
            names=tuple(names[one] for one in indexes),
            units=tuple(bands[one].unit for one in indexes),
            means=tuple(means[one] for one in indexes),
            probability=_mean(found, target),
            change=_mean(found, target) - _mean(probability, target),
            logit_change=_mean(found_odds, target) - _mean(odds, target),
            kept=_dice(mask, called),
            dice=None if truth is None else _dice(mask, truth & known),
        )

    def without(indexes: Sequence[int]) -> Tensor:
        changed = whole.clone()
        changed[list(indexes)] = predictor.mean[list(indexes)]
        return changed

    answers = list(runs.answers(without(indexes) for indexes in asked))
    results = [occluded(indexes, answer) for indexes, answer in zip(asked, answers, strict=True)]
    ground, around = _ground(runs, squares, probability, target, predictor.mean, whole)
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
        attention=tuple(_in_window(one, crop, image.shape[1:], predictor.model) for one in attention),
        context=(crop[0].start, rows - crop[0].stop, crop[1].start, columns - crop[1].stop),
    )


class _Runs:
    """Runs the model on changed images and counts them."""

    def __init__(
        self,
        predictor: Predictor,
        whole: Tensor,
        crop: Crop,
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._predictor, self._whole, self.crop = predictor, whole, crop
        self._total, self._done, self._progress = total, 0, progress

    def answers(self, images: Any) -> Any:
        """Give (probability, log-odds) of the window, float32 (H, W) each, for every image (C, rows, columns)."""
        batch: list[Tensor] = []
        for image in images:
            batch.append(image)
            if len(batch) == BATCH:
                yield from self._run(batch)
                batch = []
        if batch:
            yield from self._run(batch)

    def _run(self, batch: list[Tensor]) -> Any:
        logits = self._predictor(torch.stack(batch))[..., self.crop[0], self.crop[1]]
        probability = self._predictor.landslide_probability(logits).cpu().numpy()
        odds = log_odds(logits).cpu().numpy()
        self._done += len(batch)
        if self._progress is not None:
            self._progress(self._done, self._total)
        yield from zip(probability, odds, strict=True)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of landslide against background, float32 (B, H, W), for logits (B, K, H, W)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[:, 1:].logsumexp(1) - logits[:, 0]


def _squares(shape: tuple[int, ...], crop: Crop, cells: int) -> list[Crop]:
    """Squares that cover the window, in pixels of the window."""
    side = max(1, -(-max(shape) // cells))
    return [
        (slice(row, min(row + side, shape[0])), slice(column, min(column + side, shape[1])))
        for row in range(0, shape[0], side)
        for column in range(0, shape[1], side)
    ]


def _ground(
    runs: _Runs,
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
    for square, (found, _) in zip(squares, runs.answers(map(hidden, squares)), strict=True):
        ground[square] = _mean(found, target) - _mean(probability, target)
        seen = target.copy()
        seen[square] = False
        if seen.any():
            around[square] = _mean(found, seen) - _mean(probability, seen)
    return ground, around


def _in_window(found: AttentionMap, crop: Crop, shape: tuple[int, ...], model: torch.nn.Module) -> AttentionMap:
    """The spatial map on the window's pixels: a deep block sees the padded image in fewer, larger cells."""
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


SLIGHT = 0.01
"""Changes of the mean probability below this are not worth a word."""


def to_record(found: Explanation, threshold: float) -> dict[str, Any]:
    """Give plain JSON values; the ground by squares, line by line, None where nothing is known."""
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
        "channels": [_occluded(one) for one in found.channels],
        "together": [_occluded(one) for one in found.together],
        "ground": {
            "square_pixels": cell,
            "change_of_probability": _square_values(found.ground, cell),
            "change_of_probability_around": _square_values(found.around, cell),
        },
        "attention": [
            {
                "name": one.name,
                "block": one.block,
                "fusion": one.fusion,
                "channel_weights": None if one.channel is None else [round(float(value), 5) for value in one.channel],
                "spatial_weights": None if one.spatial is None else _spread(one.spatial),
            }
            for one in found.attention
        ],
    }


def to_sentences(found: Explanation, threshold: float) -> list[str]:
    """Say in words what the numbers say."""
    pixels, known = int(found.target.sum()), int(np.isfinite(found.probability).sum())
    if found.landslide:
        called = (
            f"The model calls {pixels:,} of {known:,} pixels a landslide (p >= {threshold:.3g}); "
            f"their mean probability is {found.base.probability:.2f}"
        )
    else:
        called = (
            f"The model calls no pixel of the window a landslide (p >= {threshold:.3g}); the mean probability of its "
            f"{known:,} pixels is {found.base.probability:.2f}"
        )
    sentences = [called]
    ranked = sorted(found.channels, key=lambda one: one.change)
    spoken_for = [one for one in ranked if one.change <= -SLIGHT]
    against = [one for one in reversed(ranked) if one.change >= SLIGHT]
    if spoken_for:
        words = ", ".join(f"{_name(one)} ({one.probability:.2f} without it)" for one in spoken_for[:3])
        sentences.append(f"It rests most on {words}")
    if against:
        words = ", ".join(f"{_name(one)} ({one.probability:.2f} without it)" for one in against[:3])
        sentences.append(f"Speaking against it: {words}")
    if not spoken_for and not against:
        sentences.append(
            "No single channel changes it by 0.01 or more: channels that repeat each other hide each other (--together)"
        )
    return sentences


def _name(one: Occluded) -> str:
    return " and ".join(one.names)


def _occluded(one: Occluded) -> dict[str, Any]:
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


LARGEST = 1024
"""Pixels along a side: the model runs some 150 times on the window."""


@dataclass(frozen=True)
class AskedWindow:
    """A window and the ground around it.

    Attributes:
        rows, columns: of the scene that are asked about.
        seen_rows, seen_columns: of the scene that the model sees, the ground around included.
    """

    rows: Reach
    columns: Reach
    seen_rows: Reach
    seen_columns: Reach

    @property
    def crop(self) -> Crop:
        """The window in what the model sees."""
        return self.rows.within(self.seen_rows), self.columns.within(self.seen_columns)

    @property
    def place(self) -> Window:
        """The window as rasters know it."""
        return window_of((self.rows.start, self.rows.stop), (self.columns.start, self.columns.stop))

    def bounds(self, scene: Scene) -> Bounds:
        """(left, bottom, right, top) of the window in the scene's coordinates."""
        place = scene.mosaic.transform
        x0, y0 = place * (self.columns.start, self.rows.start)
        x1, y1 = place * (self.columns.stop, self.rows.stop)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def ask_window(scene: Scene, column: int, row: int, width: int, height: int, context: int) -> AskedWindow:
    """A window by its upper left pixel and size, as in GDAL's ``-srcwin``.

    Args:
        scene: in which it lies.
        column, row: of its upper left pixel, from 0.
        width, height: in pixels.
        context: pixels around it that the model sees too, where the scene has them.

    Raises:
        ConfigError: if it reaches beyond the scene, is empty or too large.
    """
    rows, columns = scene.shape
    inside = f"The scene has {columns} columns and {rows} rows"
    if width < 1 or height < 1:
        raise ConfigError(f"a window of {width} x {height} pixels", hint="Give COL,ROW,WIDTH,HEIGHT in pixels")
    if max(width, height) > LARGEST:
        raise ConfigError(
            f"a window of {width} x {height} pixels is too large to explain",
            hint=f"Ask about {LARGEST} x {LARGEST} pixels at most: the model runs on it some 150 times",
        )
    if column < 0 or row < 0 or column + width > columns or row + height > rows:
        raise ConfigError(
            f"the window of columns {column} to {column + width - 1} and rows {row} to {row + height - 1} reaches "
            "beyond the scene",
            where=scene.mosaic.paths[0],
            hint=inside,
        )
    return AskedWindow(
        Reach(row, row + height),
        Reach(column, column + width),
        Reach(max(0, row - context), min(rows, row + height + context)),
        Reach(max(0, column - context), min(columns, column + width + context)),
    )


def ask_place(scene: Scene, x: float, y: float, size: int, context: int) -> AskedWindow:
    """A square window around a place in the scene's coordinates, moved inwards at the scene's edges.

    Raises:
        ConfigError: if the place lies outside the scene, or as :func:`ask_window`.
    """
    rows, columns = scene.shape
    column, row = (math.floor(one) for one in ~scene.mosaic.transform * (x, y))
    if not (0 <= column < columns and 0 <= row < rows):
        left, bottom, right, top = window_bounds(scene.mosaic.transform, scene.shape)
        raise ConfigError(
            f"the place {x:g}, {y:g} lies outside the scene",
            where=scene.mosaic.paths[0],
            hint=f"In {crs_name(scene.mosaic.crs)} [{crs_unit(scene.mosaic.crs)}] the scene spans x {left:.10g} to "
            f"{right:.10g} and y {bottom:.10g} to {top:.10g}",
        )
    width, height = min(size, columns), min(size, rows)
    return ask_window(
        scene,
        min(max(column - width // 2, 0), columns - width),
        min(max(row - height // 2, 0), rows - height),
        width,
        height,
        context,
    )
