from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.blocks.convolution import CONVOLUTIONS
from zoo.errors import ConfigError, UnknownNameError

PAIRS = [name for name in CONVOLUTIONS if "+" in name]


def array(x: Tensor | None) -> np.ndarray:
    assert x is not None
    return x.detach().numpy().astype(np.float64)


def one_operation(x: np.ndarray, kernel: np.ndarray, dilation: int, groups: int) -> np.ndarray:
    """Convolution by the definition: holes are zeros in a larger kernel, groups are slices. No torch."""
    out_channels, width, size, _ = kernel.shape
    reach = size + (size - 1) * (dilation - 1)
    spread = np.zeros((out_channels, width, reach, reach))
    spread[:, :, ::dilation, ::dilation] = kernel
    y = np.zeros((x.shape[0], out_channels, *x.shape[2:]))
    for image in range(x.shape[0]):
        for out in range(out_channels):
            first = out // (out_channels // groups) * width
            for channel in range(width):
                # "same" keeps the larger shape of the two, which may be the kernel's: pad by hand, keep "valid".
                padded = np.pad(x[image, first + channel], reach // 2)
                y[image, out] += correlate2d(padded, spread[out, channel], mode="valid")
    return y


def reference(layer: HybridConv2d, x: np.ndarray, weights: tuple[float, float], dilation: int, groups: int) -> Any:
    """Equation 9 for every mode, from the layer's parameters alone."""
    operations = layer.convolution.split("+")
    settings_of = {"standard": (1, 1), "dilated": (dilation, 1), "grouped": (1, groups)}
    kernel = array(layer.weight)
    bias = 0.0 if layer.bias is None else array(layer.bias)[:, None, None]
    if len(operations) == 1:
        return one_operation(x, kernel, *settings_of[operations[0]]) + bias
    total = 0.0
    half = (x.shape[1] + 1) // 2
    for index, (operation, weight) in enumerate(zip(operations, weights, strict=True)):
        part, own = x, kernel
        if layer.mode == "split":
            part = x[:, :half] if index == 0 else x[:, half:]
        if layer.mode != "shared" and index == 1:
            own = array(layer.weight_2)
        rate, count = settings_of[operation]
        if layer.mode == "shared" and count > 1:
            rows, columns = own.shape[0] // count, own.shape[1] // count
            own = np.concatenate(
                [own[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] for g in range(count)]
            )
        y = one_operation(part, own, rate, count)
        if layer.mode == "separate" and layer.bias is not None:
            y = y + array(layer.bias if index == 0 else layer.bias_2)[:, None, None]
        total = total + weight * y
    return total if layer.mode == "separate" else total + bias


@pytest.mark.parametrize("mode", ["shared", "split", "separate"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_equals_the_definition(convolution: str, mode: str) -> None:
    torch.manual_seed(0)
    layer = HybridConv2d(8, 12, convolution=convolution, mode=mode, branch_weights=(0.3, 0.7), groups=2)
    x = torch.randn(2, 8, 9, 7)
    expected = reference(layer, array(x), (0.3, 0.7), 2, 2)
    np.testing.assert_allclose(array(layer(x)), expected, rtol=0, atol=1e-5)


@settings(max_examples=30)
@given(
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    dilation=st.integers(1, 4),
    in_channels=st.integers(1, 5),
    out_channels=st.integers(1, 3),
    weight=st.floats(-2, 2),
    mode=st.sampled_from(["shared", "split", "separate"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_any_odd_kernel_and_dilation(
    kernel_size: int,
    dilation: int,
    in_channels: int,
    out_channels: int,
    weight: float,
    mode: str,
    size: tuple[int, int],
) -> None:
    torch.manual_seed(1)
    weights = (weight, 1.0 - weight)
    layer = HybridConv2d(in_channels, out_channels, kernel_size, mode=mode, branch_weights=weights, dilation=dilation)
    x = torch.randn(1, in_channels, *size)
    if mode == "split" and in_channels == 1:
        expected = weight * one_operation(array(x), array(layer.weight), 1, 1) + array(layer.bias)[:, None, None]
    else:
        expected = reference(layer, array(x), weights, dilation, 1)
    y = layer(x)
    assert y.shape == (1, out_channels, *size)
    np.testing.assert_allclose(array(y), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", ["shared", "split", "separate"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_equals_one_merged_convolution(convolution: str, mode: str) -> None:
    torch.manual_seed(2)
    layer = HybridConv2d(8, 4, convolution=convolution, mode=mode).double()
    x = torch.randn(1, 8, 16, 16, dtype=torch.float64)
    merged = layer.merged_kernel()
    y = F.conv2d(x, merged, layer.total_bias(), padding=merged.shape[-1] // 2)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


def test_shared_hybrid_is_one_sparse_5x5_kernel_of_17_taps() -> None:
    torch.manual_seed(3)
    layer = HybridConv2d(16, 24)
    merged = layer.merged_kernel().detach()
    assert merged.shape == (24, 16, 5, 5)
    taps = (merged != 0).any(dim=0).any(dim=0)
    assert int(taps.sum()) == 17
    holes = [(0, 1), (0, 3), (1, 0), (1, 4), (3, 0), (3, 4), (4, 1), (4, 3)]
    assert sorted(tuple(hole) for hole in (~taps).nonzero().tolist()) == holes
    assert torch.equal(merged[:, :, 2, 2], layer.weight[:, :, 1, 1])

    x = torch.randn(2, 16, 21, 17)
    difference = (layer(x) - F.conv2d(x, merged, layer.bias, padding=2)).abs().max()
    assert difference / layer(x).abs().max() < 1e-6


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_general_form_of_equation_8(kernel_size: int, dilation: int) -> None:
    layer = HybridConv2d(1, 1, kernel_size, convolution="dilated", dilation=dilation)
    covered = kernel_size + (kernel_size - 1) * (dilation - 1)
    assert layer.merged_kernel().shape[-1] == covered
    if kernel_size == 3:
        assert covered == 3 + 2 * (dilation - 1), "equation 8 as the paper prints it"


@pytest.mark.parametrize("convolution", PAIRS)
def test_scaling_kernels_gives_the_gradients_of_scaling_outputs(convolution: str) -> None:
    torch.manual_seed(4)
    layer = HybridConv2d(4, 4, convolution=convolution, branch_weights=(0.6, 0.4), groups=2).double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    kernel = layer.weight.detach().clone().requires_grad_()
    block = torch.cat([kernel[:2, :2], kernel[2:, 2:]])
    literal = {
        "standard": lambda: F.conv2d(x, kernel, padding=1),
        "dilated": lambda: F.conv2d(x, kernel, padding=2, dilation=2),
        "grouped": lambda: F.conv2d(x, block, padding=1, groups=2),
    }
    first, second = convolution.split("+")
    y = 0.6 * literal[first]() + 0.4 * literal[second]()
    expected = torch.autograd.grad((y * wanted).sum(), [x, kernel])
    got = torch.autograd.grad((layer(x) * wanted).sum(), [x, layer.weight])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_standard_is_conv2d_bit_by_bit() -> None:
    torch.manual_seed(5)
    ours = HybridConv2d(7, 16, convolution="standard")
    torch.manual_seed(5)
    theirs = nn.Conv2d(7, 16, 3, padding=1)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(array_of(ours.bias), array_of(theirs.bias))
    x = torch.randn(1, 7, 8, 8)
    assert torch.equal(ours(x), theirs(x))
    theirs.load_state_dict(ours.state_dict())


def array_of(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def parameters(**options: Any) -> int:
    return sum(p.numel() for p in HybridConv2d(64, 128, **options).parameters())


def test_parameters_of_every_mode() -> None:
    dense, bias = 64 * 128 * 9, 128
    for convolution in CONVOLUTIONS:
        alone = dense // 4 if convolution == "grouped" else dense
        assert parameters(convolution=convolution, mode="shared") == alone + bias
    assert parameters(mode="split") == dense + bias
    assert parameters(mode="separate") == 2 * (dense + bias)
    assert parameters(convolution="standard+grouped", mode="separate") == dense + dense // 4 + 2 * bias
    assert parameters(mode="separate", bias=False) == 2 * dense


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.4, 0.6), (0.5, 0.5), (0.6, 0.4), (0.7, 0.3)])
def test_weights_of_table_4(weights: tuple[float, float]) -> None:
    torch.manual_seed(6)
    layer = HybridConv2d(3, 5, branch_weights=weights, bias=False)
    x = torch.randn(1, 3, 12, 12)
    standard = F.conv2d(x, layer.weight, padding=1)
    dilated = F.conv2d(x, layer.weight, padding=2, dilation=2)
    torch.testing.assert_close(layer(x), weights[0] * standard + weights[1] * dilated, rtol=1e-5, atol=1e-6)


def test_the_same_under_autocast_and_in_channels_last() -> None:
    torch.manual_seed(7)
    layer = HybridConv2d(8, 8)
    x = torch.randn(2, 8, 16, 16)
    y = layer(x)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), y, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "odd"),
        ({"dilation": 0}, "dilation must be a positive integer"),
        ({"in_channels": 0}, "in_channels"),
        ({"branch_weights": (1.0,)}, "two finite numbers"),
        ({"branch_weights": (float("nan"), 0.5)}, "two finite numbers"),
        ({"convolution": "grouped", "in_channels": 7}, "7 input channels are not divisible by 4 groups"),
        ({"convolution": "standard+grouped", "out_channels": 6}, "6 output channels"),
    ],
)
def test_refuses_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HybridConv2d(**({"in_channels": 8, "out_channels": 8} | options))


def test_suggests_the_right_word() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'standard\+dilated'"):
        HybridConv2d(4, 4, convolution="standard+dilate")
    with pytest.raises(UnknownNameError, match="Did you mean 'shared'"):
        HybridConv2d(4, 4, mode="share")
