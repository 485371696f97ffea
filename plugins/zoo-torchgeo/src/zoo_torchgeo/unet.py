"""U-Nets on the backbones of torchgeo that return a pyramid of maps: ResNet, Swin, EfficientNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torchgeo.models
import torchvision
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.models.base import PADDED, SegmentationModel
from zoo.registry import Choice
from zoo_torchgeo.backbones import UNETS, Backbone
from zoo_torchgeo.bands import Sensor
from zoo_torchgeo.names import split_variant
from zoo_torchgeo.weights import (
    InputScaling,
    Request,
    adapt_stem,
    check_bands,
    load_exactly,
    match_bands,
    request,
    warn_unmatched_bands,
)

PROVENANCE = (
    Choice("S", "The backbone and its weights are those of torchgeo.", "torchgeo.models"),
    Choice(
        "S",
        "The decoder of segmentation-models-pytorch's U-Net, 256 to 16 channels: that of torchgeo's own U-Net weights.",
        "torchgeo.models.unet",
    ),
    Choice(
        "O",
        "Bands are matched by name, or by wavelength within 3.5 %. Missing bands are filled with their mean in "
        "pretraining; kernels of extra bands start at zero.",
        "zoo_torchgeo.bands and zoo_torchgeo.weights",
    ),
    Choice(
        "O",
        "Bands that the weights expect as digital numbers / 10000 or / 3000 are scaled from standardised values with "
        "the mean and standard deviation of SSL4EO-S12; all others stay standardised.",
        "the training data have other units",
    ),
    Choice("O", "Swin has no map at half the size: the decoder gets an empty one there.", "as smp does for MiT"),
    PADDED,
)


class TimmPyramid(nn.Module):
    """A ResNet of timm that returns the image and its maps.

    Args:
        body: network made with ``features_only=True``.
    """

    stem, stem_mean = "conv1.weight", "bn1.running_mean"

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.channels = list(body.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, *self.body(x)]


class SmpPyramid(nn.Module):
    """An encoder of segmentation-models-pytorch.

    Args:
        body: the encoder.
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        if hasattr(body, "_conv_head"):
            body._conv_head = body._bn1 = nn.Identity()  # the classifier's, which the encoder does not use
        self.channels = list(body.out_channels[1:])
        resnet = hasattr(body, "conv1")
        self.stem = "conv1.weight" if resnet else "_conv_stem.weight"
        self.stem_mean = "bn1.running_mean" if resnet else "_bn0.running_mean"

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.body(x))


class SwinPyramid(nn.Module):
    """A Swin transformer of torchvision that returns the image and its maps; the map at half the size is empty.

    Args:
        body: the transformer; its classifier is removed.
        in_channels: bands of the input.
    """

    stem, stem_mean = "features.0.0.weight", ""

    def __init__(self, body: Any, in_channels: int) -> None:
        super().__init__()
        old = body.features[0][0]
        body.features[0][0] = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride)
        self.body = nn.ModuleDict({"features": body.features})
        width = old.out_channels
        self.channels = [0, width, 2 * width, 4 * width, 8 * width]

    @property
    def features(self) -> nn.Sequential:
        """The stages, each followed by patch merging."""
        stages: Any = self.body["features"]
        return cast(nn.Sequential, stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x, x[:, :0, ::2, ::2]]
        for index, stage in enumerate(self.features):
            x = stage(x)
            if index % 2:
                maps.append(x.permute(0, 3, 1, 2))
        return maps


def make_pyramid(backbone: Backbone, in_channels: int) -> TimmPyramid | SmpPyramid | SwinPyramid:
    """Create a backbone with random weights."""
    if backbone.encoder:
        return SmpPyramid(get_encoder(backbone.encoder, in_channels=in_channels, depth=5, weights=None))
    if backbone.source == "earthloc":
        # EarthLoc ends its ResNet-50 with the third stage [S]; its descriptor has no map and is left out.
        kept: dict[str, Any] = {"features_only": True, "out_indices": (0, 1, 2, 3)}
        return TimmPyramid(torchgeo.models.resnet50(in_chans=in_channels, **kept))
    if backbone.source == "swin_b":
        # The published weights have windows of 12 [S: torchgeo.models.swin_b], torchvision's default is 7.
        body = torchvision.models.SwinTransformer([4, 4], 128, [2, 2, 18, 2], [4, 8, 16, 32], [12, 12],
                                                  stochastic_depth_prob=0.5)  # fmt: skip
        return SwinPyramid(body, in_channels)
    make = getattr(torchgeo.models, backbone.source)
    if backbone.source.startswith("swin"):
        return SwinPyramid(make(), in_channels)
    return TimmPyramid(make(features_only=True, in_chans=in_channels))


