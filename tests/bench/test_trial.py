"""A trial's batches are those that its recipe describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from zoo.bench.config import TrialConfig
from zoo.bench.trial import make_data_module, open_splits_of
from zoo.physics import PAPER_CHANNELS
from zoo.training.recipes import get_recipe

Make = Callable[..., TrialConfig]


def test_the_recipe_sets_the_augmentation(trial: Make) -> None:
    config = trial()
    splits = open_splits_of(config)
    plain = make_data_module(splits, config).augmentation
    assert plain is not None
    assert (plain.scale_jitter, plain.gain, plain.offset, plain.gamma) == (0, 0, 0, 0)
    strong = get_recipe("strong").changed(gain=0.1)
    chosen = make_data_module(splits, replace(config, recipe=strong)).augmentation
    assert chosen is not None
    assert (chosen.scale_jitter, chosen.gain, chosen.offset, chosen.gamma) == (0.5, 0.1, 0.2, 0.3)
    assert chosen.radiometric_bands == tuple(range(len(splits["train"].bands)))
    for dataset in splits.values():
        dataset.bands = (*dataset.bands[:-1], PAPER_CHANNELS[4])
    slope = make_data_module(splits, config).augmentation
    assert slope is not None
    assert slope.radiometric_bands == tuple(range(len(splits["train"].bands) - 1))
