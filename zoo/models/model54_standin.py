"""A size-matched placeholder for the paper's "Model [54]"."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor

from zoo.models.base import SegmentationModel
from zoo.models.encoders import VGG16_BN, load_encoder, pretrained_state


class Model54Standin(SegmentationModel):
    """smp's U-Net on VGG16-BN: 23.76 M parameters, as many as Table 6 gives "Model [54]", and nothing else of it.

    Reference [54] (Mondini, Guzzetti and Melillo 2023) classifies hourly rainfall histories. It takes no image and
    is no segmentation network; how the paper gave it 23 M parameters and a frame rate is not documented.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        encoder_weights: ``None``, ``"imagenet"``, or the path of a VGG16-BN state dict in torchvision's layout.

    Raises:
        ModelError: if weights were asked for and cannot be had.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2, *, encoder_weights: str | None = None) -> None:
        super().__init__(in_channels, classes, stride=32, minimum_size=64)
        self.unet = smp.Unet("vgg16_bn", encoder_weights=None, in_channels=in_channels, classes=classes)
        if encoder_weights is not None:
            state = pretrained_state(VGG16_BN, encoder_weights, in_channels)
            load_encoder(self.unet.encoder, state, encoder_weights)

    def segment(self, x: Tensor) -> Tensor:
        logits: Tensor = self.unet(x)
        return logits
