"""A size-matched placeholder for the paper's "Model [54]"."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor

from zoo.models.base import PADDED, SegmentationModel
from zoo.models.encoders import VGG16_BN, WIDENED, load_encoder, pretrained_state
from zoo.registry import Choice

PROVENANCE = (
    Choice(
        "S",
        "[54] classifies hourly rainfall histories. It takes no image and is not a segmentation network.",
        "Mondini, Guzzetti and Melillo 2023, 10.1038/s41467-023-38135-y",
    ),
    Choice(
        "O",
        "segmentation_models.pytorch's Unet('vgg16_bn') has 23.76 M parameters, which floors to the 23 M that Table 6 "
        "gives [54]. It shares nothing else with [54]; do not base a claim on its row.",
        "Table 6",
    ),
    WIDENED,
    PADDED,
)


class Model54Standin(SegmentationModel):
    """U-Net on VGG16-BN of segmentation_models.pytorch: 23.76 M parameters, as Table 6 gives for "Model [54]".

    It shares nothing else with that model. Reference [54] (Mondini, Guzzetti and Melillo 2023) classifies hourly
    rainfall histories: it takes no image and is not a segmentation network. The paper does not document how it
    obtained 23 M parameters and a frame rate for it.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        encoder_weights: None for random weights, "imagenet" to download them, or the path of a VGG16-BN state dict
            in torchvision's layout. The first convolution is widened to the bands.

    Raises:
        ModelError: if the encoder weights cannot be loaded.
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
