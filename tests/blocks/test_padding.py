from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo.blocks import DoubleConv, crop, pad_to_multiple


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


class Halves(nn.Module):
    """A network that pads, halves, doubles, concatenates and crops, as every network here does."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = pad_to_multiple(x, 4)
        small = nn.functional.max_pool2d(nn.functional.max_pool2d(x, 2), 2)
        large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return crop(torch.cat([x, large], 1), height, width)


def test_an_exported_program_pads_and_crops_any_size() -> None:
    model, free = Halves(), torch.export.Dim.AUTO
    for example in ((2, 1, 9, 14), (2, 1, 8, 12)):
        shapes = ({0: free, 2: free, 3: free},)
        program = torch.export.export(model, (torch.randn(example),), dynamic_shapes=shapes, strict=False).module()
        for shape in ((2, 1, 8, 8), (3, 1, 9, 16), (2, 1, 21, 6), (4, 1, 12, 13)):
            x = torch.randn(shape)
            assert torch.equal(program(x), model(x)), (example, shape)


def test_double_conv_keeps_the_size() -> None:
    block = DoubleConv(3, 8)
    assert block(torch.randn(2, 3, 9, 7)).shape == (2, 8, 9, 7)
    assert bool((block(torch.randn(2, 3, 9, 7)) >= 0).all())
    assert sum(p.numel() for p in block.parameters()) == (3 * 72 + 8) + 16 + (8 * 72 + 8) + 16
    assert sum(p.numel() for p in DoubleConv(3, 8, bias=False).parameters()) == 3 * 72 + 16 + 8 * 72 + 16
