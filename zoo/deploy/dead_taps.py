"""Convolutions of which only the centre tap touches data, as in an ASPP on a map smaller than its rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.deploy.flow import Flow
from zoo.deploy.surgery import is_plain, replace_module


class CentreTapConv2d(nn.Module):
    """A dilated convolution that multiplies by its centre tap alone where all others would read padding.

    Exact at every size: on a map that another tap reaches it is the whole convolution.

    Args:
        whole: the convolution, padded so that height and width are kept.
        then: a 1x1 convolution that its output goes to, merged into the centre tap.
    """

    def __init__(self, whole: nn.Conv2d, then: nn.Conv2d | None = None) -> None:
        super().__init__()
        self.whole = whole if then is None else nn.Sequential(whole, then)
        self.rates = (whole.dilation[0], whole.dilation[1])
        self.centre = _centre(whole) if then is None else _merged(_centre(whole), then)

    def forward(self, x: Tensor) -> Tensor:
        dead = x.shape[-2] <= self.rates[0] and x.shape[-1] <= self.rates[1]
        y: Tensor = self.centre(x) if dead else self.whole(x)
        return y


def fold_dead_taps(model: nn.Module, flow: Flow) -> list[tuple[int, int, int]]:
    """Replace the convolutions of which only the centre tap touched data in the recorded run, in place.

    A depthwise one becomes a scale a channel, and is merged into the 1x1 convolution behind it, if there is one.

    Args:
        model: in eval mode, batch normalisation folded; changed in place.
        flow: of this model, recorded with ``nn.Conv2d`` among its leaves.

    Returns:
        Rate, height and width of the map, for each convolution replaced.
    """
    found: list[tuple[int, int, int]] = []
    modules = dict(model.named_modules())
    successors = {flow.feeds_alone(name): name for name in flow.calls}
    for name in list(flow.calls):
        layer, call = modules[name], flow.only_call(name)
        if call is None or len(call.shape) != 4 or not is_plain(layer, nn.Conv2d):
            continue
        assert isinstance(layer, nn.Conv2d)
        height, width = call.shape[-2:]
        if not _is_dead(layer, height, width):
            continue
        after = successors.get(name)
        then, after = None, successors.get(name)
        if after is not None and layer.groups == layer.in_channels == layer.out_channels > 1:
            then = _pointwise(modules[after])
        if then is not None and after is not None:
            replace_module(model, after, nn.Identity())
        replace_module(model, name, CentreTapConv2d(layer, then))
        found.append((layer.dilation[0], height, width))
    return found


def _is_dead(layer: nn.Conv2d, height: int, width: int) -> bool:
    kept = all(
        kernel == 3 and stride == 1 and padding == dilation
        for kernel, stride, padding, dilation in zip(
            layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=False
        )
    )
    return (
        kept
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and height <= layer.dilation[0]
        and width <= layer.dilation[1]
    )


def _pointwise(layer: nn.Module) -> nn.Conv2d | None:
    """The layer, if it is a plain 1x1 convolution."""
    if not is_plain(layer, nn.Conv2d):
        return None
    assert isinstance(layer, nn.Conv2d)
    plain = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.groups == 1
    return layer if plain and layer.padding in ((0, 0), "valid") else None


@torch.no_grad()
def _centre(whole: nn.Conv2d) -> nn.Conv2d:
    centre = nn.Conv2d(
        whole.in_channels,
        whole.out_channels,
        1,
        groups=whole.groups,
        bias=whole.bias is not None,
        device=whole.weight.device,
        dtype=whole.weight.dtype,
    )
    centre.weight.copy_(whole.weight[:, :, 1:2, 1:2])
    if whole.bias is not None and centre.bias is not None:
        centre.bias.copy_(whole.bias)
    return centre.eval().requires_grad_(False)


@torch.no_grad()
def _merged(scale: nn.Conv2d, then: nn.Conv2d) -> nn.Conv2d:
    """One 1x1 convolution for a scale a channel and the 1x1 convolution after it."""
    weight = then.weight.double()
    factor = scale.weight.double().reshape(-1)
    merged = nn.Conv2d(
        then.in_channels, then.out_channels, 1, bias=True, device=then.weight.device, dtype=then.weight.dtype
    )
    bias = torch.zeros(then.out_channels, dtype=torch.float64, device=weight.device)
    if scale.bias is not None:
        bias += (weight[:, :, 0, 0] * scale.bias.double()).sum(1)
    if then.bias is not None:
        bias += then.bias.double()
    merged.weight.copy_(weight * factor[None, :, None, None])
    assert merged.bias is not None
    merged.bias.copy_(bias)
    return merged.eval().requires_grad_(False)
