"""Hybrid convolution in evaluation: three equal forms, of which measurement chooses one for each layer."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.deploy.fused import NO_ACTIVATION, Activation, Geometry, PackedKernel

HybridForm = Literal["two", "merged", "averaged"]
FORMS: tuple[HybridForm, ...] = get_args(HybridForm)

STRIP_BYTES = 2**21
"""Size of the averaged columns that are built at a time: they have to stay in the cache until they are multiplied."""


class FoldedHybridConv2d(nn.Module):
    r"""What a :class:`zoo.blocks.HybridConv2d` computes in evaluation, in one of three equal forms.

    * ``two``: one convolution, and the other added to it in place.
    * ``merged``: one convolution with the merged kernel; for the few channels of a stem.
    * ``averaged``: both operations share the kernel W, so
      ``w_s conv(x; W, 1) + w_d conv(x; W, r) = sum_t W_t (w_s x(p + t) + w_d x(p + r t))``: the inputs of each tap are
      combined first, in columns as a matrix product takes them, and multiplied once. Half the multiplications of
      ``two``. The columns are built and multiplied a few rows at a time, so that they never leave the cache.

    Args:
        layer: its batch normalisation folded in, or none behind it.
        form: one of :func:`forms_of` this layer.
        activation: applied to the output.
        packed: whether to use oneDNN's fused operators, which need channels last and a CPU.

    Shape:
        As ``layer``.
    """

    def __init__(
        self,
        layer: HybridConv2d,
        form: HybridForm = "two",
        activation: Activation = NO_ACTIVATION,
        *,
        packed: bool = False,
    ) -> None:
        super().__init__()
        self.form = form
        self.activation = activation
        self.packed = packed
        self.out_channels = layer.out_channels
        self.kernel_size = layer.kernel_size
        self.channels = [branch.channels if layer.mode == "split" else slice(None) for branch in layer.branches]
        self.ratio, self.rate = 1.0, 1
        bias = layer.total_bias()
        kernels: list[Tensor]
        if form == "two":
            kernels = layer.branch_kernels()
            geometries = [_geometry(layer.kernel_size, branch.dilation, branch.groups) for branch in layer.branches]
        elif form == "merged":
            kernels = [layer.merged_kernel()]
            geometries = [_geometry(kernels[0].shape[-1], 1, 1)]
            self.channels = [slice(None)]
        else:
            first, second = layer.branches
            kernel = first.scale * layer.weight
            # Rows of the matrix are taps, and the channels of each lie side by side, as in the columns.
            kernels = [kernel.permute(0, 2, 3, 1).reshape(layer.out_channels, -1, 1, 1)]
            geometries = [_geometry(1, 1, 1)]
            self.near, self.far = first.dilation, second.dilation
            self.ratio = second.scale / first.scale
        self.kernels = nn.ModuleList(
            PackedKernel(kernel, bias if index == 0 else None, geometry)
            for index, (kernel, geometry) in enumerate(zip(kernels, geometries, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "averaged":
            return self._averaged_in_triton(x) if x.is_cuda and find_spec("triton") else self._averaged(x)
        total: Tensor | None = None
        last = len(self.kernels) - 1
        for index, channels in enumerate(self.channels):
            part = x[:, channels] if channels != slice(None) else x
            total = self._convolve(index, part, total, self.activation if index == last else NO_ACTIVATION)
        assert total is not None
        return total

    def _convolve(self, index: int, x: Tensor, total: Tensor | None, activation: Activation) -> Tensor:
        """Convolution ``index`` of ``x``, added to ``total`` in place where there is one, which then has the bias."""
        kernel = self.kernels[index]
        assert isinstance(kernel, PackedKernel)
        if self.packed:
            return kernel(x, activation) if total is None else kernel.add_to(total, x, activation)
        padding, stride, dilation, groups = kernel.geometry
        y = F.conv2d(x, kernel.weight, kernel.bias, stride, padding, dilation, groups)
        return activation(y if total is None else total.add_(y))

    def _averaged(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        taps, reach = self.kernel_size, self.far * (self.kernel_size // 2)
        y = x.new_empty((batch, height, width, self.out_channels)).permute(0, 3, 1, 2)
        rows = _strip_rows(height, STRIP_BYTES // (width * taps * taps * channels * x.element_size()))
        columns = x.new_empty((rows, width, taps, taps, channels))
        flat = columns.reshape(1, rows, width, -1).permute(0, 3, 1, 2)
        # All strips have one height, or weights would be packed for two: the last goes back over what is done.
        tops = [*range(0, height - rows, rows), height - rows]
        for image, result in zip(x, y, strict=True):
            padded = F.pad(image.permute(1, 2, 0), (0, 0, reach, reach, reach, reach))
            for top in tops:
                near, far = (_taps(padded, columns, top, rate, reach, taps) for rate in (self.near, self.far))
                torch.add(near, far, alpha=self.ratio, out=columns)
                result[:, top : top + rows] = self._convolve(0, flat, None, self.activation)[0]
        return y

    def _averaged_in_triton(self, x: Tensor) -> Tensor:
        from zoo.deploy.triton_average import averaged_convolution

        kernel = self.kernels[0]
        assert isinstance(kernel, PackedKernel)
        y = averaged_convolution(
            x,
            kernel.weight.flatten(1),
            kernel.bias,
            rates=(self.near, self.far),
            taps=self.kernel_size,
            ratio=self.ratio,
            relu=self.activation.name == "relu",
        )
        return y if self.activation.name == "relu" else self.activation(y)

    def extra_repr(self) -> str:
        return f"{self.form}, {self.out_channels} out, activation={self.activation.name}"


def forms_of(layer: HybridConv2d) -> tuple[HybridForm, ...]:
    """The forms that a combination has: only dense operations that share one kernel can be averaged."""
    first = layer.branches[0]
    dense = all(branch.groups == 1 for branch in layer.branches)
    return FORMS if layer.mode == "shared" and dense and first.scale != 0 else ("two", "merged")


def plain_convolution(layer: HybridConv2d) -> nn.Conv2d | None:
    """The ordinary convolution that a layer of a single operation is; ``None`` for a combination."""
    if len(layer.branches) != 1:
        return None
    (branch,) = layer.branches
    bias = layer.total_bias()
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        padding=branch.dilation * (layer.kernel_size - 1) // 2,
        dilation=branch.dilation,
        groups=branch.groups,
        bias=bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    plain.weight = nn.Parameter(layer.branch_kernels()[0].detach().clone(), requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return plain


def _geometry(kernel_size: int, dilation: int, groups: int) -> Geometry:
    pad = dilation * (kernel_size - 1) // 2
    return [pad, pad], [1, 1], [dilation, dilation], groups


def _strip_rows(height: int, most: int) -> int:
    """Rows of a strip, ``most`` or fewer, such that strips of one height do hardly anything twice."""
    strips = math.ceil(height / max(1, most))
    while strips * math.ceil(height / strips) > 1.05 * height:
        strips += 1
    return math.ceil(height / strips)


def _taps(padded: Tensor, strip: Tensor, top: int, rate: int, reach: int, taps: int) -> Tensor:
    """A view of what each tap of a kernel dilated by ``rate`` reads, ``(rows, width, taps, taps, channels)``.

    Args:
        padded: one image, channels last, ``reach`` zeros around it.
        strip: gives rows, width and channels.
        top: first row of the strip in the image.
        rate: dilation.
        reach: of the padding.
        taps: edge of the kernel.
    """
    down, right, _ = padded.stride()
    offset = reach - rate * (taps // 2)
    start = padded.storage_offset() + (top + offset) * down + offset * right
    return padded.as_strided(strip.shape, (down, right, rate * down, rate * right, 1), start)
