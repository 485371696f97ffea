"""smp's U-Net decoder without its upsampled maps: a convolution of what was doubled, computed before it is doubled."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.deploy.fused import NO_ACTIVATION, Activation, PackedKernel, activation_of
from zoo.deploy.surgery import is_plain, replace_module

# Rows of a doubled map come in pairs. The first of a pair sees the row before its own, and its own twice; the second
# sees its own twice, and the row behind it. So two taps on the small map are three on the doubled one.
_TAPS = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class DoubledConv2d(nn.Module):
    """``activation(conv(cat([double(x), skip])))`` with 4 multiplications instead of 9 for the doubled part.

    Of a map doubled by the nearest neighbour, a 3x3 kernel sees 2x2 pixels, which ones and how often depends on the
    parity of row and column. One 2x2 convolution gives the four of them as channels; nothing doubled or joined is
    written.

    Args:
        conv: 3x3, padded by zeros to keep its size, batch normalisation folded in.
        doubled: channels of ``x``; the others of ``conv`` are those of ``skip``.
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
        # Pixel (i, j) of a parity lies at (i + row parity, j + column parity): windows overlap the border by one.
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
    """What smp's ``UnetDecoderBlock`` computes.

    Args:
        block: for which :func:`is_doubling` holds.
        doubled: channels of its feature map.
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


def is_doubling(module: Any) -> bool:
    """Whether a module is smp's decoder block as :class:`DoublingBlock` knows it, batch normalisation folded."""
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


def fuse_doubling(model: nn.Module, image: Tensor) -> int:
    """Replace smp's decoder blocks, in place.

    Args:
        model: in eval mode, batch normalisation folded.
        image: ``(B, C, H, W)`` to run it on, which shows how many channels each block doubles.

    Returns:
        How many were replaced.
    """
    channels: dict[str, int] = {}
    handles = [
        module.register_forward_pre_hook(lambda block, given, name=name: channels.__setitem__(name, given[0].shape[1]))
        for name, module in model.named_modules()
        if is_doubling(module)
    ]
    if handles:
        model(image)
    for handle in handles:
        handle.remove()
    for name, doubled in channels.items():
        replace_module(model, name, DoublingBlock(model.get_submodule(name), doubled))
    return len(channels)
