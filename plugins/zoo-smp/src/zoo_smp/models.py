"""The decoders of segmentation_models.pytorch behind the interface of landslide-zoo.

The options are those of the classes of the same name there. All models here accept images of any size (padded and
cropped), have no layer that the logits do not depend on, and download nothing unless weights are named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
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
from zoo_smp.table import Encoder, min_side, table
from zoo_smp.weights import build

CLASSES = (
    smp.Unet, smp.UnetPlusPlus, smp.MAnet, smp.Linknet, smp.FPN, smp.PSPNet,
    smp.PAN, smp.DeepLabV3, smp.DeepLabV3Plus, smp.UPerNet, smp.Segformer, smp.DPT,
)  # fmt: skip
DECODERS = {model_class.__name__.casefold(): model_class for model_class in CLASSES}
CHANNELS = (256, 128, 64, 32, 16)
"""Default channels of the decoders with one stage per stage of the encoder."""

Norm: TypeAlias = Literal["batchnorm", "identity"]
"""Normalisations of smp, without ``layernorm`` and ``instancenorm``, which fail, and ``inplace``, which needs an
unmaintained package."""
Interpolation: TypeAlias = Literal["nearest", "bilinear"]

PROVENANCE = (
    Choice("S", "Decoder, head and defaults are those of segmentation_models.pytorch 0.6.", "its documentation"),
    Choice("O", "Layers that the logits do not depend on, such as a classifier, are removed.", "honest counts"),
    Choice("O", "Encoders start from random weights unless weights are named.", "no download without being asked"),
    WIDENED,
    PADDED,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that all models here take.

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

    @property
    def encoder(self) -> Encoder:
        """Entry of the encoder in the table.

        Raises:
            UnknownNameError: if there is no such encoder.
        """
        encoders = table().encoders
        if self.variant not in encoders:
            raise UnknownNameError("encoder", self.variant, encoders)
        return encoders[self.variant]

    def arguments(self, decoder: str) -> dict[str, Any]:
        """Return the arguments of the class of smp, without those that all classes share."""
        shared = {field.name for field in fields(Options)}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in shared}
        facts = self.encoder.decoders.get(decoder)
        chosen = {
            "decoder_channels": CHANNELS[: self.encoder_depth],
            "encoder_output_stride": 16 if facts is None else facts.output_stride,
            "decoder_readout": "cat" if self.encoder.class_token else "ignore",
        }
        return {name: chosen.get(name) if value is None else value for name, value in own.items()}


@dataclass(frozen=True, kw_only=True)
class StagesOptions(Options):
    """Options of decoders with one stage per stage of the encoder.

    Args:
        decoder_channels: channels of each stage of the decoder, deepest first, as many as encoder_depth; None for
            256, 128, 64, 32, 16.
        decoder_use_norm: normalisation in the decoder.
        decoder_interpolation: how the decoder enlarges maps.
    """

    decoder_channels: Sequence[int] | None = None
    decoder_use_norm: Norm = "batchnorm"
    decoder_interpolation: Interpolation = "nearest"


@dataclass(frozen=True, kw_only=True)
class UnetOptions(StagesOptions):
    """Options of U-Net and U-Net++.

    Args:
        decoder_attention_type: attention in the decoder.
    """

    decoder_attention_type: Literal["scse"] | None = None


@dataclass(frozen=True, kw_only=True)
class MAnetOptions(StagesOptions):
    """Options of MA-Net.

    Args:
        decoder_pab_channels: channels of the position-wise attention.
    """

    decoder_pab_channels: int = 64


@dataclass(frozen=True, kw_only=True)
class LinknetOptions(Options):
    """Options of LinkNet.

    Args:
        decoder_use_norm: normalisation in the decoder.
    """

    decoder_use_norm: Norm = "batchnorm"


@dataclass(frozen=True, kw_only=True)
class FPNOptions(Options):
    """Options of the feature pyramid network.

    Args:
        decoder_pyramid_channels: channels of the pyramid.
        decoder_segmentation_channels: channels of the maps that are merged.
        decoder_merge_policy: how they are merged.
        decoder_dropout: share of the merged channels that training sets to zero.
        decoder_interpolation: how the decoder enlarges maps.
    """

    decoder_pyramid_channels: int = 256
    decoder_segmentation_channels: int = 128
    decoder_merge_policy: Literal["add", "cat"] = "add"
    decoder_dropout: float = 0.2
    decoder_interpolation: Interpolation = "nearest"


@dataclass(frozen=True, kw_only=True)
class PSPNetOptions(LinknetOptions):
    """Options of PSPNet.

    Args:
        psp_out_channels: channels of the output of the pyramid pooling.
        psp_dropout: share of these channels that training sets to zero.
    """

    encoder_depth: int = 3
    psp_out_channels: int = 512
    psp_dropout: float = 0.2

    def arguments(self, decoder: str) -> dict[str, Any]:
        """Return the arguments of the class of smp, without those that all classes share."""
        return super().arguments(decoder) | {"upsampling": 2**self.encoder_depth}


@dataclass(frozen=True, kw_only=True)
class PANOptions(Options):
    """Options of the pyramid attention network.

    Args:
        encoder_output_stride: size of the image divided by the size of the deepest map, 16 or 32; strides beyond it
            become dilations. None for 16, or 32 if the encoder cannot be dilated.
        decoder_channels: channels of the decoder.
        decoder_interpolation: how the decoder enlarges maps.
    """

    encoder_output_stride: int | None = None
    decoder_channels: int = 32
    decoder_interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, kw_only=True)
class DeepLabV3Options(Options):
    """Options of DeepLabV3.

    Args:
        encoder_output_stride: size of the image divided by the size of the deepest map, 8 or 16; strides beyond it
            become dilations. None for 16 in DeepLabV3+, and for 8 in DeepLabV3, or 16 if the encoder cannot be
            dilated to 8.
        decoder_channels: channels of the decoder.
        decoder_atrous_rates: dilations of the ASPP.
        decoder_aspp_separable: whether the convolutions of the ASPP are separable.
        decoder_aspp_dropout: share of the channels of the ASPP that training sets to zero.
    """

    encoder_output_stride: int | None = None
    decoder_channels: int = 256
    decoder_atrous_rates: Sequence[int] = (12, 24, 36)
    decoder_aspp_separable: bool = False
    decoder_aspp_dropout: float = 0.5


@dataclass(frozen=True, kw_only=True)
class DeepLabV3PlusOptions(DeepLabV3Options):
    """Options of DeepLabV3+."""

    decoder_aspp_separable: bool = True


@dataclass(frozen=True, kw_only=True)
class UPerNetOptions(LinknetOptions):
    """Options of UPerNet.

    Args:
        decoder_channels: channels of the decoder.
    """

    decoder_channels: int = 256


@dataclass(frozen=True, kw_only=True)
class SegformerOptions(Options):
    """Options of SegFormer.

    Args:
        decoder_segmentation_channels: channels of the decoder.
    """

    decoder_segmentation_channels: int = 256


@dataclass(frozen=True, kw_only=True)
class DPTOptions(Options):
    """Options of DPT, a decoder for vision transformers.

    Args:
        encoder_depth: number of blocks of the transformer whose maps the decoder takes.
        encoder_output_indices: these blocks; None for equal distances.
        decoder_readout: what the decoder does with the class token; None to concatenate it if there is one.
        decoder_intermediate_channels: channels of each of these maps.
        decoder_fusion_channels: channels of the maps that are merged.
    """

    encoder_depth: int = 4
    encoder_output_indices: Sequence[int] | None = None
    decoder_readout: Literal["cat", "add", "ignore"] | None = None
    decoder_intermediate_channels: Sequence[int] = (256, 512, 1024, 1024)
    decoder_fusion_channels: int = 256


class SmpModel(SegmentationModel):
    """A model of segmentation_models.pytorch.

    Args:
        decoder: name of the decoder, such as ``unet``.
        options: bands, classes, encoder and the options of the decoder.

    Raises:
        UnknownNameError: if there is no such encoder.
        ConfigError: if the class rejects the options.
        ModelError: if the weights cannot be loaded.
    """

    def __init__(self, decoder: str, options: Options) -> None:
        encoder, depth = options.encoder, options.encoder_depth
        where = f"smp/{decoder}-{options.variant}"
        if not 1 <= depth <= 5:
            raise ConfigError(f"encoder_depth must be from 1 to 5, not {depth}", where=where)
        arguments = options.arguments(decoder)
        stride = encoder.multiple or 2**depth
        decoder_minimum = min_side(decoder, arguments.get("encoder_output_stride", 1))
        minimum = max(min(encoder.minimum, 2 * stride), decoder_minimum)
        super().__init__(options.in_channels, options.classes, stride=stride, minimum_size=minimum)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # smp warns of deprecated names and of names of weights
            try:
                self.network = build(
                    DECODERS[decoder],
                    encoder,
                    options.encoder_weights,
                    encoder_depth=depth,
                    in_channels=options.in_channels,
                    classes=options.classes,
                    **arguments,
                )
            except (ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(f"these options do not fit ({reason})", where=where) from error
        if any(parameter.is_meta for parameter in self.network.parameters()):
            self.network.to("meta")  # smp widens the first convolution on the CPU, even on the meta device
        self.standardise = StandardiseImage() if options.standardise else nn.Identity()
        side = -(-max(minimum, 64) // stride) * stride
        drop_unused(self.network, torch.zeros(1, options.in_channels, side, side))

    def segment(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.standardise(x))
        if logits.shape[2:] != x.shape[2:]:
            logits = F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)
        return logits


class RemovedLayer(nn.Module):
    """Replacement for a removed layer. Some encoders still call such layers, with further arguments."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return ``x``."""
        return x


