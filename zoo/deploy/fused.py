"""Convolution and activation in one pass, with weights packed once: the oneDNN operators that torch's compiler uses."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.deploy.flow import Flow
from zoo.deploy.surgery import is_plain, replace_module


class Activation(NamedTuple):
    """An activation as oneDNN names it, with its constants."""

    name: str = "none"
    constants: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it in place."""
        if self.name == "relu":
            return x.relu_()
        if self.name == "hardtanh":
            return x.clamp_(*self.constants)
        return x


NO_ACTIVATION = Activation()
RELU = Activation("relu")


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that a module is; ``None`` for any other module."""
    if is_plain(module, nn.ReLU):
        return RELU
    if is_plain(module, nn.ReLU6):
        return Activation("hardtanh", (0.0, 6.0))
    return None


def packing_works() -> bool:
    """Whether this build of torch has the fused operators."""
    return (
        bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )


class PackedConv2d(nn.Module):
    """``activation(conv(x))`` on a CPU, in one pass over the output, with weights in oneDNN's own layout.

    Args:
        conv: zero-padded convolution, float32 or bfloat16.
        activation: applied to its output.

    Shape:
        As ``conv``; the type of the input must be that of the weights, and its layout channels last.
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


Geometry = tuple[list[int], list[int], list[int], int]
"""Padding, stride, dilation and groups, in the order of the operators."""

SHAPES_KEPT = 3
"""Shapes of input for which packed weights are kept: the layout depends on the shape, and another one is repacked at
every call, which for a deep layer takes longer than its convolution."""


class PackedKernel(nn.Module):
    """A convolution by oneDNN with weights packed for the shapes that it meets.

    Args:
        weight: as ``nn.Conv2d`` has it.
        bias: or ``None``.
        geometry: of the convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        dense = weight.detach().contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(dense, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def packed(self, shape: tuple[int, ...]) -> Tensor:
        """Weights in the layout that oneDNN wants for input of ``shape``."""
        # oneDNN's layout depends on the threads too, which differ between streams and the whole.
        key = (torch.get_num_threads(), *shape)
        found = self._packed.get(key)
        if found is None:
            # Other threads may run the same convolution.
            for oldest in list(self._packed)[: 1 - SHAPES_KEPT]:
                self._packed.pop(oldest, None)
            found = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(shape))
            assert isinstance(found, Tensor)
            self._packed[key] = found
        return found

    def forward(self, x: Tensor, activation: Activation) -> Tensor:
        """``activation(conv(x) + bias)``."""
        name, constants = activation
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed(tuple(x.shape)), self.bias, *self.geometry, name, constants, ""
        )
        return y

    def add_to(self, total: Tensor, x: Tensor, activation: Activation) -> Tensor:
        """``activation(total + conv(x))`` in the memory of ``total``, without the bias."""
        name, constants = activation
        unary = None if name == "none" else name
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, self.packed(tuple(x.shape)), None, *self.geometry, "add", 1.0, unary, list(constants), ""
        )
        return total


class PackedConvTranspose2d(nn.Module):
    """A transposed convolution whose kernel is its stride, as one 1x1 convolution and a rearrangement of its output.

    Every output pixel comes from one input pixel, so the product is that of a 1x1 convolution to as many channels as
    the kernel has taps times outputs; oneDNN's own transposed convolution takes up to three times as long, in bfloat16
    more.

    Args:
        conv: for which :func:`is_upsampling` holds, float32 or bfloat16.

    Shape:
        As ``conv``; the type of the input must be that of the weights, and its layout channels last.
    """

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.taps = conv.kernel_size
        inputs, outputs = conv.weight.shape[:2]
        self.outputs = outputs
        weight = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, inputs, 1, 1)
        bias = None if conv.bias is None else conv.bias.detach().repeat(self.taps[0] * self.taps[1])
        self.kernel = PackedKernel(weight, bias, ([0, 0], [1, 1], [1, 1], 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        down, right = self.taps
        product: Tensor = self.kernel(x, NO_ACTIVATION)
        taps = product.permute(0, 2, 3, 1).reshape(batch, height, width, down, right, self.outputs)
        pixels: Tensor = taps.transpose(2, 3).reshape(batch, height * down, width * right, self.outputs)
        return pixels.permute(0, 3, 1, 2)


def is_upsampling(module: nn.Module) -> bool:
    """Whether a module is a transposed convolution that :class:`PackedConvTranspose2d` can stand in for."""
    if not is_plain(module, nn.ConvTranspose2d):
        return False
    assert isinstance(module, nn.ConvTranspose2d)
    padded = any((*module.padding, *module.output_padding))
    return module.kernel_size == module.stride and module.groups == 1 and module.dilation == (1, 1) and not padded


def packable(module: nn.Module) -> bool:
    """Whether a module is a convolution that :class:`PackedConv2d` can stand in for."""
    if not is_plain(module, nn.Conv2d):
        return False
    assert isinstance(module, nn.Conv2d)
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def give_activations(model: nn.Module, flow: Flow, takers: Collection[str]) -> dict[str, Activation]:
    """Take the activations that follow a convolution out of the model, for the convolution to apply, in place.

    Args:
        model: in eval mode, batch normalisation folded; changed in place.
        flow: of this model, recorded with ``nn.ReLU``, ``nn.ReLU6`` and the convolutions among its leaves.
        takers: names of the convolutions that can apply one.

    Returns:
        The activation of each taker that got one.
    """
    modules = dict(model.named_modules())
    given: dict[str, Activation] = {}
    for name in list(flow.calls):
        activation, before = activation_of(modules[name]), flow.feeds_alone(name)
        if activation is not None and before in takers:
            assert before is not None
            replace_module(model, name, nn.Identity())
            given[before] = activation
    return given
