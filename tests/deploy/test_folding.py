"""Every fold computes what it replaces, at the size of the example and at others, and leaves what it does not know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.deploy import fold
from zoo.errors import ModelError
from zoo.models.builtin import MODELS
from zoo.registry import Flag

EXACT = 5e-5
"""Largest relative difference: folding rounds in another order, SegNet by 2e-5 on a processor with AVX2."""
Check = Callable[..., nn.Module]
Make = Callable[[Any], nn.Module]
Relative = Callable[[Tensor, Tensor], float]


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


@pytest.fixture
def check(relative: Relative) -> Check:
    """Fold a model and compare, at the example and at other images; gives the folded model."""

    @torch.no_grad()
    def run(model: nn.Module, example: Tensor, *others: Tensor) -> nn.Module:
        before = copy.deepcopy(model.state_dict())
        folded = fold(model, example).model
        for images in (example, *others):
            assert relative(folded(images), model(images)) <= EXACT
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return folded

    return run


@pytest.mark.parametrize("name", [spec.name for spec in MODELS if Flag.UNTRAINED not in spec.flags])
def test_a_folded_model_gives_the_same_logits(name: str, check: Check, trained: Make) -> None:
    folded = check(trained(name), torch.randn(1, 7, 64, 64), torch.randn(2, 7, 70, 97))
    # What is left of drs_unet's are those before a ReLU, which no convolution can take.
    assert norms(folded) == {"drs_unet": 2}.get(name, 0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2),
        nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(6, 8, 2, stride=2),
        nn.ConvTranspose2d(6, 8, 3, groups=2, bias=False),
        HybridConv2d(6, 8),
        HybridConv2d(6, 8, mode="split", branch_weights=(0.2, 0.9)),
        HybridConv2d(6, 8, mode="separate", branch_weights=(-0.5, 1.5)),
        HybridConv2d(4, 8, convolution="dilated+grouped"),
        HybridConv2d(4, 8, convolution="grouped", bias=False),
    ],
    ids=repr,
)
def test_batch_norm_goes_into_the_layer_before_it(layer: nn.Module, check: Check, as_trained: Make) -> None:
    channels = layer.in_channels
    assert isinstance(channels, int)
    model = as_trained(nn.Sequential(layer, nn.BatchNorm2d(8), nn.ReLU()))
    folded = check(model, torch.randn(2, channels, 12, 12), torch.randn(1, channels, 9, 14))
    assert norms(folded) == 0


def test_batch_norm_goes_into_linear_layers_and_one_without_weights_too(check: Check, as_trained: Make) -> None:
    model = as_trained(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5))
    )
    assert norms(check(model, torch.randn(2, 3, 8, 8))) == 0
    plain = as_trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)))
    assert norms(check(plain, torch.randn(2, 3, 8, 8))) == 0


def test_batch_norm_is_folded_into_the_next_layer_without_padding(check: Check, as_trained: Make) -> None:
    open_ = as_trained(nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, groups=2)))
    assert norms(check(open_, torch.randn(2, 6, 12, 12))) == 0
    padded = as_trained(nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, padding=1)))
    assert norms(check(padded, torch.randn(2, 6, 12, 12))) == 1


class Shared(nn.Module):
    """Layers that must not be folded: outputs that are used twice, layers that run twice, layers of other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.twice = nn.Conv2d(3, 3, 1)
        self.twice_norm = nn.BatchNorm2d(3)
        self.own = OwnConv(3, 3, 1)
        self.own_norm = nn.BatchNorm2d(3)
        self.watched = nn.Conv2d(3, 3, 1)
        self.watched.register_forward_hook(lambda module, args, output: output + 1)
        self.watched_norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        x = self.norm(y) + y
        x = self.twice_norm(self.twice(self.twice(x)))
        x = self.own_norm(self.own(x))
        return self.watched_norm(self.watched(x))


class OwnConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


def test_layers_that_cannot_be_folded_are_unchanged(check: Check, as_trained: Make) -> None:
    assert norms(check(as_trained(Shared()), torch.randn(2, 3, 8, 8))) == 4


class Returned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return y, self.norm(y)


def test_an_output_that_the_model_returns_is_not_changed(as_trained: Make) -> None:
    model, x = as_trained(Returned()), torch.randn(1, 3, 8, 8)
    folded = fold(model, x).model
    assert torch.equal(folded(x)[0], model(x)[0])


@pytest.mark.parametrize("library", ["smp", "torchvision", "timm"])
def test_models_of_other_libraries_are_folded(library: str, check: Check, as_trained: Make) -> None:
    model: nn.Module
    if library == "smp":
        import segmentation_models_pytorch as smp

        model = smp.DeepLabV3Plus("resnet18", encoder_weights=None, in_channels=3, classes=2)
    elif library == "torchvision":
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large

        model = FirstOutput(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2))
    else:
        import timm

        model = timm.create_model("efficientnet_lite0", features_only=True, out_indices=(1,))
        model = FirstOutput(model)
    torch.manual_seed(0)
    folded = check(as_trained(model), torch.randn(1, 3, 64, 64), torch.randn(1, 3, 320, 256))
    assert norms(folded) == 0


class FirstOutput(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x)
        first: Tensor = found["out"] if isinstance(found, dict) else found[0]
        return first


def test_dead_taps_are_found_and_warned_of(trained: Make) -> None:
    model = trained("deeplabv3plus")
    small = torch.randn(1, 7, 128, 128)
    found = fold(model, small)
    assert sorted(found.dead_taps) == [(12, 8, 8), (18, 8, 8)]
    assert "have no effect" in found.warnings[0]
    assert "8x8" in found.warnings[0]
    assert "12, 18" in found.warnings[0]
    assert "have no effect" not in "".join(fold(trained("unet"), small[..., :32, :32]).warnings)


def test_a_model_in_training_is_refused_with_a_clear_message(trained: Make) -> None:
    model = copy.deepcopy(trained("unet"))
    with pytest.raises(ModelError, match=r"while it is in training mode.*model\.eval\(\)"):
        fold(model.train(), torch.randn(1, 7, 32, 32))
    model.eval()
    model.head.train()
    with pytest.raises(ModelError, match="its part 'head' is in training mode"):
        fold(model, torch.randn(1, 7, 32, 32))
