"""A small bundle of two bands for the tests of this folder."""

from __future__ import annotations

import torch

from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.bundle import Bundle, TrainingData
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.recipes import get_recipe

OPTIONS = {"widths": [4, 4, 4]}
BANDS = (Band("NDVI", "1"), Band("slope", "degree"))


def make_bundle(model: str = "unet", options: dict[str, object] | None = None) -> Bundle:
    """An untrained model with statistics that look measured."""
    torch.manual_seed(0)
    options = OPTIONS if options is None else options
    bands = tuple(
        BandStatistics(name=band.name, mean=mean, std=std, minimum=0, maximum=1, low=0, high=1, count=9)
        for band, mean, std in zip(BANDS, (0.25, 20.0), (0.5, 10.0), strict=True)
    )
    return Bundle(
        model=model,
        options=options,
        bands=BANDS,
        statistics=Statistics(bands, patches=3),
        compute_format=ComputeFormat("fp32", True),
        class_names=("background", "landslide"),
        threshold=0.4,
        metrics={"dice": 0.5},
        data=TrainingData("folder"),
        recipe=get_recipe("quick").changed(batch_size=4),
        seed=0,
        state=create_model(model, 2, 2, **options).state_dict(),
        weights_sha256="ab" * 32,
    )
