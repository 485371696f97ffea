"""Making any image fit a network that halves it several times."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Grow height and width to the next multiple, at the bottom and the right.

    The image is mirrored, as U-Net's authors do at borders [S: Ronneberger et al. 2015, Figure 2]: zeros would be
    sea level and bare rock in the channels used here, and a flat continuation would be a terrace. The top left
    corner stays where it is, so that a pixel meets the same pooling window whatever the size of its image [O].

    Args:
        x: ``(B, C, H, W)``.
        multiple: what height and width shall be divisible by.

    Returns:
        ``(B, C, H', W')``, ``x`` itself if it already fits. A side shorter than its padding cannot be mirrored and
        repeats its border instead.
    """
    height, width = x.shape[-2:]
    # Sizes that are symbols, in an export, fit or do not fit only later: what comes of them must hold for both. In
    # this form their sum with the padding is seen to be a multiple, so that halving and doubling it gives it back;
    # and no negative number is divided, which ONNX rounds the other way.
    bottom, right = ((side + multiple - 1) // multiple * multiple - side for side in (height, width))
    if isinstance(bottom, int) and isinstance(right, int) and bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left ``(B, C, height, width)`` of ``(B, C, H, W)``: what :func:`pad_to_multiple` added is gone.

    A view, but where sizes are symbols, in an export: whether a slice is contiguous depends on whether it cuts
    anything, and torch would let the program take only sizes of which the answer is that of the example.
    """
    sides: tuple[object, ...] = (height, width)
    if any(isinstance(side, torch.SymInt) for side in sides):
        rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
        return x.index_select(2, rows).index_select(3, columns)
    return x[..., :height, :width]
