"""How good a prediction may be, told without labels: from its confidence, and from whether it keeps to itself.

None of these is a measurement. ``docs/adapt.md`` says how far they could be trusted where labels were at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

VIEWS = (0, 1)
"""Quarter turns of the views that are compared: two that differ in every pixel's surroundings."""


@dataclass(frozen=True)
class Score:
    """What is known of a prediction without labels, over all valid pixels.

    Attributes:
        expected_dice: Dice that the probabilities promise, were they calibrated.
        agreement: Dice between the prediction of an image and that of the image turned.
        positive: share of pixels called landslide.
        entropy: mean of a pixel's entropy, in nats.
    """

    expected_dice: float
    agreement: float
    positive: float
    entropy: float

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return asdict(self)


@torch.inference_mode()
def score(probability: Callable[[Tensor], Tensor], batches: Iterable[Tensor], threshold: float) -> Score:
    """Score predictions without labels.

    Args:
        probability: maps float32 ``(B, C, H, W)`` in units to landslide probabilities ``(B, H, W)``.
        batches: square or not, NaN where missing; missing pixels count nowhere.
        threshold: from which a pixel is called landslide.
    """
    called = promised = mass = both = either = entropy = pixels = 0.0
    for batch in batches:
        valid = ~torch.isnan(batch).any(1)
        first, second = (  #
            torch.rot90(probability(torch.rot90(batch, turn, (-2, -1))), -turn, (-2, -1)).cpu().double()
            for turn in VIEWS
        )
        valid = valid.cpu()
        for view in (first, second):
            landslide = (view >= threshold) & valid
            called += float(landslide.sum())
            promised += float(view[landslide].sum())
            mass += float(view[valid].sum())
            inside = view[valid].clamp(1e-7, 1 - 1e-7)
            entropy += float(-(inside * inside.log() + (1 - inside) * (1 - inside).log()).sum())
            pixels += float(valid.sum())
        one, two = (first >= threshold) & valid, (second >= threshold) & valid
        both += float((one & two).sum())
        either += float(one.sum() + two.sum())
    return Score(
        expected_dice=2 * promised / (called + mass) if called + mass else 0.0,
        agreement=2 * both / either if either else 0.0,
        positive=called / pixels if pixels else 0.0,
        entropy=entropy / pixels if pixels else 0.0,
    )


def choose(scores: dict[float, Score]) -> float:
    """The share with the best score."""
    return max(scores, key=lambda share: scores[share].expected_dice)
