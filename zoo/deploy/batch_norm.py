"""Batch normalisation folded into the convolution before or after it: in evaluation both are linear, thus one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.deploy.flow import Flow
from zoo.deploy.surgery import is_plain, replace_module

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, HybridConv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(model: nn.Module, flow: Flow) -> int:
    """Fold every batch normalisation that has a linear layer for its only neighbour, in place.

    A layer is folded where the recorded run shows that its whole output goes into the normalisation and nowhere else,
    or the reverse. The latter is exact without padding alone: padded zeros would have become the shift.

    Args:
        model: in eval mode; changed in place.
        flow: of this model, recorded with :data:`CONVOLUTIONS` and :data:`NORMS` among its leaves.

    Returns:
        How many were folded.
    """
    folded = 0
    modules = dict(model.named_modules())
    for name in list(flow.calls):
        norm = modules[name]
        after = _activation_inside(norm)
        if after is None:
            continue
        before = flow.feeds_alone(name)
        if before is not None and _is_linear(modules[before]) and _keeps_channels(modules[before], norm, flow, name):
            _fold_after(modules[before], *_scale_and_shift(norm))
            replace_module(model, name, after)
            folded += 1
    for name in list(flow.calls):
        layer = modules[name]
        before = flow.feeds_alone(name)
        if before is None or not (is_plain(layer, nn.Conv2d) or is_plain(layer, nn.Linear)):
            continue
        norm = modules[before]
        after = _activation_inside(norm)
        still_there = any(module is norm for module in model.modules())
        if not still_there or not isinstance(after, nn.Identity) or any(_padding(layer)):
            continue
        _fold_before(layer, *_scale_and_shift(norm))
        replace_module(model, before, after)
        folded += 1
    return folded


def _is_linear(module: nn.Module) -> bool:
    return any(is_plain(module, kind) for kind in CONVOLUTIONS)


def _padding(layer: Any) -> tuple[int, ...]:
    padding = getattr(layer, "padding", (0,))
    return (0 if padding == "valid" else 1,) if isinstance(padding, str) else tuple(padding)


def _keeps_channels(layer: Any, norm: Any, flow: Flow, name: str) -> bool:
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    call = flow.only_call(name)
    # A Linear on (B, L, C) has its channels last, a normalisation of that has them second.
    flat = not isinstance(layer, nn.Linear) or (call is not None and len(call.shape) == 2)
    return bool(outputs == norm.num_features) and flat


def _activation_inside(norm: nn.Module) -> nn.Module | None:
    """What is left of a normalisation when it is folded; ``None`` if it is none that can be.

    timm's ``BatchNormAct2d`` holds its activation: it normalises, drops, activates.
    """
    kind = type(norm)
    if norm._forward_hooks or norm._forward_pre_hooks or getattr(norm, "running_mean", None) is None:
        return None
    if kind in NORMS:
        return nn.Identity()
    if kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm."):
        act = norm.act
        assert isinstance(act, nn.Module)
        return act
    return None


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """``y = scale * x + shift`` a channel, in float64."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like.dtype), requires_grad=False)


@torch.no_grad()
def _fold_after(layer: Any, scale: Tensor, shift: Tensor) -> None:
    weight = layer.weight.double()
    bias = layer.total_bias() if isinstance(layer, HybridConv2d) else layer.bias
    if bias is not None:
        shift = shift + scale * bias.double()
    if isinstance(layer, HybridConv2d):
        for label in ("weight", "weight_2"):
            kernel = getattr(layer, label)
            if kernel is not None:
                setattr(layer, label, _parameter(kernel.double() * scale[:, None, None, None], kernel))
        layer.bias_2 = None
    elif isinstance(layer, nn.ConvTranspose2d):
        # Its kernels are (in, out / groups, K, K): the channels of the output lie group after group.
        inputs, width = weight.shape[0] // layer.groups, weight.shape[1]
        grouped = weight.reshape(layer.groups, inputs, width, *weight.shape[2:])
        scaled = grouped * scale.reshape(layer.groups, 1, width, *[1] * (weight.ndim - 2))
        layer.weight = _parameter(scaled.reshape(weight.shape), layer.weight)
    else:
        layer.weight = _parameter(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), layer.weight)
    layer.bias = _parameter(shift, layer.weight)


@torch.no_grad()
def _fold_before(layer: Any, scale: Tensor, shift: Tensor) -> None:
    weight = layer.weight.double()
    groups = getattr(layer, "groups", 1)
    width = weight.shape[1]
    # Row o of the kernel reads the channels of its group.
    rows = torch.arange(weight.shape[0], device=weight.device) // (weight.shape[0] // groups)
    channels = rows[:, None] * width + torch.arange(width, device=weight.device)
    extra = [1] * (weight.ndim - 2)
    bias = (weight * shift[channels].reshape(*channels.shape, *extra)).flatten(1).sum(1)
    if layer.bias is not None:
        bias = bias + layer.bias.double()
    layer.weight = _parameter(weight * scale[channels].reshape(*channels.shape, *extra), layer.weight)
    layer.bias = _parameter(bias, layer.weight)
