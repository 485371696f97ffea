"""Losses leave out pixels to ignore and are finite on masks of nodata alone."""

import pytest
import torch
from torch.nn import functional as F

from zoo.registry import catalogue

NAMES = ["ce", "ce_dice", "dice", "focal"]


def make(name: str) -> torch.nn.Module:
    loss: torch.nn.Module = catalogue().losses.get(name).resolve()(ignore_index=255)
    return loss


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 8, 8))
    mask[:, :4] = 255
    other = logits.clone()
    other[:, :, :4] = 50 * torch.randn(2, 2, 4, 8)
    assert make(name)(logits, mask) == pytest.approx(float(make(name)(other, mask)), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_nodata_alone_give_zero_and_a_gradient_of_zero(name: str) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = make(name)(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_better_prediction_costs_less(name: str) -> None:
    mask = torch.randint(0, 2, (1, 6, 6))
    right = F.one_hot(mask, 2).movedim(-1, 1).float() * 2 - 1
    losses = [float(make(name)(scale * right, mask)) for scale in (-3.0, 0.5, 3.0, 9.0)]
    assert losses == sorted(losses, reverse=True)


def test_cross_entropy_is_torchs_mean() -> None:
    logits, mask = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    mask[0, 0] = 255
    expected = F.cross_entropy(logits, mask, ignore_index=255)
    assert make("ce")(logits, mask) == pytest.approx(float(expected), rel=1e-6)


def test_dice_loss_is_one_minus_dice_for_a_hard_prediction() -> None:
    mask = torch.tensor([[[1, 1, 0, 0]]])
    predicted = torch.tensor([[[1, 0, 1, 0]]])
    logits = 100.0 * F.one_hot(predicted, 2).movedim(-1, 1).float()
    assert make("dice")(logits, mask) == pytest.approx(1 - 2 * 1 / (2 + 2), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_logits_give_a_float32_loss(name: str) -> None:
    loss = make(name)(torch.randn(1, 2, 4, 4, dtype=torch.bfloat16), torch.zeros(1, 4, 4, dtype=torch.int64))
    assert loss.dtype == torch.float32
