"""A model together with the statistics that its input is normalised with: images in units go in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ConfigError


class Predictor(nn.Module):
    """Normalises an image in physical units and runs the model on it.

    Args:
        model: maps normalised float32 ``(B, C, H, W)`` to logits ``(B, K, H, W)``.
        mean: of each band over the training split, in the band's unit.
        std: of each band over the training split, in the band's unit; a constant band's 0 is taken as 1.

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
        scale = torch.tensor(std, dtype=torch.float32)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.where(scale > 0, scale, 1.0)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` for float32 ``(B, C, H, W)`` in units; a missing value (NaN) counts as the mean."""
        logits: Tensor = self.model(self.normalise(image))
        return logits

    def normalise(self, image: Tensor) -> Tensor:
        """What the model is given for ``image``: float32 ``(B, C, H, W)`` of mean 0 and deviation 1, no NaN."""
        return torch.nan_to_num((image - self.mean) / self.std, nan=0.0)

    def landslide_probability(self, logits: Tensor) -> Tensor:
        """:func:`landslide_probability` of logits of this model."""
        return landslide_probability(logits)


def landslide_probability(logits: Tensor) -> Tensor:
    """Float32 ``(B, H, W)`` in [0, 1]: one minus the background's softmax, or the sigmoid of a single logit."""
    if logits.shape[1] == 1:
        return logits[:, 0].float().sigmoid()
    # The clamp takes back what rounding adds beyond 1.
    return (1 - logits.float().softmax(1)[:, 0]).clamp(0, 1)
