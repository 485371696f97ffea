"""What the catalogue says of Landslide4Sense. Imports no torch."""

from __future__ import annotations

from zoo.registry.specs import DatasetSpec, Option

LANDSLIDE4SENSE = DatasetSpec(
    name="landslide4sense",
    target="zoo.datasets.landslide4sense:Landslide4Sense",
    summary="4,844 patches of 14 bands (Sentinel-2, slope, DEM) at 10 m; Iburi, Kodagu, Gorkha, Taiwan",
    channels=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "slope", "DEM"),
    licence="CC-BY-4.0",
    citation="Ghorbanzadeh et al. (2022), IEEE TGRS 60, 1-17",
    doi="10.1109/TGRS.2022.3215209",
    url="https://zenodo.org/records/10463239",
    options=(
        Option("bands", "all", "all 14, paper (the seven channels), or names such as B4,B3,B2,slope"),
        Option(
            "units",
            "published",
            "values as in the files, or as reflectance, degrees and metres",
            ("published", "physical"),
        ),
        Option(
            "labels",
            "required",
            "a split without masks is refused, or read unlabelled",
            ("required", "optional"),
        ),
        Option(
            "split_by",
            None,
            "the official splits, or splits of the training patches, whose scenes are known",
            (None, "official", "group", "block", "column", "random"),
        ),
        Option("train_groups", None, "scenes to train on (S1 to S4), separated by commas"),
        Option("val_groups", None, "scenes to validate on; carved from training when not given"),
        Option("test_groups", None, "scenes to test on; those left over when not given"),
        Option("fractions", (6.0, 2.0, 2.0), "shares of train, val and test where scenes do not decide"),
        Option("block", None, "side of a block, or columns of a strip, in patches; chosen when not given"),
        Option("guard", 1, "distance in patches that splits keep from each other"),
        Option("seed", 0, "seed of the split"),
        Option("download", False, "fetch what is missing from Zenodo (3.1 GB, 9 GB unpacked)"),
        Option("checksum", False, "hold downloaded archives against their published checksum"),
        Option("cache", True, "keep decoded patches in the cache folder"),
    ),
)
