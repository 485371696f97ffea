"""Augmentation for any number of bands: crops, the eight symmetries of the square, and mild radiometric changes.

The one module that imports albumentations (2.0.8 or later of the 2.0 series, the last under the MIT licence).
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# albumentations asks the network for its newest version when it is imported, unless this is set before.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from zoo.datasets.base import IGNORE, Sample
from zoo.errors import ConfigError


class TrainingAugmentation:
    """Random augmentation of training patches.

    In order: padding to the crop size if the patch is smaller (NaN in the image, which normalisation turns into the
    mean, and IGNORE in the mask), a random crop, one of the eight elements of D4 (of four if the result is not square),
    and optionally a gain and an offset per band.

    A draw depends only on ``seed`` and its number, so that the stream of augmented patches is the same for any number
    of workers and can be resumed anywhere.

    Args:
        crop: side of the crop in pixels; None for the whole patch.
        landslide_share: share of the crops that are placed around a landslide pixel if the patch has one. Landslides
            are 2 to 6 % of the pixels of the public data sets; nnU-Net uses a third, Isensee et al. (2021), Nature
            Methods 18, 203-211 [S].
        symmetries: flip and rotate. North-up images have the sun on one side, but D4 is usual in the field [O].
        gain: largest relative change of a band, 0.1 for values times 0.9 .. 1.1. 0 by default, because physical
            channels (a slope in degrees, an index) have absolute values [O].
        offset: largest shift of a band, in standard deviations of the patch. 0 by default, for the same reason.
        radiometric_bands: indices of the bands that gain and offset may change; None for all.
        seed: random seed.

    Raises:
        ConfigError: if a number is out of range.
    """

    def __init__(
        self,
        crop: int | None = 64,
        *,
        landslide_share: float = 1 / 3,
        symmetries: bool = True,
        gain: float = 0.0,
        offset: float = 0.0,
        radiometric_bands: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        if crop is not None and crop < 1:
            raise ConfigError(f"a crop of {crop} pixels is not possible", where="option crop")
        if not 0 <= landslide_share <= 1:
            raise ConfigError(f"must be from 0 to 1, not {landslide_share}", where="option landslide_share")
        if not 0 <= gain < 1 or not 0 <= offset < math.inf:
            raise ConfigError(f"gain {gain} and offset {offset} are out of range", where="options gain and offset")
        self.crop = crop
        self.landslide_share = landslide_share
        self.symmetries = symmetries
        self.gain = gain
        self.offset = offset
        self.radiometric_bands = None if radiometric_bands is None else tuple(radiometric_bands)
        self.seed = seed
        shared = _place(crop, landslide_share)
        radiometric = [] if gain == offset == 0 else [_Radiometric(gain, offset, radiometric_bands)]
        square = [A.D4(p=1)] if symmetries else []
        oblong = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)] if symmetries else []
        self._square = A.Compose([*shared, *square, *radiometric])
        self._oblong = A.Compose([*shared, *oblong, *radiometric])

    def __call__(self, sample: Sample, draw: int) -> Sample:
        """Augment one sample.

        Args:
            sample: "image" float32 (C, H, W), "mask" int64 (H, W); not modified.
            draw: number of the draw, counted over the whole training.

        Returns:
            A new sample with the same keys; image and mask have ``crop`` pixels a side, or their own size.
        """
        image, mask = sample["image"], sample["mask"]
        height, width = mask.shape
        pipeline = self._square if self.crop is not None or height == width else self._oblong
        generator = np.random.default_rng((self.seed, draw))
        pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out = pipeline(image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()), mask=mask.numpy().astype(np.uint8))
        return {
            **sample,
            "image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(_three_axes(out["image"]), -1, 0))),
            "mask": torch.from_numpy(out["mask"].astype(np.int64)),
        }


class _PadToSize(A.DualTransform):  # type: ignore[misc]
    """Pad at random sides up to a size: NaN in the image, IGNORE in the mask.

    albumentations pads with OpenCV, which supports at most four channels.
    """

    def __init__(self, size: int) -> None:
        super().__init__(p=1)
        self.size = size

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        sides = []
        for length in params["shape"][:2]:
            lacking = max(0, self.size - length)
            before = self.py_random.randint(0, lacking)
            sides.append((before, lacking - before))
        return {"sides": sides}

    def apply(self, img: NDArray[Any], sides: list[tuple[int, int]], **params: Any) -> NDArray[Any]:
        return _pad(img, sides, np.nan)

    def apply_to_mask(self, mask: NDArray[Any], sides: list[tuple[int, int]], **params: Any) -> NDArray[Any]:
        return _pad(mask, sides, IGNORE)


class _Radiometric(A.ImageOnlyTransform):  # type: ignore[misc]
    """Multiply each band by its own gain and add its own offset.

    albumentations' brightness and noise clip float images to 0..1, which would destroy physical units.
    """

    def __init__(self, gain: float, offset: float, bands: Sequence[int] | None) -> None:
        super().__init__(p=1)
        self.gain, self.offset, self.bands = gain, offset, None if bands is None else list(bands)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        image = data["image"]
        count = image.shape[-1]
        chosen = np.zeros(count, dtype=bool)
        chosen[slice(None) if self.bands is None else self.bands] = True
        gain = self.random_generator.uniform(1 - self.gain, 1 + self.gain, count)
        shift = self.random_generator.uniform(-self.offset, self.offset, count)
        return {"gain": np.where(chosen, gain, 1), "shift": np.where(chosen, shift, 0)}

    def apply(self, img: NDArray[Any], gain: NDArray[Any], shift: NDArray[Any], **params: Any) -> NDArray[Any]:
        deviation = np.zeros(len(gain))
        for band in np.flatnonzero(shift):
            values = img[..., band][np.isfinite(img[..., band])]
            deviation[band] = values.std(dtype=np.float64) if values.size else 0
        changed: NDArray[Any] = (img * gain + shift * deviation).astype(np.float32)
        return changed


def _place(crop: int | None, landslide_share: float) -> list[Any]:
    if crop is None:
        return []
    anywhere = A.RandomCrop(crop, crop, p=1 - landslide_share)
    around = A.CropNonEmptyMaskIfExists(crop, crop, ignore_values=[IGNORE], p=landslide_share)
    if landslide_share == 0:
        chosen: Any = anywhere
    elif landslide_share == 1:
        chosen = around
    else:
        chosen = A.OneOf([anywhere, around], p=1)
    return [_PadToSize(crop), chosen]


def _pad(values: NDArray[Any], sides: list[tuple[int, int]], fill: float) -> NDArray[Any]:
    if not any(map(any, sides)):
        return values
    padded: NDArray[Any] = np.pad(values, [*sides, *[(0, 0)] * (values.ndim - 2)], constant_values=fill)
    return padded


def _three_axes(image: NDArray[Any]) -> NDArray[Any]:
    return image if image.ndim == 3 else image[..., None]
