"""Running a predictor over a split and counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.evaluation.counts import Counts
from zoo.evaluation.threshold import ProbabilityHistogram, above
from zoo.training.losses import CrossEntropy
from zoo.training.precision import ComputeFormat
from zoo.training.predictor import Predictor

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gives.

    Attributes:
        threshold: probability from which a pixel is called landslide.
        counts: of every image, in the order of the split.
        histogram: pixels by probability and truth, pooled.
        loss: mean cross-entropy over the pixels that count.
    """

    threshold: float
    counts: Counts
    histogram: ProbabilityHistogram
    loss: float


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
    histogram = ProbabilityHistogram.empty()
    cross_entropy = CrossEntropy(IGNORE_INDEX)
    parts: list[Counts] = []
    kept: list[tuple[Tensor, Tensor]] = []
    loss, pixels, done = 0.0, 0, 0
    for batch in batches:
        mask = batch["mask"].to(device)
        with compute_format.autocast(device):
            logits = predictor(batch["image"].to(device, memory_format=compute_format.memory_format))
        probability = predictor.landslide_probability(logits)
        histogram.update(probability, mask, IGNORE_INDEX)
        known = int((mask != IGNORE_INDEX).sum())
        loss += float(cross_entropy(logits, mask)) * known
        pixels += known
        if threshold is None:
            # Float16 would move pixels across a threshold; memory is one float a pixel of the validation split.
            kept.append((probability.cpu(), mask.cpu()))
        else:
            parts.append(Counts.from_masks(above(probability, threshold), mask, IGNORE_INDEX))
        done += len(mask)
        if on_batch is not None:
            on_batch(done)
    if threshold is None:
        threshold = histogram.best_threshold()
        parts = [Counts.from_masks(above(probability, threshold), mask, IGNORE_INDEX) for probability, mask in kept]
    predictor.train(was_training)
    return Evaluation(threshold, Counts.concatenate(parts), histogram, loss / pixels if pixels else float("nan"))
