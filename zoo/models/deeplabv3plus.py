"""DeepLabV3+ (Chen et al. 2018) on ResNet-101, and the head that it shares with MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import ASPP
from zoo.blocks.aspp import ConvBNReLU
from zoo.blocks.checks import check_positive
from zoo.errors import ConfigError
from zoo.models.base import SegmentationModel
from zoo.models.encoders import RESNET101, timm_encoder

OUTPUT_STRIDES = (8, 16, 32)


class DeepLabV3PlusHead(nn.Module):
    """ASPP on the deep map, concatenated with a narrow view of a shallow one.

    Args:
        low_channels: of the shallow map, at a quarter of the image's size.
        high_channels: of the deep map.
        classes: channels of the logits.
        decoder_convs: 3x3 convolutions after the concatenation.
        rates: of the ASPP.

    Shape:
        ``(B, low_channels, H / 4, W / 4)`` and ``(B, high_channels, H / s, W / s)`` -> logits
        ``(B, classes, H / 4, W / 4)``.
    """

    def __init__(
        self,
        low_channels: int,
        high_channels: int,
        classes: int,
        *,
        decoder_convs: int,
        rates: Sequence[int],
    ) -> None:
        super().__init__()
        check_positive(self, decoder_convs=decoder_convs)
        self.aspp = ASPP(high_channels, 256, rates, dropout=0.1)
        self.low = ConvBNReLU(low_channels, 48)
        self.decoder = nn.Sequential(
            ConvBNReLU(256 + 48, 256, 3), *(ConvBNReLU(256, 256, 3) for _ in range(decoder_convs - 1))
        )
        self.classifier = nn.Conv2d(256, classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        low = self.low(low)
        high = _resize(self.aspp(high), (low.shape[2], low.shape[3]))
        logits: Tensor = self.classifier(self.decoder(torch.cat([high, low], dim=1)))
        return logits


class DeepLabV3Plus(SegmentationModel):
    """ResNet-101, full ASPP-256 and a decoder of one 3x3 convolution.

    The encoder is timm's, its first convolution made for ``in_channels``. Strides beyond the output stride become
    dilations.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        output_stride: 8, 16 or 32. On 128-pixel images 16 leaves 8x8 pixels, on which ASPP's rates 12 and 18
            touch nothing but their centre; 8 leaves 16x16 with the same parameters and three times the arithmetic.
        decoder_convs: 3x3 convolutions of the decoder.
        aspp_rates: dilations of ASPP.
        encoder_weights: ``None``, ``"imagenet"``, or the path of a ResNet-101 state dict.

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
        decoder_convs: int = 1,
        aspp_rates: Sequence[int] = (6, 12, 18),
        encoder_weights: str | None = None,
    ) -> None:
        check_output_stride("DeepLabV3Plus", output_stride)
        super().__init__(in_channels, classes, stride=output_stride, minimum_size=32)
        self.encoder = timm_encoder(RESNET101, in_channels, encoder_weights, output_stride)
        self.head = DeepLabV3PlusHead(256, 2048, classes, decoder_convs=decoder_convs, rates=aspp_rates)

    def segment(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        low = encoder.layer1(encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(x)))))
        high = encoder.layer4(encoder.layer3(encoder.layer2(low)))
        return _resize(self.head(low, high), (x.shape[2], x.shape[3]))


def check_output_stride(where: str, output_stride: int) -> None:
    """Refuse output strides that the encoders cannot be dilated to.

    Raises:
        ConfigError: naming those that they can.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ConfigError(f"output_stride must be 8, 16 or 32, not {output_stride!r}", where=where)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
