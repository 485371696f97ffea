"""DRs-UNet: a U-Net whose encoder is built from residual shrinkage units (Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.blocks import DoubleConv, ResidualShrinkage
from zoo.blocks.checks import check_positive
from zoo.errors import ConfigError
from zoo.models.base import PADDED, SegmentationModel
from zoo.registry import Choice

PROVENANCE = (
    Choice("S", "DRs is deep residual shrinkage: encoder units with learned soft thresholds.", "abstract"),
    Choice(
        "S",
        "BN-ReLU-3x3-BN-ReLU-3x3, threshold alpha * mean|z| per channel, alpha from FC-BN-ReLU-FC-sigmoid; the "
        "identity "
        "is subsampled by a 1x1 average pool and gets half of the new zero channels on each side.",
        "Zhao et al. 2020, 10.1109/TII.2019.2943898, and their TFLearn code",
    ),
    Choice(
        "O",
        "Widths 64 to 1024, 2-2-3-3-1 units, 3x3 stem, decoder of transposed convolutions and DoubleConvs, no biases "
        "next to BN: 47.4 M floors to the paper's 47 M.",
        "Table 6",
    ),
    Choice("O", "No training on a batch of one: thresholds are normalised over the batch.", "drop_last"),
    PADDED,
)


class DRsUNet(SegmentationModel):
    """Deep residual shrinkage U-Net; "DRs" is not "dense residual" [S: abstract of 10.3390/rs14081848].

    A 3x3 stem without bias; five levels of :class:`zoo.blocks.ResidualShrinkage` units, where the first unit of
    levels 2 to 5 has stride 2; and a U-Net decoder of a transposed convolution that halves the channels,
    concatenation [skip, up] and a DoubleConv without biases. Widths and depths are ours [O: they give the paper's
    47 M parameters].

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        widths: channels of each level, in non-decreasing order.
        depths: residual shrinkage units of each level.

    Raises:
        ConfigError: if widths and depths differ in length or a number is out of range.
        ModelError: on a batch of one in training.
    """

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        depths: Sequence[int] = (2, 2, 3, 3, 1),
    ) -> None:
        if len(widths) != len(depths) or len(widths) < 2:
            raise ConfigError(
                f"widths and depths must name the same two or more levels, not {widths!r} and {depths!r}",
                where="DRsUNet",
            )
        for width, depth in zip(widths, depths, strict=True):
            check_positive("DRsUNet", width=width, depth=depth)
        stride = 2 ** (len(widths) - 1)
        super().__init__(in_channels, classes, stride=stride, minimum_size=2 * stride)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList()
        before = widths[0]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            units = [ResidualShrinkage(before, width, stride=1 if level == 0 else 2)]
            units += [ResidualShrinkage(width, width) for _ in range(depth - 1)]
            self.encoder.append(nn.Sequential(*units))
            before = width
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for skip in reversed(widths[:-1]):
            self.upsample.append(nn.ConvTranspose2d(before, skip, 2, stride=2))
            self.decoder.append(DoubleConv(2 * skip, skip, bias=False))
            before = skip
        self.head = nn.Conv2d(before, classes, 1)

    def segment(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        levels: list[Tensor] = []
        for level in self.encoder:
            x = level(x)
            levels.append(x)
        for up, block, skip in zip(self.upsample, self.decoder, levels[-2::-1], strict=True):
            x = block(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits
