from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import expit
from torch import Tensor, nn

from zoo.blocks import MCSA, ChannelAttention, SpatialAttention
from zoo.errors import ConfigError, UnknownNameError


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().astype(np.float64)


def channel_map(layer: ChannelAttention, x: np.ndarray) -> np.ndarray:
    """Equation 10 in numpy, from the weights of the linear layers in their order."""
    linear = [part for part in layer.branch if isinstance(part, nn.Linear)]

    def branch(v: np.ndarray) -> np.ndarray:
        for index, part in enumerate(linear):
            v = v @ array(part.weight).T + array(part.bias)
            v = v if index == len(linear) - 1 else np.maximum(v, 0)
        return v

    score = branch(x.mean(axis=(2, 3)))
    if layer.pool == "avg+max":
        score = score + branch(x.max(axis=(2, 3)))
    return expit(score)[:, :, None, None]


def spatial_map(layer: SpatialAttention, x: np.ndarray) -> np.ndarray:
    """Equation 12 in numpy and scipy."""

    def conv(maps: np.ndarray, part: nn.Conv2d) -> np.ndarray:
        assert part.bias is not None
        pad = part.kernel_size[0] // 2
        padded = np.pad(maps, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        y = np.zeros((maps.shape[0], part.out_channels, *maps.shape[2:]))
        for image, out, inp in np.ndindex(maps.shape[0], part.out_channels, part.in_channels):
            y[image, out] += correlate2d(padded[image, inp], array(part.weight)[out, inp], mode="valid")
        return y + array(part.bias)[:, None, None]

    pooled = np.stack([x.mean(axis=1), x.max(axis=1)], axis=1)
    return expit(conv(np.maximum(conv(pooled, layer.conv_1), 0), layer.conv_2))


@pytest.fixture
def x() -> Tensor:
    return 2 * torch.randn(3, 16, 9, 11, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"mlp_layers": 0}, {"mlp_layers": 2}, {"pool": "avg"}, {"reduction": 2}])
def test_channel_attention_is_equations_10_and_11(x: Tensor, options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = ChannelAttention(16, **options)
    expected = channel_map(layer, array(x))
    np.testing.assert_allclose(array(layer.attention(x)), expected, atol=1e-6)
    np.testing.assert_allclose(array(layer(x)), array(x) * expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"kernel_size": 3}, {"hidden": 1}])
def test_spatial_attention_is_equations_12_and_13(x: Tensor, options: dict[str, Any]) -> None:
    torch.manual_seed(2)
    layer = SpatialAttention(**options)
    expected = spatial_map(layer, array(x))
    assert expected.shape == (3, 1, 9, 11)
    np.testing.assert_allclose(array(layer.attention(x)), expected, atol=1e-6)
    np.testing.assert_allclose(array(layer(x)), array(x) * expected, atol=1e-5)


def test_mcsa_is_equations_14_and_15(x: Tensor) -> None:
    torch.manual_seed(3)
    add = MCSA(16)
    attention = channel_map(add.channel, array(x)) + spatial_map(add.spatial, array(x))
    np.testing.assert_allclose(array(add.attention(x)), attention, atol=1e-6)
    np.testing.assert_allclose(array(add(x)), array(x) + attention, atol=1e-5)
    for fusion, expected in (("mul", array(x) * attention), ("residual", array(x) * (1 + attention))):
        other = MCSA(16, fusion)
        other.load_state_dict(add.state_dict())
        np.testing.assert_allclose(array(other(x)), expected, atol=1e-5)


def test_attention_is_bounded(x: Tensor) -> None:
    torch.manual_seed(4)
    layer = MCSA(16)
    for part, upper in ((layer.channel, 1.0), (layer.spatial, 1.0), (layer, 2.0)):
        attention = part.attention(x).detach()
        assert 0 < float(attention.min()) <= float(attention.max()) < upper


@pytest.mark.parametrize(("channels", "count"), [(64, 3_585), (128, 10_593), (256, 38_433), (512, 149_409)])
def test_parameters_of_mcsa(channels: int, count: int) -> None:
    assert sum(p.numel() for p in MCSA(channels).parameters()) == count


def test_parameters_of_the_options() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(ChannelAttention(64)) == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 64 + 64
    assert count(ChannelAttention(64, mlp_layers=0)) == 64 * 16 + 16 + 16 * 64 + 64
    assert count(ChannelAttention(32, reduction=16, mlp_layers=0)) == 32 * 4 + 4 + 4 * 32 + 32, "at least 4 hidden"
    assert count(SpatialAttention()) == 2 * 49 * 8 + 8 + 8 * 49 + 1
    assert count(SpatialAttention(3, 1)) == 2 * 9 + 1 + 9 + 1


def test_one_pixel_and_any_channels() -> None:
    assert MCSA(5)(torch.randn(1, 5, 1, 1)).shape == (1, 5, 1, 1)
    assert SpatialAttention()(torch.randn(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_channel_attention_does_not_see_places_nor_spatial_attention_the_order_of_channels(x: Tensor) -> None:
    channel, spatial = ChannelAttention(16), SpatialAttention()
    torch.testing.assert_close(channel.attention(x.flip(2).roll(3, dims=3)), channel.attention(x))
    torch.testing.assert_close(spatial.attention(x.flip(1)), spatial.attention(x))


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mul'"):
        MCSA(8, "mull")
    with pytest.raises(UnknownNameError, match="pool"):
        ChannelAttention(8, pool="median")
    with pytest.raises(ConfigError, match="odd"):
        SpatialAttention(kernel_size=6)
    with pytest.raises(ConfigError, match="mlp_layers"):
        ChannelAttention(8, mlp_layers=-1)
    with pytest.raises(ConfigError, match="reduction"):
        ChannelAttention(8, reduction=0)
