"""Pictures of a model: the loss curve, predictions on a few patches, and the reliability of its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from zoo.datasets.base import IGNORE, PatchDataset, stretch
from zoo.evaluation.counts import Counts
from zoo.evaluation.metrics import image_dice
from zoo.evaluation.quality import Calibration
from zoo.files import atomic_path
from zoo.physics.bands import display_bands
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.compute import autocast
from zoo.training.predictor import Predictor

FOUND, FALSE_ALARM, MISSED = (0.0, 0.62, 0.45), (0.90, 0.62, 0.0), (0.80, 0.47, 0.65)
"""Colours of Okabe and Ito (2008), which colour-blind readers can distinguish."""
IGNORED = (0.5, 0.5, 0.5)


def save_loss_curve(curve: Sequence[Sequence[float]], path: Path, title: str) -> None:
    """Draw the training loss against the number of steps.

    Args:
        curve: pairs of step and loss.
        path: PNG file to write.
        title: title of the figure.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, losses = np.array(curve, dtype=float).reshape(-1, 2).T
    axes.plot(steps, losses, color="#9aa5b1", linewidth=0.8, label="loss")
    if len(losses) >= 20:
        width = max(3, len(losses) // 20)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color="#1f5fa8", linewidth=2, label=f"mean of {width} points")
        axes.legend(frameon=False)
    axes.set(xlabel="optimiser step", ylabel="training loss", title=title, ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


@torch.inference_mode()
def save_predictions(
    predictor: Predictor,
    compute_format: ComputeFormat,
    dataset: PatchDataset,
    threshold: float,
    path: Path,
    *,
    count: int = 4,
    chosen: Sequence[int] | None = None,
    dpi: int = 100,
) -> None:
    """Draw image, mask, probability and agreement of a few patches.

    Args:
        predictor: in eval mode.
        compute_format: number format and memory layout of the model.
        dataset: a test split.
        threshold: landslide probability at or above which a pixel counts as landslide.
        path: PNG file to write.
        count: number of patches to show.
        chosen: indices of the patches; ``None`` selects patches evenly from those with a landslide, from the largest
            landslide area to the smallest.
        dpi: resolution of the picture.
    """
    chosen = _spread(dataset, count) if chosen is None else chosen
    figure = Figure(figsize=(13, 3.2 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    shown = display_bands(dataset.bands)
    device = predictor.mean.device
    for axes, index in zip(grid, chosen, strict=True):
        sample = dataset[index]
        with autocast(compute_format, device):
            logits = predictor(sample["image"][None].to(device))
        probability = predictor.landslide_probability(logits)[0].cpu().numpy()
        mask = sample["mask"].numpy()
        axes[0].imshow(stretch(sample["image"].numpy()[list(shown)]), cmap="gray")
        axes[0].set_ylabel(dataset.patches[index].name, fontsize=9)
        axes[1].imshow((mask > 0) & (mask != IGNORE), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        shaded = axes[2].imshow(probability, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes[3].imshow(_agreement(probability >= threshold, mask), interpolation="nearest")
        for axis in axes:
            axis.set(xticks=[], yticks=[])
    figure.suptitle(f"classified as landslide at a probability of {threshold:g} or more", fontsize=10)
    titles = (
        ", ".join(dataset.bands[band].name for band in dict.fromkeys(shown)),
        "mask",
        "landslide probability",
        "agreement with the mask",
    )
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    figure.colorbar(shaded, ax=list(grid[:, 2]), shrink=0.8, label="probability")
    named = {"found": FOUND, "missed": MISSED, "false alarm": FALSE_ALARM, "ignored": IGNORED}
    figure.legend(
        handles=[Patch(facecolor=colour, label=name) for name, colour in named.items()],
        loc="outside lower right",
        ncols=len(named),
        frameon=False,
        fontsize=9,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def save_reliability(calibration: Calibration, path: Path) -> None:
    """Draw the observed share of landslide pixels against the predicted probability.

    Args:
        calibration: calibration with the probability bins.
        path: PNG file to write.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=1, label="perfect")
    bins = calibration.reliability
    axes.plot(
        [bin_.predicted for bin_ in bins], [bin_.observed for bin_ in bins], color="#1f5fa8", marker="o", label="model"
    )
    axes.set(
        xlabel="predicted probability of a landslide",
        ylabel="observed share of landslide pixels",
        title=f"expected calibration error {calibration.ece:.4f}",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def worst_patches(counts: Counts, count: int) -> list[int]:
    """Return the patches with the most wrong pixels, worst first; patches without a wrong pixel are excluded."""
    wrong = counts.fp + counts.fn
    order = np.argsort(-wrong, kind="stable")
    return [int(index) for index in order[:count] if wrong[index]]


def typical_patches(counts: Counts, count: int) -> list[int]:
    """Return the patches with a landslide whose Dice is nearest to the median of all such patches."""
    score = image_dice(counts)
    known = np.flatnonzero(~np.isnan(score))
    order = np.argsort(np.abs(score[known] - np.median(score[known])), kind="stable") if len(known) else known
    return [int(index) for index in known[order[:count]]]


def _spread(dataset: PatchDataset, count: int) -> list[int]:
    sizes = np.array([int(((mask > 0) & (mask != IGNORE)).sum()) for _, mask in map(dataset.read, range(len(dataset)))])
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0] if (sizes > 0).any() else order
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def _agreement(predicted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    truth = (mask > 0) & (mask != IGNORE)
    picture = np.full((*mask.shape, 3), 0.12)
    picture[mask == IGNORE] = IGNORED
    known = mask != IGNORE
    picture[predicted & truth] = FOUND
    picture[predicted & ~truth & known] = FALSE_ALARM
    picture[~predicted & truth] = MISSED
    return picture
