"""The built-in data sets, registered through the hook that plugins use. Does not import torch."""

from __future__ import annotations

from zoo.registry.hookspecs import RegisterDataset, hookimpl
from zoo.registry.specs import DatasetSpec

SYNTHETIC = DatasetSpec(
    name="synthetic",
    target="zoo.datasets.synthetic:Synthetic",
    summary="Synthetic landslide scenes, generated on this machine from physics: seven channels, no download",
    channels=("SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"),
    licence="Apache-2.0",
    citation="landslide-zoo, synthetic landslide scenes generated from published equations",
)

FOLDER = DatasetSpec(
    name="folder",
    target="zoo.datasets.folder:Folder",
    summary="Your own patches: images and masks as PNG, TIFF, NPY or HDF5, any number of bands",
    licence="depends on your files",
    citation="depends on your files",
)

LANDSLIDE4SENSE = DatasetSpec(
    name="landslide4sense",
    target="zoo.datasets.landslide4sense:Landslide4Sense",
    summary="4,844 patches of 14 bands (Sentinel-2, slope, DEM) at 10 m; Iburi, Kodagu, Gorkha, Taiwan",
    channels=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "slope", "DEM"),
    licence="CC-BY-4.0",
    citation="Ghorbanzadeh, Xu, Ghamisi, Kopp & Kreil (2022), Landslide4Sense: Reference Benchmark Data and Deep "
    "Learning Models for Landslide Detection, IEEE Transactions on Geoscience and Remote Sensing 60, 1-17",
    doi="10.1109/TGRS.2022.3215209",
    url="https://zenodo.org/records/10463239",
)

SEN12LANDSLIDES = DatasetSpec(
    name="sen12landslides",
    target="zoo.datasets.sen12landslides:Sen12Landslides",
    summary="Sentinel-1 or Sentinel-2 time series of 15 dates with landslide masks; 15 regions, 128 x 128 pixels, 10 m",
    licence="CC-BY-4.0",
    citation="Hoehn, Heidler, Behling & Zhu (2025), A spatio-temporal dataset for satellite-based landslide detection, "
    "Scientific Data 12, 1772",
    doi="10.1038/s41597-025-06167-2",
    url="https://huggingface.co/datasets/paulhoehn/Sen12Landslides",
)

HRGLDD = DatasetSpec(
    name="hrgldd",
    target="zoo.datasets.hrgldd:HRGLDD",
    summary="1,758 PlanetScope patches of 4 bands at 3 m; five rainfall and five earthquake events",
    channels=("red", "green", "blue", "nir"),
    licence="CC-BY-4.0",
    citation="Meena, Nava, Bhuyan, Puliero, Soares, Dias, Floris & Catani (2023), HR-GLDD: a globally distributed "
    "dataset using generalized deep learning (DL) for rapid landslide mapping on high-resolution (HR) satellite "
    "imagery, Earth System Science Data 15, 3283-3298",
    doi="10.5194/essd-15-3283-2023",
    url="https://zenodo.org/records/7189381",
)

CAS = DatasetSpec(
    name="cas",
    target="zoo.datasets.cas:CAS",
    summary="RGB images from satellites and drones, 0.2 to 5 m, 9 regions, 512 x 512 pixels",
    channels=("red", "green", "blue"),
    licence="CC BY-NC 4.0 (non-commercial), and the terms of each image's provider",
    citation="Xu, Ouyang, Xu, Wang, Zhao & Luo (2024), CAS Landslide Dataset: a large-scale and multisensor dataset "
    "for deep learning-based landslide detection, Scientific Data 11, 12",
    doi="10.1038/s41597-023-02847-z",
    url="https://doi.org/10.5281/zenodo.10294997",
)

BIJIE = DatasetSpec(
    name="bijie",
    target="zoo.datasets.bijie:Bijie",
    summary="RGB images of Bijie, China, at 0.8 m: 770 with a landslide and its mask, 2,003 without, cut to one size",
    licence="none stated by its authors; ask them before any use other than research",
    citation="Ji, Yu, Shen, Li & Xu (2020), Landslide detection from an open satellite imagery and digital elevation "
    "model dataset using attention boosted convolutional neural networks, Landslides 17, 1337-1352",
    doi="10.1007/s10346-020-01353-2",
    url="http://gpcv.whu.edu.cn/data/Bijie_pages.html",
)


@hookimpl
def zoo_register_datasets(register: RegisterDataset) -> None:
    """Register the data sets of this package."""
    for spec in (SYNTHETIC, FOLDER, LANDSLIDE4SENSE, SEN12LANDSLIDES, HRGLDD, CAS, BIJIE):
        register(spec)
