"""The decoders of segmentation_models.pytorch behind the interface of landslide-zoo.

Each function takes the options of the class of the same name there. All models get three things here: images of any
size (padded and cropped), no layer that the logits do not depend on, and no download unless weights are named.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import StandardiseImage
from zoo.errors import ConfigError, UnknownNameError
from zoo.models.base import PADDED, SegmentationModel
from zoo.models.encoders import WIDENED
from zoo.registry import Choice, forwards_options
from zoo_smp.table import Encoder, least_side, table
from zoo_smp.weights import build

CLASSES = (
    smp.Unet, smp.UnetPlusPlus, smp.MAnet, smp.Linknet, smp.FPN, smp.PSPNet,
    smp.PAN, smp.DeepLabV3, smp.DeepLabV3Plus, smp.UPerNet, smp.Segformer, smp.DPT,
)  # fmt: skip
DECODERS = {one.__name__.casefold(): one for one in CLASSES}
CHANNELS = (256, 128, 64, 32, 16)
"""Default channels of the decoders with one stage for each stage of the encoder."""

Norm: TypeAlias = Literal["batchnorm", "identity"]
"""smp has more: ``layernorm`` and ``instancenorm`` fail there, and ``inplace`` needs an unmaintained package."""
Interpolation: TypeAlias = Literal["nearest", "bilinear"]

PROVENANCE = (
    Choice("S", "Decoder, head and defaults are those of segmentation_models.pytorch 0.6.", "its documentation"),
    Choice("O", "Layers that the logits do not depend on, such as a classifier, are removed.", "honest counts"),
    Choice("O", "Encoders start from random weights unless weights are named.", "no download without being asked"),
    WIDENED,
    PADDED,
)


@dataclass(frozen=True)
class Common:
    """What all models here take.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        variant: the encoder.
        encoder_depth: stages of the encoder, 3 to 5; the deepest map has 1 / 2^depth of the image's height and width.
        encoder_weights: None for random weights; a name of published weights such as "imagenet", which downloads
            them; "package" for weights of an installed package; or the path of a state dict. The first convolution is
            widened to the bands.
        standardise: whether every image is standardised first (:class:`zoo.blocks.StandardiseImage`), for images
            whose brightness differs, such as pictures and scenes with haze.
    """

    in_channels: int = 7
    classes: int = 2
    variant: str = ""
    encoder_depth: int = 5
    encoder_weights: str | None = None
    standardise: bool = False


class SmpModel(SegmentationModel):
    """A model of segmentation_models.pytorch.

    Args:
        decoder: name of the decoder, such as ``unet``.
        common: bands, classes and encoder.
        options: further arguments of the class.

    Raises:
        UnknownNameError: if there is no such encoder.
        ConfigError: if the class refuses the options.
        ModelError: if the weights cannot be loaded.
    """

    def __init__(self, decoder: str, common: Common, **options: Any) -> None:
        encoder = _encoder(common.variant)
        depth = common.encoder_depth
        where = f"smp/{decoder}-{common.variant}"
        if not 1 <= depth <= 5:
            raise ConfigError(f"encoder_depth must be from 1 to 5, not {depth}", where=where)
        stride = encoder.multiple or 2**depth
        least = least_side(decoder, options.get("encoder_output_stride", 1))
        minimum = max(min(encoder.minimum, 2 * stride), least)
        super().__init__(common.in_channels, common.classes, stride=stride, minimum_size=minimum)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # smp deprecates some of its names, and advises on names of weights
            try:
                self.network = build(
                    DECODERS[decoder],
                    encoder,
                    common.encoder_weights,
                    encoder_depth=depth,
                    in_channels=common.in_channels,
                    classes=common.classes,
                    **options,
                )
            except (ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(f"these options do not fit ({reason})", where=where) from error
        self.standardise = StandardiseImage() if common.standardise else nn.Identity()
        side = -(-max(minimum, 64) // stride) * stride
        drop_unused(self.network, torch.zeros(1, common.in_channels, side, side))

    def segment(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.standardise(x))
        if logits.shape[2:] != x.shape[2:]:
            logits = F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)
        return logits


def drop_unused(network: nn.Module, image: Tensor) -> None:
    """Remove the layers that the logits do not depend on, and freeze single tensors that they do not depend on.

    Args:
        network: the network; it is run once in evaluation mode.
        image: an image of a size that it takes.
    """
    parameters = dict(network.named_parameters())
    image = image.to(next(iter(parameters.values())).device)
    training = network.training
    with torch.inference_mode(False), torch.enable_grad():
        used = leaves(network.eval()(image))
    network.train(training)
    unused = {name for name, parameter in parameters.items() if id(parameter) not in used}
    for name, module in list(network.named_modules()):
        own = {f"{name}.{inner}" for inner, _ in module.named_parameters()} if name else set()
        if own and own <= unused:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, nn.Identity())
            unused -= own
    for name, parameter in network.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)


def leaves(output: Tensor) -> set[int]:
    """The ids of the parameters that a tensor depends on, from its autograd graph."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _encoder(variant: str) -> Encoder:
    encoders = table().encoders
    if variant not in encoders:
        raise UnknownNameError("encoder", variant, encoders)
    return encoders[variant]


