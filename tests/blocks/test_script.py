"""Every block compiles with ``torch.jit.script`` and gives the same output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo import blocks
from zoo.blocks import ASPP, MCSA, ChannelAttention, DoubleConv, HybridConv2d, ResidualShrinkage, SpatialAttention

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

MODULES = [
    ASPP(8, 8),
    blocks.ConvBNReLU(8, 8, 3),
    ChannelAttention(8),
    ChannelAttention(8, pool="avg", mlp_layers=0),
    DoubleConv(8, 8, first=HybridConv2d),
    *(HybridConv2d(8, 8, mode=mode) for mode in ("shared", "split", "separate")),
    *(HybridConv2d(8, 8, convolution=row) for row in ("standard", "grouped", "dilated+grouped")),
    HybridConv2d(1, 8, mode="split", bias=False),
    *(MCSA(8, fusion) for fusion in ("add", "mul", "residual")),
    ResidualShrinkage(8, 16, 2),
    SpatialAttention(),
    blocks.StandardiseImage(),
]


@pytest.mark.parametrize("module", MODULES, ids=repr)
@pytest.mark.parametrize("training", [False, True])
def test_a_scripted_block_gives_the_same_output(module: nn.Module, training: bool) -> None:
    module.train(training)
    channels = next((parameter.shape[1] for parameter in module.parameters() if parameter.ndim > 1), 8)
    images = torch.randn(2, 1 if channels == 1 else 8, 32, 32)
    scripted = torch.jit.script(module)
    torch.manual_seed(0)
    expected = module(images)
    torch.manual_seed(0)
    torch.testing.assert_close(scripted(images), expected)


def test_every_block_is_tried() -> None:
    tried = {type(module).__name__ for module in MODULES}
    assert tried == {name for name in blocks.__all__ if name[0].isupper()}
