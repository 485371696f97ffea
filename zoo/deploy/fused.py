"""Fused layers of a folded model with fewer passes over memory; on a CPU they use the oneDNN operators of Inductor.

* :class:`PackedConv2d`: convolution and activation in one pass, weights packed once
* :class:`FoldedHybridConv2d`: the paper's hybrid convolution in one of three equal forms
* :class:`FusedMCSA`: the paper's attention, without storing the attention map
* :class:`DoubledConv2d`: smp's U-Net decoder, without storing the upsampled maps
"""

from __future__ import annotations

import math
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import MCSA, HybridConv2d
from zoo.deploy.folding import Flow, is_plain, replace_module

Geometry = tuple[list[int], list[int], list[int], int]
"""Padding, stride, dilation and groups, in the argument order of the operators."""

PACKED_SHAPES = 3
"""Number of input shapes for which packed weights are kept. The layout depends on the shape, and packing at every call
takes longer than the convolution of a deep layer."""


class Activation(NamedTuple):
    """Name of an activation in oneDNN, with its constants."""

    name: str = "none"
    constants: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the activation in place."""
        if self.name == "relu":
            return x.relu_()
        if self.name == "hardtanh":
            return x.clamp_(*self.constants)
        return x


NO_ACTIVATION = Activation()
RELU = Activation("relu")


def activation_of(module: nn.Module) -> Activation | None:
    """Return the activation that a module computes; ``None`` for any other module."""
    if is_plain(module, nn.ReLU):
        return RELU
    if is_plain(module, nn.ReLU6):
        return Activation("hardtanh", (0.0, 6.0))
    return None


def packing_available(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this build of torch has the fused operators and the processor supports them in ``dtype``."""
    return (
        bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and (dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )


class PackedKernel(nn.Module):
    """A oneDNN convolution with weights packed for each input shape.

    Args:
        weight: kernel in the layout of ``nn.Conv2d``.
        bias: bias or ``None``.
        geometry: padding, stride, dilation and groups.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        dense = weight.detach().contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(dense, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def packed(self, shape: tuple[int, ...]) -> Tensor:
        """Return the weights in the oneDNN layout for input of ``shape``."""
        # The layout also depends on the number of threads, which streams and the main thread set differently.
        key = (torch.get_num_threads(), *shape)
        found = self._packed.get(key)
        if found is None:
            # Another thread that runs the same convolution may have removed the entry already.
            for oldest in list(self._packed)[: 1 - PACKED_SHAPES]:
                self._packed.pop(oldest, None)
            found = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(shape))
            assert isinstance(found, Tensor)
            self._packed[key] = found
        return found

    def forward(self, x: Tensor, activation: Activation) -> Tensor:
        """Return ``activation(conv(x) + bias)``."""
        name, constants = activation
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed(tuple(x.shape)), self.bias, *self.geometry, name, constants, ""
        )
        return y

    def add_to(self, total: Tensor, x: Tensor, activation: Activation) -> Tensor:
        """Write ``activation(total + conv(x))`` into ``total``, without the bias, and return it."""
        name, constants = activation
        unary = None if name == "none" else name
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, self.packed(tuple(x.shape)), None, *self.geometry, "add", 1.0, unary, list(constants), ""
        )
        return total


class PackedConv2d(nn.Module):
    """``activation(conv(x))`` on a CPU in one pass over the output, with weights in oneDNN's own layout.

    Args:
        conv: zero-padded convolution, float32 or bfloat16.
        activation: applied to its output.

    Shape:
        As ``conv``. The input must have the dtype of the weights and be channels last.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation = NO_ACTIVATION) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.activation = activation
        self.kernel = PackedKernel(conv.weight, conv.bias, geometry)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.kernel(x, self.activation)
        return y


def can_pack(module: nn.Module) -> bool:
    """Return whether :class:`PackedConv2d` can replace a module."""
    if not is_plain(module, nn.Conv2d):
        return False
    assert isinstance(module, nn.Conv2d)
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def move_activations(model: nn.Module, flow: Flow, convolutions: Collection[str]) -> dict[str, Activation]:
    """Remove the activations that directly follow a convolution, so that the convolution applies them.

    Args:
        model: a folded model in eval mode; changed in place.
        flow: recorded on this model with ``nn.ReLU``, ``nn.ReLU6`` and the convolutions among its leaves.
        convolutions: names of the convolutions that can apply an activation.

    Returns:
        The activation that each convolution applies, by name.
    """
    modules = dict(model.named_modules())
    moved: dict[str, Activation] = {}
    for name in list(flow.calls):
        activation, before = activation_of(modules[name]), flow.single_source(name)
        if activation is not None and before in convolutions:
            assert before is not None
            replace_module(model, name, nn.Identity())
            moved[before] = activation
    return moved


