"""U-Net and the paper's Enhanced U-Net: one skeleton, with hybrid convolution and attention as options.

The U-Net row of Table 6 equals the "Standard Convolution" row of Table 3, so the two are one network [P].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import MCSA, ChannelAttention, DoubleConv, HybridConv2d, SpatialAttention
from zoo.blocks.checks import check_choice, check_positive
from zoo.blocks.convolution import Convolution
from zoo.errors import ConfigError
from zoo.models.base import PADDED, SegmentationModel
from zoo.registry import Choice, forwards_options

Table3Row = Literal["standard", "dilated", "grouped", "standard+dilated", "standard+grouped", "dilated+grouped"]
Table5Row = Literal["none", "channel", "spatial", "mcsa"]
Upsample = Literal["transposed", "bilinear"]
Mode = Literal["shared", "split", "partial", "separate"]
Place = Literal["encoder", "bottleneck", "skip", "decoder"]

HYBRID_LEVELS = 3
"""Levels whose first convolution is hybrid in ``mode="partial"``."""

_SKELETON = (
    Choice("P", "A U-Net whose Table 6 row equals the standard-convolution row of Table 3.", "Tables 3 and 6"),
    Choice(
        "O",
        "Widths 64-128-256-512-512 with transposed convolutions: 14.791 M floors to the paper's 14 M; the canonical "
        "1024-channel bottleneck (31 M) does not.",
        "Table 6",
    ),
    Choice(
        "S",
        "(3x3 convolution with bias, BN, ReLU) twice per level; skips are concatenated before the upsampled map.",
        "milesial/Pytorch-UNet before March 2020",
    ),
    Choice(
        "O",
        "Bilinear upsampling does not align corners, so that a prediction does not depend on the patch size.",
        "reference code aligns them",
    ),
    PADDED,
)

PROVENANCE = {
    "unet": _SKELETON,
    "enhanced_unet": (
        *_SKELETON,
        Choice("P", "Conv_h = w_s Conv_s + w_d Conv_d in the encoder, r = 2, weights 0.5 and 0.5.", "eq. 9, Table 4"),
        Choice(
            "O",
            "mode='shared': one kernel at both dilations in all ten encoder convolutions. Independent kernels give "
            "24.2 M (encoder) to 28.2 M; only shared or split kernels stay within the paper's 15 M, and only shared "
            "ones apply eq. 9 to the same input.",
            "Table 6",
        ),
        Choice(
            "O",
            "Evidence against 'shared': Table 3's frame rate of a combination is about the mean of its parts, which "
            "favours mode='split'. mode='separate' is the literal eq. 9 and contradicts Table 6 by 9 M parameters.",
            "Table 3",
        ),
        Choice(
            "O",
            "mode='partial': separate kernels in the first convolution of levels 1 to 3, only the first operation "
            "elsewhere (15.164 M before attention).",
            "within Table 6's budget",
        ),
        Choice(
            "O",
            "In 'split' and 'separate' the weights of Table 4 apply as in eq. 9; 'separate' has one bias per "
            "operation.",
            "the paper describes neither",
        ),
        Choice("O", "4 groups, the first convolution dense, for Table 3's grouped rows.", "not in the paper"),
        Choice(
            "P", "A = A_c + A_s, broadcast, in (0, 2), and X + A: attention added as eq. 15 prints it.", "eq. 14, 15"
        ),
        Choice(
            "O",
            "Eqs. 11, 13 and 14 together imply X * A; with X + A attention is a learned bias. fusion='mul' is the "
            "recommended ablation.",
            "eq. 11, 13, 14; scSE (Roy et al. 2018)",
        ),
        Choice("S", "Average and maximum pass through one branch and are added before the sigmoid.", "CBAM, section 3"),
        Choice("P", "FC C->h, Linear h->h, FC h->C in the channel branch.", "eq. 10"),
        Choice("O", "ReLUs between them; h = max(4, C / 4) keeps the total at 15.1 M, CBAM's 16 gives 14.88 M."),
        Choice("S", "Spatial attention pools the mean and the maximum over the channels.", "CBAM, section 3"),
        Choice("O", "7x7 convolutions 2->8->1 in the spatial branch.", "eq. 12 gives no numbers"),
        Choice(
            "O",
            "MCSA after each of the five encoder DoubleConvs, before both skip and pool.",
            "gives the 15 M of Table 6",
        ),
    ),
}


class UNet(SegmentationModel):
    """U-Net (Ronneberger et al. 2015) with the paper's two improvements as options.

    The encoder has one DoubleConv per level and MaxPool2d(2) between levels. The decoder upsamples, concatenates
    [skip, up] and applies a DoubleConv. The head is a 1x1 convolution. Hybrid convolutions are in the encoder [P
    section 2.5]. The first convolution, which reads the image, is never grouped [O: seven bands cannot be].

    A decoder step ends with the width of the next skip, so that the next upsampling keeps the width. When the
    bottleneck is wider than the level above, as in the canonical U-Net with 1024 channels, a step ends with the
    width of its own skip, and upsampling halves the width [S: milesial/Pytorch-UNet has both layouts].

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        widths: channels of each level from the image to the bottleneck, two or more; (64, 128, 256, 512, 1024) is
            the canonical U-Net.
        upsample: "transposed" convolutions, or "bilinear" interpolation without weights. Corners are not aligned,
            so that a prediction does not depend on the size of the patch [O].
        convolution: operation of the encoder, a row of Table 3.
        mode: how the two operations of a combination get their kernels: "shared", "split" or "separate" (see
            :class:`zoo.blocks.HybridConv2d`), or "partial": separate kernels in the first convolution of levels 1
            to 3, and only the first operation elsewhere.
        branch_weights: weights of the two operations, a row of Table 4.
        dilation: dilation r of the dilated operation.
        groups: groups of the grouped operation; the first convolution stays dense.
        attention: attention, a row of Table 5.
        attention_at: positions of the attention: "encoder" (after the DoubleConv of every level but the last, before
            both skip and pool), "bottleneck" (after the DoubleConv of the last level), "skip" (only on the skip
            connection), "decoder" (after each DoubleConv of the decoder).
        fusion: how MCSA combines attention A and input X: X + A, X * A or X + X * A.
        reduction: reduction r of channel attention.
        mlp_layers: inner layers of channel attention; 0 is CBAM's.
        pool: pooling of channel attention.
        spatial_kernel: kernel size of spatial attention, odd.
        spatial_hidden: maps between the two convolutions of spatial attention.

    Raises:
        ConfigError: if an option is out of range.
    """

    # long: the options of Tables 3 to 5 and their builders are easiest to read in one place
    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        upsample: Upsample = "transposed",
        convolution: Table3Row = "standard",
        mode: Mode = "shared",
        branch_weights: Sequence[float] = (0.5, 0.5),
        dilation: int = 2,
        groups: int = 4,
        attention: Table5Row = "none",
        attention_at: Sequence[Place] = ("encoder", "bottleneck"),
        fusion: Literal["add", "mul", "residual"] = "add",
        reduction: int = 4,
        mlp_layers: int = 1,
        pool: Literal["avg+max", "avg"] = "avg+max",
        spatial_kernel: int = 7,
        spatial_hidden: int = 8,
    ) -> None:
        widths = tuple(widths)
        if len(widths) < 2:
            raise ConfigError(f"widths must name two or more levels, not {widths!r}", where="UNet")
        for width in widths:
            check_positive("UNet", width=width)
        check_choice("UNet", "upsample", upsample, get_args(Upsample))
        check_choice("UNet", "convolution", convolution, get_args(Table3Row))
        check_choice("UNet", "mode", mode, get_args(Mode))
        check_choice("UNet", "attention", attention, get_args(Table5Row))
        if isinstance(attention_at, str):
            raise ConfigError("attention_at must be a sequence of positions, not a string", where="UNet")
        for place in attention_at:
            check_choice("UNet", "attention_at", place, get_args(Place))
        stride = 2 ** (len(widths) - 1)
        super().__init__(in_channels, classes, stride=stride, minimum_size=2 * stride)

        def hybrid(level: int, index: int) -> Convolution:
            first_of_level = level < HYBRID_LEVELS and index == 0
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


@forwards_options(UNet)
def enhanced_unet(
    in_channels: int = 7,
    classes: int = 2,
    *,
    convolution: Table3Row = "standard+dilated",
    attention: Table5Row = "mcsa",
    **options: Any,
) -> UNet:
    """Create the paper's Enhanced U-Net: :class:`UNet` with hybrid convolution in the encoder and MCSA at each level.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        convolution: operation of the encoder, a row of Table 3.
        attention: attention, a row of Table 5.
        options: the other options of :class:`UNet`.
    """
    return UNet(in_channels, classes, convolution=convolution, attention=attention, **options)
