"""Test that the tolerance depends on how much rounding changes the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.deploy.parity import MAX_FLIPS_PPM, MAX_OUTLIER_SHARE, GateReport, Parity, compare_masks
from zoo.errors import ConfigError


class Stairs(nn.Module):
    """Logits 0 and 1 in turns, in steps so narrow that rounding puts two in a thousand on another one."""

    def __init__(self, factor: float = 1.0, wrong: float = 0.0) -> None:
        super().__init__()
        self.factor, self.wrong = factor, wrong

    def forward(self, x: Tensor) -> Tensor:
        y = torch.floor(1e4 * self.factor * x[:, :2]).remainder(2)
        y[..., : int(self.wrong * y.shape[-1])] += 1
        return y


def test_a_form_may_go_astray_as_often_as_rounding_leads_the_model() -> None:
    parity = Parity(Stairs(), torch.randn(2, 3, 100, 100, generator=torch.Generator().manual_seed(0)))
    rounded = parity.difference(Stairs(1 - 2**-22), "fp32")
    assert MAX_OUTLIER_SHARE < rounded.strays < 5e-3
    assert rounded.passed
    assert not parity.difference(Stairs(wrong=0.01), "fp32").passed


def test_a_model_that_takes_rounding_well_is_held_to_it() -> None:
    layer = nn.Conv2d(3, 2, 1)
    parity = Parity(layer, torch.randn(2, 3, 20, 20))
    assert parity.difference(layer, "fp32").allowed == MAX_OUTLIER_SHARE


class Fixed(nn.Module):
    """Return the same logits for every image."""

    def __init__(self, probability: Tensor) -> None:
        super().__init__()
        self.logits = probability[:, None].logit()

    def forward(self, image: Tensor) -> Tensor:
        return self.logits


def patches(*, flipped: int, wrong: int = 0) -> tuple[Fixed, Fixed, dict[str, Tensor]]:
    """A million pixels, 200 of them landslide; the second model flips some from background, some from landslide."""
    before = torch.full((1, 1000, 1000), 0.2)
    before.view(-1)[:200] = 0.9
    after = before.clone()
    after.view(-1)[500 : 500 + flipped] = 0.6
    after.view(-1)[:wrong] = 0.1
    truth = (before > 0.5).long()
    return Fixed(before), Fixed(after), {"image": torch.zeros(1, 1, 1000, 1000), "mask": truth}


def test_flips_and_dice_are_counted() -> None:
    model, faster, batch = patches(flipped=20, wrong=10)
    report = compare_masks(model, faster, [batch], 0.5)
    assert (report.patches, report.pixels, report.flips) == (1, 1_000_000, 30)
    assert report.flips_ppm == pytest.approx(30)
    assert report.dice_before == 1
    assert report.dice_after == pytest.approx(2 * 190 / (2 * 190 + 20 + 10))
    assert report.largest == pytest.approx(0.8, abs=1e-6)
    assert not report.passed, "Dice fell by 0.07"


def test_the_threshold_decides_what_a_flip_is() -> None:
    model, faster, batch = patches(flipped=100)
    assert compare_masks(model, faster, [batch], 0.5).flips == 100
    assert compare_masks(model, faster, [batch], 0.7).flips == 0
    assert compare_masks(model, faster, [batch], 0.7).passed


@pytest.mark.parametrize(("flipped", "passed"), [(500, True), (501, False)])
def test_the_limit_of_flips_is_the_issue_s(flipped: int, passed: bool) -> None:
    model, faster, batch = patches(flipped=flipped)
    report = compare_masks(model, faster, [{"image": batch["image"]}], 0.5)
    assert report.passed is passed
    assert report.figures()["dice_before"] is None
    assert f"limit {MAX_FLIPS_PPM:.0f}" in str(report)


def test_pixels_to_ignore_count_nowhere() -> None:
    model, faster, batch = patches(flipped=1000)
    batch["mask"].view(-1)[500:1500] = 255
    report = compare_masks(model, faster, [batch], 0.5)
    assert report.flips == 0
    assert report.pixels == 999_000
    assert report.passed


def test_outputs_that_are_not_finite_fail() -> None:
    model, faster, batch = patches(flipped=0)
    faster.logits = faster.logits.index_fill(2, torch.tensor([5]), float("nan"))
    assert not compare_masks(model, faster, [batch], 0.5).passed


def test_the_dice_is_that_of_an_independent_count() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.rand((2, 40, 40), generator=generator) for _ in range(2))
    truth = torch.randint(0, 2, (2, 40, 40), generator=generator)
    images = torch.zeros(2, 1, 40, 40)
    report: GateReport = compare_masks(Fixed(first), Fixed(second), [{"image": images, "mask": truth}], 0.3)
    for probability, found in ((first, report.dice_before), (second, report.dice_after)):
        mask, is_slide = probability.numpy() >= 0.3, truth.numpy() == 1
        assert found == pytest.approx(2 * np.sum(mask & is_slide) / (mask.sum() + is_slide.sum()), abs=1e-6)


def test_a_comparison_without_patches_is_refused() -> None:
    model, faster, _ = patches(flipped=0)
    with pytest.raises(ConfigError, match="no patches"):
        compare_masks(model, faster, [])
