from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.blocks import DoubleConv, pad_to_multiple


@settings(deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), multiple=st.sampled_from([1, 2, 8, 16, 32]))
def test_grows_to_the_next_multiple_and_keeps_the_image(height: int, width: int, multiple: int) -> None:
    x = torch.randn(1, 2, height, width)
    padded = pad_to_multiple(x, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert 0 <= padded.shape[2] - height < multiple
    assert 0 <= padded.shape[3] - width < multiple
    assert torch.equal(padded[..., :height, :width], x)
    down, right = padded.shape[2] - height, padded.shape[3] - width
    mode = "reflect" if down < height and right < width else "edge"
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, down), (0, right)), mode=mode)
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_an_image_that_fits_is_not_copied() -> None:
    x = torch.randn(1, 1, 32, 64)
    assert pad_to_multiple(x, 32) is x


def test_double_conv_keeps_the_size() -> None:
    block = DoubleConv(3, 8)
    assert block(torch.randn(2, 3, 9, 7)).shape == (2, 8, 9, 7)
    assert bool((block(torch.randn(2, 3, 9, 7)) >= 0).all())
    assert sum(p.numel() for p in block.parameters()) == (3 * 72 + 8) + 16 + (8 * 72 + 8) + 16
    assert sum(p.numel() for p in DoubleConv(3, 8, bias=False).parameters()) == 3 * 72 + 16 + 8 * 72 + 16
