"""Files of a bundle, and the part of ``bundle.json`` that can be read without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ResultError
from zoo.schema import read_json

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "bundle.json"
CARD = "README.md"
CARD_PICTURES = "card"
"""Folder for the pictures of the model card."""
COPY_AGAIN = "Copy the bundle again or train it again"
LAST_CHECKPOINT = "last.ckpt"
"""File name of the private resume state of a training, which is no part of a bundle."""
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".tar")
"""Suffixes of files that may run code when they are opened; a bundle contains none."""


@dataclass(frozen=True)
class ModelEntry:
    """Architecture of a bundle."""

    name: str
    options: dict[str, Any]
    in_channels: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class WeightsEntry:
    """Weights of a bundle."""

    sha256: str
    file: str = WEIGHTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", self.sha256.lower())


@dataclass(frozen=True)
class TrainerNotes:
    """Notes of the person who trained a model, printed in the model card.

    Attributes:
        name: published name of the weights, such as ``unet/landslide4sense-rgb``.
        summary: what the model is, in one sentence.
        intended_use: what the model should and should not be used for.
        tried: what was tried and rejected, with figures.
        limits: known limits, one sentence each.
        reproduce: commands that reproduce the training.
        licence: licence of the weights, as an SPDX identifier.
        notices: further notices, such as the licence of the pretrained weights that training started from.
    """

    name: str = ""
    summary: str = ""
    intended_use: str = ""
    tried: str = ""
    limits: tuple[str, ...] = ()
    reproduce: str = ""
    licence: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _FormatEntry:
    format: Any = None


@dataclass(frozen=True)
class _BandEntry:
    name: str
    unit: str = ""


@dataclass(frozen=True)
class BundleHeader:
    """Header of a bundle, without its statistics, figures and weights.

    Attributes:
        model: the architecture.
        bands: bands of the input, in order.
        class_names: names of the classes.
        threshold: landslide probability at or above which a pixel counts as landslide.
        weights: checksum of the weights.
        pixel_size: side of a pixel of the training data in metres; ``None`` if unknown.
    """

    model: ModelEntry
    bands: tuple[_BandEntry, ...]
    class_names: tuple[str, ...]
    threshold: float
    weights: WeightsEntry
    pixel_size: float | None = None


def read_header(folder: Path) -> BundleHeader:
    """Read the header of the bundle in a folder.

    Raises:
        ResultError: if there is no ``bundle.json``, or if it is damaged or has another format.
    """
    path = folder / DESCRIPTION
    try:
        found = read_json(path, _FormatEntry, what="bundle", hint=COPY_AGAIN).format
        if isinstance(found, int) and found > FORMAT:
            raise ResultError(
                f"has bundle format {found}, but this version of landslide-zoo reads format {FORMAT}",
                where=path,
                hint="Upgrade landslide-zoo",
            )
        if found != FORMAT:
            raise ResultError(f"does not have bundle format {FORMAT}", where=path, hint=COPY_AGAIN)
        return read_json(path, BundleHeader, what="bundle", hint=COPY_AGAIN)
    except FileNotFoundError:
        pickles = sorted(path.name for path in _files(folder) if path.name.endswith(PICKLES))
        if pickles:
            raise ResultError(
                f"holds {pickles[0]}, a pickle, but no {DESCRIPTION}",
                where=folder,
                hint=f"A pickle may run code, so zoo does not open it; ask for a bundle: {DESCRIPTION} and {WEIGHTS}",
            ) from None
        raise ResultError(
            f"there is no {DESCRIPTION} in this folder",
            where=folder,
            hint="A bundle is a folder that zoo train or zoo bench wrote",
        ) from None


def check_weights(folder: Path, header: BundleHeader) -> Path:
    """Check that the weights in a folder match its description, and return their path.

    Raises:
        ResultError: if they are missing, cannot be read or differ.
    """
    path = folder / WEIGHTS
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        raise ResultError("the bundle has no weights", where=path, hint="Copy the whole folder") from None
    except OSError as error:
        raise ResultError(f"the weights cannot be read ({error})", where=path, hint=COPY_AGAIN) from error
    if found != header.weights.sha256:
        raise ResultError("the weights are not those that were saved (sha256 differs)", where=path, hint=COPY_AGAIN)
    return path


def is_intact(folder: Path) -> bool:
    """Return whether a folder holds a bundle of this format with weights that match its description."""
    try:
        check_weights(folder, read_header(folder))
    except ResultError:
        return False
    return True


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as a hex string; the file is read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