class PretrainedUNet(SegmentationModel):
    """A U-Net whose encoder is a backbone of torchgeo.

    Args:
        backbone: the backbone.
        in_channels: bands of the input.
        classes: channels of the logits.
        decoder_channels: channels of each step of the decoder, from the deepest to full size.
    """

    def __init__(self, backbone: Backbone, in_channels: int, classes: int, decoder_channels: Sequence[int]) -> None:
        encoder = make_pyramid(backbone, in_channels)
        stride = 2 ** len(encoder.channels)
        super().__init__(in_channels, classes, stride=stride, minimum_size=2 * stride)
        if len(decoder_channels) < len(encoder.channels) or min(decoder_channels) < 1:
            raise ConfigError(
                f"decoder_channels must be {len(encoder.channels)} positive numbers, not {tuple(decoder_channels)}",
                where=f"unet-{backbone.source}",
            )
        widths = tuple(decoder_channels)[-len(encoder.channels) :]
        self.scaling = InputScaling(in_channels)
        self.encoder = encoder
        self.decoder = UnetDecoder((in_channels, *encoder.channels), widths, n_blocks=len(widths))
        self.head = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def segment(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.decoder(self.encoder(self.scaling(x))))
        return logits

    def load_published(self, wanted: Request, bands: Sequence[str] | None, sensor: str) -> None:
        """Load published weights into the encoder, and into the decoder if they include one.

        Raises:
            ModelError: if they do not fit.
        """
        entry = wanted.entry
        state, rest = _layout(wanted.read())
        matching = match_bands(entry, bands, self.in_channels, sensor)
        stem = self.encoder.stem
        if stem in state and state[stem].ndim == 4 and state[stem].shape[1] == len(entry.bands):
            state[stem], constant = adapt_stem(state[stem], matching, entry.shift)
            bias = stem.replace("weight", "bias")
            if bias in state:
                state[bias] = state[bias] + constant
            elif self.encoder.stem_mean in state:
                # The convolution has no bias, so shift the mean that the next layer subtracts.
                state[self.encoder.stem_mean] = state[self.encoder.stem_mean] - constant
        unused = ("fc.", "norm.", "head.", "_conv_head.", "_bn1.", *(("layer4.",) if self.stride < 32 else ()))
        load_exactly(self.encoder.body, state, may_have=unused, weights=entry.name)
        if rest:
            load_exactly(self.decoder, _substate(rest, "decoder."), weights=entry.name)
            head = _substate(rest, "segmentation_head.0.")
            if head and head["bias"].shape == self.head.bias.shape:  # type: ignore[union-attr]
                load_exactly(self.head, head, weights=entry.name)
        self.scaling.expect(matching, entry)
        warn_unmatched_bands(entry, matching, bands)


def _layout(raw: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the encoder and those of the decoder from any published layout."""
    state = dict(raw["state_dict"]) if isinstance(raw.get("state_dict"), Mapping) else dict(raw)
    for prefix in ("encoder.", "backbone."):
        encoder = _substate(state, prefix)
        if encoder:
            return encoder, state if prefix == "encoder." else {}
    return state, {}


def _substate(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def create(
    in_channels: int = 7,
    classes: int = 2,
    *,
    variant: str,
    weights: str | None = None,
    bands: Sequence[str] | None = None,
    sensor: Sensor = "sentinel2",
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
) -> PretrainedUNet:
    """Create a U-Net on a backbone of torchgeo.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        variant: name of the model without the family, such as ``unet-resnet50``.
        weights: name of published weights, which are downloaded, or path of such a file; none for random weights.
        bands: names of the bands of the input, in order, such as B4 or red; training passes those of the data.
        sensor: satellite that names such as B4 belong to.
        decoder_channels: channels of each step of the decoder, from the deepest to the full size.

    Raises:
        ModelError: if the weights cannot be downloaded or read, or do not fit.
        ConfigError: if an option is out of range.
    """
    check_bands(bands, in_channels, variant)
    backbone, only = split_variant(variant.removeprefix("unet-"), UNETS)
    wanted = None if weights is None else request(backbone, weights, only)
    model = PretrainedUNet(backbone, in_channels, classes, decoder_channels)
    if wanted is not None:
        model.load_published(wanted, bands, sensor)
    return model
