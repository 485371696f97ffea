"""A bundle that looks at several magnifications: the mean it takes, the statistics of each, and the way to the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.bundles import make_bundle
from zoo.errors import ConfigError, ResultError
from zoo.mapping.inference import smallest_side
from zoo.mapping.pipeline import predictor_digest
from zoo.training.adaptation import adapt
from zoo.training.bundle import DESCRIPTION, WEIGHTS, Bundle, sha256_of
from zoo.training.predictor import MeanOfScales, choose_scale, landslide_probability, magnify
from zoo.training.running_statistics import Moments, stored_statistics


@pytest.fixture
def bundle() -> Bundle:
    return make_bundle()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 2, 16, 16, generator=generator) * torch.tensor([0.3, 25.0])[:, None, None] + 4


class Squares(nn.Module):
    """Logits that are not linear in the pixel, so that the order of mean and softmax matters."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square()], 1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits)
    return powers / powers.sum(0)


def test_the_mean_is_that_of_the_probabilities() -> None:
    """At magnification 2 a row of two pixels a, b becomes a, (3a + b) / 4, (a + 3b) / 4, b, and pairs are averaged."""
    one, two = 0.5, -1.5
    image = torch.tensor([one, two]).expand(1, 1, 2, 2)
    found = MeanOfScales(Squares(), (1, 2))(image).softmax(1)[0, :, 0].double().numpy()
    row = np.array([one, (3 * one + two) / 4, (one + 3 * two) / 4, two])
    larger = softmax(np.stack([row, row**2]))
    expected = (softmax(np.stack([row[[0, 3]], row[[0, 3]] ** 2])) + larger.reshape(2, 2, 2).mean(2)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    scales=st.sets(st.sampled_from([0.5, 0.75, 1, 1.25, 1.5, 2, 3.7, 4]), min_size=1),
)
@settings(max_examples=30, deadline=None)
def test_an_even_image_looks_the_same_at_any_scale(height: int, width: int, scales: set[float]) -> None:
    image = torch.full((1, 1, height, width), 0.75)
    found = MeanOfScales(Squares(), sorted(scales))(image)
    assert found.shape == (1, 2, height, width)
    torch.testing.assert_close(found.softmax(1), Squares()(image).softmax(1))


def test_a_single_logit_stays_one() -> None:
    image = torch.tensor([[[[-2.0, 3.0]]]])
    torch.testing.assert_close(MeanOfScales(nn.Identity(), (1,))(image), image)
    certain = MeanOfScales(nn.Identity(), (1, 2))(torch.full((1, 1, 2, 2), 200.0))
    assert bool(torch.isfinite(certain).all())
    assert float(landslide_probability(certain).min()) > 1 - 1e-6


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_every_scale_gets_the_statistics_of_the_magnified_images(bundle: Bundle, images: Tensor, share: float) -> None:
    """Each from those of the training: half of the way shows whether it started at another scale's."""
    together = adapt(bundle, [images], share=share, scales=(1, 1.5, 2)).predictor().model
    for scale, one in zip((1, 1.5, 2), together.models, strict=True):
        alone = adapt(bundle, [magnify(images, scale)], share=share).predictor().model
        close(stored_statistics(one), stored_statistics(alone))
    first, _, last = (stored_statistics(one)["encoder.0.1"].var for one in together.models)
    assert not torch.allclose(first, last, rtol=0.05)


def close(found: dict[str, Moments], expected: dict[str, Moments]) -> None:
    assert list(found) == list(expected)
    for name, moments in found.items():
        torch.testing.assert_close(moments.mean, expected[name].mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.var, expected[name].var, rtol=1e-4, atol=1e-6)


def test_a_bundle_of_several_scales_survives_the_disk(bundle: Bundle, images: Tensor, tmp_path: Path) -> None:
    adapted = adapt(bundle, [images], share=1.0, scales=(1, 1.5))
    adapted.save(tmp_path)
    back = Bundle.load(tmp_path)
    assert back.scales == (1.0, 1.5)
    assert back.adaptation is not None
    assert back.adaptation.scales == (1.0, 1.5)
    assert {shift.scale for shift in back.adaptation.shifts} == {1.0, 1.5}
    with torch.inference_mode():
        before, after = (one.predictor()(images) for one in (adapted, back))
        plain = adapt(bundle, [images], share=1.0).predictor()(images)
    assert torch.equal(before, after)
    assert not torch.allclose(after.softmax(1), plain.softmax(1), atol=1e-3)


def test_scales_keep_the_minimum_size_and_change_the_digest(bundle: Bundle) -> None:
    one, other = (replace(bundle, scales=(scale,)).predictor() for scale in (1.5, 2.0))
    assert smallest_side(one) == smallest_side(bundle.predictor()) > 1
    assert predictor_digest(one) != predictor_digest(other)


