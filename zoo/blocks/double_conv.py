"""The pair of convolutions that U-Nets are built of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Convolution = Callable[[int, int], nn.Module]
"""Makes a convolution from its input and output channels that keeps height and width."""


class DoubleConv(nn.Sequential):
    """(convolution, BN, ReLU) twice [S: milesial/Pytorch-UNet].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, and between the two convolutions.
        bias: whether the 3x3 convolutions have one.
        first: makes the first convolution; a 3x3 one if not given.
        second: makes the second convolution; a 3x3 one if not given.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        first: Convolution | None = None,
        second: Convolution | None = None,
    ) -> None:
        def plain(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

        super().__init__(
            (first or plain)(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            (second or plain)(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
