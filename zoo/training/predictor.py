"""A model with its normalisation, at one or several magnifications of the image.

Landslides of a new region may be smaller or larger, in pixels, than those of the training data. Magnifying or reducing
the image gives them the size that the model was trained on. Each magnification has its own normalisation statistics.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.datasets.statistics import normalisation_scale, normalise_bands
from zoo.errors import ConfigError, ResultError
from zoo.training.bundle_layout import ORIGINAL_SCALE
from zoo.training.running_statistics import tracked_layers

MIN_SCALE = 0.5
MAX_SCALE = 4.0
"""Minimum and maximum magnification. Below one half, landslides of a few pixels disappear; above 4, the neighbourhood
of a pixel contains only interpolated values [O]."""
MAX_SCALES = 16
"""Maximum number of magnifications: the model runs once for each."""
SCALE_CANDIDATES = (0.75, 1.0, 1.5, 2.0)
"""Magnifications that :func:`choose_scale` compares [O]."""
VIEWS = tuple((turns, flipped) for turns in range(4) for flipped in (False, True))
"""The eight flips and rotations of a square (D4): number of quarter turns, and whether the rotated image is flipped."""


MAX_DEVIATIONS = 1e4
"""Values farther from the training mean, in standard deviations of the band, count as missing: they are fill values
without a nodata tag, or in another unit. Otherwise convolutions and global pooling would spread them [O]."""


class Predictor(nn.Module):
    """Normalises an image in physical units and runs the model on it.

    Args:
        model: maps normalised float32 ``(B, C, H, W)`` to logits ``(B, K, H, W)``.
        mean: mean of each band over the training split, in the band's unit.
        std: standard deviation of each band over the training split, in the band's unit; a constant band is only
            centred (:func:`zoo.datasets.statistics.normalisation_scale`). Not used for a model that
            ``takes_units``: it gets the image unchanged, with 0 where missing.

    Raises:
        ConfigError: if mean and std differ in length.
    """

    mean: Tensor
    std: Tensor
    temperature: float = 1.0
    """T of sigmoid(z / T), which calibrates the landslide probability; 1 leaves it unchanged."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ConfigError(f"{len(mean)} band means but {len(std)} band standard deviations")
        self.model = model
        if getattr(model, "takes_units", False):
            mean, std = [0.0] * len(mean), [1.0] * len(std)
        scale = normalisation_scale(mean, std).tolist()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(scale, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, K, H, W)`` for float32 ``(B, C, H, W)`` in units; NaN is replaced by the band's mean."""
        logits: Tensor = self.model(self.normalise(image))
        return logits

    def normalise(self, image: Tensor) -> Tensor:
        """Return the model's input for ``image``: float32 ``(B, C, H, W)``, mean 0 and deviation 1, without NaN."""
        return normalise_bands(image, self.mean, self.std)

    def landslide_probability(self, logits: Tensor) -> Tensor:
        """Return the landslide probability of logits of this model; see :func:`landslide_probability`."""
        probability = landslide_probability(logits)
        if self.temperature == 1:
            return probability
        # The temperature was fitted on the log odds of this probability, regardless of the number of classes.
        return (torch.logit(probability, eps=1e-7) / self.temperature).sigmoid()


def calibrated(probability: float, temperature: float) -> float:
    """Return a probability after temperature scaling: sigmoid(z / T) of its log odds z.

    >>> round(calibrated(0.9, 2.0), 3)
    0.75
    """
    # Return it unchanged: rounding would move a threshold that was chosen without a temperature.
    return probability if temperature == 1 else float(expit(logit(probability) / temperature))


def landslide_probability(logits: Tensor) -> Tensor:
    """Return the landslide probability of logits ``(B, K, H, W)``, float32 ``(B, H, W)`` in [0, 1].

    It is one minus the softmax of the background, or the sigmoid of a single logit.
    """
    if logits.shape[1] == 1:
        return logits[:, 0].float().sigmoid()
    # Rounding may give slightly more than 1.
    return (1 - logits.float().softmax(1)[:, 0]).clamp(0, 1)


