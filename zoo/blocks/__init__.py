"""Layers of the zoo's models, for use in any network. They depend only on torch.

    >>> from zoo.blocks import MCSA
    >>> attended = MCSA(64)(features)                                # (B, 64, H, W) -> (B, 64, H, W)

All of them support ``torch.jit.script`` and ``torch.export``.

Docstrings mark the source of each design choice: [P] the paper (Zheng et al. 2025, 10.4236/jcc.2025.138004), whose
equation numbers are used throughout, [S] a cited source or its reference code, [O] our own choice.
"""

from __future__ import annotations

from zoo.blocks.aspp import ASPP
from zoo.blocks.attention import MCSA, ChannelAttention, SpatialAttention
from zoo.blocks.convolution import ConvBNReLU, DoubleConv, HybridConv2d
from zoo.blocks.padding import crop, pad_to_multiple
from zoo.blocks.shrinkage import ResidualShrinkage, soft_threshold
from zoo.blocks.standardise import StandardiseImage

__all__ = [
    "ASPP",
    "MCSA",
    "ChannelAttention",
    "ConvBNReLU",
    "DoubleConv",
    "HybridConv2d",
    "ResidualShrinkage",
    "SpatialAttention",
    "StandardiseImage",
    "crop",
    "pad_to_multiple",
    "soft_threshold",
]
