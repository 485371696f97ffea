"""Spatial attention (equations 12 and 13 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_odd, check_positive


class SpatialAttention(nn.Module):
    r"""One weight a pixel, from what the pixel holds over all channels.

    ``A_s = sigmoid(Conv_2(ReLU(Conv_1(Pool(X)))))`` (equation 12) and ``X * A_s`` (equation 13) [P]. Pool stacks
    the mean and the maximum over the channels, in this order [S: CBAM, Woo et al. 2018, section 3; a pool over
    space could not give an H x W map]. Conv_1 is 2 -> ``hidden`` and Conv_2 ``hidden`` -> 1, both
    ``kernel_size`` square with biases; the paper gives neither number [O: 7 is CBAM's kernel].

    Args:
        kernel_size: of both convolutions, odd.
        hidden: maps between them.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)`` for any C.

    Raises:
        ConfigError: if an argument is out of range.
    """

    def __init__(self, kernel_size: int = 7, hidden: int = 8) -> None:
        super().__init__()
        check_odd(self, kernel_size=kernel_size)
        check_positive(self, hidden=hidden)
        self.conv_1 = nn.Conv2d(2, hidden, kernel_size, padding=kernel_size // 2)
        self.conv_2 = nn.Conv2d(hidden, 1, kernel_size, padding=kernel_size // 2)

    def attention(self, x: Tensor) -> Tensor:
        """``A_s`` of equation 12, ``(B, 1, H, W)`` in (0, 1)."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        score: Tensor = self.conv_2(self.conv_1(pooled).relu())
        return score.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
