"""The built-in data sets, registered by the hook that plugins use. Imports no torch."""

from __future__ import annotations

from zoo.datasets.bijie.spec import BIJIE
from zoo.datasets.cas.spec import CAS
from zoo.datasets.hrgldd.spec import HRGLDD
from zoo.datasets.landslide4sense.spec import LANDSLIDE4SENSE
from zoo.datasets.sen12landslides.spec import SEN12LANDSLIDES
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


@hookimpl
def zoo_register_datasets(register: RegisterDataset) -> None:
    """Register the data sets of this package."""
    for spec in (SYNTHETIC, FOLDER, LANDSLIDE4SENSE, SEN12LANDSLIDES, HRGLDD, CAS, BIJIE):
        register(spec)
