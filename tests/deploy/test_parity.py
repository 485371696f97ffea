"""What counts as rounding depends on how a model takes rounding itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.deploy.parity import STRAY, Parity


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
    assert STRAY < rounded.strays < 5e-3
    assert rounded.passed
    assert not parity.difference(Stairs(wrong=0.01), "fp32").passed


def test_a_model_that_takes_rounding_well_is_held_to_it() -> None:
    layer = nn.Conv2d(3, 2, 1)
    parity = Parity(layer, torch.randn(2, 3, 20, 20))
    assert parity.difference(layer, "fp32").allowed == STRAY
