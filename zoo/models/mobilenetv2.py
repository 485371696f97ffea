"""MobileNetV2 with a DeepLabV3+ head.

The paper's reference [37] is an image classifier and documents no segmentation head; this one is ours [O].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zoo.models.base import PADDED
from zoo.models.deeplabv3plus import ASPP_CHOICES, DeepLabV3Plus, OutputStride
from zoo.models.encoders import MOBILENETV2, WIDENED
from zoo.registry import Choice

PROVENANCE = (
    Choice("P", "The paper's [37] is an image classifier; it documents no segmentation head.", "reference [37]"),
    Choice(
        "O",
        "Final 1280-channel 1x1, output stride 16 by dilating from block 14, low-level 24 channels to 48, full "
        "ASPP-256, two 3x3 decoder convolutions: the only DeepLabV3+ head that floors to the paper's 13 M.",
        "Table 6",
    ),
    *ASPP_CHOICES,
    WIDENED,
    PADDED,
)


class MobileNetV2(DeepLabV3Plus):
    """MobileNetV2 with its final 1280-channel 1x1 convolution, full ASPP-256 and two 3x3 decoder convolutions.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        output_stride: size of the image divided by the size of the deepest map; 16 dilates from block 14.
        decoder_convs: number of 3x3 convolutions of the decoder.
        aspp_rates: dilations of the ASPP.
        encoder_weights: None for random weights, "imagenet" to download them, or the path of a MobileNetV2 state
            dict in timm's layout. The first convolution is widened to the bands.

    Raises:
        ConfigError: if an option is out of range.
        ModelError: if the encoder weights cannot be loaded; on a batch of one in training.
    """

    ENCODER = MOBILENETV2
    CHANNELS = (24, 1280)

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        output_stride: OutputStride = 16,
        decoder_convs: int = 2,
        aspp_rates: Sequence[int] = (6, 12, 18),
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            classes,
            output_stride=output_stride,
            decoder_convs=decoder_convs,
            aspp_rates=aspp_rates,
            encoder_weights=encoder_weights,
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoder = self.encoder
        low = encoder.blocks[:2](encoder.bn1(encoder.conv_stem(x)))
        return low, encoder.bn2(encoder.conv_head(encoder.blocks[2:](low)))