def _channels(channels: Sequence[int] | None, common: Common) -> tuple[int, ...]:
    return CHANNELS[: common.encoder_depth] if channels is None else tuple(channels)


def _output_stride(decoder: str, common: Common) -> int:
    facts = _encoder(common.variant).decoders.get(decoder)
    return 16 if facts is None else facts.output_stride


@forwards_options(Common)
def unet(
    *,
    decoder_channels: Sequence[int] | None = None,
    decoder_use_norm: Norm = "batchnorm",
    decoder_attention_type: Literal["scse"] | None = None,
    decoder_interpolation: Interpolation = "nearest",
    **common: Any,
) -> SmpModel:
    """Return a U-Net.

    Args:
        decoder_channels: channels of each stage of the decoder, deepest first, as many as encoder_depth; None for
            256, 128, 64, 32, 16.
        decoder_use_norm: normalisation in the decoder.
        decoder_attention_type: attention in the decoder.
        decoder_interpolation: how the decoder enlarges maps.
    """
    chosen = Common(**common)
    return SmpModel(
        "unet",
        chosen,
        decoder_channels=_channels(decoder_channels, chosen),
        decoder_use_norm=decoder_use_norm,
        decoder_attention_type=decoder_attention_type,
        decoder_interpolation=decoder_interpolation,
    )


@forwards_options(Common)
def unetplusplus(
    *,
    decoder_channels: Sequence[int] | None = None,
    decoder_use_norm: Norm = "batchnorm",
    decoder_attention_type: Literal["scse"] | None = None,
    decoder_interpolation: Interpolation = "nearest",
    **common: Any,
) -> SmpModel:
    """Return a U-Net++.

    Args:
        decoder_channels: channels of each stage of the decoder, deepest first, as many as encoder_depth; None for
            256, 128, 64, 32, 16.
        decoder_use_norm: normalisation in the decoder.
        decoder_attention_type: attention in the decoder.
        decoder_interpolation: how the decoder enlarges maps.
    """
    chosen = Common(**common)
    return SmpModel(
        "unetplusplus",
        chosen,
        decoder_channels=_channels(decoder_channels, chosen),
        decoder_use_norm=decoder_use_norm,
        decoder_attention_type=decoder_attention_type,
        decoder_interpolation=decoder_interpolation,
    )