@dataclass(frozen=True)
class PlausibleRange:
    """Minimum and maximum value of each band that counts as data, float32 (C,)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, predictor: Predictor) -> PlausibleRange:
        """Return the range within :data:`MAX_DEVIATIONS` standard deviations of the training mean."""
        mean, std = (one.flatten().double().cpu().numpy() for one in (predictor.mean, predictor.std))
        largest = float(np.finfo(np.float32).max)
        bounds = (np.clip(mean + sign * MAX_DEVIATIONS * std, -largest, largest) for sign in (-1, 1))
        low, high = (edge.astype(np.float32) for edge in bounds)
        return cls(low, high)

    @classmethod
    def common(cls, predictors: Sequence[Predictor]) -> PlausibleRange:
        """Return the range that is plausible for all of the predictors."""
        found = [cls.of(predictor) for predictor in predictors]
        return cls(np.maximum.reduce([one.low for one in found]), np.minimum.reduce([one.high for one in found]))

    def clean(self, image: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Replace implausible values with NaN, in place.

        Args:
            image: float32 (C, rows, columns).

        Returns:
            Two masks, bool (rows, columns): where a band is missing; and where a value other than NaN was replaced,
            ``None`` if nowhere.
        """
        low, high = image.min(axis=(1, 2)), image.max(axis=(1, 2))
        # Both comparisons are false for NaN.
        if bool(((low >= self.low) & (high <= self.high)).all()):
            return np.zeros(image.shape[1:], dtype=bool), None
        with np.errstate(invalid="ignore"):
            known = (image >= self.low[:, None, None]) & (image <= self.high[:, None, None])
        implausible: NDArray[np.bool_] = np.logical_or.reduce(~known & ~np.isnan(image), axis=0)
        image[~known] = np.nan
        missing: NDArray[np.bool_] = ~np.logical_and.reduce(known, axis=0)
        return missing, implausible if implausible.any() else None


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Return the magnifications as floats, in the given order.

    Raises:
        ConfigError: if there are none, one is given twice, or one is outside [0.5, 4].
    """
    checked = tuple(float(scale) for scale in scales)
    outside = [scale for scale in checked if not MIN_SCALE <= scale <= MAX_SCALE]
    if not checked or outside or len(set(checked)) < len(checked) or len(checked) > MAX_SCALES:
        given = ", ".join(f"{scale:g}" for scale in checked[: MAX_SCALES + 1]) or "nothing"
        raise ConfigError(
            f"{given}: magnifications must be different numbers from {MIN_SCALE:g} to {MAX_SCALE:g}, at most "
            f"{MAX_SCALES}",
            where="option scales",
            hint="1 is the original image; 1,1.5,2 is a good choice for landslides that are small in pixels",
        )
    return checked


def magnify(images: Tensor, scale: float) -> Tensor:
    """Interpolate images ``(B, C, H, W)`` bilinearly to ``scale`` times their height and width, rounded down.

    An image that would become empty is returned unchanged.
    """
    if scale == 1 or (scale < 1 and min(images.shape[-2:]) * scale < 1):
        return images
    return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)


def choose_scale(agreements: Mapping[float, float]) -> float:
    """Return the magnification with the highest agreement; in a tie, the one nearest to 1.

    Args:
        agreements: Dice between the masks of an image and of its rotated copies, by magnification.
    """
    return max(agreements, key=lambda scale: (agreements[scale], -abs(math.log(scale))))


def in_views(
    run: Callable[[Tensor], Tensor], images: Tensor, views: Sequence[tuple[int, bool]] = VIEWS
) -> Iterator[Tensor]:
    """Yield the outputs of ``run`` for the rotated and flipped images, transformed back.

    Args:
        run: maps images ``(B, C, H, W)`` to ``(B, H, W)`` or ``(B, K, H, W)``.
        images: ``(B, C, H, W)``.
        views: number of quarter turns, and whether the rotated image is flipped from left to right.
    """
    for turns, flipped in views:
        turned = torch.rot90(images, turns, (-2, -1))
        seen = run(turned.flip(-1) if flipped else turned)
        yield torch.rot90(seen.flip(-1) if flipped else seen, -turns, (-2, -1))


class MeanOfViews(nn.Module):
    """Mean probability of a model over the eight flips and rotations of its input, as logits.

    Args:
        model: maps ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    Shape:
        ``(B, C, H, W)`` -> float32 ``(B, K, H, W)``, whose softmax (sigmoid if K is 1) is the mean probability.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of normalised ``images``."""
        return _mean_as_logits(list(in_views(lambda seen: _class_probability(self.model(seen)), images)))


class MeanOfScales(nn.Module):
    """Mean probability of a model at several magnifications of its input, as logits.

    Each scale has a copy of the model, whose normalisation layers may hold different running statistics. The copies
    share no memory, so folding one for speed leaves the others unchanged.

    Args:
        model: maps ``(B, C, H, W)`` to logits ``(B, K, H, W)``; the copy for the first scale.
        scales: magnifications in [0.5, 4]; see :func:`check_scales`.

    Shape:
        ``(B, C, H, W)`` -> float32 ``(B, K, H, W)``, whose softmax (sigmoid if K is 1) is the mean probability.

    Raises:
        ConfigError: for invalid scales.
    """

    def __init__(self, model: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = check_scales(scales)
        self.models = nn.ModuleList([model, *(copy.deepcopy(model) for _ in self.scales[1:])])

    @property
    def minimum_size(self) -> int:
        """Minimum height and width of an image that the model accepts."""
        return math.ceil(int(getattr(self.models[0], "minimum_size", 1)) / min(1.0, *self.scales))

    @property
    def takes_units(self) -> bool:
        """Whether the model takes images in units, without normalisation."""
        return bool(getattr(self.models[0], "takes_units", False))

    def extra_repr(self) -> str:
        """Return the scales, for ``repr``."""
        return f"scales={self.scales}"

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of normalised ``images``."""
        return _mean_as_logits(
            [self._probability(model, scale, images) for model, scale in zip(self.models, self.scales, strict=True)]
        )

    @staticmethod
    def _probability(model: nn.Module, scale: float, images: Tensor) -> Tensor:
        probability = _class_probability(model(magnify(images, scale)))
        if scale == 1:
            return probability
        return F.interpolate(probability, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _class_probability(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()


def _mean_as_logits(probabilities: list[Tensor]) -> Tensor:
    # Float32 cannot represent a probability nearer to 1, and the logarithm of 0 would be infinite.
    mean = torch.stack(probabilities).mean(0).clamp(1e-7, 1 - 1e-7)
    return mean.log() if mean.shape[1] > 1 else mean.log() - (1 - mean).log()


def statistics_at(scale: float, model: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of ``model`` under the names that a bundle uses for further scales."""
    return {
        f"{_prefix(scale)}{name}.{label}": getattr(layer, label).detach().cpu().clone()
        for name, layer in tracked_layers(model).items()
        for label in ("running_mean", "running_var")
    }


def with_scales(model: nn.Module, scales: Sequence[float], state: Mapping[str, Tensor]) -> nn.Module:
    """Return the model at the scales of a bundle, with the statistics from ``state`` for each scale.

    Raises:
        ResultError: if the statistics of a scale are missing or do not fit.
    """
    if tuple(scales) == ORIGINAL_SCALE:
        return model
    together = MeanOfScales(model, scales)
    for scale, one in list(zip(together.scales, together.models, strict=True))[1:]:
        prefix = _prefix(scale)
        found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        expected = {name.removeprefix(prefix) for name in statistics_at(scale, one)}
        if set(found) != expected:
            raise ResultError(
                f"the bundle lacks normalisation statistics at magnification {scale:g}", hint="Copy the bundle again"
            )
        one.load_state_dict(found, strict=False)
    return together


def first_scale_state(scales: Sequence[float], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own part of a bundle's state: its weights and the statistics of the first scale."""
    prefixes = tuple(map(_prefix, scales[1:]))
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def _prefix(scale: float) -> str:
    return f"magnified {scale:g}: "
