from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.models.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusHead
from zoo.models.drs_unet import DRsUNet
from zoo.models.mobilenetv2 import MobileNetV2
from zoo.models.unet import enhanced_unet


@pytest.mark.parametrize("decoder_convs", [1, 2])
def test_head_is_the_reference(decoder_convs: int) -> None:
    """Deep map first, then the narrowed shallow one; 3x3 convolutions; one 1x1 to the classes."""
    torch.manual_seed(0)
    head = DeepLabV3PlusHead(24, 32, 3, decoder_convs=decoder_convs, rates=(1, 2, 3))
    for _ in range(2):
        head(torch.randn(2, 24, 16, 12), torch.randn(2, 32, 4, 3))
    head.eval()
    low, high = torch.randn(2, 24, 16, 12), torch.randn(2, 32, 4, 3)
    state = head.state_dict()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.relu(
            F.batch_norm(x, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))
        )

    narrow = norm(F.conv2d(low, state["low.0.weight"]), "low.1")
    assert narrow.shape[1] == 48
    deep = F.interpolate(head.aspp(high), size=(16, 12), mode="bilinear", align_corners=False)
    x = torch.cat([deep, narrow], dim=1)
    for index in range(decoder_convs):
        x = norm(F.conv2d(x, state[f"decoder.{index}.0.weight"], padding=1), f"decoder.{index}.1")
    expected = F.conv2d(x, state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(head(low, high), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [(DeepLabV3Plus, (256, 16, 24), (2048, 4, 6)), (MobileNetV2, (24, 16, 24), (1280, 4, 6))],
)
def test_the_head_sees_a_quarter_and_a_sixteenth(
    model: type[nn.Module], low: tuple[int, ...], high: tuple[int, ...]
) -> None:
    network = model().eval()
    shapes: list[tuple[int, ...]] = []
    network.get_submodule("head").register_forward_pre_hook(
        lambda module, args: shapes.extend(tuple(arg.shape[1:]) for arg in args)
    )
    with torch.no_grad():
        network(torch.randn(1, 7, 64, 96))
    assert shapes == [low, high]


def test_drs_unet_is_wired_as_a_u() -> None:
    torch.manual_seed(1)
    model = DRsUNet(5, 3, widths=(4, 8, 16), depths=(2, 1, 3)).eval()
    assert [[unit.stride for unit in level] for level in model.encoder] == [[1, 1], [2], [2, 1, 1]]  # type: ignore[union-attr]
    x = torch.randn(2, 5, 16, 24)
    first = model.encoder[0](F.conv2d(x, model.stem.weight, padding=1))
    second = model.encoder[1](first)
    third = model.encoder[2](second)
    up = model.decoder[0](torch.cat([second, model.upsample[0](third)], dim=1))
    up = model.decoder[1](torch.cat([first, model.upsample[1](up)], dim=1))
    assert third.shape == (2, 16, 4, 6)
    torch.testing.assert_close(model(x), model.head(up))


def test_models_can_be_copied_and_pickled() -> None:
    """An exponential moving average copies its model, and workers receive theirs by pickle."""
    torch.manual_seed(2)
    model = enhanced_unet(widths=(8, 16)).eval()
    x = torch.randn(1, 7, 8, 8)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
