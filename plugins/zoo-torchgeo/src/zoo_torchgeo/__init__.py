"""torchgeo's pretrained backbones as segmentation models of landslide-zoo. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.registry import Flag, ModelFamilySpec, hookimpl
from zoo.registry.hookspecs import RegisterModel
from zoo_torchgeo.backbones import MEASURED, TERRATORCH, UNETS, VITS, Backbone, weights_suffix

ZOO_API_VERSION = 1
FAMILY = ModelFamilySpec(
    name="torchgeo",
    separator="/",
    target="zoo_torchgeo.vit:create",
    variants="zoo_torchgeo:variants",
    summary="Pretrained multispectral backbones and foundation models with a light decoder",
)


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register the family ``torchgeo/*``."""
    register(FAMILY)


def variants(family: str) -> dict[str, dict[str, Any]]:
    """Return the fields of every model of the family, by the part of its name after ``torchgeo/``."""
    found: dict[str, dict[str, Any]] = {}
    for prefix, target, backbones in (
        ("unet-", "zoo_torchgeo.unet:create", UNETS),
        ("", "zoo_torchgeo.vit:create", VITS),
        ("", "zoo_torchgeo.vit:create", TERRATORCH),
    ):
        found.update(_fields(prefix, target, backbones))
    return found


def _fields(prefix: str, target: str, backbones: Mapping[str, Backbone]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, backbone in backbones.items():
        paper, doi = backbone.paper
        parameters, gmac = MEASURED.get(f"{prefix}{name}", (None, None))
        flags = {Flag.NAMED_BANDS, *backbone.flags} | ({Flag.PRETRAINED_ENCODER} if backbone.weights else set())
        values: dict[str, Any] = {
            "target": target,
            "summary": backbone.summary,
            "paper": paper,
            "doi": doi,
            "licence": "MIT",
            "minimum_size": backbone.minimum_size,
            "flags": flags,
            "parameters": parameters,
            "gmac": gmac,
        }
        chosen = [("", backbone.weights)]
        if len(backbone.weights) > 1:
            chosen += [(f"-{weights_suffix(weights)}", (weights,)) for weights in backbone.weights]
        for suffix, weights in chosen:
            licences = ", ".join(sorted({backbone.licence[entry] for entry in weights if entry in backbone.licence}))
            found[f"{prefix}{name}{suffix}"] = {
                **values,
                "encoder_weights": weights,
                "encoder_weights_licence": licences,
                "summary": backbone.summary + (f", for weights {weights[0]}" if suffix else ""),
            }
    return found
