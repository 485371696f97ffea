"""Fold batch normalisation of a model into its weights, without changing its output in evaluation.

The connections between layers are recorded in one run on an example, not read from the code, so any ``nn.Module`` can
be folded. A layer whose role is unknown is left unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.blocks import HybridConv2d
from zoo.errors import ModelError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, HybridConv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Folded:
    """A folded copy of a model.

    Attributes:
        model: the copy, equivalent in evaluation for every size that the original takes.
        batch_norms: number of folded batch normalisations.
        dead_taps: (dilation, height, width) of the map for each dilated convolution of which only the centre tap reads
            data at the size of the example: the map is no larger than the dilation, and all other taps read padding.
    """

    model: nn.Module
    batch_norms: int
    dead_taps: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """Return warnings about the model at the size of the example."""
        if not self.dead_taps:
            return []
        rates = ", ".join(str(rate) for rate in sorted({rate for rate, _, _ in self.dead_taps}))
        height, width = self.dead_taps[0][1:]
        return [
            f"the dilated convolutions of the ASPP have no effect at this size: the map is {height}x{width} pixels, "
            f"so rates {rates} see only their centre pixel. Use larger patches or a smaller output stride"
        ]


def fold(model: nn.Module, example: Tensor) -> Folded:
    """Fold batch normalisation into convolutions.

    Hybrid convolutions with a single operation become ordinary convolutions. Hybrid convolutions with two operations
    are kept, because each form of the model chooses its own implementation. The model itself is not changed.

    Args:
        model: a model in eval mode.
        example: float32 ``(B, C, H, W)``; one image is used. Dead taps are found at this size.

    Raises:
        ModelError: if the model is in training mode or cannot run on the example.
    """
    check_eval_mode(model)
    with torch.no_grad():
        folded = copy.deepcopy(model).requires_grad_(False)
        leaves = (*CONVOLUTIONS, *NORMS)
        for name, module in list(folded.named_modules()):
            plain = _plain_convolution(module) if is_plain(module, HybridConv2d) else None
            if plain is not None:
                replace_module(folded, name, plain)
        norms = _fold_batch_norms(folded, record_flow(folded, example[:1], leaves))
        dead = _find_dead_taps(folded, record_flow(folded, example[:1], leaves))
    return Folded(folded, norms, dead)


def check_eval_mode(model: nn.Module) -> None:
    """Check that no part of a model is in training mode.

    Raises:
        ModelError: if a part is.
    """
    training = next((name for name, module in model.named_modules() if module.training), None)
    if training is not None:
        part = f"its part {training!r} is" if training else "it is"
        raise ModelError(
            f"cannot be optimised while {part} in training mode: batch normalisation still depends on the batch",
            where=type(model).__name__,
            hint="Call model.eval() first",
        )


# Replacing modules.


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Replace the module called ``name`` everywhere in ``model`` where it is used."""
    old = model.get_submodule(name)
    # Some models read the training flag of a layer.
    new.train(old.training)
    # Collect all places first: the new module may contain the old one.
    places = [(parent, key) for parent in model.modules() for key, child in parent.named_children() if child is old]
    for parent, key in places:
        setattr(parent, key, new)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether ``module`` is exactly of class ``kind`` and has no hooks.

    A subclass may compute something else, and a hook may observe values that folding changes.
    """
    return type(module) is kind and not (module._forward_hooks or module._forward_pre_hooks)


# Recording how layers are connected.


@dataclass
class Value:
    """A tensor that a leaf module returned.

    Attributes:
        producer: name of that module.
        uses: number of operations that read the tensor afterwards.
    """

    producer: str
    uses: int = 0


@dataclass
class Call:
    """One call of a leaf module.

    Attributes:
        source: the input, if another leaf returned exactly this tensor.
        output: the output; ``None`` if it is not a single tensor.
        shape: shape of the input; empty if it is not a single tensor.
    """

    source: Value | None
    output: Value | None
    shape: tuple[int, ...]


@dataclass
class Flow:
    """All calls of leaf modules in one run, by module name."""

    calls: dict[str, list[Call]] = field(default_factory=dict)

    def single_call(self, name: str) -> Call | None:
        """Return the call of a module that ran exactly once, and ``None`` for any other module."""
        calls = self.calls.get(name, [])
        return calls[0] if len(calls) == 1 else None

    def single_source(self, name: str) -> str | None:
        """Return the module whose entire output goes only to ``name``, if both ran exactly once."""
        call = self.single_call(name)
        if call is None or call.source is None or call.source.uses != 1:
            return None
        before = self.single_call(call.source.producer)
        return call.source.producer if before is not None and before.output is call.source else None


_MARK = "_zoo_value"


class _CountUses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count every operation that reads a marked tensor, whether a module, a function or a method calls it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        seen: set[int] = set()
        for leaf in tree_leaves((args, kwargs)):
            value = getattr(leaf, _MARK, None) if isinstance(leaf, Tensor) else None
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                value.uses += 1
        return func(*args, **kwargs)


def record_flow(model: nn.Module, example: Tensor, leaves: Iterable[type[nn.Module]]) -> Flow:
    """Run ``model`` once and record how its leaf modules are connected.

    Args:
        model: a model in eval mode.
        example: ``(B, C, H, W)``; one image is enough.
        leaves: module types to record, subclasses included. Modules inside them are not recorded.
    """
    flow = Flow()
    kinds = tuple(leaves)
    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                pending: list[tuple[Value | None, tuple[int, ...]]] = []
                for handle in (
                    module.register_forward_pre_hook(partial(_on_enter, pending)),
                    module.register_forward_hook(partial(_on_leave, flow, name, pending)),
                ):
                    stack.callback(handle.remove)
        with _CountUses():  # type: ignore[no-untyped-call]
            returned = model(example)
        for leaf in tree_leaves(returned):
            value = getattr(leaf, _MARK, None)
            if value is not None:
                # The caller uses the model's output.
                value.uses += 1
    return flow


def _on_enter(pending: list[tuple[Value | None, tuple[int, ...]]], module: nn.Module, args: tuple[Any, ...]) -> None:
    single = args[0] if len(args) == 1 and isinstance(args[0], Tensor) else None
    pending.append((getattr(single, _MARK, None), () if single is None else tuple(single.shape)))


def _on_leave(
    flow: Flow,
    name: str,
    pending: list[tuple[Value | None, tuple[int, ...]]],
    module: nn.Module,
    args: tuple[Any, ...],
    output: Any,
) -> None:
    source, shape = pending.pop()
    value = None
    if isinstance(output, Tensor):
        # A module that returns its input, such as an in-place ReLU, marks it again and thereby ends the old value.
        value = Value(name)
        setattr(output, _MARK, value)
    flow.calls.setdefault(name, []).append(Call(source, value, shape))


# Batch normalisation.


def _fold_batch_norms(model: nn.Module, flow: Flow) -> int:
    """Fold every batch normalisation in place into the linear layer before it, or otherwise the one after it.

    Folding is possible where the recorded run shows that the whole output of the first layer goes only to the second.
    Folding into the layer after it is exact only without padding, because padded zeros would become the shift.

    Returns:
        The number of folded normalisations.
    """
    folded = 0
    modules = dict(model.named_modules())
    for name in list(flow.calls):
        norm = modules[name]
        rest = _without_normalisation(norm)
        if rest is None:
            continue
        before = flow.single_source(name)
        if before is not None and _is_linear(modules[before]) and _channels_match(modules[before], norm, flow, name):
            _fold_into_previous(modules[before], *_scale_and_shift(norm))
            replace_module(model, name, rest)
            folded += 1
    for name in list(flow.calls):
        layer = modules[name]
        before = flow.single_source(name)
        if before is None or not (is_plain(layer, nn.Conv2d) or is_plain(layer, nn.Linear)):
            continue
        norm = modules[before]
        rest = _without_normalisation(norm)
        remains = any(module is norm for module in model.modules())
        if not remains or not isinstance(rest, nn.Identity) or any(_padding(layer)):
            continue
        _fold_into_next(layer, *_scale_and_shift(norm))
        replace_module(model, before, rest)
        folded += 1
    return folded


def _is_linear(module: nn.Module) -> bool:
    return any(is_plain(module, kind) for kind in CONVOLUTIONS)


def _padding(layer: Any) -> tuple[int, ...]:
    padding = getattr(layer, "padding", (0,))
    return (0 if padding == "valid" else 1,) if isinstance(padding, str) else tuple(padding)


def _channels_match(layer: Any, norm: Any, flow: Flow, name: str) -> bool:
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    call = flow.single_call(name)
    # A Linear has the channels of (B, L, C) last; a batch normalisation expects them second.
    flat = not isinstance(layer, nn.Linear) or (call is not None and len(call.shape) == 2)
    return bool(outputs == norm.num_features) and flat


def _without_normalisation(norm: nn.Module) -> nn.Module | None:
    """Return the module that remains after a batch normalisation is folded; ``None`` for any other module.

    timm's ``BatchNormAct2d`` contains its activation: it normalises, drops out and activates.
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
    """Return scale and shift of each channel, float64, such that ``y = scale * x + shift``."""
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
def _fold_into_previous(layer: Any, scale: Tensor, shift: Tensor) -> None:
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
        # Its kernels are (in, out / groups, K, K), with the output channels ordered by group.
        inputs, width = weight.shape[0] // layer.groups, weight.shape[1]
        grouped = weight.reshape(layer.groups, inputs, width, *weight.shape[2:])
        scaled = grouped * scale.reshape(layer.groups, 1, width, *[1] * (weight.ndim - 2))
        layer.weight = _parameter(scaled.reshape(weight.shape), layer.weight)
    else:
        layer.weight = _parameter(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), layer.weight)
    layer.bias = _parameter(shift, layer.weight)


