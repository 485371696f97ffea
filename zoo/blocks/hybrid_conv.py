"""Hybrid convolution (equations 8 and 9, Tables 3 and 4 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.checks import check_choice, check_odd, check_positive
from zoo.errors import ConfigError

CONVOLUTIONS = ("standard", "dilated", "grouped", "standard+dilated", "standard+grouped", "dilated+grouped")
"""The six rows of Table 3."""

MODES = ("shared", "split", "separate")
"""How the two operations of a combination come by their kernels."""


class Branch(NamedTuple):
    """One operation of the layer: how it samples its input, and which channels it reads."""

    operation: str
    scale: float
    dilation: int
    groups: int
    channels: slice


class HybridConv2d(nn.Module):
    r"""Two convolutions of the same input, weighted and added: ``Conv_h = w_s * Conv_s + w_d * Conv_d``.

    Equation 9 [P] with the weights of Table 4 [P]. Spatial size is kept: by the general form of equation 8 a
    kernel of size K dilated by r covers ``K' = K + (K - 1)(r - 1)`` pixels and is padded by ``r (K - 1) / 2``;
    the paper prints the case K = 3.

    The modes differ in the kernels, which the paper does not settle:

    * ``shared`` [O]: one kernel W for both operations, ``y = w_s conv(x; W, d=1) + w_d conv(x; W, d=r) + b``. As
      many parameters as an ordinary convolution, which Table 6 demands. Equal to one sparse convolution; with
      K = 3 and r = 2 that is 5x5 with 17 taps. A grouped operation takes the block diagonal of W.
    * ``split`` [O]: the first half of the input channels goes to one operation, the rest to the other. As many
      parameters, half the arithmetic of ``shared``. The odd channel goes to the first operation, and so does a
      single one, which leaves the second nothing to do.
    * ``separate``: a kernel and a bias for each operation, the literal reading of equation 9. Twice the parameters.

    The weights scale the kernels, not the outputs: the same function and the same gradients, 1.14 to 1.18 times
    faster in training, since kernels are smaller than feature maps.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: K, odd.
        convolution: a row of Table 3; a single operation has weight 1 and no mode.
        mode: ``shared``, ``split`` or ``separate``.
        branch_weights: of the two operations in the order of their names; 0.5 and 0.5 [P: Table 4].
        dilation: r of the dilated operation; 2 [P: Table 1].
        groups: of the grouped operation; 4 [O: the paper gives none].
        bias: whether to add a learned bias.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.

    Raises:
        ConfigError: if an argument is out of range or the channels cannot be divided into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        convolution: str = "standard+dilated",
        mode: str = "shared",
        branch_weights: Sequence[float] = (0.5, 0.5),
        dilation: int = 2,
        groups: int = 4,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, dilation=dilation, groups=groups)
        check_odd(self, kernel_size=kernel_size)
        check_choice(self, "convolution", convolution, CONVOLUTIONS)
        check_choice(self, "mode", mode, MODES)
        if len(branch_weights) != 2 or not all(math.isfinite(weight) for weight in branch_weights):
            raise ConfigError(
                f"branch_weights must be two finite numbers, not {branch_weights!r}", where="HybridConv2d"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.convolution = convolution
        operations = convolution.split("+")
        self.mode = mode if len(operations) == 2 else "single"
        self.branches = tuple(
            Branch(
                operation,
                scale=float(scale),
                dilation=dilation if operation == "dilated" else 1,
                groups=groups if operation == "grouped" else 1,
                channels=channels,
            )
            for operation, scale, channels in zip(
                operations,
                branch_weights if len(operations) == 2 else (1.0,),
                self._channels(),
                strict=False,
            )
        )
        for branch in self.branches:
            self._check_groups(branch)

        self.weight = nn.Parameter(self._empty_kernel(self.branches[0]))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        second = self.mode in ("split", "separate") and len(self.branches) == 2
        self.weight_2 = nn.Parameter(self._empty_kernel(self.branches[1])) if second else None
        self.bias_2 = nn.Parameter(torch.empty(out_channels)) if second and bias and mode == "separate" else None
        self.reset_parameters()

    def _channels(self) -> tuple[slice, ...]:
        if self.mode != "split":
            return slice(0, self.in_channels), slice(0, self.in_channels)
        half = (self.in_channels + 1) // 2
        first, second = slice(0, half), slice(half, self.in_channels)
        return (first, second) if half < self.in_channels else (first,)

    def _check_groups(self, branch: Branch) -> None:
        for name, channels in (
            ("input", branch.channels.stop - branch.channels.start),
            ("output", self.out_channels),
        ):
            if channels % branch.groups:
                raise ConfigError(
                    f"{channels} {name} channels cannot be divided into {branch.groups} groups",
                    where="HybridConv2d",
                    hint="Choose other widths or another number of groups",
                )

    def _empty_kernel(self, branch: Branch) -> Tensor:
        # A shared kernel is dense: the grouped operation reads its diagonal blocks.
        groups = 1 if self.mode == "shared" else branch.groups
        width = (branch.channels.stop - branch.channels.start) // groups
        return torch.empty(self.out_channels, width, self.kernel_size, self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw the weights as ``torch.nn.Conv2d`` does, so that ``standard`` equals it bit by bit for one seed."""
        for weight, bias in ((self.weight, self.bias), (self.weight_2, self.bias_2)):
            if weight is None:
                continue
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            if bias is not None:
                bound = 1 / math.sqrt(weight[0].numel())
                nn.init.uniform_(bias, -bound, bound)

    def branch_kernels(self) -> list[Tensor]:
        """The kernel of each branch with its weight multiplied in, ``(out_channels, channels / groups, K, K)``."""
        kernels: list[Tensor] = []
        for index, branch in enumerate(self.branches):
            kernel: Tensor = self.weight if index == 0 or self.weight_2 is None else self.weight_2
            if self.mode == "shared" and branch.groups > 1:
                kernel = _diagonal_blocks(kernel, branch.groups)
            kernels.append(kernel if branch.scale == 1.0 else branch.scale * kernel)
        return kernels

    def total_bias(self) -> Tensor | None:
        """What is added to every pixel, ``(out_channels,)``: the bias, or the weighted sum of two biases."""
        if self.bias is None or self.bias_2 is None:
            return self.bias
        return self.branches[0].scale * self.bias + self.branches[1].scale * self.bias_2

    def merged_kernel(self) -> Tensor:
        """The one kernel ``(out_channels, in_channels, K', K')`` to whose convolution the layer is equal.

        Exact, and useful for analysis and for folding thin layers: 5x5 with 17 taps that are not zero for K = 3,
        r = 2. For more than about 32 input channels two 3x3 convolutions are faster than one dense 5x5.
        """
        reach = max(branch.dilation for branch in self.branches) * (self.kernel_size - 1) // 2
        merged = self.weight.new_zeros(self.out_channels, self.in_channels, 2 * reach + 1, 2 * reach + 1)
        for branch, kernel in zip(self.branches, self.branch_kernels(), strict=True):
            pad = branch.dilation * (self.kernel_size - 1) // 2
            taps = slice(reach - pad, reach + pad + 1, branch.dilation)
            rows = self.out_channels // branch.groups
            for group in range(branch.groups):
                out = slice(group * rows, (group + 1) * rows)
                start = branch.channels.start + group * kernel.shape[1]
                merged[out, start : start + kernel.shape[1], taps, taps] += kernel[out]
        return merged

    def forward(self, x: Tensor) -> Tensor:
        bias = self.total_bias()
        total: Tensor | None = None
        for branch, kernel in zip(self.branches, self.branch_kernels(), strict=True):
            part = x[:, branch.channels] if self.mode == "split" else x
            y = F.conv2d(
                part,
                kernel,
                bias if total is None else None,
                padding=branch.dilation * (self.kernel_size - 1) // 2,
                dilation=branch.dilation,
                groups=branch.groups,
            )
            total = y if total is None else total.add_(y)
        assert total is not None
        return total

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", self.convolution]
        if len(self.branches) == 2:
            parts.append(f"mode={self.mode}, branch_weights={tuple(b.scale for b in self.branches)}")
        return ", ".join(parts)


def _diagonal_blocks(weight: Tensor, groups: int) -> Tensor:
    rows, columns = weight.shape[0] // groups, weight.shape[1] // groups
    blocks = [
        weight[group * rows : (group + 1) * rows, group * columns : (group + 1) * columns] for group in range(groups)
    ]
    return torch.cat(blocks)
