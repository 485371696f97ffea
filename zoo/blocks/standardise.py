"""Per-image standardisation, for data whose brightness differs between images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StandardiseImage(nn.Module):
    """Per-image standardisation: subtract the mean of each band, and divide by the common standard deviation.

    The mean is that of each band over the image, and the standard deviation that of all bands together. The output does
    not depend on a gain that all bands of an image share or on an offset of each band, such as exposure, display
    stretch or haze, and the contrast between the bands is preserved. In Landslide4Sense, for example, each image is
    scaled by its own unknown factor [O]. Instance normalisation [S: Ulyanov et al. 2016] divides each band by its own
    deviation, which also removes that contrast.

    Pixels that are 0 in all bands are treated as nodata, because normalised images have 0 there. They stay 0 and are
    excluded from the statistics.

    Args:
        eps: added to the variance; images are in units of the training data's standard deviation.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``, same dtype; computed in float32.

    Example:
        >>> image = torch.rand(1, 3, 8, 8) + 0.1
        >>> standardise = StandardiseImage()
        >>> torch.allclose(standardise(image), standardise(2 * image), atol=1e-3)
        True
    """

    def __init__(self, eps: float = 1e-2) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        image = x.float()
        valid = (image != 0).any(dim=1, keepdim=True).float()
        count = valid.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
        centred = (image - image.sum(dim=(2, 3), keepdim=True) / count) * valid
        variance = centred.square().mean(dim=1, keepdim=True).sum(dim=(2, 3), keepdim=True) / count
        return (centred * torch.rsqrt(variance + self.eps)).to(x.dtype)
