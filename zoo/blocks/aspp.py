"""Atrous spatial pyramid pooling (Chen et al. 2017 and 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_positive
from zoo.blocks.convolution import ConvBNReLU
from zoo.errors import ModelError


class ImagePooling(nn.Module):
    """Global branch of ASPP: the mean of the whole image, projected and repeated at every pixel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.

    Raises:
        ModelError: for a batch of one in training, where batch normalisation would see one value per channel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm.training and x.shape[0] == 1:
            raise ModelError(
                "the image pooling of ASPP cannot train on a batch of one: it is normalised over the batch",
                where="ASPP",
                hint="Use a batch of two or more, drop the last incomplete batch, or call eval()",
            )
        pooled: Tensor = self.norm(self.conv(x.mean(dim=(2, 3), keepdim=True))).relu()
        return pooled.expand(-1, -1, x.shape[2], x.shape[3])


class ASPP(nn.Module):
    """Parallel convolutions with several receptive fields, from a pixel to the whole image.

    A 1x1 convolution, one 3x3 convolution for each rate, and image pooling, each to ``out_channels`` with BN and
    ReLU, are concatenated; a 1x1 projection with BN, ReLU and dropout follows [S: Chen et al. 2018, arXiv 1802.02611,
    section 3.1]. On a map smaller than a rate, only the centre tap of that 3x3 convolution reads data. 128-pixel
    images at output stride 16 give 8x8 maps, where the rates 12 and 18 are therefore 1x1 convolutions.

    Args:
        in_channels: channels of the input.
        out_channels: channels of each parallel convolution and of the output.
        rates: dilations of the 3x3 convolutions.
        dropout: probability of the dropout after the projection.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels)
        for rate in rates:
            check_positive(self, rate=rate)
        self.views = nn.ModuleList(
            [
                ConvBNReLU(in_channels, out_channels),
                *(ConvBNReLU(in_channels, out_channels, 3, dilation=rate) for rate in rates),
                ImagePooling(in_channels, out_channels),
            ]
        )
        self.project = nn.Sequential(ConvBNReLU(len(self.views) * out_channels, out_channels), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        views: Tensor = self.project(torch.cat([view(x) for view in self.views], dim=1))
        return views
