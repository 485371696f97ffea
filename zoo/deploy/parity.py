"""Check that a form is equivalent to its model: compare logits (parity), and masks and Dice for bf16 (gate)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import is_landslide
from zoo.evaluation.metrics import pooled_dice
from zoo.training.evaluate import IGNORE_INDEX
from zoo.training.predictor import landslide_probability

MAX_LOGIT_DIFFERENCE = {"fp32": 1e-4, "bf16": 0.1}
"""Maximum difference of a logit, relative to the largest logit, that counts as rounding. Deep networks amplify the
rounding of a layer. Parity finds wrong forms; the gate checks the effect of bf16 on masks."""
MAX_OUTLIER_SHARE = 1e-3
"""Share of logits that may differ by more: unpooling moves a value if two neighbours are equal up to rounding."""
ROUNDING_FACTOR = 1 + 2**-22
"""Factor applied to images to measure the sensitivity of a model to rounding."""
MAX_FLIPS_PPM = 500.0
"""Maximum pixels per million that may cross the threshold."""
MAX_DICE_CHANGE = 1e-3
"""Maximum change of the pooled Dice, in either direction."""


@dataclass(frozen=True)
class Difference:
    """Difference between logits and those of the model.

    Attributes:
        largest: largest difference of a logit, relative to the largest logit.
        strays: share of logits that differ by more than the precision allows.
        allowed: maximum accepted share.
    """

    largest: float
    strays: float
    allowed: float = MAX_OUTLIER_SHARE

    @property
    def passed(self) -> bool:
        """Return whether the difference is only rounding."""
        return self.strays <= self.allowed


def difference(found: Tensor, expected: Tensor, precision: str) -> Difference:
    """Compare logits. The difference is infinite for non-finite logits or another shape or dtype.

    Args:
        found: logits of the form.
        expected: logits of the model.
        precision: precision of the form, a key of :data:`MAX_LOGIT_DIFFERENCE`.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype or not bool(found.isfinite().all()):
        return Difference(float("inf"), 1.0)
    apart = (found - expected).abs() / expected.abs().max().clamp_min(1e-12)
    return Difference(float(apart.max()), float((apart > MAX_LOGIT_DIFFERENCE[precision]).float().mean()))