def test_adapting_again_starts_from_the_first_scale(bundle: Bundle, images: Tensor) -> None:
    twice = adapt(adapt(bundle, [images], share=1.0, scales=(1, 2)), [images], share=1.0)
    assert twice.scales == (1.0,)
    assert set(twice.state) == set(bundle.state)
    assert twice.adaptation is not None
    assert twice.adaptation.predictions is not None
    assert twice.adaptation.predictions.plain != twice.adaptation.predictions.adapted


@pytest.mark.parametrize("scales", [(), (0.4,), (1, 1), (5,), (float("nan"),)])
def test_invalid_magnifications_are_refused(bundle: Bundle, images: Tensor, scales: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"option scales: .* must be different numbers from 0.5 to 4"):
        adapt(bundle, [images], scales=scales)


def drop_statistics(folder: Path) -> None:
    state = {name: value for name, value in load_file(folder / WEIGHTS).items() if "running_var" not in name}
    save_file(state, folder / WEIGHTS)
    description = json.loads((folder / DESCRIPTION).read_text())
    description["weights"]["sha256"] = sha256_of(folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(description))


def spoil_scales(folder: Path) -> None:
    text = (folder / DESCRIPTION).read_text()
    description = json.loads(text) | {"scales": [1, 70]}
    (folder / DESCRIPTION).write_text(json.dumps(description))


def name_another_scale(folder: Path) -> None:
    description = json.loads((folder / DESCRIPTION).read_text()) | {"scales": [1, 3]}
    (folder / DESCRIPTION).write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (drop_statistics, "the weights do not fit"),
        (spoil_scales, "not a valid bundle.*different numbers from 0.5 to 4"),
        (name_another_scale, r"the weights do not fit|lacks normalisation statistics at magnification 3"),
    ],
)
def test_a_bundle_whose_scales_were_damaged_is_refused(
    bundle: Bundle, images: Tensor, tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    adapt(bundle, [images], scales=(1, 2)).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ResultError, match=complaint):
        Bundle.load(tmp_path).predictor()


def test_the_greatest_agreement_decides_and_of_equals_the_nearest_to_one() -> None:
    assert choose_scale({0.75: 0.7, 1.0: 0.8, 1.5: 0.81, 2.0: 0.9}) == 2.0
    assert choose_scale({0.75: 0.8, 1.0: 0.8, 1.5: 0.8, 2.0: 0.8}) == 1.0
    assert choose_scale({0.75: 0.8, 1.0: 0.7, 1.5: 0.8, 2.0: 0.8}) == 0.75
    assert choose_scale({0.75: 0.0, 1.0: 0.0, 1.5: 0.0, 2.0: 0.0}) == 1.0, "nothing is called landslide anywhere"


def test_the_chosen_scale_is_that_of_the_masks_that_change_least_when_the_image_is_turned(bundle: Bundle) -> None:
    generator = torch.Generator().manual_seed(2)
    noise = F.avg_pool2d(torch.randn(6, 2, 48, 40, generator=generator), 5, 1, 2, count_include_pad=False)
    images = noise * torch.tensor([0.5, 10.0])[:, None, None] + torch.tensor([0.25, 20.0])[:, None, None]
    images[0, :, :10] = float("nan")
    with torch.inference_mode():
        middling = landslide_probability(adapt(bundle, [images], share=1.0).predictor()(images)).median()
    bundle = replace(bundle, threshold=float(middling))
    adapted = adapt(bundle, [images], share=1.0, scales="auto")
    assert adapted.adaptation is not None
    found = adapted.adaptation.scale_agreements
    assert set(found) == {"0.75", "1", "1.5", "2"}
    known = ~torch.isnan(images).any(1).numpy()
    for scale in (0.75, 1.0, 1.5, 2.0):
        named = adapt(bundle, [images], share=1.0, scales=(scale,))
        predictor = named.predictor()
        turned = []
        for turns in range(3):
            view = torch.rot90(images, turns, (2, 3))
            with torch.inference_mode():
                called = landslide_probability(predictor(view)) >= bundle.threshold
            turned.append(np.rot90(called.numpy(), -turns, (1, 2)) & known)
        pairs = ((0, 1), (0, 2), (1, 2))
        shared = sum(2 * int((turned[one] & turned[other]).sum()) for one, other in pairs)
        called_in_all = sum(int(turned[one].sum() + turned[other].sum()) for one, other in pairs)
        assert found[f"{scale:g}"] == pytest.approx(shared / called_in_all, abs=1e-3)
        if named.scales == adapted.scales:
            assert all(torch.equal(named.state[name], tensor) for name, tensor in adapted.state.items())
            assert named.adaptation is not None
            assert named.adaptation.shifts == adapted.adaptation.shifts
    assert len(set(found.values())) == 4
    assert adapted.scales == (max((0.75, 1.0, 1.5, 2.0), key=lambda scale: found[f"{scale:g}"]),)


def test_the_bands_alone_choose_no_scale(bundle: Bundle, images: Tensor) -> None:
    with pytest.raises(ConfigError, match="a scale cannot be chosen from the bands alone"):
        adapt(bundle, [images], which="bands", scales="auto")
    assert adapt(bundle, [images], share=1.0, which="bands", scales=(1, 2)).scales == (1.0, 2.0)
