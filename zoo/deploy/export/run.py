"""Exporting: the graph, the proof that it computes what the model computes, and only then the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from zoo.datasets.base import IGNORE, PatchDataset
from zoo.deploy.export.deepness import LandslideProbability, deepness_texts
from zoo.deploy.export.files import (
    Bfloat16,
    check_format,
    open_exported,
    staged,
    write_onnx,
    write_openvino,
    write_torch_export,
)
from zoo.deploy.export.quantise import eight_bit_graphs, half_precision
from zoo.deploy.export.subject import Subject
from zoo.deploy.gate import GateReport, compare
from zoo.deploy.onnx_graph import OPSET, export_onnx, free_sample
from zoo.deploy.parity import difference
from zoo.errors import ConfigError, ModelError

PARITY_PATCHES = 32
"""Real patches whose logits are compared."""
GATE_PATCHES = 200
"""Real patches whose masks are compared, where a file computes in less than float32."""
CALIBRATION_PATCHES = 64
"""Real patches that int8 takes its ranges from."""
MISSING_SHARE = 0.01
"""Of the values of random images that are NaN."""
BATCH = 8

Splits = Mapping[str, PatchDataset]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Wish:
    """What the file shall be.

    Attributes:
        to: ``onnx``, ``openvino`` or ``torch-export``.
        path: of the file.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, as far as the format has it.
        opset: of ONNX.
        tile_size: for QGIS Deepness: height and width of its tiles in pixels; None for every other reader.
        pixel_size: for QGIS Deepness: of the raster in metres, where it is known.
    """

    to: str
    path: Path
    precision: str = "fp32"
    opset: int = OPSET
    tile_size: int | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how near it is to the model.

    Attributes:
        bytes: of all files.
        random: largest difference of an output on random images, relative to the largest output.
        sizes: of the random images, height and width.
        real: the masks on real patches; None without patches.
        split: that they are of.
        note: what the reader of the report should know, or nothing.
    """

    bytes: int
    random: float
    sizes: tuple[tuple[int, int], ...]
    real: GateReport | None
    split: str
    note: str = ""


class _TooFarError(Exception):
    """A draft that does not compute what the model computes; the message says by how much."""


def export(
    subject: Subject, wish: Wish, splits: Splits | None, tell: Callable[[str], None] = lambda text: None
) -> ExportReport:
    """Write ``subject`` to a file, if the file computes what the model computes.

    The file is written beside its place, opened again as its users will, and compared with the model: on random
    images of several sizes with missing values, and on real patches. A float32 file must give the model's outputs to
    rounding; a file of less precision must pass :mod:`zoo.deploy.gate` on validation patches, without which it is not
    written. Only then does it get its name.

    Args:
        subject: what is exported.
        wish: how.
        splits: real patches, ``train``, ``val`` and ``test``; None where there are none.
        tell: called with a line for the user as work goes on.

    Raises:
        ConfigError: for a wish that cannot be had.
        ModelError: if the model cannot be exported, or the file is too far from it; no file is left then.
        ZooError: if the extra ``export`` is not installed, or the file cannot be written.
    """
    check_wish(subject, wish, splits)
    model: nn.Module = subject.predictor if wish.tile_size is None else LandslideProbability(subject.predictor).eval()
    attempts = _writers(subject, wish, model, splits)
    failure = ""
    for kept, write in attempts:
        if failure:
            tell(f"int8 is too far from the model: {failure}; trying again: {kept}")
        try:
            with staged(wish.path) as draft:
                write(draft)
                size = sum(one.stat().st_size for one in draft.parent.iterdir())
                random, sizes, real, split = _judge(subject, wish, model, draft, splits)
        except _TooFarError as far:
            failure = str(far)
        else:
            return ExportReport(size, random, sizes, real, split, kept)
    raise ModelError(
        f"the {wish.precision} file would be too far from the model: {failure}",
        where=wish.path,
        hint="It was not kept. " + ("Report this" if wish.precision == "fp32" else "Choose --precision fp32"),
    )


def check_wish(subject: Subject, wish: Wish, splits: Splits | None) -> None:
    """Refuse what cannot be had, before any work is done for it.

    Raises:
        ConfigError: saying what can.
    """
    check_format(wish.to, wish.path, wish.precision)
    description = subject.description
    if wish.tile_size is not None:
        if wish.to != "onnx":
            raise ConfigError("QGIS Deepness reads ONNX alone", hint="Choose --to onnx")
        if wish.tile_size < description.minimum_size:
            raise ConfigError(
                f"tiles of {wish.tile_size} pixels are too small: {description.model} needs "
                f"{description.minimum_size} or more",
                where="--tile-size",
            )
    if wish.precision != "fp32" and splits is None:
        raise ConfigError(
            f"{wish.precision} has to be judged on real patches, and there are none",
            hint="Name the data that the bundle was trained on with --data",
        )


