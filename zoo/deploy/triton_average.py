"""Averaged form of a hybrid convolution on a GPU, which combines the two inputs of a tap while it loads them.

No im2col columns are stored. Each program computes a tile of output pixels and channels: it loops over taps and input
channels, computes ``x(p + t) + ratio * x(p + r t)`` in registers and multiplies it by the kernel of the tap.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_PIXELS, BLOCK_OUTPUTS, BLOCK_CHANNELS = 64, 64, 32


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    x,
    weight,
    bias,
    y,
    pixels,
    height,
    width,
    channels,
    outputs,
    ratio,
    NEAR: tl.constexpr,
    FAR: tl.constexpr,
    TAPS: tl.constexpr,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside = pixel % (height * width)
    row, column = inside // width, inside % width
    image = pixel - inside
    total = tl.zeros((PIXELS, OUTPUTS), dtype=tl.float32)
    for tap in range(TAPS * TAPS):
        down, right = tap // TAPS - TAPS // 2, tap % TAPS - TAPS // 2
        near_row, near_column = row + NEAR * down, column + NEAR * right
        far_row, far_column = row + FAR * down, column + FAR * right
        sees_near = (near_row >= 0) & (near_row < height) & (near_column >= 0) & (near_column < width)
        sees_far = (far_row >= 0) & (far_row < height) & (far_column >= 0) & (far_column < width)
        near = (image + near_row * width + near_column) * channels
        far = (image + far_row * width + far_column) * channels
        for start in range(0, channels, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            in_range = (pixel < pixels)[:, None] & (channel < channels)[None, :]
            a = tl.load(x + near[:, None] + channel[None, :], mask=in_range & sees_near[:, None], other=0.0)
            b = tl.load(x + far[:, None] + channel[None, :], mask=in_range & sees_far[:, None], other=0.0)
            both = (a.to(tl.float32) + ratio * b.to(tl.float32)).to(x.dtype.element_ty)
            place = (output[None, :] * TAPS * TAPS + tap) * channels + channel[:, None]
            known = (output < outputs)[None, :] & (channel < channels)[:, None]
            kernel = tl.load(weight + place, mask=known, other=0.0)
            total += tl.dot(both, kernel, input_precision="ieee")
    total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.maximum(total, 0.0)
    stored = (pixel < pixels)[:, None] & (output < outputs)[None, :]
    tl.store(y + pixel[:, None] * outputs + output[None, :], total.to(y.dtype.element_ty), mask=stored)


def averaged_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, rates: tuple[int, int], taps: int, ratio: float, relu: bool
) -> Tensor:
    """Return ``sum_t W_t (x(p + near t) + ratio x(p + far t)) + b``, optionally followed by ReLU.

    Args:
        x: ``(B, C, H, W)``, float32 or bfloat16; converted to channels last.
        weight: ``(O, taps * taps * C)``, ordered by tap, with the scale of the first operation included.
        bias: ``(O,)`` or ``None``.
        rates: dilations of the two operations, near and far.
        taps: edge of the kernel.
        ratio: scale of the second operation divided by that of the first.
        relu: apply ReLU to the output.

    Returns:
        ``(B, O, H, W)``, channels last.
    """
    batch, channels, height, width = x.shape
    outputs, pixels = weight.shape[0], batch * height * width
    source = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty((batch, height, width, outputs), device=x.device, dtype=x.dtype)
    shift = weight.new_zeros(outputs) if bias is None else bias
    grid: Any = (triton.cdiv(pixels, BLOCK_PIXELS), triton.cdiv(outputs, BLOCK_OUTPUTS))
    _kernel[grid](
        source,
        weight.contiguous(),
        shift,
        y,
        pixels,
        height,
        width,
        channels,
        outputs,
        ratio,
        NEAR=rates[0],
        FAR=rates[1],
        TAPS=taps,
        RELU=relu,
        PIXELS=BLOCK_PIXELS,
        OUTPUTS=BLOCK_OUTPUTS,
        CHANNELS=BLOCK_CHANNELS,
    )
    return y.permute(0, 3, 1, 2)
