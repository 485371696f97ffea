"""MCSA in evaluation, with fewer passes over its maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.blocks import MCSA


class FusedMCSA(nn.Module):
    """What :class:`zoo.blocks.MCSA` computes, one image at a time and without the map of its attention.

    The attention, C x H x W by broadcasting, is never written: its channel part is added into the output, and its
    spatial part to that in place. One image stays in the cache through all passes over it.

    Args:
        block: whose layers are used.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``, for evaluation alone.
    """

    def __init__(self, block: MCSA) -> None:
        super().__init__()
        self.fusion = block.fusion
        self.channel = block.channel
        self.spatial = block.spatial

    def forward(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for index in range(len(x)):
            image, result = x[index : index + 1], y[index : index + 1]
            channel, spatial = self.channel.attention(image), self.spatial.attention(image)
            if self.fusion == "add":
                torch.add(image, channel, out=result)
                result.add_(spatial)
            else:
                # X + X * A is X * (1 + A), and the 1 costs nothing where it is added to one number a channel.
                torch.add(channel if self.fusion == "mul" else channel + 1, spatial, out=result)
                result.mul_(image)
        return y
