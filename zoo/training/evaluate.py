"""Evaluation of a predictor on a split: the counts from which all figures are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.evaluation.counts import BoundaryCounts, Counts, ObjectCounts
from zoo.evaluation.histograms import LogitHistogram, ProbabilityHistogram, is_landslide
from zoo.evaluation.quality import Calibration, PredictionSets, UsualDistance
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.compute import autocast, memory_format
from zoo.training.losses import CrossEntropy
from zoo.training.predictor import MeanOfViews, Predictor
from zoo.training.running_statistics import ImageDistances

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Evaluation:
    """Counts of one pass over a split.

    Attributes:
        threshold: landslide probability at or above which a pixel counts as landslide.
        counts: counts of every image, in the order of the split.
        objects: landslides found and missed in every image.
        boundaries: boundary pixels of every image, and those near the other boundary.
        histogram: pixels by probability and truth, pooled.
        logit_histograms: pixels of every image by log odds and truth.
        distances: distance of every image from the training data in standard deviations, float64 ``(N,)``, NaN if it is
            unknown (:class:`zoo.training.running_statistics.ImageDistances`).
        side: shorter side of an image in pixels; 0 if there are no images.
        loss: mean cross-entropy over the valid pixels.
        masks: predicted landslides among the valid pixels, one bit per pixel, uint8 ``(N, H * W / 8)``.
    """

    threshold: float
    counts: Counts
    objects: ObjectCounts
    boundaries: BoundaryCounts
    histogram: ProbabilityHistogram
    logit_histograms: tuple[LogitHistogram, ...]
    distances: NDArray[np.float64]
    side: int
    loss: float
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.counts)

    @cached_property
    def logit_histogram(self) -> LogitHistogram:
        """Pixels by log odds and truth, pooled."""
        return LogitHistogram.joined(self.logit_histograms)

    @classmethod
    def concatenate(cls, parts: Sequence[Evaluation], places: Sequence[Sequence[int]]) -> Evaluation:
        """Combine evaluations of parts of a split into an evaluation of the whole split.

        Args:
            parts: one or more evaluations. Different thresholds are averaged, weighted by the number of images.
            places: indices in the split of the images of each part; together, they contain every index once.
        """
        order = np.argsort(np.concatenate([np.asarray(place, np.int64) for place in places]))
        first = parts[0].threshold
        valid = np.array([part.counts.pixels.sum() for part in parts])
        losses = np.array([part.loss for part in parts])
        histograms = [histogram for part in parts for histogram in part.logit_histograms]
        return cls(
            threshold=first + sum((part.threshold - first) * (len(part) / len(order)) for part in parts),
            counts=Counts.concatenate([part.counts for part in parts]).select(order),
            objects=ObjectCounts.concatenate([part.objects for part in parts]).select(order),
            boundaries=BoundaryCounts.concatenate([part.boundaries for part in parts]).select(order),
            histogram=ProbabilityHistogram.joined(part.histogram for part in parts),
            logit_histograms=tuple(histograms[place] for place in order),
            distances=np.concatenate([part.distances for part in parts])[order],
            side=max(part.side for part in parts),
            loss=float((losses * valid)[valid > 0].sum() / valid.sum()) if valid.any() else float("nan"),
            masks=np.concatenate([part.masks for part in parts])[order],
        )


def fit_calibration(found: Evaluation, validation: Evaluation | None, blocks: Sequence[str] = ()) -> Calibration | None:
    """Return the calibration on a split; temperature, sets and usual distance are fitted on the validation split.

    Args:
        found: evaluation of the split.
        validation: evaluation of the validation split; ``None`` for an adapted model, whose probabilities differ.
        blocks: held-out block of every image of the split.
    """
    if validation is None:
        return Calibration.of(found.logit_histograms)
    chosen = validation.logit_histogram
    usual = UsualDistance.of(validation.distances, validation.side)
    return Calibration.of(found.logit_histograms, chosen.best_temperature(), PredictionSets.of(chosen), usual, blocks)


class _MaskCounts:
    """Counts of predicted masks, accumulated batch by batch."""

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
    *,
    tta: bool = False,
) -> Evaluation:
    """Count the predictions on a split, in the compute format in which the model was trained.

    Args:
        predictor: on the device of the computation; its training mode is restored afterwards.
        compute_format: number format and memory layout; probabilities are float32 in any format.
        batches: batches of ``image`` and ``mask`` that contain every patch once.
        threshold: threshold from a validation split; ``None`` chooses the one with the highest pooled Dice here.
        on_batch: called with the number of images done.
        tta: average the probability over the eight flips and rotations of each image.

    Raises:
        ResultError: if the model predicts NaN.
    """
    was_training = predictor.training
    predictor.eval()
    model = MeanOfViews(predictor.model) if tta else predictor.model
    device = predictor.mean.device
    histogram, tally, logit_histograms = ProbabilityHistogram.empty(), _MaskCounts(), list[LogitHistogram]()
    cross_entropy = CrossEntropy(IGNORE_INDEX)
    kept: list[tuple[Tensor, Tensor]] = []
    loss, pixels, done, side = 0.0, 0, 0, 0
    with ImageDistances(predictor.model) as near:
        for batch in batches:
            mask = batch["mask"].to(device)
            with autocast(compute_format, device):
                images = batch["image"].to(device, memory_format=memory_format(compute_format))
                logits = near.run(lambda batch: model(predictor.normalise(batch)), images)
            assert logits is not None
            probability = predictor.landslide_probability(logits)
            histogram.update(probability, mask, IGNORE_INDEX)
            logit_histograms += [LogitHistogram.of(*one, IGNORE_INDEX) for one in zip(probability, mask, strict=True)]
            side = min(mask.shape[1:])
            valid = int((mask != IGNORE_INDEX).sum())
            loss += float(cross_entropy(logits, mask)) * valid
            pixels += valid
            if threshold is None:
                # Float16 could move pixels across a threshold, so float32 is worth its memory.
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
        logit_histograms=tuple(logit_histograms),
        distances=np.array(near.found),
        side=side,
        loss=loss / pixels if pixels else float("nan"),
        masks=np.concatenate(tally.masks) if tally.masks else np.zeros((0, 0), np.uint8),
    )
