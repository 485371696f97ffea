"""One tile through the model, in an arithmetic that does not depend on what runs beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.mapping.blending import PROBABILITY_STEPS
from zoo.training.predictor import Predictor

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps float32 (C, h, w), in units, NaN where missing, to float32 (h, w): probabilities that are multiples of
1 / :data:`zoo.mapping.blending.PROBABILITY_STEPS`."""


class TileForward:
    """Gives the landslide probability of one tile.

    A pass takes one tile and runs on one thread of the processor: sums inside a convolution are split otherwise among
    two threads than on one, and their last bits differ. Tiles run beside each other instead, which is faster too.

    Args:
        predictor: in eval mode, on ``device``.
        device: where it runs.
        tta: average over the eight flips and rotations of a square (D4).
    """

    def __init__(self, predictor: Predictor, device: torch.device, *, tta: bool = False) -> None:
        self._predictor, self._device, self._tta = predictor, device, tta
        self._mean, self._std = (one.flatten().cpu().numpy() for one in (predictor.mean, predictor.std))
        self._smallest = smallest_side(predictor)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :data:`Forward`. Threads may call it at the same time."""
        height, width = image.shape[1:]
        image = padded(image, self._smallest)
        with torch.inference_mode():
            tile = torch.from_numpy(self._normalised(image))[None].to(self._device)
            probability = self._averaged(tile) if self._tta else self._probability(tile)
            found = torch.round(probability[0] * PROBABILITY_STEPS) / PROBABILITY_STEPS
            result: NDArray[np.float32] = found[:height, :width].cpu().numpy()
        return result

    def _normalised(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What :meth:`Predictor.normalise` gives, band by band: one stays in the processor's cache."""
        found = np.empty(image.shape, dtype=np.float32)
        for band, values, mean, std in zip(found, image, self._mean, self._std, strict=True):
            np.subtract(values, mean, out=band)
            np.divide(band, std, out=band)
            np.copyto(band, 0, where=np.isnan(band))
        return found

    def _probability(self, tile: Tensor) -> Tensor:
        return self._predictor.landslide_probability(self._predictor.model(tile))

    def _averaged(self, tile: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns in range(4):
            turned = torch.rot90(tile, turns, (2, 3))
            for flipped in (False, True):
                seen = self._probability(turned.flip(3) if flipped else turned)
                back = torch.rot90(seen.flip(2) if flipped else seen, -turns, (1, 2))
                total = back.clone() if total is None else total.add_(back)
        assert total is not None
        return total / 8


def smallest_side(predictor: Predictor) -> int:
    """Pixels that a model needs along a side."""
    return int(getattr(predictor.model, "minimum_size", 1))


def padded(image: NDArray[np.float32], smallest: int) -> NDArray[np.float32]:
    """Repeat the last row and column of (C, h, w) until both sides have ``smallest`` pixels."""
    below, beyond = (max(0, smallest - side) for side in image.shape[1:])
    return np.pad(image, ((0, 0), (0, below), (0, beyond)), mode="edge") if below or beyond else image


@contextmanager
def single_threaded_passes() -> Iterator[None]:
    """Let torch use one thread a pass inside, in threads that call :func:`enter_thread`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def enter_thread() -> None:
    """Called by each thread that runs passes: OpenMP counts threads by thread."""
    torch.set_num_threads(1)
