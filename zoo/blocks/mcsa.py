"""Multi-Channel Spatial Attention (equations 10 to 15 of the paper)."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.blocks.channel_attention import ChannelAttention
from zoo.blocks.checks import check_choice
from zoo.blocks.spatial_attention import SpatialAttention

FUSIONS = ("add", "mul", "residual")


class MCSA(nn.Module):
    r"""Channel and spatial attention side by side, their maps added: ``A = A_c + A_s`` (equation 14) [P].

    ``A_c`` is C x 1 x 1 and ``A_s`` is 1 x H x W; the sum is broadcast to C x H x W and lies in (0, 2). Both are
    computed from the same X, so this is neither CBAM, which is sequential, nor SCA, which reduces no dimension.

    Equation 15 prints ``X + A``, by which attention is a learned bias; equations 11, 13 and 14 together imply
    ``X * A``, which is the concurrent form of scSE. ``fusion`` chooses:

    * ``add`` (the literal default [P]): ``X + A``;
    * ``mul``: ``X * A``;
    * ``residual``: ``X + X * A``.

    Args:
        channels: C.
        fusion: ``add``, ``mul`` or ``residual``.
        reduction: r of the channel branch, see :class:`ChannelAttention`.
        mlp_layers: inner layers of the channel branch.
        pool: ``avg+max`` or ``avg``, of the channel branch.
        spatial_kernel: kernel size of the spatial branch, see :class:`SpatialAttention`.
        spatial_hidden: maps between its two convolutions.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``.

    Raises:
        ConfigError: if an argument is out of range.
        UnknownNameError: if there is no such fusion or pool.
    """

    def __init__(
        self,
        channels: int,
        fusion: str = "add",
        *,
        reduction: int = 4,
        mlp_layers: int = 1,
        pool: str = "avg+max",
        spatial_kernel: int = 7,
        spatial_hidden: int = 8,
    ) -> None:
        super().__init__()
        check_choice(self, "fusion", fusion, FUSIONS)
        self.fusion = fusion
        self.channel = ChannelAttention(channels, reduction=reduction, mlp_layers=mlp_layers, pool=pool)
        self.spatial = SpatialAttention(kernel_size=spatial_kernel, hidden=spatial_hidden)

    def attention(self, x: Tensor) -> Tensor:
        """``A`` of equation 14, ``(B, C, H, W)`` in (0, 2)."""
        return self.channel.attention(x) + self.spatial.attention(x)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.attention(x)
        if self.fusion == "add":
            return x + attention
        if self.fusion == "mul":
            return x * attention
        return x + x * attention

    def extra_repr(self) -> str:
        return f"fusion={self.fusion}"
