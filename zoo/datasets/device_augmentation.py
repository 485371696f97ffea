"""The augmentation of :mod:`zoo.datasets.augmentation` on tensors of any device, one patch at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from zoo.datasets.augmentation import TrainingAugmentation, place_crop, vary_brightness, zoomed_crop
from zoo.datasets.base import IGNORE


class DeviceAugmentation:
    """Crops, symmetries and brightness as tensor operations: no pixel leaves the device.

    The settings are those of :class:`TrainingAugmentation`, but the random numbers differ: a draw depends only on the
    seed and its number, is the same on every device, and is another one than the draw of that number there.

    Args:
        settings: crop, share of crops around landslides, magnification, symmetries, brightness, bands and seed.
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
        if settings.scale_jitter:
            image, mask = zoomed_crop(image, mask, classes, settings, rng)
        elif settings.crop is not None:
            image, mask = self._crop(image, mask, classes, settings.crop, rng)
        if settings.symmetries:
            square = image.shape[-1] == image.shape[-2]
            turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
            image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
            if rng.integers(2):
                image, mask = image.flip(-1), mask.flip(-1)
        if settings.gain or settings.offset or settings.gamma:
            image = vary_brightness(image, settings, rng)
        return image, mask

    def _crop(
        self, image: Tensor, mask: Tensor, classes: NDArray[np.uint8], size: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        height, width = classes.shape
        around = rng.random() < self.settings.landslide_share
        places = np.flatnonzero((classes != 0) & (classes != IGNORE)) if around else np.empty(0, dtype=np.intp)
        row, col = np.divmod(int(rng.choice(places)), width) if len(places) else (None, None)
        top, above, below = place_crop(height, size, row, rng)
        left, before, after = place_crop(width, size, col, rng)
        image = image[:, top : top + size, left : left + size]
        mask = mask[top : top + size, left : left + size]
        if above or below or before or after:
            sides = (before, after, above, below)
            image, mask = pad(image, sides, value=float("nan")), pad(mask, sides, value=IGNORE)
        return image, mask
