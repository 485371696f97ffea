"""smp's decoder computes the same without its doubled maps, at every border and with every kind of block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.deploy import fold
from zoo.deploy.fused import NO_ACTIVATION, RELU, Activation, packing_works
from zoo.deploy.torch_form import TorchOptions, make_torch_form
from zoo.deploy.upsampling import DoubledConv2d, DoublingBlock, fuse_doubling

EXACT = 5e-6
Relative = Callable[[Tensor, Tensor], float]
pytestmark = pytest.mark.skipif(not packing_works(), reason="this build of torch has no oneDNN operators")


@pytest.mark.parametrize("activation", [RELU, NO_ACTIVATION], ids=lambda one: one.name)
@pytest.mark.parametrize(("doubled", "beside"), [(5, 3), (4, 0)])
@torch.no_grad()
def test_a_convolution_of_a_doubled_map_is_equal(
    doubled: int, beside: int, activation: Activation, relative: Relative
) -> None:
    conv = nn.Conv2d(doubled + beside, 6, 3, padding=1, bias=activation is RELU)
    fast = DoubledConv2d(conv, doubled, activation)
    for height, width in ((1, 1), (2, 3), (7, 4)):
        x = torch.randn(2, doubled, height, width).contiguous(memory_format=torch.channels_last)
        skip = torch.randn(2, beside, 2 * height, 2 * width).contiguous(memory_format=torch.channels_last)
        kept = x.clone(), skip.clone()
        large = torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1)
        assert relative(fast(x, skip if beside else None), activation(conv(large))) <= EXACT
        assert torch.equal(x, kept[0])
        assert torch.equal(skip, kept[1])


def unet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, in_channels=4, classes=2, **options)


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ({}, 5),
        ({"decoder_use_norm": False}, 5),
        ({"decoder_interpolation": "bilinear"}, 0),
        ({"decoder_attention_type": "scse"}, 0),
    ],
    ids=str,
)
@torch.no_grad()
def test_only_blocks_that_double_and_convolve_are_replaced(
    options: dict[str, Any], blocks: int, as_trained: Callable[[nn.Module], nn.Module], relative: Relative
) -> None:
    model, image = as_trained(unet(**options)), torch.randn(2, 4, 32, 64)
    folded = fold(model, image).model
    form = make_torch_form(folded, image, TorchOptions(), {})
    assert sum(isinstance(module, DoublingBlock) for module in form.modules()) == blocks
    assert not [module for module in folded.modules() if isinstance(module, DoublingBlock)]
    assert relative(form(image), model(image)) <= EXACT


@torch.no_grad()
def test_what_is_not_doubled_takes_the_long_way(relative: Relative) -> None:
    block = smp.decoders.unet.decoder.UnetDecoderBlock(4, 3, 6, use_norm=False).eval()
    holder = nn.Module()
    holder.add_module("block", block)
    x, skip = torch.randn(1, 4, 5, 6), torch.randn(1, 3, 9, 12)
    holder.forward = lambda _: holder.block(x, 9, 12, skip)  # type: ignore[method-assign,assignment]
    expected = holder(None)
    assert fuse_doubling(holder, x) == 1
    assert isinstance(holder.block, DoublingBlock)
    assert relative(holder(None), expected) <= EXACT
    hooked = smp.decoders.unet.decoder.UnetDecoderBlock(4, 3, 6, use_norm=False).eval()
    hooked.register_forward_hook(lambda *_: None)
    assert fuse_doubling(hooked, x) == 0
