"""The augmentation of :mod:`zoo.datasets.augmentation` on tensors of any device, one patch at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import IGNORE


class DeviceAugmentation:
    """Crops, symmetries, gains and offsets as tensor operations: no pixel leaves the device.

    The settings are those of :class:`TrainingAugmentation`, but the random numbers differ: a draw depends only on the
    seed and its number, is the same on every device, and is another one than the draw of that number there.

    Args:
        settings: crop, share of crops around landslides, symmetries, gain, offset, bands and seed.
    """

    def __init__(self, settings: TrainingAugmentation) -> None:
        self.settings = settings

    def __call__(self, image: Tensor, mask: Tensor, classes: NDArray[np.uint8], draw: int) -> tuple[Tensor, Tensor]:
        """Augment one patch.

        Args:
            image: float32 (C, H, W) on any device, NaN where missing; not changed.
            mask: integer (H, W) on the same device; not changed.
            classes: a copy of the mask, uint8 (H, W), in host memory, so that the choice of a crop does not wait for
                the device.
            draw: number of the draw, counted over the whole training.

        Returns:
            Image and mask with ``crop`` pixels a side, or the size of the patch; NaN and IGNORE beyond the patch.
        """
        settings = self.settings
        rng = np.random.default_rng((settings.seed, draw))
        if settings.crop is not None:
            image, mask = self._crop(image, mask, classes, settings.crop, rng)
        if settings.symmetries:
            square = image.shape[-1] == image.shape[-2]
            turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
            image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
            if rng.integers(2):
                image, mask = image.flip(-1), mask.flip(-1)
        if settings.gain or settings.offset:
            image = self._radiometric(image, rng)
        return image, mask

    def _crop(
        self, image: Tensor, mask: Tensor, classes: NDArray[np.uint8], size: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        height, width = classes.shape
        around = rng.random() < self.settings.landslide_share
        places = np.flatnonzero((classes != 0) & (classes != IGNORE)) if around else np.empty(0, dtype=np.intp)
        row, col = np.divmod(int(rng.choice(places)), width) if len(places) else (None, None)
        top, above, below = _span(height, size, row, rng)
        left, before, after = _span(width, size, col, rng)
        image = image[:, top : top + size, left : left + size]
        mask = mask[top : top + size, left : left + size]
        if above or below or before or after:
            sides = (before, after, above, below)
            image, mask = pad(image, sides, value=float("nan")), pad(mask, sides, value=IGNORE)
        return image, mask

    def _radiometric(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        settings = self.settings
        bands = len(image)
        chosen = np.zeros(bands, dtype=bool)
        chosen[slice(None) if settings.radiometric_bands is None else list(settings.radiometric_bands)] = True
        gain = np.where(chosen, rng.uniform(1 - settings.gain, 1 + settings.gain, bands), 1.0)
        shift = np.where(chosen, rng.uniform(-settings.offset, settings.offset, bands), 0.0)
        gains, shifts = (image.new_tensor(values)[:, None, None] for values in (gain, shift))
        if settings.offset == 0:
            return image * gains
        known = image.isfinite()
        count = known.sum((-2, -1), keepdim=True).clamp(min=1)
        mean = image.nan_to_num().sum((-2, -1), keepdim=True) / count
        squares = torch.where(known, (image - mean) ** 2, torch.zeros_like(image)).sum((-2, -1), keepdim=True)
        return image * gains + shifts * (squares / count).sqrt()


def _span(length: int, size: int, at: int | None, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return the start of a crop along one axis, and the padding before and after if the patch is shorter."""
    lacking = max(0, size - length)
    if lacking:
        before = int(rng.integers(lacking + 1))
        return 0, before, lacking - before
    low, high = 0, length - size
    if at is not None:
        low, high = max(low, at - size + 1), min(high, at)
    return int(rng.integers(low, high + 1)), 0, 0
