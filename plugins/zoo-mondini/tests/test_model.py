"""The network, the mask and the model that joins them."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo_mondini.model import MondiniRain
from zoo_mondini.network import RainHistory, SlopeMask, log_product

from zoo.errors import ConfigError, ModelError, ZooError
from zoo.registry import create_model


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_log_product_is_the_product(a: float, b: float) -> None:
    no, yes = log_product(torch.tensor(a), torch.tensor(b))
    p = torch.sigmoid(torch.tensor(a, dtype=torch.float64)) * torch.sigmoid(torch.tensor(b, dtype=torch.float64))
    assert yes.double().exp().item() == pytest.approx(p.item(), rel=1e-5)
    assert no.double().exp().item() == pytest.approx(1 - p.item(), rel=1e-5, abs=1e-7)


def test_log_product_keeps_what_probabilities_lose() -> None:
    no, yes = log_product(torch.tensor([-200.0, 200.0]), torch.tensor([-200.0, 200.0]))
    assert yes.tolist() == pytest.approx([-400.0, 0.0])
    assert no[1].item() == pytest.approx(-200.0 + torch.log(torch.tensor(2.0)).item(), abs=1e-3)


def test_two_logits_one_logit_and_the_factors_say_the_same() -> None:
    torch.manual_seed(0)
    two = MondiniRain(classes=2).eval()
    one = MondiniRain(classes=1).eval()
    one.load_state_dict(two.state_dict())
    images, rain = torch.randn(2, 7, 5, 9), 5 * torch.rand(2, 72)
    with torch.no_grad():
        p = two(images, rain).softmax(1)[:, 1]
        assert torch.allclose(one(images, rain).sigmoid()[:, 0], p, atol=1e-6)
        when, where = two.rain(rain).sigmoid(), two.mask(images[:, 4]).sigmoid()
    assert torch.allclose(p, when[:, None, None] * where, atol=1e-6)


def test_the_probability_rises_with_the_slope_and_looks_at_no_other_band() -> None:
    model = MondiniRain(3, slope_band=1).eval()
    with torch.no_grad():
        model.mask.log_steepness.fill_(-3.0)
        images = torch.randn(1, 3, 1, 50)
        images[0, 1, 0] = torch.linspace(-3, 3, 50)
        rain = torch.rand(1, 72)
        logits = model(images, rain)
        assert bool((logits[0, 1].diff(dim=1) > 0).all())
        other = images.clone()
        other[:, [0, 2]] = 9.0
        assert torch.equal(logits, model(other, rain))


def test_a_coarse_grid_of_rain_is_laid_over_the_image() -> None:
    torch.manual_seed(1)
    model = MondiniRain(1, 1).eval()
    images, rain = torch.zeros(2, 1, 6, 8), 4 * torch.rand(2, 72, 3, 2)
    with torch.no_grad():
        logits = model(images, rain)
        for row, column in ((0, 0), (2, 3), (3, 4), (5, 7)):
            alone = model(images, rain[:, :, row // 2, column // 4])
            assert torch.allclose(logits[:, :, row, column], alone[:, :, row, column], atol=1e-6)
    assert len({round(value, 5) for value in logits.flatten().tolist()}) == 12


@pytest.mark.parametrize("hours", [1, 2, 7, 24, 72, 240])
def test_histories_of_any_length(hours: int) -> None:
    assert RainHistory(hours)(torch.rand(3, hours)).shape == (3,)


def test_when_it_rained_counts() -> None:
    network = RainHistory().eval()
    early, late = torch.zeros(1, 72), torch.zeros(1, 72)
    late[0, 0], early[0, -1] = 50.0, 50.0
    with torch.no_grad():
        assert not torch.allclose(network(early), network(late))


def test_a_fresh_mask_is_half_at_the_middle() -> None:
    assert SlopeMask()(torch.tensor([-1.0, 0.0, 1.0])).sigmoid()[1].item() == 0.5


@pytest.mark.parametrize(
    ("rain", "words"),
    [
        (None, "the model needs rain and cannot predict from only an image"),
        (torch.rand(2, 71), "rain has the shape (2, 71)"),
        (torch.rand(3, 72), "rain has the shape (3, 72)"),
        (torch.rand(2, 72, 4), "rain has the shape (2, 72, 4)"),
        (torch.full((2, 72), -1.0), "negative"),
        (torch.full((2, 72), float("nan")), "NaN"),
        (torch.full((2, 72), float("inf")), "infinite"),
    ],
)
def test_rain_that_is_none_is_refused(rain: torch.Tensor | None, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)) as error:
        MondiniRain()(torch.rand(2, 7, 8, 8), rain)
    assert "(2, 72), mm per hour, latest hour first" in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_channels": 14}, "which of the 14 bands is the slope"),
        ({"in_channels": 3, "slope_band": 3}, "slope_band must be 0 to 2"),
        ({"slope_band": -1}, "slope_band must be 0 to 6"),
        ({"classes": 3}, "at most 2 classes, not 3"),
        ({"hours": 0}, "hours must be a positive integer"),
    ],
)
def test_options_that_cannot_be(options: dict[str, int], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        create_model("mondini_rain", **options)


def test_errors_are_of_their_kind() -> None:
    with pytest.raises(ConfigError):
        MondiniRain(14)


def test_what_enters_the_convolutions_is_hourly_rain_and_depth_until_now() -> None:
    network = RainHistory(3)
    seen: list[torch.Tensor] = []
    network.time.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.tensor([[1.0, 0.0, 4.0]]))
    assert seen[0].exp().sub(1).flatten().tolist() == pytest.approx([1, 0, 4, 1, 1, 5], abs=1e-5)
