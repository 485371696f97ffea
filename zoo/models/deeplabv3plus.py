"""DeepLabV3+ (Chen et al. 2018) on ResNet-101, also the base class of MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import ASPP, ConvBNReLU
from zoo.blocks.checks import check_positive
from zoo.errors import ConfigError
from zoo.models.base import PADDED, SegmentationModel
from zoo.models.encoders import RESNET101, WIDENED, PretrainedEncoder, timm_encoder
from zoo.registry import Choice

OutputStride = Literal[8, 16, 32]

ASPP_CHOICES = (
    Choice(
        "S",
        "ASPP-256 of a 1x1 convolution, three 3x3 convolutions at rates 6, 12 and 18, and image pooling; dropout 0.1 "
        "after its projection.",
        "Chen et al. 2017 and 2018, section 3.1; dropout from their code",
    ),
    Choice(
        "O",
        "At 128 pixels and output stride 16 the deepest map is 8x8 and rates 12 and 18 reach only their centre tap; "
        "output_stride=8 gives 16x16 with the same parameters. The rates are the same at every output stride.",
        "doubling them at stride 8, as the source does for 513 pixels, would reduce them to the centre tap again",
    ),
    Choice("O", "No training on a batch of one: the image pooling is normalised over the batch.", "drop_last"),
)

PROVENANCE = (
    Choice(
        "O",
        "ResNet-101 and one 3x3 decoder convolution: 58.76 M floors to the paper's 58 M. The source prefers two, "
        "decoder_convs=2 (59.35 M).",
        "Table 6; Chen et al. 2018, section 4.1",
    ),
    Choice(
        "S", "Low-level map of layer1 narrowed to 48, concatenated, 3x3 to 256, 1x1, bilinear.", "sections 3.1, 4.1"
    ),
    *ASPP_CHOICES,
    Choice("S", "Encoder from timm, which keeps the dilation of a stage's first unit at that of its input."),
    WIDENED,
    PADDED,
)


class DeepLabV3PlusHead(nn.Module):
    """ASPP on the deep map, concatenated with a narrowed shallow map.

    Args:
        low_channels: channels of the shallow map, at a quarter of the image's size.
        high_channels: channels of the deep map.
        classes: channels of the logits.
        decoder_convs: number of 3x3 convolutions after the concatenation.
        rates: dilations of the ASPP.

    Shape:
        ``(B, low_channels, H / 4, W / 4)`` and ``(B, high_channels, H / s, W / s)`` -> logits
        ``(B, classes, H / 4, W / 4)``.
    """

    def __init__(
        self, low_channels: int, high_channels: int, classes: int, *, decoder_convs: int, rates: Sequence[int]
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
    """DeepLabV3+ on ResNet-101 with full ASPP-256 and a decoder of one 3x3 convolution.

    The encoder is timm's, with a first convolution for ``in_channels``. Strides beyond the output stride become
    dilations.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        output_stride: size of the image divided by the size of the deepest map. On 128-pixel images 16 gives maps of
            8x8 pixels, where only the centre taps of the ASPP rates 12 and 18 read data; 8 gives 16x16 with the same
            parameters and three times the arithmetic.
        decoder_convs: number of 3x3 convolutions of the decoder; 2 gives 59.35 M parameters.
        aspp_rates: dilations of the ASPP.
        encoder_weights: None for random weights, "imagenet" to download them, or the path of a ResNet-101 state
            dict. The first convolution is widened to the bands.

    Raises:
        ConfigError: if an option is out of range.
        ModelError: if the encoder weights cannot be loaded; on a batch of one in training.
    """

    ENCODER: ClassVar[PretrainedEncoder] = RESNET101
    CHANNELS: ClassVar[tuple[int, int]] = (256, 2048)
    """Channels of the shallow and of the deep map that :meth:`encode` returns."""

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        output_stride: OutputStride = 16,
        decoder_convs: int = 1,
        aspp_rates: Sequence[int] = (6, 12, 18),
        encoder_weights: str | None = None,
    ) -> None:
        if output_stride not in get_args(OutputStride):
            raise ConfigError(f"output_stride must be 8, 16 or 32, not {output_stride!r}", where=type(self).__name__)
        super().__init__(in_channels, classes, stride=output_stride, minimum_size=32)
        self.encoder = timm_encoder(self.ENCODER, in_channels, encoder_weights, output_stride)
        self.head = DeepLabV3PlusHead(*self.CHANNELS, classes, decoder_convs=decoder_convs, rates=aspp_rates)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shallow map, at a quarter of the image's size, and the deep map."""
        encoder = self.encoder
        low = encoder.layer1(encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(x)))))
        return low, encoder.layer4(encoder.layer3(encoder.layer2(low)))

    def segment(self, x: Tensor) -> Tensor:
        low, high = self.encode(x)
        return _resize(self.head(low, high), (x.shape[2], x.shape[3]))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
