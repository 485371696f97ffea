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
        torch.backends.mkldnn.is_available()
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
        self.geometry = geometry(conv)
        self.activation = activation
        # The bias is a parameter in any case: by its type the model knows what input it takes.
        bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.weight = pack(conv.weight, self.geometry)

    def forward(self, x: Tensor) -> Tensor:
        name, constants = self.activation
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.geometry, name, constants, ""
        )
        return y


Geometry = tuple[list[int], list[int], list[int], int]


def geometry(conv: nn.Conv2d) -> Geometry:
    """Padding, stride, dilation and groups, in the order of the operators."""
    assert not isinstance(conv.padding, str)
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


def pack(weight: Tensor, shape: Geometry) -> Tensor:
    """Weights in oneDNN's own layout."""
    dense = weight.detach().contiguous(memory_format=torch.channels_last)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(dense, *shape, None)
    return packed


def packable(module: nn.Module) -> bool:
    """Whether a module is a convolution that :class:`PackedConv2d` can stand in for."""
    return is_plain(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)


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
