"""Panels of image, truth and each model's prediction, as in Figure 9 of the paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.bench.leaderboard import Leaderboard
from zoo.bench.results import TrialResult
from zoo.bench.samples import Pictures
from zoo.errors import ResultError
from zoo.evaluation.counts import Counts
from zoo.evaluation.metrics import pooled_dice

GROUND, FOUND, FALSE, MISSED, IGNORED = (
    (27, 31, 36), (244, 244, 244), (92, 184, 255), (255, 160, 60), (110, 116, 122),
)  # fmt: skip
PALETTE = (GROUND, FOUND, FALSE, MISSED, IGNORED)
"""Colours of background, found, false, missed and ignored pixels; must match the legend in the style sheet."""
LEGEND = (
    ("found", "landslide, predicted"),
    ("false", "no landslide, but predicted"),
    ("missed", "landslide, not predicted (chequered)"),
    ("ignored", "ignored: no truth"),
)


@dataclass(frozen=True)
class Panel:
    """Picture with its text.

    Attributes:
        source: the picture as a ``data:`` URL.
        words: description of what it shows, for readers who cannot see it.
        caption: text below it.
    """

    source: str
    words: str
    caption: str = ""


@dataclass(frozen=True)
class Panels:
    """Table of panels: one row per patch.

    Attributes:
        headings: headings of the columns: image, truth and the models.
        rows: name, landslide pixels and panels of each patch.
        shape: height and width of the patches.
        seeds: seeds of the predictions shown.
        image: how the image was coloured.
        left_out: models without predictions in their result files.
    """

    headings: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[Panel]]]
    shape: tuple[int, int]
    seeds: Sequence[int]
    image: str
    left_out: Sequence[str]


def make_panels(board: Leaderboard, pictures: Pictures | None) -> Panels | None:
    """Return image, truth, and the prediction of every model's first seed; ``None`` without pictures."""
    if pictures is None or not pictures.indices:
        return None
    predicted = {label: _predictions(trials[0], pictures) for label, trials in board.trials.items()}
    shown = {label: masks for label, masks in predicted.items() if masks is not None}
    rows = []
    for place, name in enumerate(pictures.names):
        truth, ignored = pictures.truth(place), pictures.ignored_pixels(place)
        pixels = int(truth.sum())
        image = base64.b64encode(pictures.images[place]).decode("ascii")
        panels = [
            Panel(f"data:image/jpeg;base64,{image}", f"{name}: {', '.join(pictures.bands)}"),
            Panel(_mask(truth, truth, ignored), f"{name}: truth, {pixels:,} landslide pixels"),
            *(_prediction(label, name, masks[place], truth, ignored) for label, masks in shown.items()),
        ]
        rows.append((name, pixels, panels))
    return Panels(
        headings=("image", "truth", *shown),
        rows=rows,
        shape=pictures.shape,
        seeds=sorted({board.trials[label][0].config.seed for label in shown}),
        image=_describe_bands(pictures.bands),
        left_out=[label for label in predicted if label not in shown],
    )


def _describe_bands(bands: Sequence[str]) -> str:
    """Return how the bands were converted to colours, because false colours look like true ones at first sight."""
    if tuple(bands) == ("red", "green", "blue"):
        return "true colours (red, green, blue)"
    if len(bands) == 3:
        shown = ", ".join(f"{band} as {colour}" for band, colour in zip(bands, ("red", "green", "blue"), strict=True))
        return f"false colours: {shown}"
    return f"{', '.join(bands)} in grey"


def _predictions(trial: TrialResult, pictures: Pictures) -> Mapping[int, NDArray[np.bool_]] | None:
    """Return the predicted masks; ``None`` if the file has none, or has those of other patches."""
    samples = trial.samples
    if samples is None or samples.indices != pictures.indices:
        return None
    try:
        return {place: samples.mask(place, pictures.shape) for place in range(len(samples.indices))}
    except ResultError:
        return None


def _prediction(
    label: str, name: str, predicted: NDArray[np.bool_], truth: NDArray[np.bool_], ignored: NDArray[np.bool_]
) -> Panel:
    hit, false = int((predicted & truth).sum()), int((predicted & ~truth & ~ignored).sum())
    pixels = int(truth.sum())
    counts = Counts(*(np.array([value]) for value in (hit, false, pixels - hit, 0)))
    without = f"{false:,} px false" if false else "none predicted: right"
    caption = f"Dice {pooled_dice(counts):.3f}" if pixels else without
    description = f"{label} on {name}: {hit:,} of {pixels:,} landslide pixels found, {false:,} false"
    return Panel(_mask(predicted, truth, ignored), description, caption)


def _mask(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> str:
    """Return found, false and missed pixels as a PNG; missed ones are chequered, so they differ without colour too."""
    from PIL import Image

    height, width = truth.shape
    cell = max(1, min(height, width) // 64)
    row, column = np.indices((height, width)) // cell
    chequered = (row + column) % 2 == 0
    classes = np.zeros((height, width), np.uint8)
    classes[truth & predicted] = 1
    classes[predicted & ~truth] = 2
    classes[truth & ~predicted & chequered] = 3
    classes[ignored] = 4
    image = Image.fromarray(classes, "P")
    image.putpalette([channel for colour in PALETTE for channel in colour])
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
