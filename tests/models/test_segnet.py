from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.models.segnet import SegNet


@pytest.mark.parametrize("decoder", ["full", "lite"])
def test_is_the_reference(decoder: str) -> None:
    """SegNet from its convolutions in order: pool with places, unpool to them, no BN or ReLU at the end."""
    torch.manual_seed(0)
    model = SegNet(3, 4, decoder=decoder).train()
    model(torch.randn(2, 3, 64, 64))
    model.eval()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    down = (2, 2, 3, 3, 3)
    up = (3, 3, 3, 2, 2) if decoder == "full" else (2, 2, 2, 2, 2)
    assert len(convs) == sum(down) + sum(up)
    assert len(norms) == len(convs) - 1
    assert [conv.out_channels for conv in convs][-6:] == [256, 128, 128, 64, 64, 4]

    x = image = torch.randn(2, 3, 64, 32)
    step = 0
    places: list[Tensor] = []

    def apply(x: Tensor, last: bool = False) -> Tensor:
        nonlocal step
        y = F.conv2d(x, convs[step].weight, convs[step].bias, padding=1)
        if not last:
            y = F.relu(norms[step](y))
        step += 1
        return y

    for count in down:
        for _ in range(count):
            x = apply(x)
        x, place = F.max_pool2d(x, 2, return_indices=True)
        places.append(place)
    for stage, count in enumerate(up):
        x = F.max_unpool2d(x, places.pop(), 2)
        for index in range(count):
            x = apply(x, last=stage == 4 and index == count - 1)
    torch.testing.assert_close(model(image), x, rtol=1e-4, atol=1e-5)


def test_published_size() -> None:
    """3 bands and 12 classes give the SegNet of the literature, 29.45 M."""
    with torch.device("meta"):
        model = SegNet(3, 12)
    assert sum(p.numel() for p in model.parameters()) == 29_449_932
