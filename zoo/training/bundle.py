"""Bundles: a trained model in two files that can be shared, ``model.safetensors`` and ``bundle.json``."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from zoo.datasets.source import DataSource
from zoo.datasets.statistics import Statistics
from zoo.errors import ConfigError, DataError, ResultError, UnknownNameError, ZooError, first_line
from zoo.evaluation.quality import Calibration, MeasuredSplit, PredictionSets, UsualDistance, headline
from zoo.files import atomic_path, check_writable_folder, locked
from zoo.physics.bands import Band
from zoo.physics.display import COLOURS, DISPLAY
from zoo.registry import Flag, catalogue, create_model_for, provider_of
from zoo.registry.catalogue import Provider
from zoo.schema import from_plain, read_json, to_plain, write_json
from zoo.training.bundle_layout import (
    COPY_AGAIN,
    DESCRIPTION,
    FORMAT,
    ORIGINAL_SCALE,
    WEIGHTS,
    Adaptation,
    ComputeFormat,
    Environment,
    ModelEntry,
    TrainerNotes,
    WeightsEntry,
    check_weights,
    read_header,
    sha256_of,
)
from zoo.training.predictor import Predictor, check_scales, first_scale_state, with_scales
from zoo.training.recipes import Recipe

_DOWNLOADS = ("encoder_weights", "backbone_weights", "pretrained", "pretrained_weights")
"""Model options that may download weights."""

SIZE_TOLERANCE = 1.25
"""Maximum ratio between the pixel sizes of data and training data at which objects have about the same size in pixels
as in training [O]."""

MAX_STATISTIC = 1e30
"""Maximum mean or standard deviation of a band: float32 must be able to hold the normalised values."""

MAX_LABEL_LENGTH = 40
"""Maximum length of a label, because tags, legends and tables show it."""


@dataclass(frozen=True)
class TrainingData:
    """Training data of a model. Every field may be unknown, as in a hand-written bundle.

    Attributes:
        name: registered name of the data set; empty if unknown.
        options: options of the data set, including ``root`` for a folder.
        fingerprints: sha256 of the content of each split, by split.
        licence: licence of the data; empty if it is unknown.
        citation: how to cite the data; empty if it is unknown.
        provider: plugin that provides the data set; ``None`` if it is built in or unknown.
        other: further entries of the file, kept unchanged.
    """

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    provider: Provider | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> DataSource | None:
        """Source from which the data set can be opened again; ``None`` if the bundle does not name one."""
        if not self.name or (self.name == "folder" and "root" not in self.options):
            return None
        return DataSource(self.name, self.options)


@dataclass(frozen=True)
class Parent:
    """Bundle that training started from (:mod:`zoo.training.finetuning`).

    Attributes:
        name: the bundle as the user named it.
        weights_sha256: sha256 of its weights.
        bands: for each band, the bands of the parent that its initial weights came from: one that was copied, several
            that were averaged, or none for random weights.
        kept_classes: whether the weights of the classes were copied.
        freeze: layers that kept their weights.
        old_lr_factor: learning rate of copied weights as a fraction of the recipe's rate.
    """

    name: str
    weights_sha256: str
    bands: dict[str, list[str]] = field(default_factory=dict)
    kept_classes: bool = True
    freeze: tuple[str, ...] = ()
    old_lr_factor: float = 1.0


@dataclass(frozen=True)
class _BundleFile:
    """Layout of ``bundle.json``."""

    model: ModelEntry
    bands: tuple[dict[str, Any], ...]
    statistics: Statistics
    compute_format: ComputeFormat
    class_names: tuple[str, ...]
    threshold: float
    weights: WeightsEntry
    metrics: dict[str, float | None] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    environment: Environment = field(default_factory=Environment)
    adaptation: Adaptation | None = None
    scales: tuple[float, ...] = ORIGINAL_SCALE
    pixel_size: float | None = None
    provider: Provider | None = None
    evaluations: tuple[MeasuredSplit, ...] = ()
    label: str = ""
    notes: TrainerNotes = field(default_factory=TrainerNotes)
    parent: Parent | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold!r}, expected a number from 0 to 1")
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise ValueError(f"pixel_size is {self.pixel_size!r}, expected a length in metres")
        if len(self.label) > MAX_LABEL_LENGTH or not self.label.isprintable():
            raise ValueError(f"label is {self.label[:50]!r}, expected a word of at most {MAX_LABEL_LENGTH} characters")
        if not self.bands or not self.class_names:
            raise ValueError("a bundle needs at least one band and one class")
        if len(self.statistics.bands) != len(self.bands):
            raise ValueError(f"statistics of {len(self.statistics.bands)} bands for {len(self.bands)} bands")
        for band in self.statistics.bands:
            if abs(band.mean) > MAX_STATISTIC or not 0 <= band.std <= MAX_STATISTIC:
                raise ValueError(f"mean {band.mean:g} and std {band.std:g} of band {band.name!r} are not possible")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A trained model and everything needed to use it.

    Attributes:
        model: registered name of the architecture.
        options: keyword arguments of the architecture.
        bands: bands of the input, in order, with units.
        statistics: statistics of each band over the training split, in the band's unit, used to normalise the input.
        compute_format: number format and memory layout of training and evaluation.
        class_names: names of the classes, in the order of the logit channels.
        threshold: landslide probability at or above which a pixel counts as landslide, chosen on the validation split;
            0.5 for a model without parameters.
        metrics: figures of the test split, by name; ``None`` if undefined.
        data: the training data.
        recipe: training recipe; ``None`` if unknown, and for a model without parameters.
        seed: seed of the weights, the order of the patches and the augmentation; ``None`` if unknown.
        environment: machine and software versions of the training.
        state: weights by parameter name, and the normalisation statistics of further scales.
        weights_sha256: sha256 of ``model.safetensors``; empty before saving.
        adaptation: record of the adaptation to a region without labels; ``None`` if the bundle was not adapted.
        scales: magnifications applied to every image (:class:`zoo.training.predictor.MeanOfScales`).
        pixel_size: side of a pixel of the training data in metres; ``None`` if unknown.
        provider: plugin that provides the architecture, with its distribution and version; ``None`` if unknown.
        evaluations: figures of splits and scenes, with intervals (:mod:`zoo.evaluation.quality`).
        label: word shown in every output of the model, such as ``demo``; empty for none.
        notes: notes of the person who trained it.
        parent: bundle whose weights training started from; ``None`` for random weights.
    """

    model: str
    options: dict[str, Any]
    bands: tuple[Band, ...]
    statistics: Statistics
    compute_format: ComputeFormat
    class_names: tuple[str, ...]
    threshold: float
    state: dict[str, torch.Tensor] = field(repr=False)
    metrics: dict[str, float | None] = field(default_factory=dict)
    data: TrainingData = field(default_factory=TrainingData)
    recipe: Recipe | None = None
    seed: int | None = None
    environment: Environment = field(default_factory=Environment)
    weights_sha256: str = ""
    adaptation: Adaptation | None = None
    scales: tuple[float, ...] = ORIGINAL_SCALE
    pixel_size: float | None = None
    provider: Provider | None = None
    evaluations: tuple[MeasuredSplit, ...] = ()
    label: str = ""
    notes: TrainerNotes = field(default_factory=TrainerNotes)
    parent: Parent | None = None

    @property
    def batch_size(self) -> int:
        """Number of patches per batch in training and evaluation."""
        return 16 if self.recipe is None else self.recipe.batch_size

    @property
    def landslide_share(self) -> float | None:
        """Share of the landslide pixels in the training masks; ``None`` if it is unknown."""
        return self.statistics.landslide_share

    def quality(self, *, adapted: bool = False) -> MeasuredSplit | None:
        """Return the figures that represent the model; ``None`` if it was not evaluated.

        Args:
            adapted: whether the model is used adapted to the region; an adapted bundle always is.
        """
        source = self.data.source
        return headline(
            self.evaluations,
            self.metrics,
            data=self.data.name if source is None else source.label,
            adapted=adapted or self.adaptation is not None,
        )

    @property
    def temperature(self) -> float | None:
        """Temperature fitted on the validation split; ``None`` if there is none, and for an adapted model."""
        return next((evaluation.temperature for evaluation in self._fitted if evaluation.temperature is not None), None)

    @property
    def sets(self) -> PredictionSets | None:
        """Prediction sets chosen on the validation split; ``None`` if there are none, and for an adapted model."""
        return next((evaluation.sets for evaluation in self._fitted if evaluation.sets is not None), None)

    @property
    def usual_distance(self) -> UsualDistance | None:
        """Distance of validation patches from the training data; ``None`` if unknown, and for an adapted model."""
        return next((evaluation.usual for evaluation in self._fitted if evaluation.usual is not None), None)

    @property
    def _fitted(self) -> list[Calibration]:
        # An adapted model predicts other probabilities than those used for fitting.
        known = (
            ()
            if self.adaptation is not None
            else (evaluation.calibration for evaluation in self.evaluations if not evaluation.adapted)
        )
        return [one for one in known if one is not None]

    @property
    def input_bands(self) -> tuple[Band, ...]:
        """Bands in which a scene is read; the colours of images with an unknown unit are read for display.

        Three bands named red, green and blue in an unknown unit are such colours if their training values are in
        [0, 255] and exceed 2 [O]: 8-bit images do not store a unit. :mod:`zoo.rasters.colours` computes them from a
        scene.
        """
        statistics = dict(zip((band.name for band in self.bands), self.statistics.bands, strict=True))
        colours = [band for band in self.bands if band.name in COLOURS and band.unit == "unknown"]
        ranges = [(statistics[band.name].minimum, statistics[band.name].maximum) for band in colours]
        pictures = (
            len(colours) == len(COLOURS)
            and all(low >= 0 and high <= 255 for low, high in ranges)
            and max(high for _, high in ranges) > 2
        )
        if not pictures:
            return self.bands
        return tuple(replace(band, unit=DISPLAY) if band in colours else band for band in self.bands)

    def save(self, folder: Path, *, half: bool = False) -> str:
        """Write both files; the description is written last, so a folder without it is not a bundle.

        Args:
            folder: folder of the bundle.
            half: store weights with two or more dimensions (convolutions, matrices) as float16, at half the size.
                Other tensors, such as the statistics of batch norm, stay float32, as do weights outside the range of
                float16. Loading converts all to float32.

        Returns:
            The sha256 of the weights.

        Raises:
            ResultError: if a weight is NaN or infinite.
            ZooError: if the folder cannot be written to.
        """
        _check_finite(self.state, folder)
        self._description("")
        check_writable_folder(folder)
        busy = ZooError(
            "another process is writing this bundle", where=folder, hint="Wait for it, or name another folder"
        )
        with locked(folder / ".bundle.lock", busy, remove=True):
            with atomic_path(folder / WEIGHTS) as temporary:
                # Clone, because safetensors refuses tensors that share memory, such as tied weights.
                tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state.items()}
                tensors = {name: _to_half(tensor) for name, tensor in tensors.items()} if half else tensors
                temporary.write_bytes(save(tensors))
                digest = sha256_of(temporary)
            write_json(folder / DESCRIPTION, self._description(digest))
        return digest

    def save_description(self, folder: Path) -> None:
        """Write only ``bundle.json``, for weights that are already in the folder.

        Raises:
            ResultError: if the folder holds other weights.
            ZooError: if it cannot be written to.
        """
        weights = folder / WEIGHTS
        if not weights.is_file() or sha256_of(weights) != self.weights_sha256:
            raise ResultError("does not hold the weights of this bundle", where=folder, hint="Save the whole bundle")
        busy = ZooError(
            "another process is writing this bundle", where=folder, hint="Wait for it, or name another folder"
        )
        with locked(folder / ".bundle.lock", busy, remove=True):
            write_json(folder / DESCRIPTION, self._description(self.weights_sha256))

    def _description(self, digest: str) -> dict[str, Any]:
        try:
            return self._to_plain(digest)
        except ValueError as error:
            raise ResultError(f"this is not a valid bundle: {error}") from error

    def _to_plain(self, digest: str) -> dict[str, Any]:
        content = _BundleFile(
            model=ModelEntry(self.model, self.options, len(self.bands), len(self.class_names)),
            bands=tuple(to_plain(band) for band in self.bands),
            statistics=self.statistics,
            compute_format=self.compute_format,
            class_names=self.class_names,
            threshold=self.threshold,
            weights=WeightsEntry(digest),
            metrics={name: _finite(value) for name, value in self.metrics.items()},
            recipe=None if self.recipe is None else self.recipe.to_dict(),
            seed=self.seed,
            environment=self.environment,
            adaptation=self.adaptation,
            scales=self.scales,
            pixel_size=self.pixel_size,
            provider=self.provider or _provider(self.model),
            evaluations=self.evaluations,
            label=self.label,
            notes=self.notes,
            parent=self.parent,
        )
        data = {"name": self.data.name, "options": self.data.options, "fingerprints": self.data.fingerprints}
        data |= {name: text for name in ("licence", "citation") if (text := getattr(self.data, name))}
        if self.data.provider is not None:
            data["provider"] = to_plain(self.data.provider)
        values: dict[str, Any] = {"format": FORMAT, **to_plain(content), "data": {**self.data.other, **data}}
        values["notes"] = {name: value for name, value in values["notes"].items() if value}
        optional: dict[str, Any] = dict.fromkeys(("adaptation", "parent", "pixel_size", "provider"))
        optional |= {"scales": list(ORIGINAL_SCALE), "evaluations": [], "label": "", "notes": {}}
        return {name: value for name, value in values.items() if name not in optional or value != optional[name]}

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Bundle:
        """Load a bundle and check that its weights are those that were saved. Nothing is downloaded or executed.

        Raises:
            ResultError: if a file is missing, truncated, altered or of another format, a field has another type, or
                a weight is NaN or infinite. The message names the file and the field.
        """
        folder = Path(folder)
        path, weights = folder / DESCRIPTION, folder / WEIGHTS
        header = read_header(folder)
        found = read_json(path, _BundleFile, what="bundle", hint=COPY_AGAIN)
        check_weights(folder, header)
        try:
            state = {name: _single(tensor) for name, tensor in load_file(weights).items()}
        except (OSError, SafetensorError) as error:
            raise ResultError(f"the weights cannot be read ({error})", where=weights, hint=COPY_AGAIN) from error
        _check_finite(state, weights)
        try:
            bands = tuple(Band.from_dict(band) for band in found.bands)
            scales = check_scales(found.scales)
        except (ConfigError, DataError) as error:
            raise ResultError(f"not a valid bundle: {error}", where=path, hint=COPY_AGAIN) from error
        return cls(
            model=found.model.name,
            options=found.model.options,
            bands=bands,
            statistics=found.statistics,
            compute_format=found.compute_format,
            class_names=found.class_names,
            threshold=found.threshold,
            metrics=found.metrics,
            data=_training_data(found.data, path),
            recipe=_recipe(found.recipe, path),
            seed=found.seed,
            environment=found.environment,
            state=state,
            weights_sha256=found.weights.sha256,
            adaptation=found.adaptation,
            scales=scales,
            pixel_size=found.pixel_size,
            provider=found.provider,
            evaluations=found.evaluations,
            label=found.label,
            notes=found.notes,
            parent=found.parent,
        )

    def check_bands(self, bands: tuple[Band, ...], where: str) -> None:
        """Check that the bands of data match those of the bundle in name, unit and order.

        Raises:
            DataError: if a band differs; the message names the first one.
        """
        expected = [f"{band.name} [{band.unit}]" for band in self.bands]
        found = [f"{band.name} [{band.unit}]" for band in bands]
        if expected == found:
            return
        if len(expected) != len(found):
            problem = f"has {len(found)} bands, but the bundle takes {len(expected)}"
        else:
            place = next(index for index in range(len(found)) if expected[index] != found[index])
            problem = f"band {place + 1} is {found[place]}, but the bundle takes {expected[place]} there"
        raise DataError(problem, where=where, hint="The bundle takes " + ", ".join(expected))

    def at_original_scale(self) -> Bundle:
        """Return the bundle without magnification, with the statistics of its first scale."""
        return replace(self, scales=ORIGINAL_SCALE, state=first_scale_state(self.scales, self.state))

    def _check_shapes(self, options: dict[str, Any]) -> None:
        """Compare the weight shapes with a model on the meta device, so that hostile options cannot allocate memory."""
        try:
            with torch.device("meta"):
                model = create_model_for(self.model, self.bands, len(self.class_names), **options)
                expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        except ZooError:
            raise
        except Exception:
            # Some architectures compute with their own weights on creation; on the meta device these have no values.
            return
        state = first_scale_state(self.scales, self.state)
        for name, shape in expected.items():
            if name not in state or state[name].shape != shape:
                found = "is missing" if name not in state else f"has shape {tuple(state[name].shape)}"
                raise ResultError(
                    f"the weights do not fit model {self.model!r} of this version",
                    hint=f"{name} {found}; the model takes {tuple(shape)}",
                )

    def predictor(self) -> Predictor:
        """Return the model with its weights and normalisation, in eval mode on the CPU. Nothing is downloaded.

        Raises:
            ZooError: if the architecture is not registered, or its weights have other names or shapes.
        """
        try:
            options = without_downloads(self.model, self.options)
            self._check_shapes(options)
            model = create_model_for(self.model, self.bands, len(self.class_names), **options)
        except UnknownNameError as error:
            provider = self.provider
            if provider is None or provider.distribution == "landslide-zoo":
                raise
            advice = provider.advice(
                "The bundle was made with a model of", "register the model again with zoo.register_model"
            )
            error.hint = advice if error.hint is None else f"{advice}. {error.hint}"
            raise
        except ZooError:
            raise
        except Exception as error:
            # An architecture, including one from a plugin, may raise any exception for unsupported options.
            raise ResultError(
                f"model {self.model!r} cannot be created with the options of the bundle ({first_line(error)})",
                hint=COPY_AGAIN,
            ) from error
        expected = model.state_dict()
        for name, tensor in self.state.items():
            # PyTorch would convert quantised integers without their scale.
            if name in expected and expected[name].is_floating_point() and not tensor.is_floating_point():
                kinds = " and ".join(str(one.dtype).removeprefix("torch.") for one in (tensor, expected[name]))
                raise ResultError(
                    f"the weights {name!r} and those of the model differ in type: {kinds}", hint=COPY_AGAIN
                )
        try:
            model.load_state_dict(first_scale_state(self.scales, self.state))
        except RuntimeError as error:
            raise ResultError(
                f"the weights do not fit model {self.model!r} of this version",
                hint=str(error).splitlines()[-1].strip(),
            ) from error
        model = with_scales(model, self.scales, self.state)
        return Predictor(model, self.statistics.mean.tolist(), self.statistics.std.tolist()).eval()


