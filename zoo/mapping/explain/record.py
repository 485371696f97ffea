"""An explanation as plain values for JSON, and in sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.mapping.explain.occlusion import Explanation, Occluded

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
            "change_of_probability": _squares(found.ground, cell),
            "change_of_probability_around": _squares(found.around, cell),
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


def _squares(values: NDArray[np.float32], cell: int) -> list[list[float | None]]:
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
