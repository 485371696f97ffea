"""The built-in data sets, registered by the hook that plugins use. Imports no torch."""

from __future__ import annotations

from zoo.registry.hookspecs import RegisterDataset, hookimpl
from zoo.registry.specs import DatasetSpec, Option

SYNTHETIC = DatasetSpec(
    name="synthetic",
    target="zoo.datasets.synthetic:Synthetic",
    summary="Physically based landslide scenes made on this machine: seven channels, no download",
    channels=("SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"),
    licence="Apache-2.0",
    citation="landslide-zoo, synthetic scenes: terrain, wetness, factor of safety and optics after their equations",
    options=(
        Option("scenes", 20, "scenes of all splits together, each 16 patches of 128 x 128 pixels"),
        Option("seed", 0, "the same seed gives the same bytes"),
        Option("phase", "post", "whether images show the ground after the landslides or before", ("post", "pre")),
        Option(
            "region",
            "subtropical",
            "climate and relief; all gives each in turn",
            ("subtropical", "tropical", "dryland", "alpine", "all"),
        ),
        Option(
            "test_region",
            None,
            "with region=all, the region of the test split; train and val show the others",
            (None, "subtropical", "tropical", "dryland", "alpine"),
        ),
        Option("difficulty", "default", "how well landslides stand out", ("easy", "default", "hard")),
        Option("workers", None, "processes that make scenes; one a core when not given"),
    ),
)

FOLDER = DatasetSpec(
    name="folder",
    target="zoo.datasets.folder:Folder",
    summary="Your own patches: images and masks as PNG, TIFF, NPY or HDF5, any number of bands",
    licence="as the owner of the files says",
    citation="as the owner of the files says",
    options=(
        Option("images", None, "name of the folder of images; found when not given"),
        Option("masks", None, "name of the folder of masks; found when not given"),
        Option("bands", None, "names of the bands in order, separated by commas"),
        Option("class_names", None, "names of the classes in order, the background first"),
        Option("pixel_size", None, "side of a pixel in metres; taken from georeferenced TIFFs when not given"),
        Option("image_key", None, "name of the image array in HDF5 files; found when not given"),
        Option("mask_key", None, "name of the mask array in HDF5 files; found when not given"),
        Option("layout", "auto", "order of the axes of NPY and HDF5 images", ("auto", "CHW", "HWC")),
        Option("nodata", None, "value of missing pixels in images, nan too; taken from TIFFs when not given"),
        Option("nodata_rule", "any", "a pixel counts nowhere when any band is missing, or all", ("any", "all")),
        Option("mask_values", None, "raw mask value of class 0, 1, ... (0,255), or raw:class (0:0,1:1,2:1)"),
        Option("ignore_value", None, "raw mask value that counts nowhere"),
        Option("table", None, "name of the CSV file; found when not given"),
        Option("group_column", None, "column of the CSV file that names the scene or event"),
        Option("group_pattern", None, "regular expression on file names with the group in parentheses"),
        Option("file_column", None, "column of the CSV file that names the image; found when not given"),
        Option("row_column", None, "column of the CSV file with the row in patches; found when not given"),
        Option("col_column", None, "column of the CSV file with the column in patches; found when not given"),
        Option("train_groups", None, "groups of the training split, separated by commas"),
        Option("val_groups", None, "groups of the validation split; carved from training when not given"),
        Option("test_groups", None, "groups of the test split; those left over when not given"),
        Option("split_by", None, "what is kept together", (None, "group", "block", "column", "random")),
        Option("fractions", (6.0, 2.0, 2.0), "shares of train, val and test where groups do not decide"),
        Option("block", None, "side of a block, or columns of a strip, in patches; chosen when not given"),
        Option("guard", None, "distance in patches that splits keep from each other; 1, more where patches overlap"),
        Option("seed", 0, "seed of the split"),
        Option("memory_limit", None, "bytes of images kept in memory; half of the machine's when not given"),
    ),
)

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

HRGLDD = DatasetSpec(
    name="hrgldd",
    target="zoo.datasets.hrgldd:HRGLDD",
    summary="1,758 PlanetScope patches of 4 bands at 3 m; five rainfall and five earthquake events",
    channels=("red", "green", "blue", "nir"),
    licence="CC-BY-4.0",
    citation="Meena et al. (2023), Earth System Science Data 15, 3283-3298",
    doi="10.5194/essd-15-3283-2023",
    url="https://zenodo.org/records/7189381",
    options=(
        Option("bands", "all", "all four, or names such as red,green,blue"),
        Option("order", "rgbn", "order of the bands in the arrays, which the authors do not state", ("rgbn", "bgrn")),
        Option("download", False, "fetch what is missing from Zenodo (576 MB)"),
        Option("checksum", False, "hold the files against their published checksum"),
        Option("cache", True, "keep decoded patches in the cache folder"),
    ),
)

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

BIJIE = DatasetSpec(
    name="bijie",
    target="zoo.datasets.bijie:Bijie",
    summary="RGB images of 0.8 m of Bijie, China: 770 with a landslide and its mask, 2,003 without, cut to one size",
    licence="none stated by its authors; ask them before any use but research",
    citation="Ji, Yu, Shen, Li & Xu (2020), Landslide detection from an open satellite imagery and digital elevation "
    "model dataset using attention boosted convolutional neural networks, Landslides 17, 1337-1352",
    doi="10.1007/s10346-020-01353-2",
    url="http://gpcv.whu.edu.cn/data/Bijie_pages.html",
    options=(
        Option("size", 256, "side of a patch in pixels; smaller images are padded, larger ones give several patches"),
        Option("negatives", True, "with the images without a landslide", (True, False)),
        Option("include_dem", False, "the DEM, in grey values of unknown unit, as a fourth band", (False, True)),
        Option("fractions", (6.0, 2.0, 2.0), "shares of train, val and test, by image"),
        Option("seed", 0, "seed of the split"),
        Option("cache", True, "keep decoded patches on disk", (True, False)),
    ),
)


@hookimpl
def zoo_register_datasets(register: RegisterDataset) -> None:
    """Register the data sets of this package."""
    for spec in (SYNTHETIC, FOLDER, LANDSLIDE4SENSE, SEN12LANDSLIDES, HRGLDD, CAS, BIJIE):
        register(spec)
