"""Files of a bundle, and the parts of ``bundle.json`` and of result files that can be read without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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


ORIGINAL_SCALE = (1.0,)
"""Scales of a model without magnification."""
AdaptedStatistics = Literal["layers", "bands", "both"]


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


@dataclass(frozen=True)
class Environment:
    """Machine and software of a computation. Unknown fields are empty or ``None``.

    Attributes:
        platform: operating system, release and architecture.
        processor: name of the processor.
        cores: number of logical cores.
        threads: number of threads that torch uses.
        device: device of the computation, such as ``cpu`` or ``cuda:0``.
        device_name: name of the processor or the GPU.
        versions: versions of the relevant packages, by name.
    """

    platform: str = ""
    processor: str = ""
    cores: int | None = None
    threads: int | None = None
    device: str = ""
    device_name: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ComputeFormat:
    """Number format and memory layout of training and evaluation.

    Attributes:
        precision: ``fp32``, or ``bf16`` for mixed precision (the weights stay in float32).
        channels_last: memory layout NHWC instead of NCHW.
    """

    precision: Literal["fp32", "bf16"]
    channels_last: bool

    @property
    def lightning_name(self) -> Literal["32-true", "bf16-mixed"]:
        """Precision as Lightning's Trainer names it."""
        return "bf16-mixed" if self.precision == "bf16" else "32-true"

    def __str__(self) -> str:
        return f"{self.precision}, {'channels last' if self.channels_last else 'channels first'}"


@dataclass(frozen=True)
class AdaptationTarget:
    """Region that a bundle was adapted to.

    Attributes:
        name: registered name of the data set; empty for a scene.
        options: options of the data set.
        split: split that was used, or ``all``.
        groups: scenes or events that were chosen; ``None`` for all.
        group: scene or event, if each was adapted to separately.
        scene: raster file, if the target is the scene to map.
        fingerprint: sha256 of the images.
        patches: number of patches in the target.
        blank: number of patches without a valid pixel, which were excluded.
        used: number of patches from which the statistics were computed.
    """

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    groups: tuple[str, ...] | None = None
    group: str | None = None
    scene: str | None = None
    fingerprint: str | None = None
    patches: int = 0
    blank: int = 0
    used: int = 0


@dataclass(frozen=True)
class LayerShift:
    """Shift of one layer, or of the bands, between the training data and the target.

    Attributes:
        layer: name of the layer, or ``bands``.
        scale: magnification at which it was measured.
        distance: distance between the statistics, in standard deviations of the source.
        chance: distance explained by the choice of images; ``None`` if it is unknown.
        share: weight of the target in the adapted statistics, in [0, 1].
    """

    layer: str
    scale: float
    distance: float
    chance: float | None
    share: float


@dataclass(frozen=True)
class PredictionSummary:
    """Summary of a model's predictions on the target.

    Attributes:
        called_landslide: share of the pixels at or above the threshold.
        entropy: mean entropy of a pixel's prediction, in nats.
    """

    called_landslide: float
    entropy: float


@dataclass(frozen=True)
class AdaptedPredictions:
    """Predictions on the target before and after the adaptation."""

    plain: PredictionSummary
    adapted: PredictionSummary


@dataclass(frozen=True)
class AdaptationSource:
    """Bundle that an adaptation started from.

    Attributes:
        weights_sha256: sha256 of its weights.
        adaptation: earlier adaptation of the bundle; ``None`` if there was none.
    """

    weights_sha256: str = ""
    adaptation: Adaptation | None = None


@dataclass(frozen=True)
class Adaptation:
    """Record of the adaptation of a bundle to a region without labels (:mod:`zoo.training.adaptation`).

    Attributes:
        source: the bundle before the adaptation.
        target: the region.
        statistics: which statistics were re-estimated.
        scales: magnifications that the adapted bundle applies to every image.
        scale_agreements: if a magnification was chosen: by magnification, Dice between the masks of images and of their
            rotated copies.
        criterion: how the share was chosen.
        share: weight of the target in the statistics: mean over layers, weighted by their distance.
        shifts: shift of each layer.
        predictions: predictions on the target; ``None`` in bundles of older versions.
        transductive: caveat for figures measured on the target's own images.
    """

    source: AdaptationSource
    target: AdaptationTarget
    statistics: AdaptedStatistics
    share: float
    shifts: tuple[LayerShift, ...]
    scales: tuple[float, ...] = ORIGINAL_SCALE
    scale_agreements: dict[str, float] = field(default_factory=dict)
    criterion: str = ""
    predictions: AdaptedPredictions | None = None
    transductive: str = ""
