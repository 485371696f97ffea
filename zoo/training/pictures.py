"""Pictures of a training: the loss curve, and what the model sees in a few test patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from zoo.datasets.base import IGNORE, PatchDataset, stretch
from zoo.files import atomic_path
from zoo.physics.bands import display_bands
from zoo.training.compute import ComputeFormat
from zoo.training.predictor import Predictor

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (0.30, 0.75, 0.40), (0.95, 0.65, 0.15), (0.85, 0.20, 0.30)


def save_loss_curve(curve: Sequence[Sequence[float]], path: Path, title: str) -> None:
    """Write the training loss over the steps as a picture.

    Args:
        curve: pairs of step and loss.
        path: PNG to write, whole or not at all.
        title: of the figure.
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
) -> None:
    """Write image, mask, probability and agreement of a few patches as a picture.

    The patches are spread over those with a landslide, from the one that holds most to the one that holds least.

    Args:
        predictor: in eval mode.
        compute_format: of the model.
        dataset: a test split.
        threshold: landslide probability from which a pixel is called one.
        path: PNG to write, whole or not at all.
        count: patches to show.
    """
    chosen = _spread(dataset, count)
    figure = Figure(figsize=(13, 3.2 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    shown = display_bands(dataset.bands)
    device = predictor.mean.device
    for axes, index in zip(grid, chosen, strict=True):
        sample = dataset[index]
        with compute_format.autocast(device):
            logits = predictor(sample["image"][None].to(device))
        probability = predictor.landslide_probability(logits)[0].cpu().numpy()
        mask = sample["mask"].numpy()
        axes[0].imshow(stretch(sample["image"].numpy()[list(shown)]), cmap="gray")
        axes[0].set_ylabel(dataset.patches[index].name, fontsize=9)
        axes[1].imshow((mask > 0) & (mask != IGNORE), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes[2].imshow(probability, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes[3].imshow(_agreement(probability >= threshold, mask), interpolation="nearest")
        for axis in axes:
            axis.set(xticks=[], yticks=[])
    figure.suptitle(f"landslide from a probability of {threshold:g}", fontsize=10)
    titles = (
        ", ".join(dataset.bands[band].name for band in dict.fromkeys(shown)),
        "mask",
        "landslide probability, 0 to 1",
        "found green, missed red, false orange",
    )
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _spread(dataset: PatchDataset, count: int) -> list[int]:
    sizes = np.array([int(((mask > 0) & (mask != IGNORE)).sum()) for _, mask in map(dataset.read, range(len(dataset)))])
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0] if (sizes > 0).any() else order
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def _agreement(predicted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    truth = (mask > 0) & (mask != IGNORE)
    picture = np.full((*mask.shape, 3), 0.12)
    picture[mask == IGNORE] = 0.5
    known = mask != IGNORE
    picture[predicted & truth] = TRUE_POSITIVE
    picture[predicted & ~truth & known] = FALSE_POSITIVE
    picture[~predicted & truth] = FALSE_NEGATIVE
    return picture
