"""The paper's Table 6, to stand beside ours. Other data, another machine: it is no target and no claim.

Source: Zheng et al. 2025, 10.4236/jcc.2025.138004, Table 6. Dice is in percent there; parameters are truncated
to whole millions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of Table 6.

    Attributes:
        label: the name that the paper uses.
        dice: in [0, 1].
        loss: as printed; the paper does not name the function.
        fps: images a second on an RTX 3060 Ti.
        accuracy: in [0, 1].
        precision: in [0, 1].
        recall: in [0, 1].
        parameters_m: millions, truncated.
    """

    label: str
    dice: float
    loss: float
    fps: float
    accuracy: float
    precision: float
    recall: float
    parameters_m: int


TABLE_6 = {
    "unet": PaperRow("U-net", 0.623, 0.034, 22.98, 0.982, 0.80, 0.71, 14),
    "mobilenetv2": PaperRow("MobileNetV2", 0.597, 0.035, 25.23, 0.968, 0.76, 0.70, 13),
    "deeplabv3plus": PaperRow("DeepLabV3+", 0.659, 0.021, 20.15, 0.980, 0.88, 0.74, 58),
    "segnet": PaperRow("SegNet", 0.636, 0.036, 21.62, 0.979, 0.86, 0.72, 24),
    "drs_unet": PaperRow("DRs-Unet", 0.653, 0.026, 20.92, 0.983, 0.85, 0.73, 47),
    "model54_standin": PaperRow("Model [54]", 0.660, 0.019, 22.45, 0.980, 0.85, 0.77, 23),
    "enhanced_unet": PaperRow("Ours", 0.667, 0.016, 21.66, 0.988, 0.86, 0.79, 15),
}
