"""Statistics of normalisation layers over many images are exact, whatever the batches, and know missing pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ModelError, ResultError
from zoo.registry import create_model
from zoo.training.running_statistics import blended, distances, gather, settle, store, stored, tracked_layers

EXACT = 1e-9


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


def in_batches(images: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: images.split(size)


def of_one_batch(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What torch itself takes for the statistics when all images are one training batch."""
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


@pytest.mark.parametrize("size", [1, 3, 10])
def test_every_layer_sees_what_the_adapted_layers_before_it_make_of_all_images(images: Tensor, size: int) -> None:
    expected = of_one_batch(three_layers(), images)
    model = three_layers()
    settle(model, model, in_batches(images, size), tolerance=EXACT)
    for name, moments in stored(model).items():
        torch.testing.assert_close(moments.mean.float(), expected[name][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.var.float(), expected[name][1], rtol=1e-4, atol=1e-5)


def test_a_network_of_n_layers_is_exact_after_n_passes(images: Tensor) -> None:
    model = three_layers()
    passes = settle(model, model, in_batches(images, 4), tolerance=0.0)
    assert passes <= 4
    before = stored(model)
    assert max(distances(before, gather(model, model, images.split(2))).values()) < 1e-5


@pytest.mark.parametrize("name", ["unet", "enhanced_unet", "drs_unet", "mobilenetv2"])
def test_every_architecture_gives_the_same_for_one_image_a_batch_and_for_all(name: str) -> None:
    torch.manual_seed(0)
    small = {"widths": [4, 4, 4, 4, 4]} if "unet" in name and name != "drs_unet" else {}
    model = create_model(name, 2, 2, **small).eval()
    images = torch.randn(3, 2, 32, 32) * 2 + 1
    source = stored(model)
    results = []
    for size in (1, 3):
        store(model, source)
        after = gather(model, model, images.split(size))
        results.append(after)
    assert max(distances(*results).values()) < 1e-3
    assert max(distances(source, results[0]).values()) > 0.1


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
    settle(model, model, in_batches(torch.zeros(6, 1, 5, 4), 6))
    axes = [axis for axis in range(len(shape)) if axis != 1]
    torch.testing.assert_close(layer.running_mean, values.mean(axes))
    torch.testing.assert_close(layer.running_var, values.var(axes, correction=0))


def test_what_is_missing_weighs_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    images = torch.randn(4, 2, 8, 8)
    whole = gather(model, model, [images])
    framed = torch.full((4, 2, 8, 20), math.nan)
    framed[..., 5:13] = images

    def run(batch: Tensor) -> None:
        model(batch.nan_to_num(77.0))

    assert max(distances(whole, gather(model, run, framed.split(3))).values()) < 1e-5


def test_a_single_value_keeps_the_statistics_of_the_source() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2)).eval()
    settle(model, model, in_batches(torch.randn(1, 2, 8, 8) + 9, 1))
    assert stored(model)["1"].mean.tolist() == [0, 0]
    assert stored(model)["1"].var.tolist() == [1, 1]


def test_a_blend_lies_between() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    source = stored(model)
    target = gather(model, model, [torch.randn(4, 1, 8, 8) * 3 + 8])
    half = blended(source, target, 0.5)["0"]
    assert float(half.mean) == pytest.approx(float(target["0"].mean) / 2)
    assert float(half.var) == pytest.approx((1 + float(target["0"].var)) / 2)


def test_a_model_without_running_statistics_is_refused() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 2), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert tracked_layers(model) == {}
    with pytest.raises(ModelError, match="no normalisation layer with running statistics"):
        gather(model, model, [torch.randn(1, 2, 4, 4)])


def test_statistics_and_activations_that_are_not_finite_are_named() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    with pytest.raises(ResultError, match="what reaches layer '0' is not finite"):
        gather(model, lambda batch: model(batch / 0), [torch.ones(1, 2, 4, 4)])
    model[0].running_var[1] = math.nan
    with pytest.raises(ResultError, match="layer '0' are not finite"):
        stored(model)
