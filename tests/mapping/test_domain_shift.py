"""Test the distance between images and a bundle's training data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.bundles import make_bundle
from zoo.mapping.domain_shift import BandShift, DomainShift, measure_domain_shift
from zoo.training.adaptation import PatchSample, adapt
from zoo.training.bundle import Bundle
from zoo.training.predictor import Predictor


def patches(seed: int, count: int = 24, shift: float = 0.0) -> torch.Tensor:
    """Noise in the units of the bundle, with a mean that varies from patch to patch."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((count, 2, 32, 32), generator=generator)
    level = 0.3 * torch.randn((count, 2, 1, 1), generator=generator) + shift
    return (noise + level) * torch.tensor([0.5, 10.0])[:, None, None] + torch.tensor([0.25, 20.0])[:, None, None]


def sample(images: torch.Tensor) -> PatchSample:
    return PatchSample.draw([images], ["NDVI", "slope"], pixels=10**6, seed=0)


def trained(model: str = "unet", options: dict[str, object] | None = None) -> Bundle:
    """A bundle whose running statistics are those of some patches, as after training."""
    return adapt(make_bundle(model, options), [patches(0)], share=1.0)


def test_the_training_region_is_near_and_another_is_far() -> None:
    bundle = trained()
    near = measure_domain_shift(bundle, sample(patches(1)))
    far = measure_domain_shift(bundle, sample(patches(1, shift=2.0)))
    assert near.distance is not None
    assert far.distance is not None
    assert near.distance < 0.2 < 0.4 < far.distance
    assert not near.is_large
    assert far.is_large
    assert "NDVI" in far.sentence()
    assert f"{far.distance:.2f} standard deviations away" in far.sentence()


def test_the_bundle_is_unchanged_and_the_distance_is_that_of_adapting() -> None:
    bundle = trained()
    before = {name: tensor.clone() for name, tensor in bundle.state.items()}
    images = patches(2, shift=1.0)
    found = measure_domain_shift(bundle, sample(images))
    assert all(torch.equal(before[name], tensor) for name, tensor in bundle.state.items())
    adapted = adapt(bundle, [images]).adaptation
    assert adapted is not None
    np.testing.assert_allclose(found.distance, adapted.shifts[0].distance, rtol=1e-6)
    np.testing.assert_allclose(found.chance, adapted.shifts[0].chance, rtol=1e-6)


def test_the_model_is_created_outside_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders of timm compute with their weights when they are created, which inference mode forbids."""
    bundle, make, modes = trained(), Bundle.predictor, []

    def predictor(self: Bundle) -> Predictor:
        modes.append(torch.is_inference_mode_enabled())
        return make(self)

    monkeypatch.setattr(Bundle, "predictor", predictor)
    measure_domain_shift(bundle, sample(patches(1)))
    assert modes == [False]


def test_one_image_is_too_few_for_a_large_shift() -> None:
    assert not measure_domain_shift(trained(), sample(patches(1, count=1, shift=2.0))).is_large


def test_without_running_statistics_the_bands_decide() -> None:
    near, far = BandShift("NDVI", 0.3, 0.4, 0.25, 0.5), BandShift("slope", 70, 10, 20, 10)
    assert not DomainShift((near,), None, None).is_large
    assert DomainShift((near, far), None, None).is_large
    assert DomainShift((replace(near, std=2.0),), None, None).is_large
    assert "slope 70 ± 10 here, 20 ± 10 there" in DomainShift((near, far), None, None).sentence()
