"""What is exported: a bundle with its weights and statistics, or a registered model with fresh weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.deploy.export.description import Description
from zoo.errors import DataError, ModelError, UnknownNameError
from zoo.physics.bands import Band
from zoo.registry import Flag, ModelSpec, catalogue, create_model, list_models
from zoo.training.bundle import Bundle
from zoo.training.predictor import Predictor


@dataclass(frozen=True)
class Subject:
    """A model that takes images in units, and what is to be said about it.

    Attributes:
        predictor: in eval mode, float32, on the CPU.
        description: of the file.
        bundle: where it comes from; None for fresh weights.
    """

    predictor: Predictor
    description: Description
    bundle: Bundle | None


def find_subject(
    text: str,
    *,
    in_channels: int = 7,
    classes: int = 2,
    options: dict[str, Any] | None = None,
    seed: int = 0,
) -> Subject:
    """A registered model by its name, with weights drawn from ``seed``, or the bundle in a folder.

    Args:
        text: a name, or the path of a bundle; a folder that is called like a model is named as ``./unet``.
        in_channels: of fresh weights.
        classes: of fresh weights.
        options: of a model with fresh weights.
        seed: of fresh weights.

    Raises:
        UnknownNameError: if it is neither.
        ModelError: if the model declares that it cannot be exported, with the reason.
        ZooError: if the bundle is damaged or its architecture is not registered here.
    """
    if text in catalogue().models:
        return _fresh(text, in_channels, classes, options or {}, seed)
    folder = Path(text)
    if not folder.exists():
        if folder.parent != Path() or text.startswith((".", "~")):
            raise DataError("there is no such folder", where=text)
        raise UnknownNameError("model or bundle", text, list_models())
    bundle = Bundle.load(folder)
    spec = catalogue().models.get(bundle.model)
    check_exportable(spec)
    description = Description(
        model=bundle.model,
        options=bundle.options,
        bands=bundle.bands,
        mean=tuple(bundle.statistics.mean.tolist()),
        std=_divisors(bundle.statistics.std.tolist()),
        class_names=bundle.class_names,
        threshold=bundle.threshold,
        trained=True,
        weights_sha256=bundle.weights_sha256,
        minimum_size=spec.minimum_size,
    )
    return Subject(bundle.predictor(), description, bundle)


def check_exportable(spec: ModelSpec) -> None:
    """Refuse a model that declares itself unable.

    Raises:
        ModelError: with the reason.
    """
    if Flag.EXPORTABLE in spec.flags:
        return
    reason = (
        "needs rain and cannot predict from an image alone"
        if Flag.NEEDS_RAIN in spec.flags
        else "does not declare the flag exportable: its author found that torch.export cannot capture it"
    )
    raise ModelError(
        f"cannot be exported: it {reason}",
        where=f"model {spec.name!r}",
        hint="zoo models lists the flags of every model",
    )


def _fresh(name: str, in_channels: int, classes: int, options: dict[str, Any], seed: int) -> Subject:
    spec = catalogue().models.get(name)
    check_exportable(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(name, in_channels, classes, **options)
    zeros, ones = (0.0,) * in_channels, (1.0,) * in_channels
    names = ("background", "landslide") if classes == 2 else tuple(f"class {index}" for index in range(classes))
    description = Description(
        model=name,
        options=options,
        bands=tuple(Band(f"band {index + 1}", "standard deviation") for index in range(in_channels)),
        mean=zeros,
        std=ones,
        class_names=("landslide",) if classes == 1 else names,
        threshold=0.5,
        trained=False,
        weights_sha256="",
        minimum_size=spec.minimum_size,
    )
    return Subject(Predictor(model, zeros, ones).eval(), description, None)


def _divisors(std: Sequence[float]) -> tuple[float, ...]:
    return tuple(value if value > 0 else 1.0 for value in std)