class Parity:
    """Logits of a model on an example, on noise of the same spread, and on both at another size.

    The other size is one row higher and twice as wide; it reveals forms that are correct only at the example's size.

    Args:
        model: a float32 model in eval mode.
        example: float32 ``(B, C, H, W)``.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        # Two images also reveal differences between the images of a batch.
        known = torch.nan_to_num(example[:2])
        spread, centre = torch.std_mean(known, dim=(0, 2, 3), keepdim=True, correction=0)
        noise = torch.randn(known.shape, generator=generator).to(known)
        self.images: Sequence[Tensor] = (known, centre + spread.clamp_min(1e-3) * noise)
        wide = torch.cat([self.images[1][:1], self.images[0][:1]], dim=3)
        other = torch.cat([wide, wide[:, :, -1:]], dim=2)
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._other_size: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode():
            self._pairs += [(images, model(images)) for images in self.images]
            # A model made for one size may raise anything for another.
            with suppress(Exception):
                self._other_size.append((other, model(other)))
            # The share of logits that differ by rounding depends on the model, not on the form.
            own = [difference(model(ROUNDING_FACTOR * images), logits, "fp32").strays for images, logits in self._pairs]
        self._allowed = max(MAX_OUTLIER_SHARE, 2 * max(own))

    @torch.inference_mode()
    def difference(self, form: nn.Module, precision: str, *, any_size: bool = True) -> Difference:
        """Compare ``form`` with the model on all images and return the maximum of each number.

        Args:
            form: the form to compare.
            precision: ``fp32`` or ``bf16``.
            any_size: also compare at the other size, if the model takes it.
        """
        pairs = [*self._pairs, *(self._other_size if any_size else [])]
        found = [difference(form(images), expected, precision) for images, expected in pairs]
        return Difference(max(one.largest for one in found), max(one.strays for one in found), self._allowed)


@dataclass(frozen=True)
class GateReport:
    """Difference between the masks of a faster form and those of its model.

    Attributes:
        patches: number of patches compared.
        pixels: number of pixels compared, without ignored pixels.
        flips: pixels whose mask changed.
        largest: largest difference of a landslide probability.
        dice_before: pooled Dice of the model; NaN without masks, or without a landslide in truth and prediction.
        dice_after: pooled Dice of the faster form.
        finite: whether all logits of the faster form are finite.
    """

    patches: int
    pixels: int
    flips: int
    largest: float
    dice_before: float
    dice_after: float
    finite: bool

    @property
    def flips_ppm(self) -> float:
        """Return the number of changed pixels per million."""
        return 1e6 * self.flips / self.pixels if self.pixels else float("nan")

    @property
    def dice_change(self) -> float:
        """Return Dice after minus Dice before; NaN where one is undefined."""
        return self.dice_after - self.dice_before

    @property
    def passed(self) -> bool:
        """Return whether :data:`MAX_FLIPS_PPM` and :data:`MAX_DICE_CHANGE` hold."""
        both_undefined = self.dice_before != self.dice_before and self.dice_after != self.dice_after
        return (
            self.finite
            and self.flips_ppm <= MAX_FLIPS_PPM
            and (both_undefined or abs(self.dice_change) <= MAX_DICE_CHANGE)
        )

    def figures(self) -> dict[str, float | int | bool | None]:
        """Return all figures by name; undefined figures are ``None``."""
        values: dict[str, float | int | bool] = {
            **asdict(self),
            "flips_ppm": self.flips_ppm,
            "dice_change": self.dice_change,
            "passed": self.passed,
        }
        return {name: None if value != value else value for name, value in values.items()}

    def __str__(self) -> str:
        if not self.finite:
            return f"logits that are not finite, on {self.patches} patches"
        undefined = self.dice_change != self.dice_change
        change = "Dice undefined" if undefined else f"Dice {self.dice_before:.4f} -> {self.dice_after:.4f}"
        return (
            f"{self.flips_ppm:.0f} ppm of the pixels changed (limit {MAX_FLIPS_PPM:.0f}), {change} "
            f"(limit {MAX_DICE_CHANGE:g}), largest change of a probability {self.largest:.2g}, {self.patches} patches"
        )


@torch.inference_mode()
def compare_masks(
    model: nn.Module,
    faster: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    threshold: float = 0.5,
) -> GateReport:
    """Run a model and its faster form on the same patches and compare their masks.

    Args:
        model: a float32 model in eval mode that maps images ``(B, C, H, W)`` to logits ``(B, K, H, W)``.
        faster: the faster form, with the same interface.
        batches: batches of ``image``, the input of both models, and optionally ``mask``, int64 ``(B, H, W)``, in which
            255 is ignored.
        threshold: landslide probability at and above which a pixel is landslide.

    Raises:
        ConfigError: if there are no patches.
    """
    patches, pixels, flips, largest, finite = 0, 0, 0, 0.0, True
    before: list[Counts] = []
    after: list[Counts] = []
    for batch in batches:
        image, truth = batch["image"], batch.get("mask")
        old, new = model(image).cpu(), faster(image).cpu()
        finite = finite and bool(new.isfinite().all())
        old, new = landslide_probability(old), landslide_probability(torch.nan_to_num(new))
        known = torch.ones_like(old, dtype=torch.bool) if truth is None else truth.cpu() != IGNORE_INDEX
        masks = is_landslide(old, threshold), is_landslide(new, threshold)
        patches += len(image)
        pixels += int(known.sum())
        flips += int(((masks[0] != masks[1]) & known).sum())
        largest = max(largest, float((old - new).abs().max()))
        if truth is not None:
            before.append(Counts.from_masks(masks[0], truth.cpu(), IGNORE_INDEX))
            after.append(Counts.from_masks(masks[1], truth.cpu(), IGNORE_INDEX))
    if not patches:
        raise ConfigError("there are no patches for comparing the model with its faster form")
    old_dice, new_dice = (pooled_dice(Counts.concatenate(counts)) for counts in (before, after))
    return GateReport(patches, pixels, flips, largest, old_dice, new_dice, finite)
