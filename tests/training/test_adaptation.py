"""Test that a bundle is adapted without labels, exactly, for any batch size, and records how."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.bundles import make_bundle
from zoo import registry
from zoo.errors import ConfigError, DataError, ModelError, ResultError
from zoo.physics.bands import Band
from zoo.physics.display import DISPLAY
from zoo.schema import to_plain
from zoo.training.adaptation import PatchSample, adapt
from zoo.training.bundle import DESCRIPTION, Bundle
from zoo.training.bundle_layout import AdaptationTarget
from zoo.training.running_statistics import State, measure_shift, stored_statistics


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 2, 16, 16, generator=generator) * torch.tensor([0.3, 25.0])[:, None, None] + 4


def apart(one: State, other: State) -> float:
    return max(math.sqrt(measure_shift(one[name], other[name]).distance) for name in one)


def adapted_statistics(images: Tensor, size: int, **options: object) -> State:
    return stored_statistics(adapt(make_bundle(), images.split(size), share=1.0, **options).predictor().model)


@pytest.mark.parametrize("size", [1, 4])
def test_how_patches_are_batched_changes_nothing(images: Tensor, size: int) -> None:
    whole = adapted_statistics(images, 7, batch_size=7)
    assert apart(whole, adapted_statistics(images, size, batch_size=size)) < 1e-4
    assert apart(stored_statistics(make_bundle().predictor().model), whole) > 0.1


def test_share_0_keeps_the_bundle_and_one_half_lies_between(images: Tensor) -> None:
    bundle = make_bundle()
    plain, half, whole = (adapt(bundle, [images], share=share) for share in (0.0, 0.5, 1.0))
    assert all(torch.equal(tensor, bundle.state[name]) for name, tensor in plain.state.items())
    first = "encoder.0.1.running_mean"
    middle = (bundle.state[first] + whole.state[first]) / 2
    torch.testing.assert_close(half.state[first], middle)


def test_the_threshold_moves_to_one_half_as_far_as_the_statistics_move(images: Tensor) -> None:
    bundle = replace(make_bundle(), threshold=0.2)
    found = [adapt(bundle, [images], share=share).threshold for share in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.2, 0.35, 0.5])


def test_a_shift_is_followed_and_chance_is_not() -> None:
    """Patches that the bundle's own statistics were taken from move little; a shifted region moves nearly wholly."""
    generator = torch.Generator().manual_seed(3)
    own = torch.randn(64, 2, 16, 16, generator=generator) + 0.3 * torch.randn(64, 2, 1, 1, generator=generator)
    own = own * torch.tensor([0.5, 10.0])[:, None, None] + torch.tensor([0.25, 20.0])[:, None, None]
    trained = adapt(make_bundle(), [own[:32]], share=1.0)
    same, moved = (adapt(trained, [target]).adaptation for target in (own[32:], own[32:] * 1.5 + 5))
    assert same is not None
    assert moved is not None
    assert moved.share > 0.95
    assert same.shifts[0].share < 0.6 < 0.95 < moved.shifts[0].share
    assert same.shifts[0].distance < moved.shifts[0].distance / 4


def test_bands_follow_the_target_for_any_unit(images: Tensor) -> None:
    bundle = make_bundle()
    adapted = adapt(bundle, [images, torch.full((1, 2, 16, 16), math.nan)], share=1.0, which="bands")
    torch.testing.assert_close(torch.tensor(adapted.statistics.mean), images.double().mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(adapted.statistics.std), images.double().std((0, 2, 3), correction=0))
    assert all(torch.equal(tensor, bundle.state[name]) for name, tensor in adapted.state.items())
    both = adapt(bundle, [images], share=1.0, which="both")
    assert both.adaptation is not None
    assert [shift.layer for shift in both.adaptation.shifts][:2] == ["bands", "encoder.0.1"]


def test_clouds_of_colours_have_no_weight() -> None:
    bundle = make_bundle()
    colours = tuple(Band(name, DISPLAY) for name in ("blue", "green", "red"))
    statistics = replace(bundle.statistics, bands=(bundle.statistics.bands[0],) * 3)
    state = registry.create_model("unet", 3, 2, widths=[4, 4, 4]).state_dict()
    bundle = replace(bundle, bands=colours, statistics=statistics, state=state)
    ground = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 100
    clouds, missing = ground.clone(), ground.clone()
    clouds[0, :, 10:50, 10:50] = 240
    clouds[1, :, 20:30, 20:30] = 240  # a roof
    missing[0, :, 2:58, 2:58] = math.nan
    missing[1, :, 20:30, 20:30] = 240
    found, expected = (adapt(bundle, [one], share=1.0, which="bands").statistics for one in (clouds, missing))
    assert found == expected


