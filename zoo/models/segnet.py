"""SegNet (Badrinarayanan, Kendall and Cipolla 2017)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.checks import check_choice
from zoo.models.base import PADDED, SegmentationModel
from zoo.models.encoders import VGG16_BN, WIDENED, load_encoder, pretrained_state
from zoo.registry import Choice

WIDTHS = (64, 128, 256, 512, 512)
ENCODER = (2, 2, 3, 3, 3)
DECODERS = {"full": (3, 3, 3, 2, 2), "lite": (2, 2, 2, 2, 2)}

PROVENANCE = (
    Choice("S", "VGG16's 2-2-3-3-3 convolutions, mirrored in the decoder, BN and ReLU after each.", "section 3"),
    Choice("S", "The last convolution gives the logits without BN or ReLU.", "section 3"),
    Choice("O", "29.4 M parameters: no SegNet of the literature has the paper's 24 M.", "Table 6"),
    Choice(
        "O",
        "decoder='lite' has two convolutions per stage: 24.1 M, as many parameters as the paper's, without a published "
        "source.",
        "Table 6",
    ),
    WIDENED,
    PADDED,
)


class SegNet(SegmentationModel):
    """VGG16's thirteen convolutions with pooling, and a decoder that unpools at the same positions.

    Each max pooling passes the positions of its maxima to the unpooling of the same level. The last convolution of a
    decoder stage reduces the channels to those of the next stage. The final convolution gives the logits, without BN
    or ReLU [S: 10.1109/TPAMI.2016.2644615, section 3].

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        decoder: "full" mirrors the encoder; "lite" has two convolutions per stage, which matches the paper's 24 M
            parameters and has no published source.
        encoder_weights: None for random weights, "imagenet" to download them, or the path of a VGG16-BN state dict
            in torchvision's layout. The first convolution is widened to the bands.

    Raises:
        ModelError: if the encoder weights cannot be loaded.
    """

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        decoder: Literal["full", "lite"] = "full",
        encoder_weights: str | None = None,
    ) -> None:
        check_choice("SegNet", "decoder", decoder, DECODERS)
        super().__init__(in_channels, classes, stride=32, minimum_size=32)
        inputs = (in_channels, *WIDTHS)
        self.encoder = nn.ModuleList(
            _stage(before, [after] * count) for before, after, count in zip(inputs, WIDTHS, ENCODER, strict=False)
        )
        narrow = (*WIDTHS[-2::-1], WIDTHS[0])
        self.decoder = nn.ModuleList(
            _stage(width, [width] * (count - 1) + [after])
            for width, after, count in zip(WIDTHS[::-1], narrow, DECODERS[decoder], strict=True)
        )
        self.decoder[-1] = _stage(WIDTHS[0], [WIDTHS[0]] * (DECODERS[decoder][-1] - 1))
        self.head = nn.Conv2d(WIDTHS[0], classes, 3, padding=1)
        if encoder_weights is not None:
            self._load_encoder(encoder_weights)

    def _load_encoder(self, weights: str) -> None:
        state = pretrained_state(VGG16_BN, weights, self.in_channels)
        load_encoder(self._vgg_features(), state, weights)

    def _vgg_features(self) -> nn.Module:
        # VGG's state dict numbers convolutions and pools in one flat list.
        layers: list[nn.Module] = []
        for stage in self.encoder:
            layers += [*stage.children(), nn.MaxPool2d(2)]
        return nn.ModuleDict({"features": nn.Sequential(*layers)})

    def segment(self, x: Tensor) -> Tensor:
        places: list[Tensor] = []
        sizes: list[tuple[int, int]] = []
        for stage in self.encoder:
            x = stage(x)
            sizes.append((x.shape[2], x.shape[3]))
            x, place = F.max_pool2d(x, 2, 2, return_indices=True)
            places.append(place)
        for stage, place, size in zip(self.decoder, reversed(places), reversed(sizes), strict=True):
            x = stage(F.max_unpool2d(x, place, [2, 2], [2, 2], output_size=size))
        logits: Tensor = self.head(x)
        return logits


def _stage(before: int, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([before, *widths]):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
