"""Losses on logits and masks. All leave out pixels to ignore, and are zero when there is no other pixel."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Mean cross-entropy over the pixels that count; the likeliest loss of the paper's Loss column [O].

    Args:
        ignore_index: mask value of pixels that count nowhere.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """``(B, K, H, W)`` float and ``(B, H, W)`` int64 to a scalar."""
        # In half precision the sum over a batch of pixels would lose its last digits.
        total = F.cross_entropy(logits.float(), mask, ignore_index=self.ignore_index, reduction="sum")
        return total / (mask != self.ignore_index).sum().clamp(min=1)


class LandslideDice(nn.Module):
    """One minus the soft Dice of the classes above background, over the whole batch [S: Milletari et al. 2016].

    With one class of logits there is no background to leave out, and that class is used.

    Args:
        ignore_index: mask value of pixels that count nowhere.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """``(B, K, H, W)`` float and ``(B, H, W)`` int64 to a scalar in [0, 1]."""
        classes = list(range(1, logits.shape[1])) or None
        dice = smp.losses.DiceLoss("multiclass", classes=classes, ignore_index=self.ignore_index)
        loss: Tensor = dice(logits.float(), mask)
        return loss


class CrossEntropyDice(nn.Module):
    """Cross-entropy plus :class:`LandslideDice`: the first gives gradients everywhere, the second resists the
    rarity of landslides (2-6 % of the pixels) [O].

    Args:
        ignore_index: mask value of pixels that count nowhere.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(ignore_index)
        self.dice = LandslideDice(ignore_index)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """``(B, K, H, W)`` float and ``(B, H, W)`` int64 to a scalar."""
        total: Tensor = self.cross_entropy(logits, mask) + self.dice(logits, mask)
        return total


class Focal(nn.Module):
    """Focal loss with gamma 2: pixels already right weigh less [S: Lin et al. 2017, 10.1109/ICCV.2017.324].

    Args:
        ignore_index: mask value of pixels that count nowhere.
        gamma: how fast the weight of an easy pixel falls; 0 is cross-entropy.
    """

    def __init__(self, ignore_index: int = 255, gamma: float = 2.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.gamma = gamma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """``(B, K, H, W)`` float and ``(B, H, W)`` int64 to a scalar."""
        surprise = F.cross_entropy(logits.float(), mask, ignore_index=self.ignore_index, reduction="none")
        weighted = (1 - torch.exp(-surprise)) ** self.gamma * surprise
        return weighted.sum() / (mask != self.ignore_index).sum().clamp(min=1)
