"""The backbones of torchgeo that can be used for segmentation, with their published weights. Imports no torch.

The names of the weights are those of the enumerations of torchgeo 0.8; a test compares them with the installed release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal["unet", "vit", "spectral", "panopticon", "scalemae", "croma", "terratorch"]

_LANDSAT = tuple(
    f"LANDSAT_{product}_{method}"
    for product in ("TM_TOA", "ETM_TOA", "ETM_SR", "OLI_TIRS_TOA", "OLI_SR")
    for method in ("MOCO", "SIMCLR")
)
_MAE = ("SENTINEL2_ALL_MAE", "SENTINEL2_ALL_FGMAE", "SENTINEL1_GRD_MAE", "SENTINEL1_GRD_FGMAE")
_SOFTCON = ("SENTINEL2_ALL_SOFTCON", "SENTINEL1_GRD_SOFTCON")
_SATLAS = tuple(f"SENTINEL2_{images}_{bands}_SATLAS" for images in ("MI", "SI") for bands in ("MS", "RGB"))
_RESNET = ("He et al. 2016, CVPR", "10.1109/CVPR.2016.90")
_VIT = ("Dosovitskiy et al. 2021, ICLR", "10.48550/arXiv.2010.11929")
_SWIN = ("Liu et al. 2021, ICCV", "10.1109/ICCV48922.2021.00986")
_SWIN2 = ("Liu et al. 2022, CVPR", "10.1109/CVPR52688.2022.01170")
_EFFICIENT = ("Tan and Le 2019, ICML; Kerner et al. 2025, AAAI (weights)", "10.48550/arXiv.2409.16252")
_DOFA = ("Xiong et al. 2024", "10.48550/arXiv.2403.15356")


@dataclass(frozen=True)
class Backbone:
    """A backbone and its published weights.

    Attributes:
        kind: ``unet`` for a pyramid of maps; other kinds are vision transformers.
        source: function of ``torchgeo.models``, or name in the registry of terratorch.
        summary: one line.
        paper: citation of the architecture and its DOI.
        enum: enumeration of the weights in ``torchgeo.models``; empty if none are published.
        weights: names of the weights.
        minimum_size: smallest height and width in pixels.
        licence: licence of the weights, by name, if torchgeo states one.
        encoder: name of the encoder in segmentation-models-pytorch, if torchgeo uses it from there.
        flags: capabilities of the model.
    """

    kind: Kind
    source: str
    summary: str
    paper: tuple[str, str]
    enum: str = ""
    weights: tuple[str, ...] = ()
    minimum_size: int = 32
    licence: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""
    flags: frozenset[str] = frozenset({"exportable", "batch1_training"})


def _unet(source: str, paper: tuple[str, str], enum: str, *weights: str, **more: Any) -> Backbone:
    return Backbone("unet", source, more.pop("summary"), paper, enum, weights, **{"minimum_size": 64, **more})


_FTW = ("SENTINEL2_2CLASS_FTW", "SENTINEL2_3CLASS_FTW", "SENTINEL2_2CLASS_NC_FTW", "SENTINEL2_3CLASS_NC_FTW")
_FTW_LICENCE = {name: "non-commercial" if "_NC_" in name else "CC-BY-4.0" for name in _FTW}

UNETS: Mapping[str, Backbone] = MappingProxyType(
    {
        "resnet18": _unet(
            "resnet18", _RESNET, "ResNet18_Weights", *_LANDSAT, "SENTINEL2_ALL_MOCO", "SENTINEL2_RGB_MOCO",
            "SENTINEL2_RGB_SECO", summary="U-Net on ResNet-18",
        ),
        "resnet50": _unet(
            "resnet50", _RESNET, "ResNet50_Weights", "FMOW_RGB_GASSL", *_LANDSAT, "SENTINEL1_ALL_DECUR",
            "SENTINEL1_ALL_MOCO", "SENTINEL1_GRD_CLOSP", "SENTINEL1_GRD_GEOCLOSP", "SENTINEL1_GRD_SOFTCON",
            "SENTINEL2_ALL_CLOSP", "SENTINEL2_ALL_DECUR", "SENTINEL2_ALL_DINO", "SENTINEL2_ALL_GEOCLOSP",
            "SENTINEL2_ALL_MOCO", "SENTINEL2_ALL_SOFTCON", "SENTINEL2_ALL_SECO_ECO", "SENTINEL2_ALL_NDVI_SECO_ECO",
            *_SATLAS, "SENTINEL2_RGB_MOCO", "SENTINEL2_RGB_SECO", summary="U-Net on ResNet-50",
        ),
        "resnet152": _unet("resnet152", _RESNET, "ResNet152_Weights", *_SATLAS, summary="U-Net on ResNet-152"),
        "earthloc": _unet(
            "earthloc", ("Berton et al. 2024, CVPR", "10.48550/arXiv.2403.06758"), "EarthLoc_Weights",
            "SENTINEL2_RESNET50", summary="U-Net on the first three stages of EarthLoc's ResNet-50", minimum_size=32,
        ),
        "swin_t": _unet("swin_t", _SWIN, "Swin_T_Weights", "CITYSCAPES_SEMSEG", summary="U-Net on Swin-T"),
        "swin_s": _unet("swin_s", _SWIN, "Swin_S_Weights", "CITYSCAPES_SEMSEG", summary="U-Net on Swin-S"),
        "swin_b": _unet(
            "swin_b", _SWIN, "Swin_B_Weights", "CITYSCAPES_SEMSEG", summary="U-Net on Swin-B, window 12",
        ),
        "swin_v2_t": _unet("swin_v2_t", _SWIN2, "Swin_V2_T_Weights", *_SATLAS, summary="U-Net on Swin V2-T"),
        "swin_v2_b": _unet(
            "swin_v2_b", _SWIN2, "Swin_V2_B_Weights", "NAIP_RGB_MI_SATLAS", "NAIP_RGB_SI_SATLAS", "LANDSAT_MI_SATLAS",
            "LANDSAT_SI_SATLAS", "SENTINEL1_MI_SATLAS", "SENTINEL1_SI_SATLAS", *_SATLAS, summary="U-Net on Swin V2-B",
        ),
        "efficientnet-b3": _unet(
            "unet", _EFFICIENT, "Unet_Weights", *_FTW, "SENTINEL2_FTW_PRUE_EFNETB3",
            summary="U-Net on EfficientNet-B3; the weights have the decoder too", encoder="efficientnet-b3",
            licence={**_FTW_LICENCE, "SENTINEL2_FTW_PRUE_EFNETB3": "non-commercial"},
        ),
        "efficientnet-b5": _unet(
            "unet", _EFFICIENT, "Unet_Weights", "SENTINEL2_FTW_PRUE_EFNETB5", encoder="efficientnet-b5",
            summary="U-Net on EfficientNet-B5; the weights have the decoder too",
            licence={"SENTINEL2_FTW_PRUE_EFNETB5": "non-commercial"},
        ),
        "efficientnet-b7": _unet(
            "unet", _EFFICIENT, "Unet_Weights", "SENTINEL2_FTW_PRUE_EFNETB7", encoder="efficientnet-b7",
            summary="U-Net on EfficientNet-B7; the weights have the decoder too",
            licence={"SENTINEL2_FTW_PRUE_EFNETB7": "non-commercial"},
        ),
        "resnet34-tcd": _unet(
            "unet", _RESNET, "Unet_Weights", "OAM_RGB_RESNET34_TCD", encoder="resnet34",
            summary="U-Net on ResNet-34; the weights have the decoder too",
            licence={"OAM_RGB_RESNET34_TCD": "CC-BY-NC-4.0"},
        ),
        "resnet50-tcd": _unet(
            "unet", _RESNET, "Unet_Weights", "OAM_RGB_RESNET50_TCD", encoder="resnet50",
            summary="U-Net on ResNet-50; the weights have the decoder too",
            licence={"OAM_RGB_RESNET50_TCD": "CC-BY-NC-4.0"},
        ),
    }
)  # fmt: skip
"""Backbones that make a pyramid of maps; a model is called ``torchgeo/unet-NAME``."""

VITS: Mapping[str, Backbone] = MappingProxyType(
    {
        "vit_small_patch16_224": Backbone(
            "vit", "vit_small_patch16_224", "ViT-S/16", _VIT, "ViTSmall16_Weights",
            (*_LANDSAT, "SENTINEL2_ALL_CLOSP", "SENTINEL2_ALL_DINO", "SENTINEL2_ALL_MOCO", "SENTINEL2_ALL_MAE",
             "SENTINEL2_ALL_FGMAE", "SENTINEL1_GRD_CLOSP", "SENTINEL1_GRD_MAE", "SENTINEL1_GRD_FGMAE"),
        ),
        "vit_base_patch16_224": Backbone("vit", "vit_base_patch16_224", "ViT-B/16", _VIT, "ViTBase16_Weights", _MAE),
        "vit_large_patch16_224": Backbone(
            "vit", "vit_large_patch16_224", "ViT-L/16", _VIT, "ViTLarge16_Weights",
            ("SENTINEL2_ALL_CLOSP", "SENTINEL2_ALL_MAE", "SENTINEL2_ALL_FGMAE", "SENTINEL1_GRD_CLOSP",
             "SENTINEL1_GRD_MAE", "SENTINEL1_GRD_FGMAE"),
        ),
        "vit_huge_patch14_224": Backbone(
            "vit", "vit_huge_patch14_224", "ViT-H/14", _VIT, "ViTHuge14_Weights", _MAE, 28,
        ),
        "vit_small_patch14_dinov2": Backbone(
            "vit", "vit_small_patch14_dinov2", "ViT-S/14 of DINOv2", _VIT, "ViTSmall14_DINOv2_Weights", _SOFTCON, 28,
        ),
        "vit_base_patch14_dinov2": Backbone(
            "vit", "vit_base_patch14_dinov2", "ViT-B/14 of DINOv2", _VIT, "ViTBase14_DINOv2_Weights", _SOFTCON, 28,
        ),
        "dofa_small_patch16_224": Backbone("spectral", "dofa_small_patch16_224", "DOFA, ViT-S/16", _DOFA),
        "dofa_base_patch16_224": Backbone(
            "spectral", "dofa_base_patch16_224", "DOFA, ViT-B/16", _DOFA, "DOFABase16_Weights", ("DOFA_MAE",)
        ),
        "dofa_large_patch16_224": Backbone(
            "spectral", "dofa_large_patch16_224", "DOFA, ViT-L/16", _DOFA, "DOFALarge16_Weights", ("DOFA_MAE",)
        ),
        "dofa_huge_patch14_224": Backbone(
            "spectral", "dofa_huge_patch14_224", "DOFA, ViT-H/14", _DOFA, minimum_size=28,
        ),
        "copernicusfm_base": Backbone(
            "spectral", "copernicusfm_base", "Copernicus-FM, ViT-B/16",
            ("Wang et al. 2025, ICCV", "10.48550/arXiv.2503.11849"), "CopernicusFM_Base_Weights",
            ("CopernicusFM_ViT",),
        ),
        "panopticon_vitb14": Backbone(
            "panopticon", "panopticon_vitb14", "Panopticon, ViT-B/14",
            ("Waldmann et al. 2025, CVPR Workshops", "10.48550/arXiv.2503.10845"), "Panopticon_Weights",
            ("VIT_BASE14",), minimum_size=28,
        ),
        "scalemae_large_patch16": Backbone(
            "scalemae", "scalemae_large_patch16", "Scale-MAE, ViT-L/16",
            ("Reed et al. 2023, ICCV", "10.48550/arXiv.2212.14532"), "ScaleMAELarge16_Weights", ("FMOW_RGB",),
        ),
        "croma_base": Backbone(
            "croma", "croma_base", "CROMA's optical encoder, ViT-B/8",
            ("Fuller, Millard and Green 2023, NeurIPS", "10.48550/arXiv.2311.00566"), "CROMABase_Weights",
            ("CROMA_VIT",), minimum_size=16,
        ),
        "croma_large": Backbone(
            "croma", "croma_large", "CROMA's optical encoder, ViT-L/8",
            ("Fuller, Millard and Green 2023, NeurIPS", "10.48550/arXiv.2311.00566"), "CROMALarge_Weights",
            ("CROMA_VIT",), minimum_size=16,
        ),
    }
)  # fmt: skip
"""Vision transformers; a model is called ``torchgeo/NAME``."""

_PRITHVI = ("Jakubik et al. 2023 and Szwarcman et al. 2024", "10.48550/arXiv.2412.02732")

TERRATORCH: Mapping[str, Backbone] = MappingProxyType(
    {
        name: Backbone("terratorch", name, summary, _PRITHVI, "", (weights,))
        for name, summary, weights in (
            ("prithvi_eo_v1_100", "Prithvi-EO 1.0, ViT-B/16; needs terratorch", "PRITHVI_EO_V1_100M"),
            ("prithvi_eo_v2_300", "Prithvi-EO 2.0, ViT-L/16; needs terratorch", "PRITHVI_EO_V2_300M"),
            ("prithvi_eo_v2_600", "Prithvi-EO 2.0, ViT-H/14; needs terratorch", "PRITHVI_EO_V2_600M"),
        )
    }
)
"""Vision transformers of terratorch, which must be installed; a model is called ``torchgeo/NAME``."""

PRITHVI_BANDS = ("blue", "green", "red", "nir08", "swir1", "swir2")
"""Bands of Harmonized Landsat and Sentinel-2 that Prithvi was trained with [S: terratorch, ``PRETRAINED_BANDS``]."""
PRITHVI_URLS = {
    "PRITHVI_EO_V1_100M": "Prithvi-EO-1.0-100M/resolve/main/Prithvi_EO_V1_100M.pt",
    "PRITHVI_EO_V2_300M": "Prithvi-EO-2.0-300M/resolve/main/Prithvi_EO_V2_300M.pt",
    "PRITHVI_EO_V2_600M": "Prithvi-EO-2.0-600M/resolve/main/Prithvi_EO_V2_600M.pt",
}

LEFT_OUT = {
    "aurora_swin_unet": "forecasts global weather fields; it does not read images",
    "yolo": "detects boxes; it has no map of features that torchgeo exposes",
    "clay_v1_base": "terratorch makes it through a factory of its own that wants date and place with every image",
    "satmae": "terratorch has a head for it and no weights; its code must be fetched by hand",
    "satclip": "embeds coordinates; it does not read images",
    "tilenet": "returns one vector for a tile, and no map of features",
    "presto": "reads the time series of a pixel, not an image",
    "tessera": "reads the time series of a pixel, not an image",
    "olmoearth_v1": "needs a package of its own, olmoearth_pretrain_minimal",
    "deo_base": "torchgeo before 0.10 does not have it; it reads 3 or 10 fixed bands",
    **dict.fromkeys(
        (
            "NAIP_RGBN_RESNET18_CHESAPEAKERSC", "SENTINEL2_FTW_PRUE_CCBY_EFNETB3",
            "SENTINEL2_FTW_PRUE_CCBY_EFNETB5", "SENTINEL2_FTW_PRUE_CCBY_EFNETB7",
        ),
        "weights that torchgeo 0.8 does not have",
    ),
}  # fmt: skip
"""Models and weights of torchgeo and terratorch that are not available here, and the reason."""


MEASURED: Mapping[str, tuple[int, float]] = MappingProxyType(
    {
        "unet-resnet18": (14_340_898, 1.40), "unet-resnet50": (32_533_794, 2.71), "unet-resnet152": (67_169_570, 5.14),
        "unet-earthloc": (10_785_058, 2.18), "unet-swin_t": (31_634_268, 2.99), "unet-swin_s": (52_952_172, 5.37),
        "unet-swin_b": (91_971_930, 9.25), "unet-swin_v2_t": (31_697_484, 2.52), "unet-swin_v2_b": (91_999_194, 6.41),
        "unet-efficientnet-b3": (12_567_722, 0.96), "unet-efficientnet-b5": (30_165_202, 1.46),
        "unet-efficientnet-b7": (65_454_258, 2.43), "unet-resnet34-tcd": (24_449_058, 2.01),
        "unet-resnet50-tcd": (32_533_794, 2.71), "vit_small_patch16_224": (22_549_890, 1.77),
        "vit_base_patch16_224": (87_174_402, 6.00), "vit_large_patch16_224": (305_005_058, 20.27),
        "vit_huge_patch14_224": (632_484_098, 64.94), "vit_small_patch14_dinov2": (22_416_258, 2.66),
        "vit_base_patch14_dinov2": (86_911_746, 9.25), "dofa_small_patch16_224": (35_159_945, 1.95),
        "dofa_base_patch16_224": (111_751_049, 6.26), "dofa_large_patch16_224": (337_559_433, 20.59),
        "dofa_huge_patch14_224": (663_569_801, 65.25), "copernicusfm_base": (113_525_129, 6.27),
        "panopticon_vitb14": (98_716_674, 17.07), "scalemae_large_patch16": (304_803_330, 20.27),
        "croma_base": (85_957_890, 24.00), "croma_large": (303_347_714, 81.62),
    }
)  # fmt: skip
"""Trainable parameters for 7 bands and 2 classes, and GMAC for one 7x128x128 image, as printed by
benchmarks/torchgeo_models.py."""


def weights_suffix(name: str) -> str:
    """Return the last part of a model's name for weights of this name."""
    return name.lower()
