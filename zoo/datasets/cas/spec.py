"""What the catalogue knows about the CAS Landslide Dataset. Imports no torch."""

from __future__ import annotations

from zoo.registry.specs import DatasetSpec, Option

CAS = DatasetSpec(
    name="cas",
    target="zoo.datasets.cas:CAS",
    summary="RGB images by satellites and drones, 0.2 to 5 m, 9 regions, 512 x 512 pixels; published F1 are macro",
    channels=("red", "green", "blue"),
    licence="CC BY-NC 4.0 (non-commercial), and the terms of each image's provider",
    citation="Xu, Ouyang, Xu, Wang, Zhao & Luo (2024), CAS Landslide Dataset: a large-scale and multisensor dataset "
    "for deep learning-based landslide detection, Scientific Data 11, 12",
    doi="10.1038/s41597-023-02847-z",
    url="https://doi.org/10.5281/zenodo.10294997",
    options=(
        Option("subsets", "all", "sub-datasets separated by commas (palu,lombok); all is every one that is there"),
        Option("platform", "all", "who took the images", ("all", "uav", "satellite")),
        Option(
            "split_by",
            None,
            "whole regions, or at random; regions where there are three or more",
            (None, "group", "random"),
        ),
        Option("train_groups", None, "regions of the training split, separated by commas"),
        Option("val_groups", None, "regions of the validation split; carved from training when not given"),
        Option("test_groups", None, "regions of the test split; those left over when not given"),
        Option("seed", 0, "seed of the split"),
        Option("cache", True, "keep decoded patches on disk", (True, False)),
    ),
)
