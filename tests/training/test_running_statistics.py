"""Test that statistics of normalisation layers are exact for any batch size and leave out missing pixels."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ModelError, ResultError
from zoo.registry import create_model
from zoo.training import running_statistics
from zoo.training.running_statistics import (
    ImageDistances,
    State,
    measure_shift,
    replace_statistics,
    stored_statistics,
    tracked_layers,
)


def three_layers() -> nn.Module:
    """Batch norm behind batch norm behind batch norm, with what lies between."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1),
        nn.BatchNorm2d(3),
    ).eval()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    scales = torch.rand(10, 2, 1, 1, generator=generator) * 3 + 0.2
    return torch.randn(10, 2, 16, 16, generator=generator) * scales + scales


def statistics_of(model: nn.Module, images: Tensor, size: int, run: Callable[[Tensor], object] | None = None) -> State:
    replace_statistics(model, run or model, lambda: images.split(size), share=1.0)
    return stored_statistics(model)


def of_one_batch(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return torch's own statistics of all images as one training batch."""
    layers = tracked_layers(model)
    counts: dict[str, int] = {}
    for name, layer in layers.items():
        layer.momentum = 1.0
        layer.register_forward_pre_hook(
            lambda _layer, inputs, name=name: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})
        )
    with torch.no_grad():
        model.train()(images)
    unbiased = {name: counts[name] / (counts[name] - 1) for name in layers}
    return {name: (layer.running_mean.clone(), layer.running_var / unbiased[name]) for name, layer in layers.items()}


def apart(one: State, other: State) -> float:
    """The largest distance of a layer's statistics, in standard deviations."""
    return max(math.sqrt(measure_shift(one[name], other[name]).distance) for name in one)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_each_layer_receives_the_output_of_the_adapted_layers_before_it(images: Tensor, size: int) -> None:
    expected = of_one_batch(three_layers(), images)
    model = three_layers()
    for name, moments in statistics_of(model, images, size).items():
        torch.testing.assert_close(moments.mean.float(), expected[name][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.var.float(), expected[name][1], rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_used_twice_gets_the_moments_of_both_uses(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            self.norm(x)
            return self.norm(x + 10)

    model = Twice().eval()
    both = torch.cat([images, images + 10])
    found = statistics_of(model, images, 3)["norm"]
    torch.testing.assert_close(found.mean.float(), both.mean((0, 2, 3)))
    torch.testing.assert_close(found.var.float(), both.var((0, 2, 3), correction=0))


@pytest.mark.parametrize("name", ["unet", "enhanced_unet", "drs_unet", "mobilenetv2"])
def test_every_architecture_gives_the_same_for_one_image_a_batch_and_for_all(name: str) -> None:
    torch.manual_seed(0)
    small = {"widths": [4, 4, 4, 4, 4]} if "unet" in name and name != "drs_unet" else {}
    model = create_model(name, 2, 2, **small).eval()
    images = torch.randn(3, 2, 32, 32) * 2 + 1
    source = stored_statistics(model)
    one, all_together = (statistics_of(copy.deepcopy(model), images, size) for size in (1, 3))
    assert apart(one, all_together) < 1e-3
    assert apart(source, one) > 0.1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3), (6, 3)),
        (nn.BatchNorm1d(3), (6, 3, 7)),
        (nn.BatchNorm2d(3), (6, 3, 5, 4)),
        (nn.BatchNorm3d(3), (6, 3, 2, 5, 4)),
        (nn.SyncBatchNorm(3), (6, 3, 5, 4)),
        (nn.BatchNorm2d(3, affine=False, momentum=None), (6, 3, 5, 4)),
    ],
)
def test_batch_norm_of_any_rank_is_known(layer: nn.Module, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape) * 2 + 5

    class Reshapes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = layer

        def forward(self, _: Tensor) -> Tensor:
            return self.norm(values)

    model = Reshapes().eval()
    statistics_of(model, torch.zeros(6, 1, 5, 4), 6)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    torch.testing.assert_close(layer.running_mean, values.mean(axes))
    torch.testing.assert_close(layer.running_var, values.var(axes, correction=0))


