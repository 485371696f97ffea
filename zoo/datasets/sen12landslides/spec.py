"""What the catalogue knows about Sen12Landslides. Imports no torch."""

from __future__ import annotations

from zoo.registry.specs import DatasetSpec, Option

SEN12LANDSLIDES = DatasetSpec(
    name="sen12landslides",
    target="zoo.datasets.sen12landslides:Sen12Landslides",
    summary="Sentinel-1 or -2 time series of 15 dates with landslide masks, 15 regions, 128 x 128 pixels of 10 m",
    licence="CC BY 4.0",
    citation="Hoehn, Heidler, Behling & Zhu (2025), A spatio-temporal dataset for satellite-based landslide detection, "
    "Scientific Data 12, 1772",
    doi="10.1038/s41597-025-06167-2",
    url="https://huggingface.co/datasets/paulhoehn/Sen12Landslides",
    options=(
        Option("sensor", "s2", "Sentinel-2, or Sentinel-1 on ascending or descending orbits", ("s2", "s1asc", "s1dsc")),
        Option(
            "dates",
            "post",
            "the first clear image after the event, the last before it, both, or all of them as channels",
            ("post", "pre", "pre_post", "all"),
        ),
        Option("bands", "all", "names separated by commas (B02,B03,B04,B08,DEM); all is every band and the DEM"),
        Option("max_cloud", 0.2, "share of hidden pixels up to which an image counts as clear, 0 to 1"),
        Option(
            "clouds",
            "keep",
            "leave clouds in the image, or make them missing and ignored in the mask",
            ("keep", "mask"),
        ),
        Option(
            "edition",
            None,
            "harmonized (offset of baseline 04.00 removed) or raw; harmonized where both are there",
            (None, "harmonized", "raw"),
        ),
        Option(
            "task", "S12LS-LD", "whose official split is used: landslide or anomaly detection", ("S12LS-LD", "S12LS-AD")
        ),
        Option(
            "split_by",
            None,
            "the official split, or whole regions; official where its file is there and no region is named",
            (None, "official", "group"),
        ),
        Option("train_groups", None, "regions of the training split, separated by commas"),
        Option("val_groups", None, "regions of the validation split; carved from training when not given"),
        Option("test_groups", None, "regions of the test split; those left over when not given"),
        Option("seed", 0, "seed of a split by region"),
        Option(
            "download", False, "fetch what is missing (Sentinel-2: about 39 GB, twice that unpacked)", (False, True)
        ),
        Option("cache", True, "keep decoded patches on disk", (True, False)),
    ),
)
