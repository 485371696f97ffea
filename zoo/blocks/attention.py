"""Channel attention, spatial attention, and Multi-Channel Spatial Attention (equations 10 to 15 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_choice, check_odd, check_positive
from zoo.errors import ConfigError

POOLS = ("avg+max", "avg")
FUSIONS = ("add", "mul", "residual")


class ChannelAttention(nn.Module):
    r"""Channel attention: one weight per channel, computed from the channel's values over the whole image.

    ``A_c = sigmoid(FC(MLP(FC(Pool(X)))))`` (equation 10) and ``X * A_c`` (equation 11) [P]. The average and the
    maximum of each channel pass through the same branch and are added before the sigmoid [S: CBAM, Woo et al. 2018,
    section 3]. The branch is FC C -> h, ReLU, Linear h -> h, ReLU, FC h -> C: three layers, as in the printed equation
    [P]. The ReLUs between them are ours [O]; without them the three layers would collapse into one.

    Args:
        channels: C.
        reduction: r; h = max(4, C // r). 4 keeps the whole model above the paper's 15.0 M parameters [O]; CBAM uses
            16.
        mlp_layers: inner layers h -> h; 0 is CBAM's branch.
        pool: ``avg+max`` [P] or ``avg``.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``.

    Raises:
        ConfigError: if an argument is out of range.
    """

    def __init__(self, channels: int, reduction: int = 4, mlp_layers: int = 1, pool: str = "avg+max") -> None:
        super().__init__()
        check_positive(self, channels=channels, reduction=reduction)
        check_choice(self, "pool", pool, POOLS)
        if isinstance(mlp_layers, bool) or not isinstance(mlp_layers, int) or mlp_layers < 0:
            raise ConfigError(f"mlp_layers must be 0 or more, not {mlp_layers!r}", where="ChannelAttention")
        hidden = max(4, channels // reduction)
        self.pool = pool
        layers: list[nn.Module] = [nn.Linear(channels, hidden), nn.ReLU(inplace=True)]
        for _ in range(mlp_layers):
            layers += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True)]
        self.branch = nn.Sequential(*layers, nn.Linear(hidden, channels))

    def attention(self, x: Tensor) -> Tensor:
        """Return ``A_c`` of equation 10, ``(B, C, 1, 1)`` in (0, 1)."""
        score: Tensor = self.branch(x.mean(dim=(2, 3)))
        if self.pool == "avg+max":
            score = score + self.branch(x.amax(dim=(2, 3)))
        return score.sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class SpatialAttention(nn.Module):
    r"""Spatial attention: one weight per pixel, computed from the pixel's values over all channels.

    ``A_s = sigmoid(Conv_2(ReLU(Conv_1(Pool(X)))))`` (equation 12) and ``X * A_s`` (equation 13) [P]. Pool stacks the
    mean and the maximum over the channels, in this order [S: CBAM, Woo et al. 2018, section 3; a pool over space
    could not give an H x W map]. Conv_1 is 2 -> ``hidden`` and Conv_2 is ``hidden`` -> 1, both ``kernel_size`` square
    with biases. The paper gives neither value [O: 7 is CBAM's kernel].

    Args:
        kernel_size: size of both kernels, odd.
        hidden: maps between the two convolutions.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)`` for any C.

    Raises:
        ConfigError: if an argument is out of range.
    """

    def __init__(self, kernel_size: int = 7, hidden: int = 8) -> None:
        super().__init__()
        check_odd(self, kernel_size=kernel_size)
        check_positive(self, hidden=hidden)
        self.conv_1 = nn.Conv2d(2, hidden, kernel_size, padding=kernel_size // 2)
        self.conv_2 = nn.Conv2d(hidden, 1, kernel_size, padding=kernel_size // 2)

    def attention(self, x: Tensor) -> Tensor:
        """Return ``A_s`` of equation 12, ``(B, 1, H, W)`` in (0, 1)."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        score: Tensor = self.conv_2(self.conv_1(pooled).relu())
        return score.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class MCSA(nn.Module):
    r"""Channel and spatial attention in parallel, with their maps added: ``A = A_c + A_s`` (equation 14) [P].

    ``A_c`` is C x 1 x 1 and ``A_s`` is 1 x H x W; their sum broadcasts to C x H x W, with values in (0, 2). Both are
    computed from the same X. This differs from CBAM, which is sequential, and from SCA, which reduces no dimension.

    Equation 15 is printed as ``X + A``, which makes attention a learned bias. Equations 11, 13 and 14 together imply
    ``X * A``, the concurrent form of scSE. ``fusion`` selects the form:

    * ``add`` (default, as printed [P]): ``X + A``;
    * ``mul``: ``X * A``;
    * ``residual``: ``X + X * A``.

    Args:
        channels: C.
        fusion: ``add``, ``mul`` or ``residual``.
        reduction: r of the channel branch, see :class:`ChannelAttention`.
        mlp_layers: inner layers of the channel branch.
        pool: ``avg+max`` or ``avg``, pooling of the channel branch.
        spatial_kernel: kernel size of the spatial branch, see :class:`SpatialAttention`.
        spatial_hidden: maps between the two convolutions of the spatial branch.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``.

    Raises:
        ConfigError: if an argument is out of range.
        UnknownNameError: if the fusion or pool does not exist.
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
        """Return ``A`` of equation 14, ``(B, C, H, W)`` in (0, 2)."""
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