def test_missing_pixels_have_no_weight() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    images = torch.randn(4, 2, 8, 8) + 3 * torch.randn(4, 2, 1, 1)
    images[0, :, :7] = math.nan
    images[1, 1, 2:, 3] = math.nan

    def run(batch: Tensor) -> None:
        model(batch.nan_to_num(77.0))

    valid = images.movedim(1, 0)[:, ~images.isnan().any(1)].double()
    found = statistics_of(model, images, 3, run)["0"]
    torch.testing.assert_close(found.mean, valid.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.var, valid.var(1, correction=0), rtol=1e-5, atol=1e-5)


def test_a_single_value_keeps_the_statistics_of_the_source() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2)).eval()
    found = statistics_of(model, torch.randn(1, 2, 8, 8) + 9, 1)["1"]
    assert found.mean.tolist() == [0, 0]
    assert found.var.tolist() == [1, 1]


def test_the_error_by_chance_is_that_of_drawing_other_images() -> None:
    """Distances of one region's samples from the truth are, on average, the error that each sample reports."""
    generator = torch.Generator().manual_seed(0)
    distances, errors = [], []
    for _ in range(200):
        levels = 0.5 * torch.randn(20, 1, 1, 1, generator=generator)
        images = torch.randn(20, 1, 8, 8, generator=generator) * math.sqrt(0.75) + levels
        model = nn.Sequential(nn.BatchNorm2d(1)).eval()
        shift = replace_statistics(model, model, lambda images=images: [images])["0"]
        distances.append(shift.distance)
        errors.append(shift.error)
    assert sum(errors) == pytest.approx(sum(distances), rel=0.15)


def test_a_model_without_running_statistics_is_refused() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 2), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert tracked_layers(model) == {}
    with pytest.raises(ModelError, match="no normalisation layer with running statistics"):
        statistics_of(model, torch.randn(1, 2, 4, 4), 1)


def test_statistics_and_activations_that_are_not_finite_are_named() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    with pytest.raises(ResultError, match="the input of layer '0' is not finite"):
        statistics_of(model, torch.ones(1, 2, 4, 4), 1, lambda batch: model(batch / 0))
    model[0].running_var[1] = math.nan
    with pytest.raises(ResultError, match="layer '0' are not finite"):
        stored_statistics(model)


def test_each_image_has_the_distance_of_its_own_first_layer(images: Tensor) -> None:
    model = three_layers()
    first = model[1]
    first.running_mean.normal_(0, 0.3)
    first.running_var.uniform_(0.5, 2)
    images = images.clone()
    images[2, 0, :, :6] = torch.nan
    images[3, 1, :13] = torch.nan
    expected = []
    for image in images:
        valid = ~np.isnan(image.numpy()).any(0)
        with torch.no_grad():
            values = model[0](torch.nan_to_num(image)[None])[0].double().numpy()[:, valid]
        mean, var = first.running_mean.double().numpy(), first.running_var.double().numpy()
        moved = (values.mean(1) - mean) ** 2 / var + np.log(values.std(1) / np.sqrt(var)) ** 2
        expected.append(math.sqrt(moved.mean()) if valid.mean() >= 0.25 else math.nan)
    assert math.isnan(expected[3])
    for size in (1, 4):
        with ImageDistances(model, only=True) as near, torch.no_grad():
            outcomes = [near.run(lambda batch: model(torch.nan_to_num(batch)), part) for part in images.split(size)]
        assert outcomes == [None] * len(outcomes)
        np.testing.assert_allclose(near.found, expected, rtol=1e-4)
    with ImageDistances(model) as near, torch.no_grad():
        logits = near.run(lambda batch: model(torch.nan_to_num(batch)), images)
        torch.testing.assert_close(logits, model(torch.nan_to_num(images)))
    assert len(near.found) == 10
    assert not first._forward_pre_hooks


