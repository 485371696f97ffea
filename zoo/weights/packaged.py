"""Register the bundles inside an installed package, for plugins that ship weights. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from zoo.errors import PluginError
from zoo.registry.specs import MeasuredFigures, WeightsSpec
from zoo.schema import read_json
from zoo.training.bundle_layout import DESCRIPTION, WEIGHTS, BundleHeader, TrainerNotes, read_header


@dataclass(frozen=True)
class _Data:
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    licence: str = ""


@dataclass(frozen=True)
class _Description:
    """The part of ``bundle.json`` that a list of weights shows."""

    notes: TrainerNotes = field(default_factory=TrainerNotes)
    data: _Data | None = None
    evaluations: tuple[MeasuredFigures, ...] = ()
    label: str = ""


def packaged_weights(package: str, folder: str = "bundles") -> Iterator[WeightsSpec]:
    """Yield the specs of the bundles inside an installed package, in the order of their folders.

    Call it in ``zoo_register_weights``, so that the hook needs no list of bundles. The notes of a bundle (``zoo card
    --notes``) give the name of its weights, such as ``unet/my-region``.

    Args:
        package: importable name of the package.
        folder: folder inside the package; each folder in it with a ``bundle.json`` is a bundle.

    Raises:
        PluginError: if a bundle has no name, or its description is damaged.
    """
    home = Path(str(files(package).joinpath(folder)))
    for place in sorted(home.iterdir()) if home.is_dir() else []:
        if (place / DESCRIPTION).is_file():
            yield _spec(package, f"{folder}/{place.name}", place)


def _spec(package: str, inner: str, place: Path) -> WeightsSpec:
    header: BundleHeader = read_header(place)
    about = read_json(place / DESCRIPTION, _Description, what="bundle", error=PluginError)
    if not about.notes.name:
        raise PluginError(
            "the bundle has no name", where=place, hint="Give it one: zoo card FOLDER --notes notes.toml, with name = "
        )
    data = about.data or _Data()
    root = data.options.get("root")
    weights = place / WEIGHTS
    licences = [about.notes.licence, f"data: {data.licence}" if data.licence else ""]
    return WeightsSpec(
        name=about.notes.name,
        summary=" ".join(filter(None, (about.label and f"{about.label.upper()}:", about.notes.summary))),
        location=f"{package}:{inner}",
        model=header.model.name,
        options=header.model.options,
        bands=tuple((band.name, band.unit) for band in header.bands),
        pixel_size=header.pixel_size,
        class_names=header.class_names,
        threshold=header.threshold,
        data=Path(root).name if data.name == "folder" and isinstance(root, str) else data.name,
        licence="; ".join(filter(None, licences)),
        size=weights.stat().st_size if weights.is_file() else None,
        sha256=header.weights.sha256,
        figures=tuple(evaluation for evaluation in about.evaluations if evaluation.dice is not None),
        limits=about.notes.limits,
    )
