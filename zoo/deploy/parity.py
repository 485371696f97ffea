"""Whether a form computes what its model computes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLOSE = {"fp32": 1e-4, "bf16": 0.1}
"""Largest difference of a logit, relative to the largest logit, that is taken for rounding. Whole networks amplify what
rounding does in a layer. What bf16 does to masks is for the gate to judge; here is found what is wrong."""
STRAY = 1e-3
"""Share of logits that may differ by more: where two neighbours are equal but for rounding, an unpooling puts a value
elsewhere."""

ROUNDING = 1 + 2**-22
"""By what images are multiplied to see how a model takes rounding."""


@dataclass(frozen=True)
class Difference:
    """How far logits are from those of the model.

    Attributes:
        largest: difference of a logit, relative to the largest logit.
        strays: share of logits that differ by more than the precision allows.
        allowed: such share.
    """

    largest: float
    strays: float
    allowed: float = STRAY

    @property
    def passed(self) -> bool:
        """Whether this is rounding."""
        return self.strays <= self.allowed


def difference(found: Tensor, expected: Tensor, precision: str) -> Difference:
    """Compare logits; those that are not finite or of another shape or type are infinitely far away.

    Args:
        found: of the form.
        expected: of the model.
        precision: of the form, a key of :data:`CLOSE`.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype or not bool(found.isfinite().all()):
        return Difference(float("inf"), 1.0)
    apart = (found - expected).abs() / expected.abs().max().clamp_min(1e-12)
    return Difference(float(apart.max()), float((apart > CLOSE[precision]).float().mean()))


class Parity:
    """The logits of a model on the example, on noise of its spread, and on both at another size.

    The other size is one row higher and twice as wide: what a form does at the example's size alone shows there.

    Args:
        model: in eval mode, float32.
        example: float32 ``(B, C, H, W)``.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        # Two images are enough to see a difference, also one between the images of a batch.
        known = torch.nan_to_num(example[:2])
        spread, centre = torch.std_mean(known, dim=(0, 2, 3), keepdim=True, correction=0)
        noise = torch.randn(known.shape, generator=generator).to(known)
        self.images: Sequence[Tensor] = (known, centre + spread.clamp_min(1e-3) * noise)
        wide = torch.cat([self.images[1][:1], self.images[0][:1]], dim=3)
        other = torch.cat([wide, wide[:, :, -1:]], dim=2)
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._elsewhere: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode():
            self._pairs += [(images, model(images)) for images in self.images]
            # A model may be made for one size, and refuse others in any way it likes.
            with suppress(Exception):
                self._elsewhere.append((other, model(other)))
            # How many go astray by rounding depends on the model: what it does to itself is no fault of a form.
            own = [difference(model(ROUNDING * images), logits, "fp32").strays for images, logits in self._pairs]
        self._allowed = max(STRAY, 2 * max(own))

    @torch.inference_mode()
    def difference(self, form: nn.Module, precision: str, *, any_size: bool = True) -> Difference:
        """Compare ``form`` by :func:`difference` on all images: the largest of each number.

        Args:
            form: to compare.
            precision: ``fp32`` or ``bf16``.
            any_size: whether it has to be right at other sizes too, where the model takes them.
        """
        pairs = [*self._pairs, *(self._elsewhere if any_size else [])]
        found = [difference(form(images), expected, precision) for images, expected in pairs]
        return Difference(max(one.largest for one in found), max(one.strays for one in found), self._allowed)