def test_without_running_statistics_the_normalised_input_has_the_distance() -> None:
    images = torch.randn(3, 2, 8, 8) * 2 + 1
    with ImageDistances(nn.Conv2d(2, 2, 1)) as near, torch.no_grad():
        near.run(nn.Identity(), images)
        assert all(math.isnan(one) for one in near.found), "the model was not reached"
    model = nn.Conv2d(2, 2, 1)
    with ImageDistances(model) as near, torch.no_grad():
        near.run(model, images)
    values = images.double().numpy().reshape(3, 2, -1)
    moved = values.mean(2) ** 2 + np.log(values.std(2)) ** 2
    np.testing.assert_allclose(near.found, np.sqrt(moved.mean(1)), rtol=1e-4)
    model.takes_units = True  # type: ignore[assignment]
    with ImageDistances(model) as near, torch.no_grad():
        near.run(model, images)
    assert all(math.isnan(one) for one in near.found)


class Branches(nn.Module):
    """Two paths, of which the sum of the image chooses which one comes first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if x[0].sum() > 0 else self.first(self.second(x))


class Residual(nn.Module):
    """A skip connection over a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = three_layers()
        self.outer = nn.BatchNorm2d(2)
        self.mix = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = self.inner(x)
        return self.outer(self.mix(torch.cat([small, x[..., : small.shape[-2], : small.shape[-1]]], 1)))


def passes_of(model: nn.Module, images: Tensor, size: int) -> tuple[State, int]:
    """Return the statistics after adaptation, and how many images entered the model."""
    entered = 0

    def run(batch: Tensor) -> Tensor:
        nonlocal entered
        entered += len(batch)
        return model(batch.nan_to_num())

    return statistics_of(model, images, size, run), entered


@pytest.mark.parametrize("size", [1, 3])
def test_one_pass_gives_the_same_bits_as_one_pass_for_each_layer(
    images: Tensor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images[4, :, 2:9] = math.nan
    together, few = passes_of(Residual().eval(), images, size)
    monkeypatch.setattr(running_statistics, "HELD_SHARE", 0.0)
    alone, many = passes_of(Residual().eval(), images, size)
    # One image finds the order of the four layers, and one measures the memory.
    assert (few, many) == (len(images) + 2, 4 * len(images) + 2)
    for name, moments in alone.items():
        assert torch.equal(together[name].mean, moments.mean)
        assert torch.equal(together[name].var, moments.var)


def test_images_that_reach_the_layers_in_another_order_take_a_pass_for_each_layer(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.cat([images, -images])
    found = statistics_of(Branches().eval(), images, 1)
    monkeypatch.setattr(running_statistics, "HELD_SHARE", 0.0)
    for name, moments in statistics_of(Branches().eval(), images, 1).items():
        assert torch.equal(found[name].mean, moments.mean)


def test_an_error_in_a_pass_ends_all_of_them(images: Tensor) -> None:
    before = threading.active_count()

    def run(batch: Tensor) -> Tensor:
        if len(batch) == 2:  # not the first images, which find the order of the layers
            raise RuntimeError("out of memory")
        return model(batch)

    model = three_layers()
    with pytest.raises(RuntimeError, match="out of memory"):
        replace_statistics(model, run, lambda: [images[:4], images[4:6], images[6:]], share=1.0)
    assert threading.active_count() == before


def test_activations_that_are_not_finite_end_all_passes(images: Tensor) -> None:
    before, model = threading.active_count(), three_layers()
    images[5] = math.inf
    with pytest.raises(ResultError, match="the input of layer '1' is not finite"):
        replace_statistics(model, model, lambda: images.split(3))
    assert threading.active_count() == before