def _writers(
    subject: Subject, wish: Wish, model: nn.Module, splits: Splits | None
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Ways to write the file, the fastest first, and what stays in float32 in an int8 file."""
    output = "logits" if wish.tile_size is None else "landslide probability"
    texts = subject.description.texts(precision=wish.precision, output=output)
    if wish.tile_size is not None:
        texts |= deepness_texts(
            channels=len(subject.description.bands),
            tile_size=wish.tile_size,
            threshold=subject.description.threshold,
            pixel_size=wish.pixel_size,
        )
    side = wish.tile_size or max(subject.description.minimum_size, 64)
    example = _random_images(subject, 2, side, side)
    if wish.to == "torch-export":
        module = Bfloat16(model) if wish.precision == "bf16" else model
        yield "", partial(write_torch_export, module, free_sample(model, example), texts)
        return
    graph = export_onnx(model, example, opset=wish.opset, dynamic=wish.tile_size is None)
    if wish.tile_size is not None:
        # Older releases of Deepness take batches of one alone.
        for value in (graph.graph.input[0], graph.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graphs: Iterable[tuple[str, Any]] = [("", graph)]
    if wish.precision == "int8":
        assert splits is not None
        patches = [
            image
            for batch in _batches(splits["train"], CALIBRATION_PATCHES, wish.tile_size)
            for image in batch["image"]
        ]
        graphs = eight_bit_graphs(graph, patches)
    elif wish.precision == "fp16" and wish.to == "onnx":
        graphs = [("", half_precision(graph))]
    for kept, made in graphs:
        if wish.to == "onnx":
            yield kept, partial(write_onnx, made, texts)
        else:
            yield kept, partial(write_openvino, made, texts, half=wish.precision == "fp16")


@torch.inference_mode()
def _judge(
    subject: Subject, wish: Wish, model: nn.Module, draft: Path, splits: Splits | None
) -> tuple[float, tuple[tuple[int, int], ...], GateReport | None, str]:
    """Compare a draft with the model.

    Raises:
        _TooFarError: if it is not near enough.
    """
    module, _ = open_exported(draft)
    exact = wish.precision == "fp32"
    minimum = subject.description.minimum_size
    sizes: tuple[tuple[int, int], ...] = (
        (minimum, minimum),
        (minimum + 1, minimum + 29),
        (2 * minimum + 3, minimum),
    )
    if wish.tile_size is not None:
        sizes = ((wish.tile_size, wish.tile_size),)
    largest = 0.0
    for size in sizes:
        images = _random_images(subject, 1 if wish.tile_size else 2, *size)
        largest = max(largest, _check(model(images), module(images), exact, f"random images of {size}"))
    if splits is None:
        return largest, sizes, None, ""
    split = "test" if exact else "val"
    count = PARITY_PATCHES if exact else GATE_PATCHES
    batches = partial(_batches, splits[split], count, wish.tile_size)
    if exact:
        for batch in batches():
            _check(model(batch["image"]), module(batch["image"]), exact, f"patches of the {split} split")
    judged = module if wish.tile_size is None else _AsLogit(module)
    report = compare(subject.predictor, judged, batches(), subject.description.threshold)
    if not report.passed:
        raise _TooFarError(str(report))
    return largest, sizes, report, split


def _check(expected: Tensor, found: Tensor, exact: bool, where: str) -> float:
    apart = difference(found, expected, "fp32")
    if apart.largest == float("inf"):
        raise _TooFarError(f"outputs of shape {tuple(found.shape)} that are not all finite, on {where}")
    if exact and not apart.passed:
        raise _TooFarError(f"outputs differ by up to {apart.largest:.2g} of the largest, on {where}")
    return apart.largest


def _random_images(subject: Subject, batch: int, height: int, width: int) -> Tensor:
    """Images of the bands' means and spreads, some values missing, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, len(subject.description.bands), height, width)
    images = torch.randn(shape, generator=generator) * subject.predictor.std + subject.predictor.mean
    return images.masked_fill(torch.rand(shape, generator=generator) < MISSING_SHARE, float("nan"))


def _batches(dataset: PatchDataset, count: int, tile_size: int | None) -> Iterator[Batch]:
    """Up to ``count`` patches, evenly over the split; one a batch, and of the size of a tile, for Deepness."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)).tolist()
    loader: DataLoader[Batch] = DataLoader(Subset(dataset, chosen), batch_size=BATCH if tile_size is None else 1)
    for batch in loader:
        yield batch if tile_size is None else _fit(batch, tile_size)


def _fit(batch: Batch, side: int) -> Batch:
    """The patch cut to a tile, or with missing values around it."""
    image, mask = batch["image"][..., :side, :side], batch["mask"][..., :side, :side]
    border = (0, side - image.shape[-1], 0, side - image.shape[-2])
    return {"image": F.pad(image, border, value=float("nan")), "mask": F.pad(mask, border, value=IGNORE)}


class _AsLogit(nn.Module):
    """A module that gives probabilities, as one that gives logits, for what takes logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        probability: Tensor = self.module(image)
        return probability.logit(eps=1e-7)
