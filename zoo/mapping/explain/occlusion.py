"""What a model's answer becomes when a channel, or a square of ground, is replaced by what it usually is.

Occlusion (Zeiler & Fergus 2014 [S]): nothing is assumed about the model but that it can be run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.deploy.attention_maps import AttentionMap, record_attention
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import Band
from zoo.training.predictor import Predictor

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