def without_downloads(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a model without those that load pretrained weights, for a model that will not be trained.

    The bundle replaces these weights anyway; parameter count and speed do not depend on them.
    """
    downloads: tuple[str, ...] = _DOWNLOADS
    if model in catalogue().models and Flag.PRETRAINED_ENCODER in catalogue().models.get(model).flags:
        downloads = (*downloads, "weights")
    replaced = {name: None if isinstance(options[name], str) else False for name in downloads if options.get(name)}
    return {**options, **replaced}


def same_pixel_size(found: float | None, trained: float | None) -> bool:
    """Return whether two pixel sizes in metres agree within :data:`SIZE_TOLERANCE`; unknown sizes always agree."""
    if found is None or trained is None:
        return True
    return 1 / SIZE_TOLERANCE <= found / trained <= SIZE_TOLERANCE


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _check_finite(state: dict[str, torch.Tensor], where: Path) -> None:
    for name, tensor in state.items():
        # Some 8-bit formats do not support the test themselves.
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ResultError(
                f"the weights {name!r} contain NaN or infinity, so the model cannot predict",
                where=where,
                hint="Train it again, with a lower learning rate (--lr) or --precision fp32",
            )


def _to_half(tensor: torch.Tensor) -> torch.Tensor:
    """Return a weight with two or more dimensions as float16 if it stays finite; leave all other tensors unchanged.

    Batch-norm statistics, scales and biases have one dimension and are small; float16 would lose a variance below 6e-8.
    """
    if tensor.dtype != torch.float32 or tensor.ndim < 2:
        return tensor
    half = tensor.half()
    return half if bool(torch.isfinite(half).all()) else tensor


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _provider(model: str) -> Provider | None:
    return provider_of("model", model) if model in catalogue().models else None


def _training_data(values: dict[str, Any] | None, path: Path) -> TrainingData:
    known = ("name", "options", "fingerprints", "licence", "citation", "provider")
    values = values or {}
    found = from_plain(
        {name: values[name] for name in known if values.get(name) is not None},
        TrainingData,
        what="bundle (field 'data')",
        where=path,
        hint="Delete the field if you do not know it",
    )
    return replace(found, other={name: value for name, value in values.items() if name not in known})


def _recipe(values: dict[str, Any] | None, path: Path) -> Recipe | None:
    if not values:
        return None
    try:
        return from_plain(values, Recipe, what="bundle (field 'recipe')", where=path, hint=COPY_AGAIN)
    except (ConfigError, UnknownNameError) as error:
        raise ResultError(f"not a valid bundle (field 'recipe'): {error}", where=path, hint=COPY_AGAIN) from error
