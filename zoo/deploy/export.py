"""Export a model: write a draft, check that its outputs match the model's, and only then publish the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from zoo.datasets.base import IGNORE, PatchDataset
from zoo.deploy.backends import OPSET, any_size_sample, export_onnx
from zoo.deploy.exported_files import (
    Bfloat16,
    ExportMetadata,
    Normalisation,
    check_format,
    open_exported,
    staged,
    write_by_plugin,
    write_onnx,
    write_openvino,
    write_torch_export,
)
from zoo.deploy.parity import GateReport, compare_masks, difference
from zoo.deploy.quantise import eight_bit_graphs, half_precision
from zoo.errors import ConfigError, DataError, ModelError, UnknownNameError
from zoo.physics.bands import Band
from zoo.registry import Flag, ModelSpec, catalogue, create_model
from zoo.training.bundle import Bundle
from zoo.training.predictor import Predictor, landslide_probability

PARITY_PATCHES = 32
"""Number of patches whose logits are compared."""
GATE_PATCHES = 200
"""Number of patches whose masks are compared for a precision below float32."""
CALIBRATION_PATCHES = 64
"""Number of patches that calibrate the ranges of int8."""
MISSING_SHARE = 0.01
"""Share of NaN values in random images."""
EXPORT_BATCH = 8
DEEPNESS_OVERLAP_PERCENT = 25
"""Overlap of neighbouring tiles [O]: pixels at the border of a tile have less context than those in its middle."""

Splits = Mapping[str, PatchDataset]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ExportConfig:
    """Configuration of an export.

    Attributes:
        to: ``onnx``, ``openvino``, ``torch-export`` or a format of a plugin.
        path: the file to write.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, if the format supports it.
        opset: ONNX opset.
        tile_size: height and width of the tiles of QGIS Deepness in pixels; ``None`` for other readers.
        pixel_size: pixel size in metres for QGIS Deepness, if known.
    """

    to: str
    path: Path
    precision: str = "fp32"
    opset: int = OPSET
    tile_size: int | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class ExportReport:
    """Result of an export, with the difference between the file and the model.

    Attributes:
        bytes: total size of the written files.
        random: largest difference of an output on random images, relative to the largest output.
        sizes: height and width of the random images.
        real: comparison of the masks on real patches; ``None`` without patches.
        split: split of those patches.
        note: a note for the user, or an empty string.
    """

    bytes: int
    random: float
    sizes: tuple[tuple[int, int], ...]
    real: GateReport | None
    split: str
    note: str = ""


@dataclass(frozen=True)
class ExportSubject:
    """The model to export.

    Attributes:
        predictor: the predictor in eval mode, float32, on the CPU.
        metadata: metadata of the file.
        bundle: the bundle it comes from; ``None`` for fresh weights.
    """

    predictor: Predictor
    metadata: ExportMetadata
    bundle: Bundle | None


class _ParityError(Exception):
    """The outputs of a draft differ from the model's; the message states the difference."""


def find_subject(
    source: str,
    *,
    in_channels: int = 7,
    classes: int = 2,
    options: dict[str, Any] | None = None,
    seed: int = 0,
) -> ExportSubject:
    """Return a registered model with fresh weights, or the bundle in a folder.

    Args:
        source: the name of a model, or the path of a bundle; write ``./unet`` for a folder with the name of a model.
        in_channels: bands of a model with fresh weights.
        classes: classes of a model with fresh weights.
        options: options of a model with fresh weights.
        seed: random seed of fresh weights.

    Raises:
        UnknownNameError: if ``source`` is neither.
        ModelError: if the model cannot be exported, with the reason.
        ZooError: if the bundle is damaged or its architecture is not registered here.
    """
    if source in catalogue().models:
        return _fresh_subject(source, in_channels, classes, options or {}, seed)
    folder = Path(source)
    if not folder.exists():
        if folder.parent != Path() or source.startswith((".", "~")):
            raise DataError("there is no such folder", where=source)
        raise UnknownNameError("model or bundle", source, catalogue().models)
    return subject_of(Bundle.load(folder))


