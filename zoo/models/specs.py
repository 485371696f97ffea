"""The built-in models: what they are, what they cost, and where each decision comes from. Imports no torch."""

from __future__ import annotations

from zoo.registry import Choice, Flag, ModelSpec, Option, hookimpl
from zoo.registry.hookspecs import RegisterModel

PAPER = "Zheng et al. 2025, J. Comput. Commun. 13, 80-107"
PAPER_DOI = "10.4236/jcc.2025.138004"

CONVOLUTIONS = ("standard", "dilated", "grouped", "standard+dilated", "standard+grouped", "dilated+grouped")

ENCODER_WEIGHTS = Option(
    "encoder_weights",
    None,
    "None for random weights; 'imagenet' downloads them; or the path of a state dict. The first convolution is "
    "widened to the bands.",
)
WIDENED = Choice(
    "S",
    "ImageNet's three colour kernels are repeated over the bands and scaled by 3 / bands (summed for one band).",
    "timm and segmentation_models.pytorch",
)
PADDED = Choice(
    "O",
    "Any height and width: mirrored at the bottom and right to the next multiple of the stride, logits cropped.",
    "Ronneberger et al. 2015, Figure 2, mirror too; zeros would be sea level in the elevation band",
)


def _unet_options(convolution: str, attention: str) -> tuple[Option, ...]:
    return (
        Option(
            "widths",
            (64, 128, 256, 512, 512),
            "Channels of each level; (64, 128, 256, 512, 1024) is the canonical U-Net.",
        ),
        Option("upsample", "transposed", "How the decoder doubles its maps.", ("transposed", "bilinear")),
        Option("convolution", convolution, "Operation of the encoder, a row of Table 3.", CONVOLUTIONS),
        Option(
            "mode",
            "shared",
            "How two operations come by their kernels.",
            ("shared", "split", "partial", "separate"),
        ),
        Option("branch_weights", (0.5, 0.5), "Weights of the two operations, a row of Table 4."),
        Option("dilation", 2, "Dilation r of the dilated operation."),
        Option("groups", 4, "Groups of the grouped operation; the first convolution stays dense."),
        Option("attention", attention, "Attention, a row of Table 5.", ("none", "channel", "spatial", "mcsa")),
        Option(
            "attention_at",
            ("encoder", "bottleneck"),
            "Where attention stands: any of encoder, bottleneck, skip, decoder.",
        ),
        Option("fusion", "add", "How MCSA meets its input: X + A, X * A, X + X * A.", ("add", "mul", "residual")),
        Option("reduction", 4, "Reduction r of channel attention."),
        Option("mlp_layers", 1, "Inner layers of channel attention; 0 is CBAM's."),
        Option("pool", "avg+max", "Pools of channel attention.", ("avg+max", "avg")),
        Option("spatial_kernel", 7, "Kernel size of spatial attention, odd."),
        Option("spatial_hidden", 8, "Maps between the two convolutions of spatial attention."),
    )


_SKELETON = (
    Choice("P", "A U-Net whose Table 6 row equals the standard-convolution row of Table 3.", "Tables 3 and 6"),
    Choice(
        "O",
        "Widths 64-128-256-512-512 with transposed convolutions: 14.791 M floors to the paper's 14 M, the "
        "canonical 1024-channel bottleneck (31 M) does not.",
        "Table 6",
    ),
    Choice(
        "S",
        "(3x3 convolution with bias, BN, ReLU) twice a level; skips are concatenated before the upsampled map.",
        "milesial/Pytorch-UNet before March 2020",
    ),
    Choice(
        "O",
        "Bilinear upsampling does not align corners, so that a prediction does not depend on the patch size.",
        "reference code aligns them",
    ),
    PADDED,
)

UNET = ModelSpec(
    name="unet",
    target="zoo.models.unet:UNet",
    summary="U-Net, 64 to 512 channels, the paper's baseline",
    paper="Ronneberger, Fischer and Brox 2015, MICCAI",
    doi="10.1007/978-3-319-24574-4_28",
    provenance=_SKELETON,
    options=_unet_options("standard", "none"),
    parameters=14_791_298,
    gmac=8.04,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING}),
)

