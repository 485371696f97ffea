"""MobileNetV2 with a DeepLabV3+ head.

The paper's reference [37] is an image classifier and documents no segmentation head; this one is ours [O].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from zoo.models.base import SegmentationModel
from zoo.models.deeplabv3plus import DeepLabV3PlusHead, check_output_stride
from zoo.models.encoders import MOBILENETV2, timm_encoder


class MobileNetV2(SegmentationModel):
    """MobileNetV2 with its final 1280-channel 1x1 convolution, full ASPP-256, two 3x3 decoder convolutions.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        output_stride: 8, 16 or 32; 16 dilates from block 14.
        decoder_convs: 3x3 convolutions of the decoder.
        aspp_rates: dilations of ASPP.
        encoder_weights: ``None``, ``"imagenet"``, or the path of a MobileNetV2 state dict in timm's layout.

    Raises:
        ConfigError: if an option is out of range.
        ModelError: if weights were asked for and cannot be had; on a batch of one in training.
    """

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        output_stride: int = 16,
        decoder_convs: int = 2,
        aspp_rates: Sequence[int] = (6, 12, 18),
        encoder_weights: str | None = None,
    ) -> None:
        check_output_stride("MobileNetV2", output_stride)
        super().__init__(in_channels, classes, stride=output_stride, minimum_size=32)
        self.encoder = timm_encoder(MOBILENETV2, in_channels, encoder_weights, output_stride)
        self.head = DeepLabV3PlusHead(24, 1280, classes, decoder_convs=decoder_convs, rates=aspp_rates)

    def segment(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        low = encoder.blocks[:2](encoder.bn1(encoder.conv_stem(x)))
        high = encoder.bn2(encoder.conv_head(encoder.blocks[2:](low)))
        logits: Tensor = self.head(low, high)
        return F.interpolate(logits, size=(x.shape[2], x.shape[3]), mode="bilinear", align_corners=False)