@forwards_options(Common)
def manet(
    *,
    decoder_channels: Sequence[int] | None = None,
    decoder_use_norm: Norm = "batchnorm",
    decoder_pab_channels: int = 64,
    decoder_interpolation: Interpolation = "nearest",
    **common: Any,
) -> SmpModel:
    """Return a MA-Net.

    Args:
        decoder_channels: channels of each stage of the decoder, deepest first, as many as encoder_depth; None for
            256, 128, 64, 32, 16.
        decoder_use_norm: normalisation in the decoder.
        decoder_pab_channels: channels of the position-wise attention.
        decoder_interpolation: how the decoder enlarges maps.
    """
    chosen = Common(**common)
    return SmpModel(
        "manet",
        chosen,
        decoder_channels=_channels(decoder_channels, chosen),
        decoder_use_norm=decoder_use_norm,
        decoder_pab_channels=decoder_pab_channels,
        decoder_interpolation=decoder_interpolation,
    )


@forwards_options(Common)
def linknet(*, decoder_use_norm: Norm = "batchnorm", **common: Any) -> SmpModel:
    """Return a LinkNet.

    Args:
        decoder_use_norm: normalisation in the decoder.
    """
    return SmpModel("linknet", Common(**common), decoder_use_norm=decoder_use_norm)


@forwards_options(Common)
def fpn(
    *,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_merge_policy: Literal["add", "cat"] = "add",
    decoder_dropout: float = 0.2,
    decoder_interpolation: Interpolation = "nearest",
    **common: Any,
) -> SmpModel:
    """Return a feature pyramid network.

    Args:
        decoder_pyramid_channels: channels of the pyramid.
        decoder_segmentation_channels: channels of the maps that are merged.
        decoder_merge_policy: how they are merged.
        decoder_dropout: share of the merged channels that training sets to zero.
        decoder_interpolation: how the decoder enlarges maps.
    """
    return SmpModel(
        "fpn",
        Common(**common),
        decoder_pyramid_channels=decoder_pyramid_channels,
        decoder_segmentation_channels=decoder_segmentation_channels,
        decoder_merge_policy=decoder_merge_policy,
        decoder_dropout=decoder_dropout,
        decoder_interpolation=decoder_interpolation,
    )


@forwards_options(Common)
def pspnet(
    *,
    encoder_depth: int = 3,
    psp_out_channels: int = 512,
    decoder_use_norm: Norm = "batchnorm",
    psp_dropout: float = 0.2,
    **common: Any,
) -> SmpModel:
    """Return a PSPNet.

    Args:
        psp_out_channels: channels of the output of the pyramid pooling.
        decoder_use_norm: normalisation in the decoder.
        psp_dropout: share of these channels that training sets to zero.
    """
    return SmpModel(
        "pspnet",
        Common(**common, encoder_depth=encoder_depth),
        psp_out_channels=psp_out_channels,
        decoder_use_norm=decoder_use_norm,
        psp_dropout=psp_dropout,
        upsampling=2**encoder_depth,
    )


@forwards_options(Common)
def pan(
    *,
    encoder_output_stride: int | None = None,
    decoder_channels: int = 32,
    decoder_interpolation: Interpolation = "bilinear",
    **common: Any,
) -> SmpModel:
    """Return a pyramid attention network.

    Args:
        encoder_output_stride: size of the image divided by the size of the deepest map, 16 or 32; strides beyond it
            become dilations. None for 16, or 32 if the encoder cannot be dilated.
        decoder_channels: channels of the decoder.
        decoder_interpolation: how the decoder enlarges maps.
    """
    chosen = Common(**common)
    return SmpModel(
        "pan",
        chosen,
        encoder_output_stride=encoder_output_stride or _output_stride("pan", chosen),
        decoder_channels=decoder_channels,
        decoder_interpolation=decoder_interpolation,
    )