ENHANCED_UNET = ModelSpec(
    name="enhanced_unet",
    target="zoo.models.unet:enhanced_unet",
    summary="The paper's model: U-Net with hybrid convolution and MCSA in the encoder",
    paper=PAPER,
    doi=PAPER_DOI,
    provenance=(
        *_SKELETON,
        Choice("P", "Conv_h = w_s Conv_s + w_d Conv_d in the encoder, r = 2, weights 0.5 and 0.5.", "eq. 9, Table 4"),
        Choice(
            "O",
            "mode='shared': one kernel at both dilations in all ten encoder convolutions. Independent kernels give "
            "24.2 M (encoder) to 28.2 M; only shared or split kernels stay within the paper's 15 M, and only shared "
            "ones apply eq. 9 to the same input.",
            "Table 6",
        ),
        Choice(
            "O",
            "Evidence against 'shared': Table 3's frame rate of a combination is about the mean of its parts, which "
            "favours mode='split'. mode='separate' is the literal eq. 9 and contradicts Table 6 by 9 M parameters.",
            "Table 3",
        ),
        Choice(
            "O",
            "mode='partial': separate kernels in the first convolution of levels 1 to 3, the first operation alone "
            "elsewhere (15.164 M before attention).",
            "within Table 6's budget",
        ),
        Choice(
            "O",
            "In 'split' and 'separate' the weights of Table 4 apply as in eq. 9; 'separate' has a bias an operation.",
            "the paper describes neither",
        ),
        Choice("O", "4 groups, the first convolution dense, for Table 3's grouped rows.", "not in the paper"),
        Choice(
            "P", "A = A_c + A_s, broadcast, in (0, 2), and X + A: attention added as eq. 15 prints it.", "eq. 14, 15"
        ),
        Choice(
            "O",
            "Eqs. 11, 13 and 14 together imply X * A; with X + A attention is a learned bias. fusion='mul' is the "
            "recommended ablation.",
            "eq. 11, 13, 14; scSE (Roy et al. 2018)",
        ),
        Choice("S", "Average and maximum pass through one branch and are added before the sigmoid.", "CBAM, section 3"),
        Choice("P", "FC C->h, Linear h->h, FC h->C in the channel branch.", "eq. 10"),
        Choice("O", "ReLUs between them; h = max(4, C / 4) keeps the total at 15.1 M, CBAM's 16 gives 14.88 M."),
        Choice("S", "Spatial attention pools the mean and the maximum over the channels.", "CBAM, section 3"),
        Choice("O", "7x7 convolutions 2->8->1 in the spatial branch.", "eq. 12 gives no numbers"),
        Choice(
            "O",
            "MCSA after each of the five encoder DoubleConvs, before both skip and pool.",
            "gives the 15 M of Table 6",
        ),
    ),
    options=_unet_options("standard+dilated", "mcsa"),
    parameters=15_142_727,
    gmac=11.75,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING}),
)

SEGNET = ModelSpec(
    name="segnet",
    target="zoo.models.segnet:SegNet",
    summary="SegNet on VGG16-BN, unpooling at the places of the maxima",
    paper="Badrinarayanan, Kendall and Cipolla 2017, IEEE TPAMI 39, 2481-2495",
    doi="10.1109/TPAMI.2016.2644615",
    provenance=(
        Choice("S", "VGG16's 2-2-3-3-3 convolutions, mirrored in the decoder, BN and ReLU after each.", "section 3"),
        Choice("S", "The last convolution gives the logits without BN or ReLU.", "section 3"),
        Choice("O", "29.4 M parameters: no SegNet of the literature has the paper's 24 M.", "Table 6"),
        Choice(
            "O",
            "decoder='lite' has two convolutions a stage: 24.1 M, parameter-matched and without a published source.",
            "Table 6",
        ),
        WIDENED,
        PADDED,
    ),
    options=(
        Option("decoder", "full", "Mirror of the encoder, or two convolutions a stage.", ("full", "lite")),
        ENCODER_WEIGHTS,
    ),
    parameters=29_446_466,
    gmac=10.05,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING, Flag.PRETRAINED_ENCODER}),
    encoder_weights=("imagenet",),
)

_RATES = Option("aspp_rates", (6, 12, 18), "Dilations of the ASPP.")
_OUTPUT_STRIDE = Option("output_stride", 16, "Image size over deepest map size; the rest is dilated.", (8, 16, 32))
_ASPP = (
    Choice(
        "S",
        "ASPP-256 of a 1x1, three 3x3 at rates 6, 12, 18 and image pooling; dropout 0.1 after its projection.",
        "Chen et al. 2017 and 2018, section 3.1; dropout from their code",
    ),
    Choice(
        "O",
        "At 128 pixels and output stride 16 the map is 8x8 and rates 12 and 18 touch nothing but their centre tap: "
        "output_stride=8 gives 16x16 with the same parameters. The rates stay as they are at every output stride.",
        "doubling them at stride 8, as the source does for 513 pixels, would collapse them again",
    ),
    Choice("O", "No training on a batch of one: the image pooling is normalised over the batch.", "drop_last"),
)

