"""Running a predictor over a split and counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.evaluation.counts import BoundaryCounts, Counts, ObjectCounts
from zoo.evaluation.histograms import LogitHistogram, ProbabilityHistogram, is_landslide
from zoo.training.compute import ComputeFormat
from zoo.training.losses import CrossEntropy
from zoo.training.predictor import Predictor

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gives.

    Attributes:
        threshold: probability from which a pixel is called landslide.
        counts: of every image, in the order of the split.
        objects: landslides found and missed in every image.
        boundaries: boundary pixels near and far in every image.
        histogram: pixels by probability and truth, pooled.
        odds: pixels by log odds and truth, pooled.
        loss: mean cross-entropy over the pixels that count.
        masks: what is predicted as landslide among the pixels that count, a bit a pixel, uint8 ``(N, H * W / 8)``.
    """

    threshold: float
    counts: Counts
    objects: ObjectCounts
    boundaries: BoundaryCounts
    histogram: ProbabilityHistogram
    odds: LogitHistogram
    loss: float
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        """Images."""
        return len(self.counts)

    @classmethod
    def joined(cls, parts: Sequence[Evaluation], places: Sequence[Sequence[int]]) -> Evaluation:
        """Evaluations of parts of a split as one of the whole.

        Args:
            parts: one or more, at one threshold.
            places: of each part's images in the split; together every index once.
        """
        order = np.argsort(np.concatenate([np.asarray(one, np.int64) for one in places]))
        known = np.array([part.counts.pixels.sum() for part in parts])
        losses = np.array([part.loss for part in parts])
        return cls(
            threshold=parts[0].threshold,
            counts=Counts.concatenate([part.counts for part in parts]).select(order),
            objects=ObjectCounts.concatenate([part.objects for part in parts]).select(order),
            boundaries=BoundaryCounts.concatenate([part.boundaries for part in parts]).select(order),
            histogram=ProbabilityHistogram.joined(part.histogram for part in parts),
            odds=LogitHistogram.joined(part.odds for part in parts),
            loss=float((losses * known)[known > 0].sum() / known.sum()) if known.any() else float("nan"),
            masks=np.concatenate([part.masks for part in parts])[order],
        )


class _Tally:
    """What is counted of masks, batch by batch."""

    def __init__(self) -> None:
        self.counts: list[Counts] = []
        self.objects: list[ObjectCounts] = []
        self.boundaries: list[BoundaryCounts] = []
        self.masks: list[NDArray[np.uint8]] = []

    def add(self, predicted: Tensor, mask: Tensor) -> None:
        self.counts.append(Counts.from_masks(predicted, mask, IGNORE_INDEX))
        called, truth = predicted.cpu().numpy(), mask.cpu().numpy()
        self.objects.append(ObjectCounts.from_masks(called, truth, IGNORE_INDEX))
        self.boundaries.append(BoundaryCounts.from_masks(called, truth, IGNORE_INDEX))
        self.masks.append(np.packbits((called & (truth != IGNORE_INDEX)).reshape(len(called), -1), axis=1))


@torch.inference_mode()
def evaluate(
    predictor: Predictor,
    compute_format: ComputeFormat,
    batches: Iterable[dict[str, Tensor]],
    threshold: float | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Count a split in the format that the model was trained in, which its bundle remembers.

    Args:
        predictor: on the device to compute on; its training mode is restored afterwards.
        compute_format: number format and memory layout; probabilities are float32 in any.
        batches: of ``image`` and ``mask``, every patch once.
        threshold: frozen, from a validation split; ``None`` chooses the one with the highest pooled Dice here.
        on_batch: called with the number of images done.

    Raises:
        ResultError: if the model predicts NaN.
    """
    was_training = predictor.training
    predictor.eval()
    device = predictor.mean.device
    histogram, odds, tally = ProbabilityHistogram.empty(), LogitHistogram.empty(), _Tally()
    cross_entropy = CrossEntropy(IGNORE_INDEX)
    kept: list[tuple[Tensor, Tensor]] = []
    loss, pixels, done = 0.0, 0, 0
    for batch in batches:
        mask = batch["mask"].to(device)
        with compute_format.autocast(device):
            logits = predictor(batch["image"].to(device, memory_format=compute_format.memory_format))
        probability = predictor.landslide_probability(logits)
        histogram.update(probability, mask, IGNORE_INDEX)
        odds.update(probability, mask, IGNORE_INDEX)
        known = int((mask != IGNORE_INDEX).sum())
        loss += float(cross_entropy(logits, mask)) * known
        pixels += known
        if threshold is None:
            # Float16 would move pixels across a threshold; memory is one float a pixel of the validation split.
            kept.append((probability.cpu(), mask.cpu()))
        else:
            tally.add(is_landslide(probability, threshold), mask)
        done += len(mask)
        if on_batch is not None:
            on_batch(done)
    if threshold is None:
        threshold = histogram.best_threshold()
        for probability, mask in kept:
            tally.add(is_landslide(probability, threshold), mask)
    predictor.train(was_training)
    return Evaluation(
        threshold=threshold,
        counts=Counts.concatenate(tally.counts),
        objects=ObjectCounts.concatenate(tally.objects),
        boundaries=BoundaryCounts.concatenate(tally.boundaries),
        histogram=histogram,
        odds=odds,
        loss=loss / pixels if pixels else float("nan"),
        masks=np.concatenate(tally.masks) if tally.masks else np.zeros((0, 0), np.uint8),
    )