def subject_of(bundle: Bundle) -> ExportSubject:
    """Return the subject for the export of a bundle.

    Raises:
        ModelError: if the model cannot be exported, with the reason.
        ZooError: if its architecture is not registered here.
    """
    spec = catalogue().models.get(bundle.model)
    check_exportable(spec)
    predictor = bundle.predictor()
    metadata = ExportMetadata(
        model=bundle.model,
        options=bundle.options,
        bands=bundle.bands,
        normalisation=Normalisation(tuple(predictor.mean.flatten().tolist()), tuple(predictor.std.flatten().tolist())),
        class_names=_names_by_index(bundle.class_names),
        threshold=bundle.threshold,
        trained=True,
        weights_sha256=bundle.weights_sha256,
        minimum_size=spec.minimum_size,
        label=bundle.label,
    )
    return ExportSubject(predictor, metadata, bundle)


def _fresh_subject(name: str, in_channels: int, classes: int, options: dict[str, Any], seed: int) -> ExportSubject:
    spec = catalogue().models.get(name)
    check_exportable(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(name, in_channels, classes, **options)
    zeros, ones = (0.0,) * in_channels, (1.0,) * in_channels
    names = ("background", "landslide") if classes == 2 else tuple(f"class {index}" for index in range(classes))
    metadata = ExportMetadata(
        model=name,
        options=options,
        bands=tuple(Band(f"band {index + 1}", "standard deviation") for index in range(in_channels)),
        normalisation=Normalisation(zeros, ones),
        class_names=_names_by_index(("landslide",) if classes == 1 else names),
        threshold=0.5,
        trained=False,
        weights_sha256="",
        minimum_size=spec.minimum_size,
    )
    return ExportSubject(Predictor(model, zeros, ones).eval(), metadata, None)


def _names_by_index(names: Sequence[str]) -> dict[str, str]:
    """Return names keyed by their index as a string, the form that QGIS Deepness reads."""
    return {str(index): name for index, name in enumerate(names)}


def check_exportable(spec: ModelSpec) -> None:
    """Check that a model declares itself exportable.

    Raises:
        ModelError: if it does not.
    """
    if Flag.EXPORTABLE in spec.flags:
        return
    reason = (
        "it needs rain and cannot predict from only an image"
        if Flag.NEEDS_RAIN in spec.flags
        else "it does not declare the flag `exportable`, so torch.export cannot capture it"
    )
    raise ModelError(
        f"cannot be exported: {reason}",
        where=f"model {spec.name!r}",
        hint="zoo models lists the flags of every model",
    )


def export_model(
    subject: ExportSubject,
    config: ExportConfig,
    splits: Splits | None,
    note: Callable[[str], None] = lambda text: None,
) -> ExportReport:
    """Write ``subject`` to a file if the file's outputs match the model's.

    A draft is written next to the destination, reopened as its users will open it, and compared with the model on
    random images of several sizes with missing values and on real patches. A float32 file must return the model's
    outputs up to rounding. A file of lower precision must pass the gate (:func:`zoo.deploy.parity.compare_masks`) on
    validation patches; without patches it is not written. The draft is renamed to ``path`` only after these checks.

    Args:
        subject: the model to export.
        config: how to export it.
        splits: the splits ``train``, ``val`` and ``test`` of real patches; ``None`` if there are none.
        note: called with messages for the user during the export.

    Raises:
        ConfigError: for an invalid configuration.
        ModelError: if the model cannot be exported, or the file differs too much from it and is discarded.
        ZooError: if the extra ``export`` is not installed, or the file cannot be written.
    """
    check_config(subject, config, splits)
    model: nn.Module = subject.predictor if config.tile_size is None else LandslideProbability(subject.predictor).eval()
    failure = ""
    for remark, write in _writers(subject, config, model, splits):
        if failure:
            note(f"int8 differs too much from the model: {failure}; trying again: {remark}")
        try:
            with staged(config.path) as draft:
                write(draft)
                size = sum(path.stat().st_size for path in draft.parent.iterdir())
                random, sizes, real, split = _compare_draft(subject, config, model, draft, splits)
        except _ParityError as far:
            failure = str(far)
        else:
            return ExportReport(size, random, sizes, real, split, remark)
    raise ModelError(
        f"the {config.precision} file would differ too much from the model: {failure}",
        where=config.path,
        hint="It was not kept. " + ("Report this" if config.precision == "fp32" else "Choose --precision fp32"),
    )


def check_config(subject: ExportSubject, config: ExportConfig, splits: Splits | None) -> None:
    """Check that an export is possible, before any work is done.

    Raises:
        ConfigError: if it is not.
    """
    check_format(config.to, config.path, config.precision)
    metadata = subject.metadata
    if config.tile_size is not None:
        if config.to != "onnx":
            raise ConfigError("QGIS Deepness reads only ONNX", hint="Choose --to onnx")
        if config.tile_size < metadata.minimum_size:
            raise ConfigError(
                f"tiles of {config.tile_size} pixels are too small: {metadata.model} needs at least "
                f"{metadata.minimum_size}",
                where="--tile-size",
            )
    if config.precision != "fp32" and splits is None:
        raise ConfigError(
            f"{config.precision} must be checked on real patches, but there are none",
            hint="Name the data that the bundle was trained on with --data",
        )


def _writers(
    subject: ExportSubject, config: ExportConfig, model: nn.Module, splits: Splits | None
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield functions that write the file, fastest form first, with a note on what stays float32 in an int8 file."""
    output = "logits" if config.tile_size is None else "landslide probability"
    texts = replace(subject.metadata, precision=config.precision, output=output).texts()
    if config.tile_size is not None:
        texts |= deepness_texts(
            channels=len(subject.metadata.bands),
            tile_size=config.tile_size,
            threshold=subject.metadata.threshold,
            pixel_size=config.pixel_size,
        )
    side = config.tile_size or max(subject.metadata.minimum_size, 64)
    example = _random_images(subject, 2, side, side)
    if config.to == "torch-export":
        module = Bfloat16(model) if config.precision == "bf16" else model
        yield "", partial(write_torch_export, module, any_size_sample(model, example), texts)
        return
    if config.to in catalogue().exporters:
        exporter = catalogue().exporters.get(config.to)
        yield "", partial(write_by_plugin, exporter, model, any_size_sample(model, example), texts)
        return
    graph = export_onnx(model, example, opset=config.opset, dynamic=config.tile_size is None)
    if config.tile_size is not None:
        # Older releases of Deepness accept only batches of one.
        for value in (graph.graph.input[0], graph.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graphs: Iterable[tuple[str, Any]] = [("", graph)]
    if config.precision == "int8":
        assert splits is not None
        patches = [
            image
            for batch in _batches(splits["train"], CALIBRATION_PATCHES, config.tile_size)
            for image in batch["image"]
        ]
        graphs = eight_bit_graphs(graph, patches)
    elif config.precision == "fp16" and config.to == "onnx":
        graphs = [("", half_precision(graph))]
    for remark, made in graphs:
        if config.to == "onnx":
            yield remark, partial(write_onnx, made, texts)
        else:
            yield remark, partial(write_openvino, made, texts, half=config.precision == "fp16")


@torch.inference_mode()
def _compare_draft(
    subject: ExportSubject, config: ExportConfig, model: nn.Module, draft: Path, splits: Splits | None
) -> tuple[float, tuple[tuple[int, int], ...], GateReport | None, str]:
    """Compare a draft with the model.

    Raises:
        _ParityError: if they differ too much.
    """
    module, _ = open_exported(draft)
    exact = config.precision == "fp32"
    minimum = subject.metadata.minimum_size
    sizes: tuple[tuple[int, int], ...] = (
        (minimum, minimum),
        (minimum + 1, minimum + 29),
        (2 * minimum + 3, minimum),
    )
    if config.tile_size is not None:
        sizes = ((config.tile_size, config.tile_size),)
    largest = 0.0
    for size in sizes:
        images = _random_images(subject, 1 if config.tile_size else 2, *size)
        largest = max(largest, _check_outputs(model(images), module(images), exact, f"random images of {size}"))
    if splits is None:
        return largest, sizes, None, ""
    split = "test" if exact else "val"
    count = PARITY_PATCHES if exact else GATE_PATCHES
    batches = partial(_batches, splits[split], count, config.tile_size)
    if exact:
        for batch in batches():
            _check_outputs(model(batch["image"]), module(batch["image"]), exact, f"patches of the {split} split")
    judged = module if config.tile_size is None else _ProbabilityAsLogit(module)
    report = compare_masks(subject.predictor, judged, batches(), subject.metadata.threshold)
    if not report.passed:
        raise _ParityError(str(report))
    return largest, sizes, report, split


def _check_outputs(expected: Tensor, found: Tensor, exact: bool, where: str) -> float:
    apart = difference(found, expected, "fp32")
    if apart.largest == float("inf"):
        raise _ParityError(f"outputs of shape {tuple(found.shape)} that are not all finite, on {where}")
    if exact and not apart.passed:
        raise _ParityError(f"outputs differ by up to {apart.largest:.2g} of the largest, on {where}")
    return apart.largest


def _random_images(subject: ExportSubject, batch: int, height: int, width: int) -> Tensor:
    """Return the same random images at each call, with the bands' means and spreads and some missing values."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, len(subject.metadata.bands), height, width)
    images = torch.randn(shape, generator=generator) * subject.predictor.std + subject.predictor.mean
    return images.masked_fill(torch.rand(shape, generator=generator) < MISSING_SHARE, float("nan"))


def _batches(dataset: PatchDataset, count: int, tile_size: int | None) -> Iterator[Batch]:
    """Yield up to ``count`` patches, evenly over the split; for Deepness one at a time, fitted to a tile."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)).tolist()
    loader: DataLoader[Batch] = DataLoader(Subset(dataset, chosen), batch_size=EXPORT_BATCH if tile_size is None else 1)
    for batch in loader:
        yield batch if tile_size is None else _fit_to_tile(batch, tile_size)


def _fit_to_tile(batch: Batch, side: int) -> Batch:
    """Return the patch cropped to a tile, or padded with missing values."""
    image, mask = batch["image"][..., :side, :side], batch["mask"][..., :side, :side]
    border = (0, side - image.shape[-1], 0, side - image.shape[-2])
    return {"image": F.pad(image, border, value=float("nan")), "mask": F.pad(mask, border, value=IGNORE)}


class _ProbabilityAsLogit(nn.Module):
    """Convert the probabilities of a module to logits, for functions that take logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        probability: Tensor = self.module(image)
        return probability.logit(eps=1e-7)


# The QGIS plugin Deepness [S: github.com/PUTvision/qgis-plugin-deepness, src/deepness/processing] reads square tiles of
# one size, divides them by 255, subtracts `standardization_mean` and divides by `standardization_std`, for every dtype
# of the raster. With 0 and 1/255 the graph receives the values of the raster, so its own normalisation applies,
# including missing values. For a single output channel Deepness uses `seg_thresh`, our threshold; for two it takes the
# larger and ignores the threshold. The output is therefore one channel: the landslide probability.


class LandslideProbability(nn.Module):
    """Map images in the bands' units to the landslide probability, ``(B, C, H, W)`` -> ``(B, 1, H, W)`` in [0, 1]."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, image: Tensor) -> Tensor:
        return landslide_probability(self.predictor(image))[:, None]


def deepness_texts(*, channels: int, tile_size: int, threshold: float, pixel_size: float | None) -> dict[str, str]:
    """Return the metadata that Deepness reads, as JSON strings by key.

    Args:
        channels: number of bands.
        tile_size: height and width of a tile in pixels.
        threshold: landslide probability at and above which a pixel is landslide.
        pixel_size: pixel size of the training data in metres; ``None`` leaves the resolution to the user.
    """
    facts: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {"0": "landslide"},
        "tile_size": tile_size,
        "tiles_overlap": DEEPNESS_OVERLAP_PERCENT,
        "seg_thresh": threshold,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1 / 255] * channels,
    }
    if pixel_size is not None:
        facts["resolution"] = 100 * pixel_size  # centimetres
    return {key: json.dumps(value) for key, value in facts.items()}