def drop_unused(network: nn.Module, image: Tensor) -> None:
    """Remove the layers that the output does not depend on, and freeze single tensors that it does not depend on.

    Args:
        network: the network, or an encoder that returns several maps; it is run once in evaluation mode.
        image: an image of a size that it takes.
    """
    parameters = dict(network.named_parameters())
    image = image.to(next(iter(parameters.values())).device)
    training = network.training
    with torch.inference_mode(False), torch.enable_grad():
        found = network.eval()(image)
        used = leaves(*([found] if isinstance(found, Tensor) else found))
    network.train(training)
    unused = {name for name, parameter in parameters.items() if id(parameter) not in used}
    for name, module in list(network.named_modules()):
        own = {f"{name}.{inner}" for inner, _ in module.named_parameters()} if name else set()
        if own and own <= unused:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, RemovedLayer())
            unused -= own
    for name, parameter in network.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)


def leaves(*outputs: Tensor) -> set[int]:
    """Return the ids of the parameters that tensors depend on, from their autograd graph."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _family(decoder: str, kind: type[Options]) -> Callable[..., SmpModel]:
    @forwards_options(kind)
    def create(**options: Any) -> SmpModel:
        return SmpModel(decoder, kind(**options))

    return create


# The targets of the families: `zoo_smp.models:unet` and so on.
unet = _family("unet", UnetOptions)
unetplusplus = _family("unetplusplus", UnetOptions)
manet = _family("manet", MAnetOptions)
linknet = _family("linknet", LinknetOptions)
fpn = _family("fpn", FPNOptions)
pspnet = _family("pspnet", PSPNetOptions)
pan = _family("pan", PANOptions)
deeplabv3 = _family("deeplabv3", DeepLabV3Options)
deeplabv3plus = _family("deeplabv3plus", DeepLabV3PlusOptions)
upernet = _family("upernet", UPerNetOptions)
segformer = _family("segformer", SegformerOptions)
dpt = _family("dpt", DPTOptions)
