"""What a result file says of a trial's test split, plain and adapted alike."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.bench.config import TrialConfig
from zoo.bench.samples import Pictures, Samples, choose_patches
from zoo.datasets.base import PatchDataset
from zoo.training.evaluate import Evaluation


def describe_test(
    config: TrialConfig, splits: dict[str, PatchDataset], test: Evaluation, threshold: float
) -> dict[str, Any]:
    """The data, the counts of every test image, and the patches to show, as plain JSON values but for the pictures.

    Args:
        config: the trial.
        splits: by name.
        test: of the test split, in its order.
        threshold: frozen, from the validation split.
    """
    train, tested = splits["train"], splits["test"]
    chosen = choose_patches(test.counts.tp + test.counts.fn)
    return {
        "data": {
            "name": config.data.label,
            "bands": [band.to_dict() for band in train.bands],
            "class_names": list(train.class_names),
            "pixel_size": train.pixel_size,
            "patch": list(tested[0]["image"].shape),
            "patches": {split: len(dataset) for split, dataset in splits.items()},
            "split_notes": list(train.split_notes),
        },
        "threshold": threshold,
        "test": {
            "names": [patch.name for patch in tested.patches],
            "groups": [patch.group for patch in tested.patches],
            "counts": test.counts.to_dict(),
            "objects": test.objects.to_dict(),
            "boundaries": test.boundaries.to_dict(),
            "histogram": test.histogram.to_dict(),
            "odds": test.logit_histogram.to_dict(),
            "loss": finite(test.loss),
        },
        "samples": Samples.take(chosen, test.masks).to_dict(),
        "pictures": Pictures.take(chosen, tested).to_dict(),
    }


def count_parameters(model: nn.Module) -> int:
    """Parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def finite(value: float) -> float | None:
    """The value, or ``None`` for what JSON does not hold: NaN and infinities."""
    return value if value == value and abs(value) != float("inf") else None