DEEPLABV3PLUS = ModelSpec(
    name="deeplabv3plus",
    target="zoo.models.deeplabv3plus:DeepLabV3Plus",
    summary="DeepLabV3+ on ResNet-101 with full ASPP",
    paper="Chen et al. 2018, ECCV",
    doi="10.1007/978-3-030-01234-2_49",
    provenance=(
        Choice(
            "O",
            "ResNet-101 and one 3x3 decoder convolution: 58.76 M floors to the paper's 58 M. The source prefers two, "
            "decoder_convs=2 (59.35 M).",
            "Table 6; Chen et al. 2018, section 4.1",
        ),
        Choice(
            "S", "Low-level map of layer1 narrowed to 48, concatenated, 3x3 to 256, 1x1, bilinear.", "sections 3.1, 4.1"
        ),
        *_ASPP,
        Choice("S", "Encoder from timm, which keeps the dilation of a stage's first unit at that of its input."),
        WIDENED,
        PADDED,
    ),
    options=(
        _OUTPUT_STRIDE,
        Option("decoder_convs", 1, "3x3 convolutions of the decoder; 2 gives 59.35 M."),
        _RATES,
        ENCODER_WEIGHTS,
    ),
    parameters=58_761_634,
    gmac=4.98,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE, Flag.PRETRAINED_ENCODER}),
    encoder_weights=("imagenet",),
)

MOBILENETV2 = ModelSpec(
    name="mobilenetv2",
    target="zoo.models.mobilenetv2:MobileNetV2",
    summary="MobileNetV2 trunk with a DeepLabV3+ head",
    paper="Sandler et al. 2018, CVPR",
    doi="10.1109/CVPR.2018.00474",
    provenance=(
        Choice("P", "The paper's [37] is an image classifier; it documents no segmentation head.", "reference [37]"),
        Choice(
            "O",
            "Final 1280-channel 1x1, output stride 16 by dilating from block 14, low-level 24 channels to 48, full "
            "ASPP-256, two 3x3 decoder convolutions: the only DeepLabV3+ head that floors to the paper's 13 M.",
            "Table 6",
        ),
        *_ASPP,
        WIDENED,
        PADDED,
    ),
    options=(
        _OUTPUT_STRIDE,
        Option("decoder_convs", 2, "3x3 convolutions of the decoder."),
        _RATES,
        ENCODER_WEIGHTS,
    ),
    parameters=13_351_522,
    gmac=2.11,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE, Flag.PRETRAINED_ENCODER}),
    encoder_weights=("imagenet",),
)

DRS_UNET = ModelSpec(
    name="drs_unet",
    target="zoo.models.drs_unet:DRsUNet",
    summary="U-Net with deep residual shrinkage units in the encoder",
    paper="Chen et al. 2022, Remote Sensing 14, 1848",
    doi="10.3390/rs14081848",
    provenance=(
        Choice("S", "DRs is deep residual shrinkage: encoder units with learned soft thresholds.", "abstract"),
        Choice(
            "S",
            "BN-ReLU-3x3-BN-ReLU-3x3, threshold alpha * mean|z| a channel, alpha from FC-BN-ReLU-FC-sigmoid; the "
            "identity is subsampled by a 1x1 average pool and gets half of the new zero channels on each side.",
            "Zhao et al. 2020, 10.1109/TII.2019.2943898, and their TFLearn code",
        ),
        Choice(
            "O",
            "Widths 64 to 1024, 2-2-3-3-1 units, 3x3 stem, decoder of transposed convolutions and DoubleConvs, no "
            "biases beside BN: 47.4 M floors to the paper's 47 M.",
            "Table 6",
        ),
        Choice("O", "No training on a batch of one: thresholds are normalised over the batch.", "drop_last"),
        PADDED,
    ),
    options=(
        Option("widths", (64, 128, 256, 512, 1024), "Channels of each level."),
        Option("depths", (2, 2, 3, 3, 1), "Residual shrinkage units of each level."),
    ),
    parameters=47_406_978,
    gmac=19.94,
    minimum_size=32,
    flags=frozenset({Flag.EXPORTABLE}),
)

MODEL54_STANDIN = ModelSpec(
    name="model54_standin",
    target="zoo.models.model54_standin:Model54Standin",
    summary="Size-matched placeholder for Model [54], not that model: a U-Net on VGG16-BN",
    paper="Simonyan and Zisserman 2015, ICLR (encoder); no paper describes this row",
    provenance=(
        Choice(
            "S",
            "[54] classifies hourly rainfall histories. It takes no image and is no segmentation network.",
            "Mondini, Guzzetti and Melillo 2023, 10.1038/s41467-023-38135-y",
        ),
        Choice(
            "O",
            "segmentation_models.pytorch's Unet('vgg16_bn') has 23.76 M parameters, which floors to the 23 M that "
            "Table 6 gives [54]. It shares nothing else with it, and no claim may rest on its row.",
            "Table 6",
        ),
        WIDENED,
        PADDED,
    ),
    options=(ENCODER_WEIGHTS,),
    parameters=23_759_138,
    gmac=6.22,
    minimum_size=64,
    flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING, Flag.PRETRAINED_ENCODER}),
    encoder_weights=("imagenet",),
)

MODELS = (UNET, ENHANCED_UNET, SEGNET, DEEPLABV3PLUS, MOBILENETV2, DRS_UNET, MODEL54_STANDIN)


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register the models of the paper's Table 6."""
    for spec in MODELS:
        register(spec)
