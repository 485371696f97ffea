"""Whether a faster form of a model may stand in for it: the same masks and the same Dice on known patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import is_landslide
from zoo.evaluation.metrics import dice
from zoo.training.evaluate import IGNORE_INDEX
from zoo.training.predictor import landslide_probability

MAX_FLIPS_PPM = 500.0
"""Pixels in a million that may change sides of the threshold."""
MAX_DICE_CHANGE = 1e-3
"""By how much the pooled Dice may change, either way."""


@dataclass(frozen=True)
class GateReport:
    """How far a faster form is from its model.

    Attributes:
        patches: compared.
        pixels: compared; those that the truth leaves out are not among them.
        flips: pixels whose mask changed.
        largest: largest difference of a landslide probability.
        dice_before: pooled Dice of the model; NaN without truth, or without a landslide in truth and mask.
        dice_after: that of the faster form.
        finite: whether all its logits are numbers.
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
        """Pixels whose mask changed, in a million."""
        return 1e6 * self.flips / self.pixels if self.pixels else float("nan")

    @property
    def dice_change(self) -> float:
        """Dice after less Dice before; NaN where neither is defined."""
        return self.dice_after - self.dice_before

    @property
    def passed(self) -> bool:
        """Whether the faster form may be used: :data:`MAX_FLIPS_PPM` and :data:`MAX_DICE_CHANGE` hold."""
        same_undefined = self.dice_before != self.dice_before and self.dice_after != self.dice_after
        return (
            self.finite
            and self.flips_ppm <= MAX_FLIPS_PPM
            and (same_undefined or abs(self.dice_change) <= MAX_DICE_CHANGE)
        )

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """Plain JSON values; what is undefined is None."""
        values: dict[str, float | int | bool] = {
            **asdict(self),
            "flips_ppm": self.flips_ppm,
            "dice_change": self.dice_change,
            "passed": self.passed,
        }
        return {name: None if value != value else value for name, value in values.items()}

    def __str__(self) -> str:
        if not self.finite:
            return f"logits that are not finite on {self.patches} patches"
        undefined = self.dice_change != self.dice_change
        change = "Dice undefined" if undefined else f"Dice {self.dice_before:.4f} -> {self.dice_after:.4f}"
        return (
            f"{self.flips_ppm:.0f} ppm of the mask changed (at most {MAX_FLIPS_PPM:.0f}), {change} "
            f"(at most {MAX_DICE_CHANGE:g}), probability by {self.largest:.2g} at most, on {self.patches} patches"
        )


@torch.inference_mode()
def compare(
    model: nn.Module,
    faster: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    threshold: float = 0.5,
) -> GateReport:
    """Run both on the same patches.

    Args:
        model: in float32 and eval mode; maps an image ``(B, C, H, W)`` to logits ``(B, K, H, W)``.
        faster: maps the same to the same.
        batches: of ``image``, in what both models take, and where it is known ``mask``, int64 ``(B, H, W)``, whose
            255 counts nowhere.
        threshold: landslide probability of the mask.

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
        raise ConfigError("there are no patches to compare the model and its faster form on")
    return GateReport(patches, pixels, flips, largest, _dice(before), _dice(after), finite)


def _dice(parts: list[Counts]) -> float:
    counts = Counts.concatenate(parts).pooled()
    return float(dice(counts.tp, counts.fp, counts.fn, counts.tn)[0])
