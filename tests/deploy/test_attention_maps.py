"""Attention maps are what the blocks compute, and recording them changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.blocks import MCSA
from zoo.deploy.attention_maps import record_attention
from zoo.registry import create_model

WIDTHS = {"widths": [4, 8, 8]}


@pytest.mark.parametrize("attention", ["mcsa", "channel", "spatial"])
def test_blocks_are_recorded_in_the_order_they_run(attention: str) -> None:
    model = create_model("enhanced_unet", 3, 2, attention=attention, **WIDTHS).eval()
    image = torch.randn(2, 3, 20, 24)
    with torch.inference_mode():
        plain = model(image)
        with record_attention(model) as found:
            assert torch.equal(model(image), plain)
        model(image)
    assert [one.name for one in found] == [f"encoder_attention.{level}" for level in range(3)]
    for one, width, side in zip(found, (4, 8, 8), ((20, 24), (10, 12), (5, 6)), strict=True):
        assert (one.channel is None) == (attention == "spatial")
        assert (one.spatial is None) == (attention == "channel")
        for values, shape in ((one.channel, (width,)), (one.spatial, side)):
            if values is not None:
                assert values.shape == shape
                assert ((values > 0) & (values < 1)).all()


def test_the_two_maps_add_up_to_the_attention_of_equation_14() -> None:
    block = MCSA(6, "mul")
    image = torch.randn(1, 6, 9, 7)
    with record_attention(torch.nn.Sequential(block)) as found:
        block(image)
    (one,) = found
    assert one.channel is not None
    assert one.spatial is not None
    assert (one.block, one.fusion, one.name) == ("MCSA", "mul", "0")
    expected = block.attention(image)[0].detach().numpy()
    np.testing.assert_allclose(one.channel[:, None, None] + one.spatial, expected, rtol=1e-6)


def test_a_model_without_attention_leaves_the_list_empty() -> None:
    model = create_model("unet", 3, 2, **WIDTHS).eval()
    with torch.inference_mode(), record_attention(model) as found:
        model(torch.randn(1, 3, 16, 16))
    assert found == []
