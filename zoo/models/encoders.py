"""Encoders from timm and their ImageNet weights.

Nothing is downloaded unless ``encoder_weights="imagenet"`` is given. On a machine without a network, give the path
of a downloaded file instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.models import adapt_input_conv, load_state_dict, load_state_dict_from_hf
from torch import Tensor, nn

from zoo.errors import ModelError
from zoo.registry import Choice

WIDENED = Choice(
    "S",
    "ImageNet's three colour kernels are repeated over the bands and scaled by 3 / bands (summed for one band).",
    "timm and segmentation_models.pytorch",
)
"""How the models here adapt ImageNet weights to any number of bands."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder with published ImageNet weights, and the layout of their state dict.

    Attributes:
        repository: name of the weights on the Hugging Face hub.
        stem: key of the first convolution, which reads the bands.
        classifier: prefixes of the keys that a segmentation model does not use.
    """

    repository: str
    stem: str
    classifier: tuple[str, ...]


# ResNet and VGG weights of the plain torchvision recipe, as DeepLabV3+ and SegNet used.
RESNET101 = PretrainedEncoder("timm/resnet101.tv_in1k", "conv1.weight", ("fc.",))
VGG16_BN = PretrainedEncoder("timm/vgg16_bn.tv_in1k", "features.0.weight", ("pre_logits.", "head.", "classifier."))
MOBILENETV2 = PretrainedEncoder("timm/mobilenetv2_100.ra_in1k", "conv_stem.weight", ("classifier.",))


def timm_encoder(source: PretrainedEncoder, in_channels: int, weights: str | None, output_stride: int) -> Any:
    """Create timm's classifier without its last layer, for ``in_channels`` bands and dilated to ``output_stride``.

    Raises:
        ModelError: if the weights cannot be loaded.
    """
    name = source.repository.removeprefix("timm/")
    encoder = timm.create_model(name, num_classes=0, in_chans=in_channels, output_stride=output_stride)
    if weights is not None:
        load_encoder(encoder, pretrained_state(source, weights, in_channels), weights)
    return encoder


def pretrained_state(source: PretrainedEncoder, weights: str, in_channels: int) -> dict[str, Tensor]:
    """Return the weights of an encoder, with the first convolution widened to ``in_channels``.

    timm and smp widen it the same way: the three colour kernels are repeated over the bands and scaled by
    3 / ``in_channels``, or summed for a single band, so that activations keep their magnitude.

    Args:
        source: the encoder.
        weights: ``"imagenet"``, which downloads the weights or reads an earlier download, or the path of a file.
        in_channels: bands of the input.

    Raises:
        ModelError: if the weights cannot be downloaded or read, or do not have the layout of the encoder.
    """
    if weights == "imagenet":
        try:
            state: dict[str, Tensor] = load_state_dict_from_hf(source.repository, weights_only=True)
        except Exception as error:  # hub, HTTP, TLS and disk errors share no base class
            raise ModelError(
                f"ImageNet weights {source.repository} could not be downloaded ({type(error).__name__})",
                where="encoder_weights",
                hint=f"Leave encoder_weights out to start from random weights, or fetch model.safetensors of "
                f"{source.repository} from the Hugging Face hub on another machine and pass its path",
            ) from error
    elif Path(weights).is_file():
        try:
            state = load_state_dict(weights, use_ema=False)
        except Exception as error:  # safetensors, pickle and zip errors share no base class
            raise ModelError(
                f"{weights} does not hold a state dict ({type(error).__name__})",
                where="encoder_weights",
                hint="Give a .safetensors file, or a .pth file that torch.load reads with weights_only=True",
            ) from error
    else:
        raise ModelError(
            f"{weights!r} is neither the name of weights nor a file",
            where="encoder_weights",
            hint="Give 'imagenet' or the path of a state dict",
        )
    state = {key: value for key, value in state.items() if not key.startswith(source.classifier)}
    if source.stem not in state or state[source.stem].ndim != 4 or state[source.stem].shape[1] != 3:
        raise ModelError(
            f"the weights have no first convolution {source.stem!r} for three bands",
            where=f"encoder_weights={weights}",
            hint=f"Expected the layout of {source.repository}",
        )
    state[source.stem] = adapt_input_conv(in_channels, state[source.stem])
    return state


def load_encoder(encoder: nn.Module, state: dict[str, Tensor], weights: str) -> None:
    """Load a complete state dict into an encoder.

    Raises:
        ModelError: if keys are missing or unknown.
    """
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            "the weights do not fit the encoder: " + " ".join(str(error).split())[:300],
            where=f"encoder_weights={weights}",
            hint="Is it the state dict of another architecture?",
        ) from error
