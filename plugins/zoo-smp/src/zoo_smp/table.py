"""The encoders, the decoders that accept them, and their weights, from ``encoders.json``, which ``generate.py`` writes.

Imports no torch, so that listing thousands of models takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

PACKAGED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""Encoders whose weights are packages on the package index."""


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """Facts about one decoder with one encoder at the default options.

    Attributes:
        parameters: trainable parameters for 7 bands and 2 classes.
        gmac: multiply-accumulates in units of 1e9 for one 7x128x128 image; ``None`` if they cannot be counted.
        batch1: whether a training step works on one image.
        output_stride: smallest output stride of the decoder to which the encoder can be dilated; 0 if it sets none.
    """

    parameters: int
    gmac: float | None
    batch1: bool = False
    output_stride: int = 0


class Encoder(msgspec.Struct, frozen=True):
    """One encoder.

    Attributes:
        smp: its name in segmentation_models.pytorch.
        decoders: the decoders that accept it.
        weights: names of published weights.
        licence: licence of these weights; empty if their publisher states none.
        multiple: number by which height and width must be divisible; 0 for 2 to the power of the depth.
        minimum: smallest height and width in pixels.
        exportable: whether ``torch.export`` works for an encoder of its family.
        class_token: whether it is a transformer with a class token.
        arguments: arguments that make it take any image size.
    """

    smp: str
    decoders: dict[str, Facts]
    weights: tuple[str, ...] = ()
    licence: str = ""
    multiple: int = 0
    minimum: int = 64
    exportable: bool = False
    class_token: bool = False
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class Table(msgspec.Struct, frozen=True):
    """The table, with the versions of the packages that it was computed with.

    Attributes:
        versions: version of each distribution.
        encoders: the encoders by their name in this plugin.
        left_out: encoders that no decoder accepts here, and why.
    """

    versions: dict[str, str]
    encoders: dict[str, Encoder]
    left_out: dict[str, str] = msgspec.field(default_factory=dict)


@cache
def table() -> Table:
    """Return the table; it is read once."""
    return msgspec.json.decode(Path(__file__).with_name("encoders.json").read_bytes(), type=Table)


class Variants(Mapping[str, Mapping[str, Any]]):
    """The fields of the models of one decoder, by encoder, computed on access."""

    def __init__(self, decoder: str) -> None:
        self.decoder = decoder
        self.encoders = {name: one for name, one in table().encoders.items() if decoder in one.decoders}

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        return _fields(name, self.encoders[name], self.decoder)

    def __contains__(self, name: object) -> bool:
        return name in self.encoders

    def __iter__(self) -> Iterator[str]:
        return iter(self.encoders)

    def __len__(self) -> int:
        return len(self.encoders)


def variants(family: str) -> Variants:
    """Return the fields of the models of a family such as ``smp/unet``, by encoder."""
    return Variants(family.removeprefix("smp/"))


def min_side(decoder: str, output_stride: int) -> int:
    """Return the smallest height and width that a decoder takes; the encoder may need more.

    The attention of PAN halves the deepest map three times.
    """
    return 8 * output_stride if decoder == "pan" else 1


def _fields(name: str, encoder: Encoder, decoder: str) -> dict[str, Any]:
    facts = encoder.decoders[decoder]
    weights = (*encoder.weights, *(("package",) if name in PACKAGED else ()))
    flags = {"exportable": encoder.exportable, "batch1_training": facts.batch1, "pretrained_encoder": bool(weights)}
    return {
        "parameters": facts.parameters,
        "gmac": facts.gmac,
        "minimum_size": max(encoder.minimum, min_side(decoder, facts.output_stride)),
        "encoder_weights": weights,
        "encoder_weights_licence": encoder.licence,
        "flags": [flag for flag, holds in flags.items() if holds],
    }
