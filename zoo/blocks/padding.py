"""Making any image fit a network that halves it several times."""

from __future__ import annotations

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
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)
