"""Losses on logits and masks. Ignored pixels do not count; a mask with only ignored pixels gives a loss of zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Mean cross-entropy over the valid pixels; the most likely meaning of the paper's Loss column [O].

    Args:
        ignore_index: mask value of ignored pixels.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits ``(B, K, H, W)`` and an int64 mask ``(B, H, W)``."""
        # In half precision, the sum over the pixels of a batch would lose its last digits.
        total = F.cross_entropy(logits.float(), mask, ignore_index=self.ignore_index, reduction="sum")
        return total / (mask != self.ignore_index).sum().clamp(min=1)


class LandslideDice(nn.Module):
    """One minus the soft Dice of all classes except the background, over the whole batch [S: Milletari et al. 2016].

    With a single logit there is no background class, and that class is used.

    Args:
        ignore_index: mask value of ignored pixels.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar in [0, 1], of logits ``(B, K, H, W)`` and an int64 mask ``(B, H, W)``."""
        import segmentation_models_pytorch as smp  # half a second that commands without training save

        classes = list(range(1, logits.shape[1])) or None
        dice = smp.losses.DiceLoss("multiclass", classes=classes, ignore_index=self.ignore_index)
        loss: Tensor = dice(logits.float(), mask)
        return loss


class CrossEntropyDice(nn.Module):
    """Sum of :class:`CrossEntropy`, which has gradients everywhere, and :class:`LandslideDice`, which copes with rare
    landslides (2-6 % of the pixels) [O].

    Args:
        ignore_index: mask value of ignored pixels.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(ignore_index)
        self.dice = LandslideDice(ignore_index)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits ``(B, K, H, W)`` and an int64 mask ``(B, H, W)``."""
        total: Tensor = self.cross_entropy(logits, mask) + self.dice(logits, mask)
        return total


class Focal(nn.Module):
    """Focal loss, which gives a lower weight to pixels that are already classified well [S: Lin et al. 2017,
    10.1109/ICCV.2017.324].

    Args:
        ignore_index: mask value of ignored pixels.
        gamma: exponent of the weight; 0 gives the cross-entropy, larger values lower the weight of easy pixels.
    """

    def __init__(self, ignore_index: int = 255, gamma: float = 2.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.gamma = gamma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits ``(B, K, H, W)`` and an int64 mask ``(B, H, W)``."""
        entropy = F.cross_entropy(logits.float(), mask, ignore_index=self.ignore_index, reduction="none")
        weighted = (1 - torch.exp(-entropy)) ** self.gamma * entropy
        return weighted.sum() / (mask != self.ignore_index).sum().clamp(min=1)
