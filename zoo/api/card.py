"""Write the model card of a bundle: ``TrainedModel.write_card`` and ``zoo card``."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ConfigError, ResultError
from zoo.schema import from_plain, read_toml, to_plain

if TYPE_CHECKING:
    from zoo.api.trained_model import TrainedModel
    from zoo.datasets.base import PatchDataset
    from zoo.training.bundle import Bundle
    from zoo.training.evaluate import Evaluation

SHOWN = 3
"""Patches of a picture."""


_OTHER_NOTES = {"label", "data_licence", "data_citation"}
"""Fields of a file of notes that are none of ``TrainerNotes``."""


def with_notes(bundle: Bundle, path: str | os.PathLike[str]) -> Bundle:
    """Return a bundle with the notes of a TOML file; what the file does not name stays.

    Args:
        bundle: a trained model.
        path: file with ``name``, ``summary``, ``intended_use``, ``tried``, ``limits`` (list), ``reproduce``,
            ``licence``, ``notices`` (list), ``label``, ``data_licence`` or ``data_citation``.

    Raises:
        ConfigError: if the file is missing, is not TOML, or has an unknown field or one of another type.
    """
    try:
        values = read_toml(path)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=path, hint="Write the notes as TOML: tried = '...'") from None
    known = {field.name for field in fields(bundle.notes)} | _OTHER_NOTES
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"unknown field {unknown[0]!r}", where=path, hint=f"The fields are {', '.join(sorted(known))}"
        )
    checked = partial(from_plain, what="file of notes", where=path, error=ConfigError)
    others = checked({name: values.pop(name) for name in _OTHER_NOTES & set(values)}, dict[str, str])
    return replace(
        bundle,
        notes=checked({**to_plain(bundle.notes), **values}, type(bundle.notes)),
        label=others.get("label", bundle.label),
        data=replace(
            bundle.data,
            licence=others.get("data_licence", bundle.data.licence),
            citation=others.get("data_citation", bundle.data.citation),
        ),
    )


def write_card(model: TrainedModel, folder: Path, measured: tuple[PatchDataset, Evaluation] | None) -> Path:
    """Write the card of a model and its pictures into a folder, whose ``bundle.json`` is written again.

    Args:
        model: the model; its bundle is saved there already.
        folder: folder of the bundle.
        measured: patches and the evaluation on them, for pictures of the worst and the typical ones; ``None`` keeps
            those that are there.

    Raises:
        ResultError: if the folder holds other weights.
        ZooError: if a file cannot be written.
    """
    from zoo.training import pictures
    from zoo.training.bundle_layout import CARD_PICTURES
    from zoo.weights.card import RELIABILITY, TYPICAL, WORST, write_card

    bundle = model.bundle
    try:
        bundle.save_description(folder)
    except ResultError as error:
        raise ResultError(
            error.problem, where=error.where, hint="A card belongs into the folder of its bundle; save the bundle there"
        ) from error
    place = folder / CARD_PICTURES
    whole = [one.calibration for one in bundle.evaluations if one.group is None and one.calibration is not None]
    if whole or measured is not None:
        place.mkdir(exist_ok=True)
    if whole:
        pictures.save_reliability(whole[0], place / RELIABILITY)
    if measured is not None:
        dataset, found = measured
        for name, choose in ((WORST, pictures.worst_patches), (TYPICAL, pictures.typical_patches)):
            chosen = choose(found.counts, SHOWN)
            (place / name).unlink(missing_ok=True)
            if chosen:
                pictures.save_predictions(
                    model.predictor,
                    bundle.compute_format,
                    dataset,
                    found.threshold,
                    place / name,
                    chosen=chosen,
                    dpi=70,
                )
    return write_card(bundle, folder)
