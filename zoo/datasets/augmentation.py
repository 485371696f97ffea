"""Augmentation for any number of bands: crops, magnification, the eight symmetries of the square, and brightness.

This is the only module that imports albumentations (2.0.8 or later in the 2.0 series, the last under the MIT licence).
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
from torch import Tensor
from torch.nn.functional import interpolate, pad

# albumentations checks online for its newest version on import, unless this is set first.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from zoo.datasets.base import IGNORE, Sample
from zoo.errors import ConfigError


class TrainingAugmentation:
    """Random augmentation of training patches.

    In order: padding to the crop size if the patch is smaller (NaN in the image, which normalisation replaces with the
    mean, and IGNORE in the mask), a random crop, one of the eight elements of D4 (of four if the result is not square),
    and optionally changed contrast and brightness (:func:`vary_brightness`). With ``scale_jitter``,
    :func:`random_resized_crop` replaces padding and crop.

    A draw depends only on ``seed`` and its number, so the stream of augmented patches is the same for any number
    of workers and can be resumed at any point.

    Args:
        crop: side of the crop in pixels; None for the whole patch.
        landslide_share: share of the crops that are placed around a landslide pixel if the patch has one. Landslides
            make up 2 to 6 % of the pixels of the public data sets; nnU-Net uses a third, Isensee et al. (2021), Nature
            Methods 18, 203-211 [S].
        symmetries: whether to flip and rotate. In north-up images the sun is always on one side, but D4 is usual in the
            field [O].
        gain: maximum relative change of a band, 0.1 for factors of 0.9 to 1.1. 0 by default, because physical
            channels (a slope in degrees, an index) have absolute values [O].
        offset: maximum shift of a band, in standard deviations of the patch. 0 by default, for the same reason.
        gamma: maximum relative change of the exponent of a band, 0.3 for 1/1.3 to 1.3. The minimum and maximum of
            the patch do not change; the values between them become darker or brighter.
        scale_jitter: maximum magnification minus one, 0.5 for log-uniform factors from 1/1.5 to 1.5.
        radiometric_bands: indices of the bands that gain, offset and gamma may change; None for all.
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
        gamma: float = 0.0,
        scale_jitter: float = 0.0,
        radiometric_bands: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        if crop is not None and crop < 1:
            raise ConfigError(f"a crop of {crop} pixels is not possible", where="option crop")
        if not 0 <= landslide_share <= 1:
            raise ConfigError(f"must be from 0 to 1, not {landslide_share}", where="option landslide_share")
        if not 0 <= gain < 1 or not 0 <= offset < math.inf:
            raise ConfigError(f"gain {gain} and offset {offset} are out of range", where="options gain and offset")
        for option, value in (("gamma", gamma), ("scale_jitter", scale_jitter)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"must be 0 or more, not {value}", where=f"option {option}")
        self.crop = crop
        self.landslide_share = landslide_share
        self.symmetries = symmetries
        self.gain = gain
        self.offset = offset
        self.gamma = gamma
        self.scale_jitter = scale_jitter
        self.radiometric_bands = None if radiometric_bands is None else tuple(radiometric_bands)
        self.seed = seed
        shared = [] if scale_jitter else _crop_transforms(crop, landslide_share)
        square = [A.D4(p=1)] if symmetries else []
        oblong = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)] if symmetries else []
        self._square = A.Compose([*shared, *square])
        self._oblong = A.Compose([*shared, *oblong])

    def __call__(self, sample: Sample, draw: int) -> Sample:
        """Augment one sample.

        Args:
            sample: "image" float32 (C, H, W), "mask" int64 (H, W); not modified.
            draw: number of the draw, counted over the whole training run.

        Returns:
            A new sample with the same keys; the side of image and mask is ``crop`` pixels, or unchanged without a crop.
        """
        image, mask = sample["image"], sample["mask"]
        height, width = mask.shape
        pipeline = self._square if self.crop is not None or height == width else self._oblong
        generator = np.random.default_rng((self.seed, draw))
        if self.scale_jitter:
            image, mask = random_resized_crop(image, mask, mask.numpy(), self, generator)
        pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        out = pipeline(image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()), mask=mask.numpy().astype(np.uint8))
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(_three_axes(out["image"]), -1, 0)))
        if self.gain or self.offset or self.gamma:
            image = vary_brightness(image, self, generator)
        return {**sample, "image": image, "mask": torch.from_numpy(out["mask"].astype(np.int64))}


class DeviceAugmentation:
    """Crops, symmetries and brightness changes as tensor operations, without copying pixels from the device.

    The settings are those of :class:`TrainingAugmentation`, but the random numbers differ: a draw depends only on the
    seed and its number and is the same on every device, but differs from its draw of that number.

    Args:
        settings: crop, share of crops around landslides, magnification, symmetries, brightness, bands and seed.
    """

    def __init__(self, settings: TrainingAugmentation) -> None:
        self.settings = settings

    def __call__(self, image: Tensor, mask: Tensor, classes: NDArray[np.uint8], draw: int) -> tuple[Tensor, Tensor]:
        """Augment one patch.

        Args:
            image: float32 (C, H, W) on any device, NaN where missing; not modified.
            mask: integer (H, W) on the same device; not modified.
            classes: copy of the mask, uint8 (H, W), in host memory, so that choosing a crop does not wait for
                the device.
            draw: number of the draw, counted over the whole training run.

        Returns:
            Image and mask with a side of ``crop`` pixels, or the size of the patch; NaN and IGNORE outside the patch.
        """
        settings = self.settings
        rng = np.random.default_rng((settings.seed, draw))
        if settings.scale_jitter:
            image, mask = random_resized_crop(image, mask, classes, settings, rng)
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


