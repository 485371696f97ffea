"""Pad images to the sizes that a network with strides needs, and crop the padding off."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad height and width to the next multiple, at the bottom and the right.

    The image is mirrored, as U-Net's authors do at borders [S: Ronneberger et al. 2015, Figure 2]. In the channels used
    here, zeros would mean sea level and bare rock, and repeated edges a terrace. The top left corner stays in place, so
    a pixel is in the same pooling window for every image size [O].

    Args:
        x: ``(B, C, H, W)``.
        multiple: number by which height and width must be divisible.

    Returns:
        ``(B, C, H', W')``; ``x`` itself if it already fits. A side shorter than its padding cannot be mirrored, so
        its border is repeated.
    """
    height, width = x.shape[-2:]
    # Sizes are symbolic in an export, so the expression must hold whether they fit or not. In this form torch can prove
    # that size plus padding is a multiple, so halving and doubling it returns the same size. No negative number is
    # divided, because ONNX rounds negative quotients the other way.
    bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in (height, width))
    if isinstance(bottom, int) and isinstance(right, int) and bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Crop ``(B, C, H, W)`` to its top left ``(B, C, height, width)``, which undoes :func:`pad_to_multiple`.

    The result is a view, except in an export with symbolic sizes. There, whether a slice is contiguous depends on
    whether it removes anything, and torch would restrict the program to sizes that behave like the example.
    """
    sides: tuple[object, ...] = (height, width)
    if any(isinstance(side, torch.SymInt) for side in sides):
        rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
        return x.index_select(2, rows).index_select(3, columns)
    return x[..., :height, :width]
