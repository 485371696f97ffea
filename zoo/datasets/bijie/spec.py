"""What the catalogue knows about the Bijie landslide data set. Imports no torch."""

from __future__ import annotations

from zoo.registry.specs import DatasetSpec, Option

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
