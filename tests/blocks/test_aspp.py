from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import ASPP
from zoo.errors import ConfigError, ModelError


def by_hand(aspp: ASPP, x: Tensor, rates: tuple[int, ...]) -> Tensor:
    """ASPP in eval mode from its state dict."""
    state = aspp.state_dict()

    def norm(y: Tensor, name: str) -> Tensor:
        stats = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(y, *stats))

    views = [norm(F.conv2d(x, state["views.0.0.weight"]), "views.0.1")]
    for index, rate in enumerate(rates, start=1):
        y = F.conv2d(x, state[f"views.{index}.0.weight"], padding=rate, dilation=rate)
        views.append(norm(y, f"views.{index}.1"))
    last = f"views.{len(rates) + 1}"
    pooled = norm(F.conv2d(F.adaptive_avg_pool2d(x, 1), state[f"{last}.conv.weight"]), f"{last}.norm")
    views.append(F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False))
    return norm(F.conv2d(torch.cat(views, dim=1), state["project.0.0.weight"]), "project.0.1")


@pytest.mark.parametrize("rates", [(6, 12, 18), (2, 3)])
def test_is_the_reference(rates: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    aspp = ASPP(10, 6, rates)
    for _ in range(3):
        aspp(torch.randn(2, 10, 9, 7))
    x = torch.randn(2, 10, 9, 7)
    torch.testing.assert_close(aspp.eval()(x), by_hand(aspp, x, rates), rtol=1e-4, atol=1e-5)


def test_rates_beyond_the_map_touch_only_their_centre() -> None:
    """Why 128-pixel images at output stride 16 waste two of the three rates."""
    torch.manual_seed(1)
    aspp = ASPP(4, 4).eval()
    x = torch.randn(1, 4, 8, 8)
    for index, touches in ((1, True), (2, False), (3, False)):
        conv = aspp.views[index][0]
        assert isinstance(conv, nn.Conv2d)
        centre = F.conv2d(x, conv.weight[:, :, 1:2, 1:2])
        assert torch.allclose(conv(x), centre, atol=1e-6) is not touches


def test_batch_of_one_is_refused_in_training_with_a_clear_message() -> None:
    aspp = ASPP(4, 4)
    x = torch.randn(1, 4, 8, 8)
    with pytest.raises(ModelError, match=r"batch of one.*drop the last incomplete batch"):
        aspp(x)
    assert aspp.eval()(x).shape == x.shape


def test_refuses_rates_below_one() -> None:
    with pytest.raises(ConfigError, match="rate"):
        ASPP(4, 4, rates=(6, 0))
