"""Residual shrinkage with learned soft thresholds (DRSN, Zhao et al. 2020)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.checks import check_positive
from zoo.errors import ConfigError, ModelError


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Return ``sign(x) * max(|x| - threshold, 0)``, with ``threshold`` of at least 0 broadcast to ``x``.

    Two ReLUs give the same result as clamping to a tensor. Clamping is slower in training, because its gradient
    compares every element with both bounds again.
    """
    return F.relu(x - threshold) - F.relu(-x - threshold)


class ResidualShrinkage(nn.Module):
    r"""Residual shrinkage building unit with channel-wise thresholds (RSBU-CW).

    BN, ReLU, 3x3, BN, ReLU, 3x3 give z; then ``a = mean over H, W of |z|``, ``alpha = sigmoid(FC(ReLU(BN(FC(a)))))``,
    ``tau = alpha * a`` and the output is ``sign(z) * max(|z| - tau, 0) + identity``. The identity is subsampled by
    a 1x1 average pool of the same stride and gets zero channels, half of the new ones on each side [S: Zhao et al.,
    10.1109/TII.2019.2943898, and their TFLearn code]. The 3x3 convolutions have no bias [O: a BN follows].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, at least as many.
        stride: stride of the first convolution and of the identity.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, ceil(H / stride), ceil(W / stride))``.

    Raises:
        ConfigError: if ``out_channels`` is smaller than ``in_channels``.
        ModelError: for a batch of one in training, where the batch normalisation of the threshold path would see one
            value per channel.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride)
        if out_channels < in_channels:
            raise ConfigError(
                f"cannot shrink {in_channels} channels to {out_channels}: the identity is padded, never cropped",
                where="ResidualShrinkage",
            )
        self.stride = stride
        self.new_channels = out_channels - in_channels
        self.residual = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.reduce = nn.Linear(out_channels, out_channels)
        self.norm = nn.BatchNorm1d(out_channels)
        self.expand = nn.Linear(out_channels, out_channels)

    def threshold(self, z: Tensor) -> Tensor:
        """Return tau ``(B, C, 1, 1)``, between 0 and the mean of ``|z|`` of each channel."""
        if self.norm.training and z.shape[0] == 1:
            raise ModelError(
                "residual shrinkage cannot train on a batch of one: its thresholds are normalised over the batch",
                where="ResidualShrinkage",
                hint="Use a batch of two or more, drop the last incomplete batch, or call eval()",
            )
        magnitude = z.abs().mean(dim=(2, 3))
        alpha: Tensor = self.expand(self.norm(self.reduce(magnitude)).relu()).sigmoid()
        return (alpha * magnitude)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        z = self.residual(x)
        identity = F.avg_pool2d(x, 1, stride=self.stride) if self.stride > 1 else x
        if self.new_channels:
            before = self.new_channels // 2
            identity = F.pad(identity, (0, 0, 0, 0, before, self.new_channels - before))
        return soft_threshold(z, self.threshold(z)) + identity
