"""``zoo.push`` and ``zoo.pull``: upload and download bundles; and the card of a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ConfigError, ResultError
from zoo.files import PathLike
from zoo.schema import from_plain, read_toml, to_plain

if TYPE_CHECKING:
    from zoo.api.trained_model import TrainedModel
    from zoo.datasets.base import PatchDataset
    from zoo.jobs import ProgressCallback
    from zoo.training.bundle import Bundle
    from zoo.training.evaluate import Evaluation
    from zoo.weights.hub import Pushed

PATCHES_PER_PICTURE = 3
"""Number of patches in a picture."""

_EXTRA_NOTE_FIELDS = {"label", "data_licence", "data_citation"}
"""Fields of a notes file that ``TrainerNotes`` does not have."""


def push(
    source: PathLike,
    target: str,
    *,
    private: bool = False,
    message: str = "",
    notify: Callable[[str], None] = lambda text: None,
) -> Pushed:
    """Upload a bundle to a model repository of the Hugging Face hub, as one commit.

    The commit holds ``model.safetensors``, ``bundle.json``, ``README.md`` (the model card) and the pictures of the
    card. No other files are uploaded. A bundle without a card gets one without pictures.

    Args:
        source: the bundle, as :func:`zoo.load` takes it.
        target: ``hf://owner/repo``, or ``hf://owner/repo@branch``. A repository that does not exist is created.
        private: create the repository as private.
        message: first line of the commit.
        notify: called with messages for the user.

    Returns:
        Address of the commit, its page, and the files.

    Raises:
        ResultError: if the bundle is damaged.
        DataError: if the hub rejects the upload; the message gives the reason.
        ConfigError: if the address is malformed.

    Examples:
        >>> pushed = zoo.push("runs/unet", "hf://survey/landslides")  # doctest: +SKIP
        >>> print(pushed.address)  # doctest: +SKIP
        hf://survey/landslides@5f3c1f0d9d5f8a0c6f0b7a6e6f8f1e2d3c4b5a69
    """
    from zoo.training.bundle import Bundle
    from zoo.training.bundle_layout import CARD
    from zoo.weights.card import render_card
    from zoo.weights.hub import HubAddress, push_folder
    from zoo.weights.sources import resolve

    HubAddress.parse(target)
    folder = resolve(source, notify=notify)
    bundle = Bundle.load(folder)
    root = bundle.data.options.get("root")
    if isinstance(root, str) and Path(root).is_absolute():
        notify(f"bundle.json contains the path of a folder on this machine, which everyone will see: {root}")
    card = None if (folder / CARD).is_file() else render_card(bundle)
    return push_folder(folder, target, private=private, message=message, card=card)


@dataclass(frozen=True)
class Pulled:
    """A bundle on this machine.

    Attributes:
        folder: its folder.
        address: address of the commit, for a bundle of the hub; empty for other bundles.
    """

    folder: Path
    address: str = ""


def pull(
    source: PathLike,
    out: PathLike | None = None,
    *,
    sha256: str | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Pulled:
    """Download a bundle, and copy it to a folder if one is given.

    Args:
        source: the bundle, as :func:`zoo.load` takes it.
        out: folder to write; ``None`` leaves the bundle in the cache, where every command finds it under ``source``.
        sha256: checksum of the ``.zip`` file, if its URL does not end with it.
        overwrite: replace a bundle in ``out``.
        progress: called with the number of bytes received and the total.
        notify: called with messages for the user.

    Returns:
        The folder, and for a bundle of the hub its pinned address.

    Raises:
        ResultError: if it is not a bundle.
        DataError: if it cannot be downloaded or unpacked.
        ConfigError: if ``out`` already holds a bundle.

    Examples:
        >>> zoo.pull("hf://survey/landslides", "runs/survey").folder  # doctest: +SKIP
        PosixPath('runs/survey')
    """
    from zoo.weights.hub import SCHEME, HubAddress
    from zoo.weights.sources import copy_bundle, resolve

    text = os.fspath(source)
    target = None if out is None else Path(out)
    if target is not None and (target / "bundle.json").exists() and not overwrite:
        raise ConfigError(
            "already holds a bundle", where=target, hint="Name another folder, or replace it with --overwrite"
        )
    folder = resolve(source, sha256=sha256, progress=progress, notify=notify)
    address = str(HubAddress(HubAddress.parse(text).repo, folder.name)) if text.startswith(SCHEME) else ""
    if target is None:
        return Pulled(folder, address)
    copy_bundle(folder, target)
    return Pulled(target, address)


def with_notes(bundle: Bundle, path: str | os.PathLike[str]) -> Bundle:
    """Return a bundle with the notes of a TOML file; fields that are not in the file do not change.

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
    known = {field.name for field in fields(bundle.notes)} | _EXTRA_NOTE_FIELDS
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"unknown field {unknown[0]!r}", where=path, hint=f"The fields are {', '.join(sorted(known))}"
        )
    checked = partial(from_plain, what="notes file", where=path, error=ConfigError)
    others = checked({name: values.pop(name) for name in _EXTRA_NOTE_FIELDS & set(values)}, dict[str, str])
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
    """Write the card of a model and its pictures into a folder, and rewrite its ``bundle.json``.

    Args:
        model: the model; its bundle is saved there already.
        folder: folder of the bundle.
        measured: patches and the evaluation on them, for pictures of the worst and the typical patches; ``None`` keeps
            existing pictures.

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
            error.problem, where=error.where, hint="A card belongs in the folder of its bundle; save the bundle there"
        ) from error
    place = folder / CARD_PICTURES
    calibrations = [
        evaluation.calibration
        for evaluation in bundle.evaluations
        if evaluation.group is None and evaluation.calibration is not None
    ]
    if calibrations or measured is not None:
        place.mkdir(exist_ok=True)
    if calibrations:
        pictures.save_reliability(calibrations[0], place / RELIABILITY)
    if measured is not None:
        dataset, found = measured
        for name, choose in ((WORST, pictures.worst_patches), (TYPICAL, pictures.typical_patches)):
            chosen = choose(found.counts, PATCHES_PER_PICTURE)
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
