"""Channel attention (equations 10 and 11 of the paper)."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.blocks.checks import check_choice, check_positive
from zoo.errors import ConfigError

POOLS = ("avg+max", "avg")


class ChannelAttention(nn.Module):
    r"""One weight a channel, from what the channel holds over the whole image.

    ``A_c = sigmoid(FC(MLP(FC(Pool(X)))))`` (equation 10) and ``X * A_c`` (equation 11) [P]. The average and the
    maximum of each channel pass through the same branch and are added before the sigmoid [S: CBAM, Woo et al.
    2018, section 3]. The branch is FC C -> h, ReLU, Linear h -> h, ReLU, FC h -> C: three layers as the equation
    prints them [P], the ReLUs between them ours [O], for without them they would be one layer.

    Args:
        channels: C.
        reduction: r; h = max(4, C // r). 4 keeps the whole model above the paper's 15.0 M parameters [O]; CBAM
            has 16.
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
        """``A_c`` of equation 10, ``(B, C, 1, 1)`` in (0, 1)."""
        score: Tensor = self.branch(x.mean(dim=(2, 3)))
        if self.pool == "avg+max":
            score = score + self.branch(x.amax(dim=(2, 3)))
        return score.sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
