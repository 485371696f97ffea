"""Choosing a format changes nothing but the format."""

import copy
from typing import Literal

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.training import compute
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.compute import autocast, choose_format


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1))


def test_the_model_is_left_as_they_were() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    choose_format(model, torch.randn(2, 3, 8, 8), "auto")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_random_numbers_do_not_depend_on_the_choice() -> None:
    model, batch = network(), torch.randn(2, 3, 8, 8)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    choose_format(model, batch, "auto")
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_fixed_precision_is_kept(name: compute.Precision) -> None:
    assert choose_format(network(), torch.randn(2, 3, 8, 8), name) == ComputeFormat(name, True)


@pytest.mark.parametrize("name", ["fp32", "bf16", "auto"])
def test_channels_last_is_avoided_where_it_corrupts_memory(name: compute.Precision) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1))
    assert not choose_format(model, torch.randn(2, 3, 8, 8), name).channels_last


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(16, 4, 1, stride=2),
        nn.Conv2d(3, 3, 1, stride=2, groups=3),
    ],
)
def test_other_convolutions_keep_channels_last(layer: nn.Module) -> None:
    assert not compute.corrupts_channels_last(layer)


def test_the_fastest_format_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {
        ComputeFormat("bf16", True): 2.0,
        ComputeFormat("fp32", True): 1.0,
        ComputeFormat("fp32", False): 3.0,
    }
    monkeypatch.setattr(compute, "bf16_in_hardware", lambda device: True)
    monkeypatch.setattr(compute, "_step_seconds", lambda m, b, candidate, trials, give_up: seconds[candidate])
    assert choose_format(network(), torch.zeros(1, 3, 8, 8), "auto") == ComputeFormat("fp32", True)


def test_bf16_is_not_tried_without_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "bf16_in_hardware", lambda device: False)
    assert choose_format(network(), torch.randn(1, 3, 8, 8), "auto").precision == "fp32"


def test_auto_keeps_the_recorded_format_if_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, bf16, slow = ComputeFormat("fp32", True), ComputeFormat("bf16", True), ComputeFormat("fp32", False)
    seconds = {bf16: 2.0, chosen: 1.0, slow: 3.0}
    monkeypatch.setattr(compute, "_step_seconds", lambda m, b, candidate, trials, give_up: seconds[candidate])
    monkeypatch.setattr(compute, "bf16_in_hardware", lambda device: True)
    model, batch = network(), torch.zeros(1, 3, 8, 8)
    assert choose_format(model, batch, "auto", recorded=slow) == slow
    assert choose_format(model, batch, "auto", recorded=bf16) == bf16
    assert choose_format(model, batch, "fp32", recorded=bf16) == chosen
    monkeypatch.setattr(compute, "bf16_in_hardware", lambda device: False)
    assert choose_format(model, batch, "auto", recorded=bf16) == chosen


@pytest.mark.parametrize(("precision", "hardware", "expected"), [
    ("bf16", True, torch.bfloat16), ("bf16", False, torch.float32), ("fp32", True, torch.float32),
])  # fmt: skip
def test_bf16_is_not_emulated(
    precision: Literal["fp32", "bf16"], hardware: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "bf16_in_hardware", lambda _: hardware)
    with autocast(ComputeFormat(precision, True), torch.device("cpu")):
        assert network()(torch.randn(1, 3, 8, 8)).dtype == expected


@pytest.mark.parametrize("repeated", [False, True], ids=["plain", "checkpointed"])
def test_depthwise_convolutions_compute_in_float32_under_autocast(repeated: bool) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 5, groups=8), nn.ReLU())
    formats: list[torch.dtype] = []
    layers[1].register_forward_hook(lambda layer, inputs, output: formats.append(output.dtype))
    images = torch.randn(2, 4, 8, 8)
    with compute.depthwise_in_float32(layers):
        with torch.autocast("cpu", torch.bfloat16):
            out = checkpoint(layers, images, use_reentrant=False) if repeated else layers(images)
            dense = layers[0](images)
        out.float().sum().backward()
    assert set(formats) == {torch.float32}
    assert len(formats) == 1 + repeated
    assert dense.dtype == torch.bfloat16
    assert all(layer.weight.grad is not None for layer in layers[:2])
    assert type(layers[1]) is nn.Conv2d
