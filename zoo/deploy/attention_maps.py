"""Record the channel and spatial attention of a model's blocks for one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.blocks import MCSA, ChannelAttention, SpatialAttention


@dataclass(frozen=True)
class AttentionMap:
    """The attention of one block.

    Attributes:
        name: name of the block in the model, such as "encoder_attention.0".
        block: "MCSA", "ChannelAttention" or "SpatialAttention".
        channel: weight of each channel of the block in (0, 1), float32 (C,); the channels are features of the model,
            not bands. None for a spatial block.
        spatial: weight of each pixel in (0, 1), float32 (h, w); None for a channel block.
        fusion: how MCSA combines attention and input, "add", "mul" or "residual"; "mul" for the other blocks.
    """

    name: str
    block: str
    channel: NDArray[np.float32] | None
    spatial: NDArray[np.float32] | None
    fusion: str = "mul"


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[AttentionMap]]:
    """Record the attention of every block of ``model`` that runs inside the ``with`` block.

    The output of the model does not change, and the hooks are removed on exit. Only the first image of a batch is
    recorded.

    Yields:
        A list to which each block appends its map when it runs; empty for a model without attention.
    """
    found: list[AttentionMap] = []
    handles = [
        module.register_forward_pre_hook(partial(_record, found, name))
        for name, module in model.named_modules()
        # MCSA does not call its two branches as modules, so their hooks never fire.
        if isinstance(module, (MCSA, ChannelAttention, SpatialAttention))
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _record(found: list[AttentionMap], name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
    with torch.no_grad():
        image = inputs[0][:1]
        channel = spatial = None
        if isinstance(module, MCSA):
            channel, spatial = module.channel.attention(image), module.spatial.attention(image)
        elif isinstance(module, ChannelAttention):
            channel = module.attention(image)
        elif isinstance(module, SpatialAttention):
            spatial = module.attention(image)
    found.append(
        AttentionMap(
            name,
            type(module).__name__,
            None if channel is None else channel.float().cpu().numpy().reshape(-1),
            None if spatial is None else spatial[0, 0].float().cpu().numpy(),
            module.fusion if isinstance(module, MCSA) else "mul",
        )
    )
