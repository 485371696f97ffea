"""The parts of a model's name: backbone and weights. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.errors import UnknownNameError
from zoo_torchgeo.backbones import Backbone, weights_suffix


def split_variant(text: str, backbones: Mapping[str, Backbone]) -> tuple[Backbone, str | None]:
    """Return the backbone and the weights of a name.

    Args:
        text: name such as ``resnet50`` or ``resnet50-sentinel2_all_moco``.
        backbones: backbones by name.

    Raises:
        UnknownNameError: if there is no such backbone.
    """
    for name, backbone in backbones.items():
        if text == name:
            return backbone, None
        for weights in backbone.weights:
            if text == f"{name}-{weights_suffix(weights)}":
                return backbone, weights
    raise UnknownNameError("backbone", text, backbones)
