"""MCSA in evaluation, with fewer passes over its maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
        # Its layers see one number a channel: their precision costs nothing, and bfloat16 would be slower.
        self.branch = block.channel.branch.float()
        self.uses_maximum = block.channel.pool == "avg+max"
        self.spatial = block.spatial

    def forward(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for index in range(len(x)):
            image, result = x[index : index + 1], y[index : index + 1]
            channel, spatial = self._of_channels(image), self.spatial.attention(image)
            if self.fusion == "add":
                torch.add(image, channel, out=result)
                result.add_(spatial)
            else:
                # X + X * A is X * (1 + A), and the 1 costs nothing where it is added to one number a channel.
                torch.add(channel if self.fusion == "mul" else channel + 1, spatial, out=result)
                result.mul_(image)
        return y

    def _of_channels(self, image: Tensor) -> Tensor:
        """The channel part of the attention, ``(1, C, 1, 1)``, in the type of the image."""
        # mean() rounds less in float32, and turns all of a bfloat16 map into float32 first.
        exact = image.dtype == torch.float32
        mean = image.mean(dim=(2, 3)) if exact else F.avg_pool2d(image, image.shape[-2:]).flatten(1).float()
        score: Tensor = self.branch(mean)
        if self.uses_maximum:
            score = score + self.branch(image.amax(dim=(2, 3)).float())
        return score.sigmoid()[:, :, None, None].to(image.dtype)