@torch.no_grad()
def _fold_into_next(layer: Any, scale: Tensor, shift: Tensor) -> None:
    weight = layer.weight.double()
    groups = getattr(layer, "groups", 1)
    width = weight.shape[1]
    # Output channel o reads the input channels of its group.
    rows = torch.arange(weight.shape[0], device=weight.device) // (weight.shape[0] // groups)
    channels = rows[:, None] * width + torch.arange(width, device=weight.device)
    extra = [1] * (weight.ndim - 2)
    bias = (weight * shift[channels].reshape(*channels.shape, *extra)).flatten(1).sum(1)
    if layer.bias is not None:
        bias = bias + layer.bias.double()
    layer.weight = _parameter(weight * scale[channels].reshape(*channels.shape, *extra), layer.weight)
    layer.bias = _parameter(bias, layer.weight)


def _find_dead_taps(model: nn.Module, flow: Flow) -> list[tuple[int, int, int]]:
    """Return ``(dilation, height, width)`` of the map for each convolution of which only the centre tap read data."""
    found: list[tuple[int, int, int]] = []
    modules = dict(model.named_modules())
    for name in flow.calls:
        layer, call = modules[name], flow.single_call(name)
        if call is None or len(call.shape) != 4 or not is_plain(layer, nn.Conv2d):
            continue
        assert isinstance(layer, nn.Conv2d)
        height, width = call.shape[-2:]
        if _has_dead_taps(layer, height, width):
            found.append((layer.dilation[0], height, width))
    return found


def _has_dead_taps(layer: nn.Conv2d, height: int, width: int) -> bool:
    keeps_size = all(
        kernel == 3 and stride == 1 and padding == dilation
        for kernel, stride, padding, dilation in zip(
            layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=False
        )
    )
    return (
        keeps_size
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and height <= layer.dilation[0]
        and width <= layer.dilation[1]
    )


def _plain_convolution(layer: nn.Module) -> nn.Conv2d | None:
    """Return the ordinary convolution equal to a hybrid layer with one operation; ``None`` for two operations."""
    assert isinstance(layer, HybridConv2d)
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
