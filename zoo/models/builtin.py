"""Registration of the built-in models. Imports no torch.

Options and the source of each design choice are defined with the classes; ``zoo models show NAME`` reads them there.
"""

from __future__ import annotations

from zoo.registry import Flag, ModelSpec, hookimpl
from zoo.registry.hookspecs import RegisterModel

_IMAGENET = ("imagenet",)

MODELS = (
    ModelSpec(
        name="unet",
        target="zoo.models.unet:UNet",
        summary="U-Net, 64 to 512 channels, the paper's baseline",
        paper="Ronneberger, Fischer and Brox 2015, MICCAI",
        doi="10.1007/978-3-319-24574-4_28",
        parameters=14_791_298,
        gmac=8.04,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING}),
    ),
    ModelSpec(
        name="enhanced_unet",
        target="zoo.models.unet:enhanced_unet",
        summary="The paper's model: U-Net with hybrid convolution and MCSA in the encoder",
        paper="Zheng et al. 2025, J. Comput. Commun. 13, 80-107",
        doi="10.4236/jcc.2025.138004",
        parameters=15_142_727,
        gmac=11.75,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING}),
    ),
    ModelSpec(
        name="segnet",
        target="zoo.models.segnet:SegNet",
        summary="SegNet on VGG16-BN, unpooling at the positions of the maxima",
        paper="Badrinarayanan, Kendall and Cipolla 2017, IEEE TPAMI 39, 2481-2495",
        doi="10.1109/TPAMI.2016.2644615",
        parameters=29_446_466,
        gmac=10.05,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING, Flag.PRETRAINED_ENCODER}),
        encoder_weights=_IMAGENET,
    ),
    ModelSpec(
        name="deeplabv3plus",
        target="zoo.models.deeplabv3plus:DeepLabV3Plus",
        summary="DeepLabV3+ on ResNet-101 with full ASPP",
        paper="Chen et al. 2018, ECCV",
        doi="10.1007/978-3-030-01234-2_49",
        parameters=58_761_634,
        gmac=4.98,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE, Flag.PRETRAINED_ENCODER}),
        encoder_weights=_IMAGENET,
    ),
    ModelSpec(
        name="mobilenetv2",
        target="zoo.models.mobilenetv2:MobileNetV2",
        summary="MobileNetV2 trunk with a DeepLabV3+ head",
        paper="Sandler et al. 2018, CVPR",
        doi="10.1109/CVPR.2018.00474",
        parameters=13_351_522,
        gmac=2.11,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE, Flag.PRETRAINED_ENCODER}),
        encoder_weights=_IMAGENET,
    ),
    ModelSpec(
        name="drs_unet",
        target="zoo.models.drs_unet:DRsUNet",
        summary="U-Net with deep residual shrinkage units in the encoder",
        paper="Chen et al. 2022, Remote Sensing 14, 1848",
        doi="10.3390/rs14081848",
        parameters=47_406_978,
        gmac=19.94,
        minimum_size=32,
        flags=frozenset({Flag.EXPORTABLE}),
    ),
    ModelSpec(
        name="model54_standin",
        target="zoo.models.model54_standin:Model54Standin",
        summary="Size-matched placeholder for Model [54], not that model: a U-Net on VGG16-BN",
        paper="Simonyan and Zisserman 2015, ICLR (encoder); no paper describes this row",
        parameters=23_759_138,
        gmac=6.22,
        minimum_size=64,
        flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING, Flag.PRETRAINED_ENCODER}),
        encoder_weights=_IMAGENET,
    ),
    ModelSpec(
        name="dndvi_threshold",
        target="zoo.models.dndvi_threshold:DndviThreshold",
        summary="Change baseline without training: slopes where NDVI fell between two dates; Otsu's threshold",
        paper="Mondini et al. 2011, Remote Sensing of Environment 115, 1743-1757 (change of NDVI)",
        doi="10.1016/j.rse.2011.03.006",
        parameters=0,
        gmac=0.0,
        flags=frozenset({Flag.EXPORTABLE, Flag.NAMED_BANDS, Flag.UNTRAINED}),
        needs_bands=("dNDVI", "slope"),
    ),
)


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register the models of the paper's Table 6, and an untrained baseline."""
    for spec in MODELS:
        register(spec)
