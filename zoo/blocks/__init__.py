"""Layers of the zoo's models, for use in any network. Imports torch alone.

    >>> from zoo.blocks import MCSA
    >>> attended = MCSA(64)(features)                                # (B, 64, H, W) -> (B, 64, H, W)

Docstrings mark where each decision comes from: [P] the paper (Zheng et al. 2025, 10.4236/jcc.2025.138004), whose
equation numbers are used throughout, [S] a cited source or its reference code, [O] our own choice.
"""

from __future__ import annotations

from zoo.blocks.aspp import ASPP
from zoo.blocks.channel_attention import ChannelAttention
from zoo.blocks.double_conv import DoubleConv
from zoo.blocks.hybrid_conv import HybridConv2d
from zoo.blocks.mcsa import MCSA
from zoo.blocks.padding import crop, pad_to_multiple
from zoo.blocks.shrinkage import ResidualShrinkage, soft_threshold
from zoo.blocks.spatial_attention import SpatialAttention

__all__ = [
    "ASPP",
    "MCSA",
    "ChannelAttention",
    "DoubleConv",
    "HybridConv2d",
    "ResidualShrinkage",
    "SpatialAttention",
    "crop",
    "pad_to_multiple",
    "soft_threshold",
]
