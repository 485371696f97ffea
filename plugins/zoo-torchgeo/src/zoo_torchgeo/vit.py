"""Vision transformers and foundation models of torchgeo with a light decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import ConvBNReLU
from zoo.errors import ConfigError
from zoo.models.base import PADDED, SegmentationModel
from zoo.registry import Choice
from zoo_torchgeo.backbones import TERRATORCH, VITS, Backbone
from zoo_torchgeo.bands import Sensor
from zoo_torchgeo.names import split_variant
from zoo_torchgeo.tokens import make_tokens
from zoo_torchgeo.weights import InputScaling, Request, check_bands, match_bands, request, warn_unmatched_bands

PROVENANCE = (
    Choice("S", "The transformer, its embeddings and its weights are those of torchgeo or terratorch.", "their code"),
    Choice(
        "O",
        "Decoder: the last tokens as a map, a 1x1 convolution, then steps of bilinear upsampling by two and a 3x3 "
        "convolution, each with half the width.",
        "the light head of SETR-PUP (Zheng et al. 2021) in fewer channels",
    ),
    Choice(
        "S",
        "Position embeddings are interpolated to the grid of the image (bicubic, antialiased). Those of Scale-MAE and "
        "the distances of CROMA are computed for it.",
        "timm, torchgeo, CROMA",
    ),
    Choice(
        "O",
        "DOFA, Copernicus-FM and Panopticon get the wavelengths of the bands. A band without one, such as the slope, "
        "gets a learned vector; in the first two it has no influence at the start if there are pretrained weights.",
        "zoo_torchgeo.bands",
    ),
    Choice(
        "O",
        "All others: bands are matched by name, or by wavelength within 3.5 %. Missing bands are filled with their "
        "mean in pretraining; kernels of extra bands start at zero.",
        "zoo_torchgeo.bands and zoo_torchgeo.weights",
    ),
    Choice("O", "CROMA is its optical encoder alone; radar bands are extra bands.", "one input"),
    PADDED,
)


class ProgressiveUpsampling(nn.Module):
    """Decoder that upsamples a map of tokens to logits at the size of the image.

    Args:
        width: channels of a token.
        patch: side in pixels of the square patch of a token.
        classes: channels of the logits.
        widths: channels of the first map and of the map after each step; at most as many steps as fit into the patch.

    Shape:
        ``(B, width, h, w)`` -> ``(B, classes, h * patch, w * patch)``.
    """

    def __init__(self, width: int, patch: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.patch = patch
        steps = min(patch.bit_length() - 1, len(widths) - 1)
        self.project = ConvBNReLU(width, widths[0])
        self.steps = nn.ModuleList(ConvBNReLU(widths[i], widths[i + 1], kernel_size=3) for i in range(steps))
        self.head = nn.Conv2d(widths[steps], classes, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        height, width = tokens.shape[2] * self.patch, tokens.shape[3] * self.patch
        x = self.project(tokens)
        for step in self.steps:
            x = step(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        logits: Tensor = self.head(x)
        if self.patch == 2 ** len(self.steps):
            return logits
        return F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)


class PretrainedTransformer(SegmentationModel):
    """A vision transformer with :class:`ProgressiveUpsampling`.

    Args:
        backbone: the transformer.
        in_channels: bands of the input.
        classes: channels of the logits.
        bands: names of the bands; ``None`` if they are unknown.
        sensor: satellite that names such as B4 belong to.
        pixel_size: side of a pixel in metres; only Scale-MAE uses it.
        decoder_channels: channels of the decoder.
    """

    def __init__(
        self,
        backbone: Backbone,
        in_channels: int,
        classes: int,
        *,
        bands: Sequence[str] | None,
        sensor: str,
        pixel_size: float,
        decoder_channels: Sequence[int],
    ) -> None:
        if not decoder_channels or min(decoder_channels) < 1:
            raise ConfigError(f"decoder_channels must be positive numbers, not {tuple(decoder_channels)}")
        if not 0 < pixel_size < 1e6:
            raise ConfigError(f"pixel_size must be a length in metres, not {pixel_size!r}")
        encoder = make_tokens(backbone, in_channels, bands=bands, sensor=sensor, pixel_size=pixel_size)
        super().__init__(in_channels, classes, stride=encoder.patch, minimum_size=2 * encoder.patch)
        self.scaling = InputScaling(in_channels)
        self.encoder = encoder
        self.decoder = ProgressiveUpsampling(encoder.width, encoder.patch, classes, tuple(decoder_channels))

    def segment(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(self.scaling(x)))
        return logits

    def load_published(self, wanted: Request, bands: Sequence[str] | None, sensor: str) -> None:
        """Load published weights into the transformer.

        Raises:
            ModelError: if they do not fit.
        """
        entry = wanted.entry
        self.encoder.load_published(wanted.read(), entry, bands, sensor)
        if entry.bands:
            matching = match_bands(entry, bands, self.in_channels, sensor)
            self.scaling.expect(matching, entry)
            warn_unmatched_bands(entry, matching, bands)


def create(
    in_channels: int = 7,
    classes: int = 2,
    *,
    variant: str,
    weights: str | None = None,
    bands: Sequence[str] | None = None,
    sensor: Sensor = "sentinel2",
    pixel_size: float = 10.0,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
) -> PretrainedTransformer:
    """Create a vision transformer of torchgeo or terratorch with a light decoder.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        variant: name of the model without the family, such as ``dofa_base_patch16_224``.
        weights: name of published weights, which are downloaded, or path of such a file; none for random weights.
        bands: names of the bands of the input, in order, such as B4 or red; training passes those of the data.
        sensor: satellite that names such as B4 belong to.
        pixel_size: side of a pixel in metres, for the position embeddings of Scale-MAE.
        decoder_channels: channels of the first map of the decoder and of the map after each step.

    Raises:
        ModelError: if the weights cannot be downloaded or read, or do not fit.
        ConfigError: if an option is out of range.
        PluginError: if terratorch is required but not installed.
    """
    check_bands(bands, in_channels, variant)
    backbone, only = split_variant(variant, {**VITS, **TERRATORCH})
    wanted = None if weights is None else request(backbone, weights, only)
    model = PretrainedTransformer(
        backbone,
        in_channels,
        classes,
        bands=bands,
        sensor=sensor,
        pixel_size=pixel_size,
        decoder_channels=decoder_channels,
    )
    if wanted is not None:
        model.load_published(wanted, bands, sensor)
    return model