def test_the_record_survives_the_disk_and_the_source_is_named(images: Tensor, tmp_path: Path) -> None:
    bundle = make_bundle()
    adapted = adapt(bundle, [images, torch.full((1, 2, 16, 16), math.nan)], target=AdaptationTarget("Übung"))
    digest = adapted.save(tmp_path)
    back = Bundle.load(tmp_path)
    assert back.adaptation == adapted.adaptation
    assert json.loads((tmp_path / DESCRIPTION).read_text())["adaptation"] == to_plain(adapted.adaptation)
    assert back.adaptation.source.weights_sha256 == bundle.weights_sha256 != digest
    assert back.adaptation.target == AdaptationTarget("Übung", patches=8, blank=1, used=7)
    assert back.metrics == {}
    assert back.threshold == adapted.threshold
    again = adapt(back, [images])
    assert again.adaptation is not None
    assert again.adaptation.source.adaptation == back.adaptation


def test_weights_are_not_trained(images: Tensor) -> None:
    bundle = make_bundle()
    adapted = adapt(bundle, [images], share=1.0)
    changed = {name for name, tensor in adapted.state.items() if not torch.equal(tensor, bundle.state[name])}
    assert changed
    assert all(name.endswith(("running_mean", "running_var")) for name in changed)


def test_of_many_patches_a_sample_is_held_that_batches_do_not_change(images: Tensor) -> None:
    one, other = (PatchSample.draw(images.split(size), ("a", "b"), pixels=4 * 256, seed=0) for size in (1, 3))
    assert len(one) == 4
    assert one.seen == 7
    assert torch.equal(one.images, other.images)


def test_every_patch_has_the_same_chance_to_be_held() -> None:
    numbers = torch.arange(6.0)[:, None, None, None].expand(6, 2, 16, 16)
    held = [
        PatchSample.draw([numbers], ("a", "b"), pixels=2 * 256, seed=seed).images[:, 0, 0, 0].long()
        for seed in range(300)
    ]
    counts = torch.bincount(torch.cat(held), minlength=6)
    assert int(counts.sum()) == 600
    assert 60 <= int(counts.min()) <= int(counts.max()) <= 140


def no_patch(_: Tensor) -> list[Tensor]:
    return []


def only_nodata(images: Tensor) -> list[Tensor]:
    return [torch.full_like(images, math.nan)]


def other_bands(images: Tensor) -> list[Tensor]:
    return [images[:, :1]]


def an_infinity(images: Tensor) -> list[Tensor]:
    damaged = images.clone()
    damaged[2, 1, 3, 3] = math.inf
    return [damaged]


def a_fill_value(images: Tensor) -> list[Tensor]:
    damaged = images.clone()
    damaged[2, 1, 3, 3] = -3.4e38
    return [damaged]


def two_sizes(images: Tensor) -> list[Tensor]:
    return [images, images[..., :12]]


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (no_patch, "nothing to adapt to: there is no patch"),
        (only_nodata, "all 7 patches are nodata"),
        (other_bands, "The bundle takes NDVI, slope"),
        (an_infinity, "band 'slope' of the target"),
        (a_fill_value, r"band 'slope' of the target: contains -3\.4e\+38"),
        (two_sizes, "follow patches of shape"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(
    images: Tensor, target: Callable[[Tensor], list[Tensor]], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        adapt(make_bundle(), target(images))


def test_one_patch_changes_nothing_without_a_given_share(images: Tensor) -> None:
    bundle = make_bundle()
    auto = adapt(bundle, [images[:1]])
    assert auto.adaptation is not None
    assert auto.adaptation.share == 0
    assert auto.adaptation.shifts[0].chance is None
    assert all(torch.equal(tensor, bundle.state[name]) for name, tensor in auto.state.items())
    adapted = adapt(bundle, [images[:1]], share=1.0)
    with torch.inference_mode():
        assert bool(torch.isfinite(adapted.predictor()(images)).all())


def test_other_bad_input_is_refused(images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"share of 1\.5"):
        adapt(make_bundle(), [images], share=1.5)
    bundle = make_bundle()
    broken = {name: tensor.clone() for name, tensor in bundle.state.items()}
    broken["encoder.0.1.running_var"][0] = math.nan
    with pytest.raises(ResultError, match=r"running statistics of layer .encoder\.0\.1. are not finite"):
        adapt(replace(bundle, state=broken), [images])
    broken = {name: tensor.clone() for name, tensor in bundle.state.items()}
    broken["head.weight"][0] = math.nan
    with pytest.raises(ResultError, match="the model predicts NaN"):
        adapt(replace(bundle, state=broken), [images])


@pytest.fixture
def norm_free(install: Callable[[str, str], None]) -> Iterator[None]:
    code = """
        from torch import nn
        from zoo.registry import ModelSpec, hookimpl

        def make(in_channels, classes):
            return nn.Sequential(nn.GroupNorm(1, in_channels), nn.Conv2d(in_channels, classes, 1))

        @hookimpl
        def zoo_register_models(register):
            register(ModelSpec(name="norm_free", target="zoo_norm_free:make", summary="s"))
    """
    install("zoo-norm-free", code)
    registry.reload()
    yield
    registry.reload()


@pytest.mark.usefixtures("norm_free")
def test_a_model_without_statistics_is_refused_by_name(images: Tensor) -> None:
    bundle = make_bundle("norm_free", {})
    with pytest.raises(ModelError, match="model 'norm_free': has no normalisation layer"):
        adapt(bundle, [images])
    assert adapt(bundle, [images], which="bands").statistics != bundle.statistics
