"""Base class of all architectures here, with input checks and padding."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_positive
from zoo.blocks.padding import crop, pad_to_multiple
from zoo.errors import ModelError
from zoo.registry import Choice

PADDED = Choice(
    "O",
    "Any height and width: images are mirrored at the bottom and right to the next multiple of the stride, and the "
    "logits are cropped.",
    "Ronneberger et al. 2015, Figure 2, mirror too; zeros would be sea level in the elevation band",
)
"""The design choice that all models share."""


class SegmentationModel(nn.Module):
    """A model that maps images to logits of the same height and width.

    A subclass implements :meth:`segment` for sizes that are multiples of its stride. This class checks the input,
    pads it at the bottom and right by reflection, and crops the logits.

    Args:
        in_channels: bands of the input, 1 or more.
        classes: channels of the logits, 1 or more: 1 is a single logit for a sigmoid, 2 or more are for a softmax.
        stride: number by which the height and width of the network's input must be divisible.
        minimum_size: smallest height and width in pixels. With twice the stride, the deepest map has 2x2 pixels, so
            its batch normalisation has more than one value even for a batch of one.

    Shape:
        float32 ``(B, in_channels, H, W)`` -> logits ``(B, classes, H, W)`` for any H and W of at least
        ``minimum_size``, in training and in evaluation. Under autocast the logits have its dtype.
    """

    def __init__(self, in_channels: int, classes: int, *, stride: int, minimum_size: int) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, classes=classes)
        self.in_channels = in_channels
        self.classes = classes
        self.stride = stride
        self.minimum_size = minimum_size

    def segment(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, classes, H, W)`` for H and W divisible by the stride."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of ``x``.

        Raises:
            ModelError: if the rank, the number of channels, the dtype or the size is wrong.
        """
        self.check_input(x)
        height, width = x.shape[-2:]
        return crop(self.segment(pad_to_multiple(x, self.stride)), height, width)

    def check_input(self, x: Tensor) -> None:
        """Check that ``x`` is a valid input for :meth:`segment`.

        Raises:
            ModelError: if it is not; the message names what was expected.
        """
        where = type(self).__name__
        if not isinstance(x, Tensor):
            raise ModelError(f"expected a torch.Tensor, got {type(x).__name__}", where=where)
        shape = tuple(x.shape)
        if x.ndim != 4:
            raise ModelError(
                f"expected images of shape (batch, channels, height, width), got {shape}",
                where=where,
                hint="Add a batch dimension with x.unsqueeze(0)" if x.ndim == 3 else None,
            )
        if x.shape[1] != self.in_channels:
            raise ModelError(
                f"made for {self.in_channels} channels, got {x.shape[1]}",
                where=where,
                hint=f"Pass {self.in_channels} bands, or make the model with in_channels={x.shape[1]}",
            )
        if min(x.shape[-2:]) < self.minimum_size:
            raise ModelError(
                f"needs images of at least {self.minimum_size}x{self.minimum_size} pixels, got {shape[2]}x{shape[3]}",
                where=where,
                hint="Use larger images or pad them",
            )
        weights = next(chain(self.parameters(), self.buffers())).dtype
        if x.dtype != weights and not _autocasts(x):
            raise ModelError(
                f"expected {_name(weights)}, the dtype of its weights, got {_name(x.dtype)}",
                where=where,
                hint=f"Convert with x.to(torch.{_name(weights)})",
            )


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    return (
        x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and torch.amp.is_autocast_available(device)
        and torch.is_autocast_enabled(device)
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
