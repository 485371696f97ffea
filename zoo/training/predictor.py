"""A model with its normalisation, at one or several magnifications of the image."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.datasets.statistics import normalisation_scale, normalise_bands
from zoo.errors import ConfigError, ResultError
from zoo.training.running_statistics import tracked_layers


class Predictor(nn.Module):
    """Normalises an image in physical units and runs the model on it.

    Args:
        model: maps normalised float32 ``(B, C, H, W)`` to logits ``(B, K, H, W)``.
        mean: of each band over the training split, in the band's unit.
        std: of each band over the training split, in the band's unit; a constant band is only centred
            (:func:`zoo.datasets.statistics.normalisation_scale`).

    Raises:
        ConfigError: if mean and std differ in length.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ConfigError(f"{len(mean)} band means but {len(std)} band standard deviations")
        self.model = model
        scale = normalisation_scale(mean, std).tolist()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(scale, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` for float32 ``(B, C, H, W)`` in units; a missing value (NaN) counts as the mean."""
        logits: Tensor = self.model(self.normalise(image))
        return logits

    def normalise(self, image: Tensor) -> Tensor:
        """What the model is given for ``image``: float32 ``(B, C, H, W)`` of mean 0 and deviation 1, no NaN."""
        return normalise_bands(image, self.mean, self.std)

    def landslide_probability(self, logits: Tensor) -> Tensor:
        """:func:`landslide_probability` of logits of this model."""
        return landslide_probability(logits)


def landslide_probability(logits: Tensor) -> Tensor:
    """Float32 ``(B, H, W)`` in [0, 1]: one minus the background's softmax, or the sigmoid of a single logit."""
    if logits.shape[1] == 1:
        return logits[:, 0].float().sigmoid()
    # The clamp takes back what rounding adds beyond 1.
    return (1 - logits.float().softmax(1)[:, 0]).clamp(0, 1)


LARGEST = 4.0
"""Magnification beyond which a pixel's neighbourhood holds nothing but the interpolation [O]."""
AS_IT_IS = (1.0,)
CANDIDATES = (1.0, 1.5, 2.0)
"""Magnifications that are compared where one is to be chosen [O]."""
NEARER = 0.6
"""Part of the distance at scale 1 that a magnification may leave; what leaves more is not worth its time [O]."""


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The magnifications as numbers, in order.

    Raises:
        ConfigError: if there is none, one is given twice, or one lies outside of [1, 4].
    """
    checked = tuple(float(scale) for scale in scales)
    outside = [scale for scale in checked if not 1 <= scale <= LARGEST]
    if not checked or outside or len(set(checked)) < len(checked):
        given = ", ".join(f"{scale:g}" for scale in checked) or "nothing"
        raise ConfigError(
            f"{given}: magnifications are different numbers from 1 to {LARGEST:g}",
            where="option scales",
            hint="1 is the image as it is; 1,1.5,2 is a good set for landslides that are small in pixels",
        )
    return checked


def magnify(images: Tensor, scale: float) -> Tensor:
    """Images ``(B, C, H, W)`` interpolated (bilinear) to ``scale`` times their height and width, rounded down."""
    if scale == 1:
        return images
    return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)


def middle(layers: int) -> slice:
    """Which of so many layers stand between a sixth and a half of the way from input to output: one or more [O].

    The first layers see light and contrast, which magnifying does not change; the last half sees what was made of it.
    Between them stand shapes and their sizes in pixels.
    """
    first = layers // 6
    return slice(first, max(first + 1, layers // 2))


def middle_distance(distances: Sequence[float], layers: int) -> float:
    """Mean squared distance of the middle layers; 0 where no image tells one.

    Args:
        distances: squared, of layers in the order in which images reach them, from the first to a middle one or beyond.
        layers: how many there are in all.
    """
    chosen = distances[middle(layers)]
    return sum(chosen) / len(chosen) if chosen else 0.0


def choose_scale(distances: Mapping[float, float]) -> float:
    """The magnification at which a region is nearest to what the model knows; 1 unless another is clearly nearer.

    Args:
        distances: by scale, 1 among them; see :func:`middle_distance`.
    """
    nearest = min(distances, key=lambda scale: (distances[scale], scale))
    return nearest if distances[nearest] <= NEARER * distances[1.0] else 1.0


class MeanOfScales(nn.Module):
    """The mean probability of a model at several magnifications of its input, as logits.

    Each scale has a copy of the model, whose normalisation layers may hold other running statistics. The copies share
    no memory, so that folding one for speed leaves the others alone.

    Args:
        model: maps ``(B, C, H, W)`` to logits ``(B, K, H, W)``; the copy of the first scale.
        scales: magnifications in [1, 4]; see :func:`check_scales`.

    Shape:
        ``(B, C, H, W)`` -> float32 ``(B, K, H, W)``, whose softmax (sigmoid where K is 1) is the mean probability.

    Raises:
        ConfigError: for scales that are none.
    """

    def __init__(self, model: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = check_scales(scales)
        self.models = nn.ModuleList([model, *(copy.deepcopy(model) for _ in self.scales[1:])])

    @property
    def minimum_size(self) -> int:
        """Height and width that the model itself needs."""
        return int(getattr(self.models[0], "minimum_size", 1))

    def extra_repr(self) -> str:
        """The scales."""
        return f"scales={self.scales}"

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised ``images``."""
        found = [self._probability(model, scale, images) for model, scale in zip(self.models, self.scales, strict=True)]
        mean = torch.stack(found).mean(0)
        # Float32 holds no probability nearer to 1 than this, and the logarithm of 0 would be infinite.
        mean = mean.clamp(1e-7, 1 - 1e-7)
        return mean.log() if mean.shape[1] > 1 else mean.log() - (1 - mean).log()

    @staticmethod
    def _probability(model: nn.Module, scale: float, images: Tensor) -> Tensor:
        logits = model(magnify(images, scale)).float()
        probability: Tensor = logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
        if scale == 1:
            return probability
        return F.interpolate(probability, size=images.shape[-2:], mode="bilinear", align_corners=False)


def statistics_at(scale: float, model: nn.Module) -> dict[str, Tensor]:
    """Running statistics of ``model``, by the names under which a bundle keeps those of a further scale."""
    return {
        f"{_prefix(scale)}{name}.{label}": getattr(layer, label).detach().cpu().clone()
        for name, layer in tracked_layers(model).items()
        for label in ("running_mean", "running_var")
    }


def with_scales(model: nn.Module, scales: Sequence[float], state: Mapping[str, Tensor]) -> nn.Module:
    """The model at the scales of a bundle, with the statistics that ``state`` holds for each; itself at scale 1 alone.

    Raises:
        ResultError: if statistics of a scale are missing or do not fit.
    """
    if tuple(scales) == AS_IT_IS:
        return model
    together = MeanOfScales(model, scales)
    for scale, one in list(zip(together.scales, together.models, strict=True))[1:]:
        found = {name.removeprefix(_prefix(scale)): value for name, value in state.items() if _is_of(scale, name)}
        expected = {name.removeprefix(_prefix(scale)) for name in statistics_at(scale, one)}
        if set(found) != expected:
            raise ResultError(
                f"the bundle lacks normalisation statistics at magnification {scale:g}", hint="Copy the bundle again"
            )
        one.load_state_dict(found, strict=False)
    return together


def weights_alone(scales: Sequence[float], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a bundle's state belongs to the model itself: its weights, and the statistics of the first scale."""
    return {name: value for name, value in state.items() if not any(_is_of(scale, name) for scale in scales[1:])}


def _is_of(scale: float, name: str) -> bool:
    return name.startswith(_prefix(scale))


def _prefix(scale: float) -> str:
    return f"magnified {scale:g}: "
