"""Registration of one family of models per decoder. Imports no torch; ``encoders.json`` lists the encoders."""

from zoo.registry import ModelFamilySpec, hookimpl
from zoo.registry.hookspecs import RegisterModel

DECODERS = {
    "unet": ("U-Net", "Ronneberger et al. 2015, MICCAI", "10.1007/978-3-319-24574-4_28"),
    "unetplusplus": ("U-Net++", "Zhou et al. 2018, DLMIA", "10.1007/978-3-030-00889-5_1"),
    "manet": ("MA-Net", "Fan et al. 2020, IEEE Access", "10.1109/ACCESS.2020.3025372"),
    "linknet": ("LinkNet", "Chaurasia and Culurciello 2017, VCIP", "10.1109/VCIP.2017.8305148"),
    "fpn": ("Feature pyramid network", "Kirillov et al. 2019, CVPR", "10.1109/CVPR.2019.00656"),
    "pspnet": ("PSPNet", "Zhao et al. 2017, CVPR", "10.1109/CVPR.2017.660"),
    "pan": ("Pyramid attention network", "Li et al. 2018, BMVC", "10.48550/arXiv.1805.10180"),
    "deeplabv3": ("DeepLabV3", "Chen et al. 2017", "10.48550/arXiv.1706.05587"),
    "deeplabv3plus": ("DeepLabV3+", "Chen et al. 2018, ECCV", "10.1007/978-3-030-01234-2_49"),
    "upernet": ("UPerNet", "Xiao et al. 2018, ECCV", "10.1007/978-3-030-01228-1_26"),
    "segformer": ("SegFormer", "Xie et al. 2021, NeurIPS", "10.48550/arXiv.2105.15203"),
    "dpt": ("DPT", "Ranftl et al. 2021, ICCV", "10.1109/ICCV48922.2021.01196"),
}
"""Title, paper and DOI of each decoder."""


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``smp/unet-*`` and the other families."""
    for decoder, (title, paper, doi) in DECODERS.items():
        register(
            ModelFamilySpec(
                name=f"smp/{decoder}",
                target=f"zoo_smp.models:{decoder}",
                variants="zoo_smp.table:variants",
                summary=f"{title} of segmentation_models.pytorch",
                paper=paper,
                doi=doi,
                licence="MIT",
            )
        )