def random_resized_crop(
    image: Tensor,
    mask: Tensor,
    classes: NDArray[Any],
    settings: TrainingAugmentation,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Crop a window of random size and resample it to the size of the crop, or of the patch if there is no crop.

    The image is interpolated bilinearly, the mask by nearest neighbour. If a window is larger than the patch, image and
    mask are mirrored at the edges of the patch, because missing pixels would change the batch statistics [O].

    Args:
        image: float32 (C, H, W) on any device; not modified.
        mask: integer (H, W) on the same device; not modified.
        classes: copy of the mask in host memory.
        settings: crop, share of windows around landslides and maximum magnification.
        rng: random generator.
    """
    shape = classes.shape
    sizes = shape if settings.crop is None else (settings.crop, settings.crop)
    largest = math.log1p(settings.scale_jitter)
    factor = math.exp(rng.uniform(-largest, largest))
    around = rng.random() < settings.landslide_share
    places = np.flatnonzero((classes != 0) & (classes != IGNORE)) if around else np.empty(0, dtype=np.intp)
    at = np.divmod(int(rng.choice(places)), shape[1]) if len(places) else (None, None)
    nearest = []
    for axis, (length, size) in enumerate(zip(shape, sizes, strict=True)):
        window = max(1, round(size / factor))
        start, before, _ = place_crop(length, window, at[axis], rng)
        index = np.arange(start - before, start - before + window) % (2 * length)
        index = np.minimum(index, 2 * length - 1 - index)
        if before == 0 and window <= length:
            image = image.narrow(axis + 1, start, window)
        else:
            image = image.index_select(axis + 1, torch.from_numpy(index).to(image.device))
        nearest.append(torch.from_numpy(index[((np.arange(size) + 0.5) * window / size).astype(np.intp)]))
    resampled = interpolate(image[None], size=sizes, mode="bilinear", align_corners=False)[0]
    rows, columns = (index.to(mask.device) for index in nearest)
    return resampled, mask.index_select(0, rows).index_select(1, columns)


def place_crop(length: int, size: int, at: int | None, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return the start of a random crop along one axis, and the padding before and after if the patch is shorter.

    Args:
        length: length of the patch in pixels.
        size: length of the crop in pixels.
        at: pixel that the crop must contain; None for any.
        rng: random generator.
    """
    lacking = max(0, size - length)
    if lacking:
        before = int(rng.integers(lacking + 1))
        return 0, before, lacking - before
    low, high = 0, length - size
    if at is not None:
        low, high = max(low, at - size + 1), min(high, at)
    return int(rng.integers(low, high + 1)), 0, 0


def vary_brightness(image: Tensor, settings: TrainingAugmentation, rng: np.random.Generator) -> Tensor:
    """Change the contrast and the brightness of the bands.

    Half of each change is common to all bands, as for light and haze, and half is independent per band [O].
    albumentations' brightness and noise clip float images to 0..1, which would destroy physical units.

    Args:
        image: float32 (C, H, W) on any device, NaN where missing; not modified.
        settings: gamma, gain, offset and the bands that they may change.
        rng: random generator.
    """
    bands = list(range(len(image))) if settings.radiometric_bands is None else list(settings.radiometric_bands)
    if not bands:
        return image
    common, own = rng.uniform(-1, 1, (3, 1)), rng.uniform(-1, 1, (3, len(bands)))
    exponent, gain, shift = image.new_tensor((common + own) / 2)[:, :, None, None]
    chosen = image[bands]
    known = chosen.isfinite()
    if settings.gamma:
        low = chosen.masked_fill(~known, math.inf).amin((-2, -1), keepdim=True)
        span = chosen.masked_fill(~known, -math.inf).amax((-2, -1), keepdim=True) - low
        # A constant band has no contrast to change.
        share = (chosen - low) / span.clamp(min=torch.finfo(image.dtype).tiny)
        chosen = low + span * share.pow((1 + settings.gamma) ** exponent)
    if settings.offset:
        count = known.sum((-2, -1), keepdim=True).clamp(min=1)
        mean = chosen.nan_to_num().sum((-2, -1), keepdim=True) / count
        squares = (chosen - mean).nan_to_num().square().sum((-2, -1), keepdim=True)
        shift = settings.offset * shift * (squares / count).sqrt()
    else:
        shift = torch.zeros_like(shift)
    changed = image.clone()
    changed[bands] = chosen * (1 + settings.gain * gain) + shift
    return changed


class _PadToSize(A.DualTransform):  # type: ignore[misc]
    """Pad to a given size, split at random between the sides: NaN in the image, IGNORE in the mask.

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


def _crop_transforms(crop: int | None, landslide_share: float) -> list[Any]:
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
