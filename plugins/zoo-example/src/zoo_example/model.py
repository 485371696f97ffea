"""A small segmentation network that keeps the full resolution."""

from torch import nn

from zoo.blocks import MCSA


class TinyFCN(nn.Sequential):
    """Two 3x3 convolutions, the paper's attention, and a 1x1 head.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.

    Shape:
        float32 ``(B, in_channels, H, W)`` -> logits ``(B, classes, H, W)``, any H and W.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            MCSA(16), nn.Conv2d(16, classes, 1),
        )  # fmt: skip
