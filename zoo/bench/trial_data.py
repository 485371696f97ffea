"""The data of a trial: its splits as the benchmark began with them, and the batches that every model gets."""

from __future__ import annotations

from zoo.bench.config import TrialConfig
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import SPLITS, PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.errors import ZooError


def open_splits_of(config: TrialConfig) -> dict[str, PatchDataset]:
    """The splits of a trial, proved to be those that the benchmark began with.

    Raises:
        ZooError: if the data are absent, or changed since.
    """
    splits = {split: config.data.open(split) for split in SPLITS}
    for split, dataset in splits.items():
        if dataset.fingerprint() != config.fingerprints[split]:
            raise ZooError(f"the {split} split changed while the benchmark ran", where=config.data.label)
    return splits


def make_data_module(
    splits: dict[str, PatchDataset], config: TrialConfig, accumulate: int = 1, steps: int | None = None
) -> PatchDataModule:
    """The data module of a trial: the same batches for every model of a benchmark.

    Args:
        splits: by name.
        config: the trial.
        accumulate: parts that a training batch is cut into.
        steps: other than the recipe's.
    """
    recipe = config.recipe
    height, width = splits["train"][0]["mask"].shape
    crop = None if recipe.crop is None else min(recipe.crop, height, width)
    return PatchDataModule(
        splits["train"],
        splits["val"],
        splits["test"],
        batch_size=recipe.batch_size,
        steps=steps or recipe.total_steps(len(splits["train"])),
        augmentation=TrainingAugmentation(crop, symmetries=recipe.augment, seed=config.seed),
        seed=config.seed,
        device=config.device,
        accumulate=accumulate,
    )