# The paper's hybrid convolution.

HybridForm = Literal["two", "merged", "averaged"]
HYBRID_FORMS: tuple[HybridForm, ...] = get_args(HybridForm)

STRIP_BYTES = 2**21
"""Bytes of averaged columns that are built at a time; they must stay in the cache until they are multiplied."""


class FoldedHybridConv2d(nn.Module):
    r"""A :class:`zoo.blocks.HybridConv2d` for evaluation, in one of three equivalent forms.

    * ``two``: two convolutions, the second added to the first in place.
    * ``merged``: one convolution with the merged kernel, which is fast for the few channels of a stem.
    * ``averaged``: both operations share the kernel W, so
      ``w_s conv(x; W, 1) + w_d conv(x; W, r) = sum_t W_t (w_s x(p + t) + w_d x(p + r t))``. The two inputs of each tap
      are combined into im2col columns and multiplied once, with half the multiplications of ``two``. The columns are
      built and multiplied a few rows at a time, so they stay in the cache.

    Args:
        layer: the hybrid convolution, with batch normalisation folded in.
        form: one of :func:`hybrid_forms_of` this layer.
        activation: applied to the output.
        packed: use oneDNN's fused operators, which need channels last and a CPU.

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
        self.ratio = 1.0
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
            # The matrix is ordered like the columns: by tap, then by channel.
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
            return self._averaged_on_gpu(x) if x.is_cuda and find_spec("triton") else self._run_averaged(x)
        total: Tensor | None = None
        last = len(self.kernels) - 1
        for index, channels in enumerate(self.channels):
            part = x[:, channels] if channels != slice(None) else x
            total = self._convolve(index, part, total, self.activation if index == last else NO_ACTIVATION)
        assert total is not None
        return total

    def _convolve(self, index: int, x: Tensor, total: Tensor | None, activation: Activation) -> Tensor:
        """Return convolution ``index`` of ``x``; with ``total``, which includes the bias, add to it in place."""
        kernel = self.kernels[index]
        assert isinstance(kernel, PackedKernel)
        if self.packed:
            return kernel(x, activation) if total is None else kernel.add_to(total, x, activation)
        padding, stride, dilation, groups = kernel.geometry
        y = F.conv2d(x, kernel.weight, kernel.bias, stride, padding, dilation, groups)
        return activation(y if total is None else total.add_(y))

    def _run_averaged(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        taps, reach = self.kernel_size, self.far * (self.kernel_size // 2)
        y = x.new_empty((batch, height, width, self.out_channels)).permute(0, 3, 1, 2)
        rows = _strip_height(height, STRIP_BYTES // (width * taps * taps * channels * x.element_size()))
        columns = x.new_empty((rows, width, taps, taps, channels))
        flat = columns.reshape(1, rows, width, -1).permute(0, 3, 1, 2)
        # All strips have the same height, so weights are packed once; the last strip overlaps the one before it.
        tops = [*range(0, height - rows, rows), height - rows]
        for image, result in zip(x, y, strict=True):
            padded = F.pad(image.permute(1, 2, 0), (0, 0, reach, reach, reach, reach))
            for top in tops:
                near, far = (_tap_view(padded, columns, top, rate, reach, taps) for rate in (self.near, self.far))
                torch.add(near, far, alpha=self.ratio, out=columns)
                result[:, top : top + rows] = self._convolve(0, flat, None, self.activation)[0]
        return y

    def _averaged_on_gpu(self, x: Tensor) -> Tensor:
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


def hybrid_forms_of(layer: HybridConv2d) -> tuple[HybridForm, ...]:
    """Return the possible forms of a hybrid layer; only dense operations that share a kernel can be averaged."""
    first = layer.branches[0]
    dense = all(branch.groups == 1 for branch in layer.branches)
    return HYBRID_FORMS if layer.mode == "shared" and dense and first.scale != 0 else ("two", "merged")


def _geometry(kernel_size: int, dilation: int, groups: int) -> Geometry:
    pad = dilation * (kernel_size - 1) // 2
    return [pad, pad], [1, 1], [dilation, dilation], groups


def _strip_height(height: int, max_rows: int) -> int:
    """Return a number of rows, ``max_rows`` or fewer, such that strips of that height overlap by at most 5 %."""
    strips = math.ceil(height / max(1, max_rows))
    while strips * math.ceil(height / strips) > 1.05 * height:
        strips += 1
    return math.ceil(height / strips)


def _tap_view(padded: Tensor, strip: Tensor, top: int, rate: int, reach: int, taps: int) -> Tensor:
    """Return a view of the pixels that each tap of a dilated kernel reads, ``(rows, width, taps, taps, channels)``.

    Args:
        padded: one image, channels last, with ``reach`` zeros around it.
        strip: tensor with the shape of the view.
        top: first row of the strip in the image.
        rate: dilation.
        reach: width of the padding.
        taps: edge of the kernel.
    """
    down, right, _ = padded.stride()
    offset = reach - rate * (taps // 2)
    start = padded.storage_offset() + (top + offset) * down + offset * right
    return padded.as_strided(strip.shape, (down, right, rate * down, rate * right, 1), start)


class FusedMCSA(nn.Module):
    """A :class:`zoo.blocks.MCSA` for evaluation, which computes one image at a time and stores no attention map.

    The attention, which broadcasts to C x H x W, is never written to memory: its channel part and then its spatial part
    are added to the output in place. One image stays in the cache through all passes.

    Args:
        block: the block whose layers are used.

    Shape:
        ``(B, C, H, W)`` -> ``(B, C, H, W)``, in evaluation only.
    """

    def __init__(self, block: MCSA) -> None:
        super().__init__()
        self.fusion = block.fusion
        # These layers process one number per channel: float32 costs nothing there, and bfloat16 would be slower.
        self.branch = block.channel.branch.float()
        self.uses_maximum = block.channel.pool == "avg+max"
        self.spatial = block.spatial

    def forward(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for index in range(len(x)):
            image, result = x[index : index + 1], y[index : index + 1]
            channel, spatial = self._channel_attention(image), self.spatial.attention(image)
            if self.fusion == "add":
                torch.add(image, channel, out=result)
                result.add_(spatial)
            else:
                # X + X * A equals X * (1 + A); adding 1 to one number per channel costs nothing.
                torch.add(channel if self.fusion == "mul" else channel + 1, spatial, out=result)
                result.mul_(image)
        return y

    def _channel_attention(self, image: Tensor) -> Tensor:
        """Return the channel part of the attention, ``(1, C, 1, 1)``, in the dtype of the image."""
        # mean() is more exact in float32, but would convert a whole bfloat16 map to float32 first.
        exact = image.dtype == torch.float32
        mean = image.mean(dim=(2, 3)) if exact else F.avg_pool2d(image, image.shape[-2:]).flatten(1).float()
        score: Tensor = self.branch(mean)
        if self.uses_maximum:
            score = score + self.branch(image.amax(dim=(2, 3)).float())
        return score.sigmoid()[:, :, None, None].to(image.dtype)


# smp's U-Net decoder.

# Rows of a doubled map come in pairs. A kernel on the first row of a pair reads the row above and its own row twice; on
# the second, its own row twice and the row below. Two taps on the small map thus equal three on the doubled map.
_TAPS = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class DoubledConv2d(nn.Module):
    """``activation(conv(cat([double(x), skip])))``, with 4 multiplications instead of 9 for the doubled part.

    On a map doubled by nearest neighbour, a 3x3 kernel reads 2x2 different pixels, which depend on the parity of row
    and column. One 2x2 convolution computes the four parities as channels. The doubled map and the concatenation are
    never stored.

    Args:
        conv: 3x3 convolution with zero padding that keeps the size, batch normalisation folded in.
        doubled: number of channels of ``x``; the others of ``conv`` belong to ``skip``.
        activation: applied to the output.

    Shape:
        ``(B, doubled, H, W)`` and ``(B, C, 2H, 2W)`` -> ``(B, out_channels, 2H, 2W)``, channels last, on a CPU.
    """

    def __init__(self, conv: nn.Conv2d, doubled: int, activation: Activation) -> None:
        super().__init__()
        self.outputs = conv.out_channels
        self.activation = activation
        taps = torch.tensor(_TAPS, dtype=torch.float64)
        weight = conv.weight.detach()
        kernels = torch.einsum("ayk,oikl,bxl->aboiyx", taps, weight[:, :doubled].double(), taps)
        bias = None if conv.bias is None else conv.bias.detach().repeat(4)
        geometry = [1, 1], [1, 1], [1, 1], 1
        self.small = PackedKernel(kernels.flatten(0, 2).to(weight.dtype), bias, geometry)
        self.beside = PackedKernel(weight[:, doubled:], None, geometry) if doubled < conv.in_channels else None

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        batch, _, height, width = x.shape
        # Pixel (i, j) of a parity is at (i + row parity, j + column parity): windows extend over the border by one.
        found = self.small(x, self.activation if self.beside is None else NO_ACTIVATION).permute(0, 2, 3, 1)
        doubled = found.new_empty((batch, height, 2, width, 2, self.outputs))
        for parity, part in enumerate(found.split(self.outputs, dim=-1)):
            down, right = divmod(parity, 2)
            doubled[:, :, down, :, right] = part[:, down : down + height, right : right + width]
        total: Tensor = doubled.reshape(batch, 2 * height, 2 * width, self.outputs).permute(0, 3, 1, 2)
        if self.beside is None:
            return total
        assert skip is not None
        y: Tensor = self.beside.add_to(total, skip, self.activation)
        return y


class DoublingBlock(nn.Module):
    """smp's ``UnetDecoderBlock`` on :class:`DoubledConv2d`.

    Args:
        block: a block for which :func:`is_doubling_block` holds.
        doubled: number of channels of its feature map.
    """

    def __init__(self, block: Any, doubled: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.attention2 = block.conv1, block.conv2, block.attention2
        activation = activation_of(block.conv1[2])
        self.first = DoubledConv2d(block.conv1[0], doubled, NO_ACTIVATION if activation is None else activation)

    def forward(self, feature_map: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        if (height, width) == (2 * feature_map.shape[2], 2 * feature_map.shape[3]):
            x = self.first(feature_map, skip_connection)
        else:
            x = F.interpolate(feature_map, size=(height, width), mode="nearest")
            x = self.conv1(x if skip_connection is None else torch.cat([x, skip_connection], dim=1))
        y: Tensor = self.attention2(self.conv2(x))
        return y


def is_doubling_block(module: Any) -> bool:
    """Return whether :class:`DoublingBlock` can replace a module: smp's decoder block, batch normalisation folded."""
    kind = type(module)
    if (kind.__name__, kind.__module__) != ("UnetDecoderBlock", "segmentation_models_pytorch.decoders.unet.decoder"):
        return False
    if module._forward_hooks or module._forward_pre_hooks or module.interpolation_mode != "nearest":
        return False
    layers = list(module.conv1)
    return (
        isinstance(getattr(module.attention1, "attention", None), nn.Identity)
        and len(layers) == 3
        and is_plain(layers[0], nn.Conv2d)
        and (layers[0].kernel_size, layers[0].padding, layers[0].padding_mode) == ((3, 3), (1, 1), "zeros")
        and (layers[0].stride, layers[0].dilation, layers[0].groups) == ((1, 1), (1, 1), 1)
        and isinstance(layers[1], nn.Identity)
        and (isinstance(layers[2], nn.Identity) or activation_of(layers[2]) is not None)
    )


def replace_doubling_blocks(model: nn.Module, image: Tensor) -> int:
    """Replace smp's decoder blocks in place.

    Args:
        model: a folded model in eval mode.
        image: ``(B, C, H, W)``; one run on it shows how many channels each block doubles.

    Returns:
        The number of replaced blocks.
    """
    channels: dict[str, int] = {}
    handles = [
        module.register_forward_pre_hook(lambda block, given, name=name: channels.__setitem__(name, given[0].shape[1]))
        for name, module in model.named_modules()
        if is_doubling_block(module)
    ]
    if handles:
        model(image)
    for handle in handles:
        handle.remove()
    for name, doubled in channels.items():
        replace_module(model, name, DoublingBlock(model.get_submodule(name), doubled))
    return len(channels)
