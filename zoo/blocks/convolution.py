"""Convolution with normalisation, the double convolution of U-Nets, and hybrid convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.checks import check_choice, check_odd, check_positive
from zoo.errors import ConfigError

Convolution = Callable[[int, int], nn.Module]
"""Function that makes a convolution from its input and output channels; the convolution keeps height and width."""

CONVOLUTIONS = ("standard", "dilated", "grouped", "standard+dilated", "standard+grouped", "dilated+grouped")
"""The six rows of Table 3."""

MODES = ("shared", "split", "separate")
"""How the two operations of a combination get their kernels."""


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: size of the kernel, odd.
        dilation: dilation of the kernel.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel_size - 1) // 2
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Sequential):
    """(convolution, BN, ReLU) twice [S: milesial/Pytorch-UNet].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, and between the two convolutions.
        bias: whether the 3x3 convolutions have a bias.
        first: function that makes the first convolution; ``None`` for a 3x3 convolution.
        second: function that makes the second convolution; ``None`` for a 3x3 convolution.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        first: Convolution | None = None,
        second: Convolution | None = None,
    ) -> None:
        def plain(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

        super().__init__(
            (first or plain)(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            (second or plain)(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Branch(NamedTuple):
    """One operation of :class:`HybridConv2d`.

    Attributes:
        operation: ``standard``, ``dilated`` or ``grouped``.
        scale: weight of the operation in the sum.
        dilation: dilation of its kernel.
        groups: groups of its kernel.
        start: first input channel that it reads.
        stop: end of the input channels that it reads.
    """

    operation: str
    scale: float
    dilation: int
    groups: int
    start: int
    stop: int

    @property
    def channels(self) -> slice:
        """Slice of the input channels that the operation reads."""
        return slice(self.start, self.stop)


class HybridConv2d(nn.Module):
    r"""Weighted sum of two convolutions of the same input: ``Conv_h = w_s * Conv_s + w_d * Conv_d``.

    This is equation 9 [P] with the weights of Table 4 [P]. Height and width are kept: by the general form of equation
    8, a kernel of size K dilated by r covers ``K' = K + (K - 1)(r - 1)`` pixels and is padded by ``r (K - 1) / 2``. The
    paper prints the case K = 3. ``torch.jit.script`` and ``torch.export`` are supported.

    The modes differ in the kernels, which the paper does not specify:

    * ``shared`` [O]: one kernel W for both operations, ``y = w_s conv(x; W, d=1) + w_d conv(x; W, d=r) + b``. It has
      as many parameters as an ordinary convolution, which Table 6 requires. It equals one sparse convolution; for
      K = 3 and r = 2 that is 5x5 with 17 taps. A grouped operation uses the block diagonal of W.
    * ``split`` [O]: the first half of the input channels goes to the first operation, the rest to the second. It has
      as many parameters and half the arithmetic of ``shared``. An odd channel goes to the first operation; with a
      single channel there is no second operation.
    * ``separate``: a kernel and a bias for each operation, the literal reading of equation 9. It has twice the
      parameters.

    The weights scale the kernels instead of the outputs. Output and gradients are the same, and training is 1.14 to
    1.18 times faster, because kernels are smaller than feature maps.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: K, odd.
        convolution: a row of Table 3; a single operation has weight 1 and no mode.
        mode: ``shared``, ``split`` or ``separate``.
        branch_weights: weights of the two operations, in the order of ``convolution``; 0.5 and 0.5 [P: Table 4].
        dilation: r of the dilated operation; 2 [P: Table 1].
        groups: groups of the grouped operation; 4 [O: the paper gives none].
        bias: whether to add a learned bias.

    Shape:
        ``(B, in_channels, H, W)`` -> ``(B, out_channels, H, W)``.

    Raises:
        ConfigError: if an argument is out of range or the channels are not divisible by the groups.
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
        scales = [float(weight) for weight in branch_weights] if len(operations) == 2 else [1.0]
        self.branches = tuple(
            Branch(
                operation,
                scale,
                dilation=dilation if operation == "dilated" else 1,
                groups=groups if operation == "grouped" else 1,
                start=start,
                stop=stop,
            )
            for operation, scale, (start, stop) in zip(operations, scales, self._channels(), strict=False)
        )
        for branch in self.branches:
            self._check_groups(branch)

        self.weight = nn.Parameter(self._empty_kernel(self.branches[0]))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        second = self.mode in ("split", "separate") and len(self.branches) == 2
        self.weight_2 = nn.Parameter(self._empty_kernel(self.branches[1])) if second else None
        self.bias_2 = nn.Parameter(torch.empty(out_channels)) if second and bias and mode == "separate" else None
        self.reset_parameters()

    def _channels(self) -> tuple[tuple[int, int], ...]:
        if self.mode != "split":
            return (0, self.in_channels), (0, self.in_channels)
        half = (self.in_channels + 1) // 2
        return ((0, half), (half, self.in_channels)) if half < self.in_channels else ((0, half),)

    def _check_groups(self, branch: Branch) -> None:
        for name, channels in (("input", branch.stop - branch.start), ("output", self.out_channels)):
            if channels % branch.groups:
                raise ConfigError(
                    f"{channels} {name} channels are not divisible by {branch.groups} groups",
                    where="HybridConv2d",
                    hint="Choose other widths or another number of groups",
                )

    def _empty_kernel(self, branch: Branch) -> Tensor:
        # A shared kernel is dense: the grouped operation reads its diagonal blocks.
        groups = 1 if self.mode == "shared" else branch.groups
        width = (branch.stop - branch.start) // groups
        return torch.empty(self.out_channels, width, self.kernel_size, self.kernel_size)

    def reset_parameters(self) -> None:
        """Initialise the weights like ``torch.nn.Conv2d``; ``standard`` is bit-identical to it for the same seed."""
        for weight, bias in ((self.weight, self.bias), (self.weight_2, self.bias_2)):
            if weight is None:
                continue
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            if bias is not None:
                bound = 1 / math.sqrt(weight[0].numel())
                nn.init.uniform_(bias, -bound, bound)

    def branch_kernels(self) -> list[Tensor]:
        """Return the kernel of each branch multiplied by its weight, ``(out_channels, channels / groups, K, K)``."""
        kernels: list[Tensor] = []
        for index, (_, scale, _, groups, _, _) in enumerate(self.branches):
            second = self.weight_2
            kernel: Tensor = second if index == 1 and second is not None else self.weight
            if self.mode == "shared" and groups > 1:
                kernel = _diagonal_blocks(kernel, groups)
            kernels.append(kernel if scale == 1.0 else scale * kernel)
        return kernels

    def total_bias(self) -> Tensor | None:
        """Return the total bias ``(out_channels,)``, the weighted sum if there are two; ``None`` without a bias."""
        first, second = self.bias, self.bias_2
        if first is None or second is None:
            return first
        return self.branches[0][1] * first + self.branches[-1][1] * second

    def merged_kernel(self) -> Tensor:
        """Return the single kernel ``(out_channels, in_channels, K', K')`` whose convolution equals the layer.

        The kernel is exact. Use it for analysis and for folding layers with few channels: for K = 3 and r = 2 it is 5x5
        with 17 non-zero taps. Above about 32 input channels, two 3x3 convolutions are faster than one dense 5x5.
        """
        reach = max(branch.dilation for branch in self.branches) * (self.kernel_size - 1) // 2
        merged = self.weight.new_zeros(self.out_channels, self.in_channels, 2 * reach + 1, 2 * reach + 1)
        for branch, kernel in zip(self.branches, self.branch_kernels(), strict=True):
            pad = branch.dilation * (self.kernel_size - 1) // 2
            taps = slice(reach - pad, reach + pad + 1, branch.dilation)
            rows = self.out_channels // branch.groups
            for group in range(branch.groups):
                out = slice(group * rows, (group + 1) * rows)
                start = branch.start + group * kernel.shape[1]
                merged[out, start : start + kernel.shape[1], taps, taps] += kernel[out]
        return merged

    def forward(self, x: Tensor) -> Tensor:
        bias = self.total_bias()
        kernels = self.branch_kernels()
        total = x
        # TorchScript treats a named tuple as a plain tuple, so the fields are unpacked by position.
        for index, (_, _, dilation, groups, start, stop) in enumerate(self.branches):
            part = x[:, start:stop] if self.mode == "split" else x
            padding = dilation * (self.kernel_size - 1) // 2
            y = F.conv2d(
                part, kernels[index], bias if index == 0 else None, padding=padding, dilation=dilation, groups=groups
            )
            total = y if index == 0 else total.add_(y)
        return total

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", self.convolution]
        if len(self.branches) == 2:
            parts.append(f"mode={self.mode}, branch_weights={tuple(branch.scale for branch in self.branches)}")
        return ", ".join(parts)


def _diagonal_blocks(weight: Tensor, groups: int) -> Tensor:
    rows, columns = weight.shape[0] // groups, weight.shape[1] // groups
    blocks = [
        weight[group * rows : (group + 1) * rows, group * columns : (group + 1) * columns] for group in range(groups)
    ]
    return torch.cat(blocks)