@forwards_options(Common)
def deeplabv3(
    *,
    encoder_output_stride: int | None = None,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = False,
    decoder_aspp_dropout: float = 0.5,
    **common: Any,
) -> SmpModel:
    """Return a DeepLabV3.

    Args:
        encoder_output_stride: size of the image divided by the size of the deepest map, 8 or 16; strides beyond it
            become dilations. None for 8, or 16 if the encoder cannot be dilated to 8.
        decoder_channels: channels of the decoder.
        decoder_atrous_rates: dilations of the ASPP.
        decoder_aspp_separable: whether the convolutions of the ASPP are separable.
        decoder_aspp_dropout: share of the channels of the ASPP that training sets to zero.
    """
    chosen = Common(**common)
    return SmpModel(
        "deeplabv3",
        chosen,
        encoder_output_stride=encoder_output_stride or _output_stride("deeplabv3", chosen),
        decoder_channels=decoder_channels,
        decoder_atrous_rates=tuple(decoder_atrous_rates),
        decoder_aspp_separable=decoder_aspp_separable,
        decoder_aspp_dropout=decoder_aspp_dropout,
    )


@forwards_options(Common)
def deeplabv3plus(
    *,
    encoder_output_stride: int | None = None,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = True,
    decoder_aspp_dropout: float = 0.5,
    **common: Any,
) -> SmpModel:
    """Return a DeepLabV3+.

    Args:
        encoder_output_stride: size of the image divided by the size of the deepest map, 8 or 16; strides beyond it
            become dilations. None for 16.
        decoder_channels: channels of the decoder.
        decoder_atrous_rates: dilations of the ASPP.
        decoder_aspp_separable: whether the convolutions of the ASPP are separable.
        decoder_aspp_dropout: share of the channels of the ASPP that training sets to zero.
    """
    chosen = Common(**common)
    return SmpModel(
        "deeplabv3plus",
        chosen,
        encoder_output_stride=encoder_output_stride or _output_stride("deeplabv3plus", chosen),
        decoder_channels=decoder_channels,
        decoder_atrous_rates=tuple(decoder_atrous_rates),
        decoder_aspp_separable=decoder_aspp_separable,
        decoder_aspp_dropout=decoder_aspp_dropout,
    )


@forwards_options(Common)
def upernet(*, decoder_channels: int = 256, decoder_use_norm: Norm = "batchnorm", **common: Any) -> SmpModel:
    """Return a UPerNet.

    Args:
        decoder_channels: channels of the decoder.
        decoder_use_norm: normalisation in the decoder.
    """
    chosen = Common(**common)
    return SmpModel("upernet", chosen, decoder_channels=decoder_channels, decoder_use_norm=decoder_use_norm)


@forwards_options(Common)
def segformer(*, decoder_segmentation_channels: int = 256, **common: Any) -> SmpModel:
    """Return a SegFormer.

    Args:
        decoder_segmentation_channels: channels of the decoder.
    """
    chosen = Common(**common)
    return SmpModel("segformer", chosen, decoder_segmentation_channels=decoder_segmentation_channels)


@forwards_options(Common)
def dpt(
    *,
    encoder_depth: int = 4,
    encoder_output_indices: Sequence[int] | None = None,
    decoder_readout: Literal["cat", "add", "ignore"] | None = None,
    decoder_intermediate_channels: Sequence[int] = (256, 512, 1024, 1024),
    decoder_fusion_channels: int = 256,
    **common: Any,
) -> SmpModel:
    """Return a DPT, a decoder for vision transformers.

    Args:
        encoder_depth: number of blocks of the transformer whose maps the decoder takes.
        encoder_output_indices: these blocks; None for equal distances.
        decoder_readout: what the decoder does with the class token; None to concatenate it if there is one.
        decoder_intermediate_channels: channels of each of these maps.
        decoder_fusion_channels: channels of the maps that are merged.
    """
    chosen = Common(**common, encoder_depth=encoder_depth)
    return SmpModel(
        "dpt",
        chosen,
        encoder_output_indices=None if encoder_output_indices is None else list(encoder_output_indices),
        decoder_readout=decoder_readout or ("cat" if _encoder(chosen.variant).class_token else "ignore"),
        decoder_intermediate_channels=tuple(decoder_intermediate_channels),
        decoder_fusion_channels=decoder_fusion_channels,
    )
