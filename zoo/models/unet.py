"""U-Net and the paper's Enhanced U-Net: one skeleton, with hybrid convolution and attention as switches.

The U-Net row of Table 6 equals the "Standard Convolution" row of Table 3, so the two are one network [P].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import MCSA, ChannelAttention, DoubleConv, HybridConv2d, SpatialAttention
from zoo.blocks.checks import check_choice, check_positive
from zoo.blocks.double_conv import Convolution
from zoo.blocks.hybrid_conv import CONVOLUTIONS
from zoo.errors import ConfigError
from zoo.models.base import SegmentationModel

UPSAMPLES = ("transposed", "bilinear")
MODES = ("shared", "split", "partial", "separate")
ATTENTIONS = ("none", "channel", "spatial", "mcsa")
PLACES = ("encoder", "bottleneck", "skip", "decoder")

PARTIAL_LEVELS = 3
"""Levels whose first convolution is hybrid in ``mode="partial"``."""


class UNet(SegmentationModel):
    """U-Net (Ronneberger et al. 2015) with the paper's two improvements as switches.

    Encoder: one DoubleConv a level, MaxPool2d(2) between levels. Decoder: upsample, concatenate [skip, up],
    DoubleConv. Head: 1x1 convolution. The hybrid convolutions stand in the encoder [P section 2.5]. The first
    convolution of all, on the image itself, is never grouped [O: seven bands cannot be].

    A decoder step ends with the width of the next skip, so that the next upsampling keeps it; when the bottleneck
    is wider than the level above, as in the canonical U-Net with 1024, a step ends with the width of its own skip,
    and upsampling halves [S: milesial/Pytorch-UNet has both layouts].

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        widths: channels of each level from the image to the bottleneck, two or more.
        upsample: ``transposed`` convolutions, or ``bilinear`` interpolation without weights (corners not aligned,
            so that what is predicted does not depend on the size of the patch [O]).
        convolution: a row of Table 3, for the encoder.
        mode: for combinations of two: ``shared``, ``split``, ``separate`` (see :class:`zoo.blocks.HybridConv2d`),
            or ``partial``: separate kernels in the first convolution of levels 1 to 3, and elsewhere the first
            operation alone.
        branch_weights: of the two operations, Table 4.
        dilation: of the dilated operation.
        groups: of the grouped operation.
        attention: ``none``, ``channel``, ``spatial`` or ``mcsa``, the rows of Table 5.
        attention_at: where it stands: ``encoder`` (after the DoubleConv of every level but the last, before both
            skip and pool), ``bottleneck`` (after that of the last), ``skip`` (on what is handed over, after the
            pool has taken its own), ``decoder`` (after each of its DoubleConvs).
        fusion: of MCSA.
        reduction: of channel attention.
        mlp_layers: of channel attention.
        pool: of channel attention.
        spatial_kernel: of spatial attention.
        spatial_hidden: of spatial attention.

    Raises:
        ConfigError: if an option is out of range.
    """

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        upsample: str = "transposed",
        convolution: str = "standard",
        mode: str = "shared",
        branch_weights: Sequence[float] = (0.5, 0.5),
        dilation: int = 2,
        groups: int = 4,
        attention: str = "none",
        attention_at: Sequence[str] = ("encoder", "bottleneck"),
        fusion: str = "add",
        reduction: int = 4,
        mlp_layers: int = 1,
        pool: str = "avg+max",
        spatial_kernel: int = 7,
        spatial_hidden: int = 8,
    ) -> None:
        widths = tuple(widths)
        if len(widths) < 2:
            raise ConfigError(f"widths must name two or more levels, not {widths!r}", where="UNet")
        for width in widths:
            check_positive("UNet", width=width)
        check_choice("UNet", "upsample", upsample, UPSAMPLES)
        check_choice("UNet", "convolution", convolution, CONVOLUTIONS)
        check_choice("UNet", "mode", mode, MODES)
        check_choice("UNet", "attention", attention, ATTENTIONS)
        if isinstance(attention_at, str):
            raise ConfigError("attention_at must be a sequence of places, not a string", where="UNet")
        for place in attention_at:
            check_choice("UNet", "attention_at", place, PLACES)
        stride = 2 ** (len(widths) - 1)
        super().__init__(in_channels, classes, stride=stride, minimum_size=2 * stride)

        def hybrid(level: int, index: int) -> Convolution:
            first_of_level = level < PARTIAL_LEVELS and index == 0
            return partial(
                HybridConv2d,
                convolution=convolution.split("+")[0] if mode == "partial" and not first_of_level else convolution,
                mode="separate" if mode == "partial" else mode,
                branch_weights=branch_weights,
                dilation=dilation,
                groups=1 if level == index == 0 else groups,
            )

        def attend(place: str, width: int) -> nn.Module:
            if place not in attention_at or attention == "none":
                return nn.Identity()
            if attention == "channel":
                return ChannelAttention(width, reduction, mlp_layers, pool)
            if attention == "spatial":
                return SpatialAttention(spatial_kernel, spatial_hidden)
            return MCSA(
                width,
                fusion,
                reduction=reduction,
                mlp_layers=mlp_layers,
                pool=pool,
                spatial_kernel=spatial_kernel,
                spatial_hidden=spatial_hidden,
            )

        skips = widths[:-1]
        inputs = (in_channels, *skips)
        self.encoder = nn.ModuleList(
            DoubleConv(before, after, first=hybrid(level, 0), second=hybrid(level, 1))
            for level, (before, after) in enumerate(zip(inputs, widths, strict=True))
        )
        self.encoder_attention = nn.ModuleList(
            [attend("encoder", width) for width in skips] + [attend("bottleneck", widths[-1])]
        )
        self.skip_attention = nn.ModuleList(attend("skip", width) for width in skips)

        up_skips = skips[::-1]
        outputs = up_skips if widths[-1] > skips[-1] else (*up_skips[1:], skips[0])
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.decoder_attention = nn.ModuleList()
        width = widths[-1]
        for skip, after in zip(up_skips, outputs, strict=True):
            if upsample == "transposed":
                self.upsample.append(nn.ConvTranspose2d(width, skip, 2, stride=2))
                width = skip
            else:
                self.upsample.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.decoder.append(DoubleConv(skip + width, after))
            self.decoder_attention.append(attend("decoder", after))
            width = after
        self.head = nn.Conv2d(width, classes, 1)

    def segment(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, (block, attend) in enumerate(zip(self.encoder, self.encoder_attention, strict=True)):
            if level:
                skips.append(x)
                x = F.max_pool2d(x, 2)
            x = attend(block(x))
        skips = [attend(skip) for attend, skip in zip(self.skip_attention, skips, strict=True)]
        for up, block, attend, skip in zip(
            self.upsample, self.decoder, self.decoder_attention, reversed(skips), strict=True
        ):
            x = attend(block(torch.cat([skip, up(x)], dim=1)))
        logits: Tensor = self.head(x)
        return logits


def enhanced_unet(
    in_channels: int = 7,
    classes: int = 2,
    *,
    convolution: str = "standard+dilated",
    attention: str = "mcsa",
    **options: Any,
) -> UNet:
    """The paper's Enhanced U-Net: :class:`UNet` with hybrid convolution in the encoder and MCSA after each level.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        convolution: a row of Table 3.
        attention: a row of Table 5.
        options: the other switches of :class:`UNet`.
    """
    return UNet(in_channels, classes, convolution=convolution, attention=attention, **options)
