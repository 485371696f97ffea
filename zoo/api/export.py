"""Export a model to a file that other programs read: ``zoo.export`` and ``zoo export``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from zoo.errors import ConfigError, ZooError

if TYPE_CHECKING:
    from zoo.datasets.base import PatchDataset
    from zoo.datasets.source import DataSource
    from zoo.deploy.export import ExportConfig, ExportReport, ExportSubject
    from zoo.jobs import ProgressCallback
    from zoo.training.bundle import Bundle

ExportFormat = Literal["onnx", "openvino", "torch-export"]
ExportPrecision = Literal["fp32", "fp16", "bf16", "int8"]
Message = Callable[[str], None]


def export_formats() -> tuple[str, ...]:
    """Return the names of all formats, including those of plugins."""
    from zoo.registry import catalogue

    return (*get_args(ExportFormat), *catalogue().exporters)


DEEPNESS_TILE = 256
"""Default tile size of QGIS Deepness in pixels if there are no patches."""


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        subject: the model and the metadata of the file.
        config: configuration of the export.
        report: size of the file and its difference from the model.
    """

    subject: ExportSubject
    config: ExportConfig
    report: ExportReport

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self.config.path

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return a description of the file as lines of text."""
        metadata, config, report = self.subject.metadata, self.config, self.report
        kind = metadata.label or ("trained" if metadata.trained else "untrained")
        opset = f", opset {config.opset}" if config.to == "onnx" else ""
        sizes = ", ".join(f"{height}x{width}" for height, width in report.sizes)
        form = f"{config.to} {config.precision}{opset}"
        lines = [
            f"{config.path}: {kind} {metadata.model}, {form}, {report.bytes / 1e6:.1f} MB",
            f"  random images of {sizes}: outputs agree within {report.random:.1e} of the largest",
        ]
        if report.real is not None:
            lines.append(f"  {report.split} split: {report.real}")
        if report.note:
            lines.append(f"  {report.note}")
        if config.tile_size is not None:
            lines.append(f"  for QGIS Deepness: tiles of {config.tile_size} px, threshold {metadata.threshold:g}")
        if self.subject.bundle is not None:
            lines.append(f"  bands in order: {', '.join(f'{band.name} [{band.unit}]' for band in metadata.bands)}")
        return lines


def export(
    source: str | os.PathLike[str] | Bundle,
    out: str | os.PathLike[str],
    *,
    to: ExportFormat | str,
    precision: ExportPrecision = "fp32",
    opset: int = 18,
    reader: Literal["deepness"] | None = None,
    tile_size: int | None = None,
    pixel_size: float | None = None,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
    in_channels: int | None = None,
    classes: int | None = None,
    seed: int | None = None,
    data: DataSource | None = None,
    data_options: Mapping[str, Any] | None = None,
    open_splits: Callable[[DataSource, Sequence[str]], dict[str, PatchDataset]] | None = None,
    note: Message = lambda text: None,
    warn: Message = lambda text: None,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
) -> Exported:
    """Write a trained bundle, or a model with fresh weights, as one file for use without zoo.

    The file takes images in the units of its bands and normalises them internally. Before it is kept, it is reopened
    and compared with the model on random images and on real patches.

    Args:
        source: the name of a registered model, an open bundle, or any source of a bundle that :func:`zoo.load` takes.
        out: the file; its suffix must be ``.onnx``, ``.xml`` (OpenVINO), ``.pt2`` (torch.export) or that of the format
            of a plugin.
        to: format of the file.
        precision: a precision below ``fp32`` is kept only if it predicts the same masks on real patches.
        opset: ONNX opset, 13 to 20.
        reader: ``"deepness"`` writes the ONNX file that the QGIS plugin Deepness reads.
        tile_size: height and width of a Deepness tile in pixels; by default those of a patch.
        pixel_size: pixel size in metres for Deepness; by default that of the data.
        overwrite: replace an existing file.
        options: options of an untrained model.
        in_channels: bands of an untrained model; 7 by default.
        classes: classes of an untrained model; 2 by default.
        seed: random seed of an untrained model's weights; 0 by default.
        data: patches to compare on; by default those that the bundle was trained on, if they are present.
        data_options: options that replace those of the bundle's own data.
        open_splits: function that opens splits of the data, for callers that show progress.
        note: called with notes while the export runs.
        warn: called with warnings.
        sha256: checksum of the ``.zip`` file of a bundle, if its URL does not end with it.
        progress: called with the number of bytes downloaded and the total.

    Raises:
        ConfigError: for options that contradict each other or a format that lacks the precision.
        ModelError: if the model cannot be exported, or the file's output differs too much and the file is discarded.
        ZooError: if the bundle or the data are damaged, the extra ``export`` is missing, or the file cannot be written.

    Example:
        >>> import zoo
        >>> done = zoo.export("unet", "unet.onnx", to="onnx", options={"widths": (8, 16)})  # doctest: +SKIP
        >>> print(done)  # doctest: +SKIP
        unet.onnx: untrained unet, onnx fp32, opset 18, 0.0 MB
    """
    from zoo.deploy.backends import check_opset
    from zoo.deploy.export import ExportConfig, check_config, export_model, find_subject, subject_of
    from zoo.deploy.exported_files import check_format
    from zoo.files import check_output
    from zoo.registry import catalogue
    from zoo.training.bundle import Bundle
    from zoo.weights.sources import is_bundle_source, resolve

    out = Path(out)
    check_format(to, out, precision)
    check_opset(opset)
    if reader is None and (tile_size, pixel_size) != (None, None):
        raise ConfigError("--tile-size and --pixel-size need --for deepness")
    check_output(out, [], overwrite=overwrite)
    fresh = {"in_channels": in_channels, "classes": classes, "seed": seed}
    chosen = {name: value for name, value in fresh.items() if value is not None}
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if text in catalogue().models or not (is_bundle_source(text) or "/" in text):
            subject = find_subject(text, options=dict(options or {}), **chosen)
        else:
            subject = subject_of(Bundle.load(resolve(source, sha256=sha256, progress=progress, notify=note)))
    else:
        subject = subject_of(source)
    if subject.bundle is not None and (chosen or options):
        raise ConfigError(
            "--option, --in-channels, --classes and --seed are only for an untrained model",
            where=source,
            hint="A bundle records its own",
        )
    if subject.bundle is None:
        warn(f"{source} has no trained weights: use the file to test speed and shapes; its masks are meaningless")
    splits = _patches(subject, data, dict(data_options or {}), precision, open_splits or _open_quietly, warn)
    if reader is not None:
        tile_size = tile_size or (splits["test"][0]["mask"].shape[0] if splits else DEEPNESS_TILE)
        pixel_size = pixel_size or (splits["test"].pixel_size if splits else None)
    config = ExportConfig(to, out, precision, opset, tile_size, pixel_size)
    check_config(subject, config, splits)
    done = Exported(subject, config, export_model(subject, config, splits, note))
    threshold = subject.metadata.threshold
    if reader is not None and pixel_size is None:
        warn("the pixel size is unknown: set the resolution in Deepness, or give --pixel-size")
    if reader is not None and round(threshold, 2) != threshold:
        warn(f"Deepness shows two decimals and may round the threshold {threshold:g}")
    return done


def _open_quietly(source: DataSource, splits: Sequence[str]) -> dict[str, PatchDataset]:
    return source.open_splits(splits)


def _patches(
    subject: ExportSubject,
    data: DataSource | None,
    options: dict[str, Any],
    precision: str,
    open_splits: Callable[[DataSource, Sequence[str]], dict[str, PatchDataset]],
    warn: Message,
) -> dict[str, PatchDataset] | None:
    """Return real patches: those of ``data``, otherwise the bundle's own if they are present, otherwise ``None``."""
    from zoo.datasets.source import DataSource

    if data is not None:
        source = data
    elif subject.bundle is not None and (own := subject.bundle.data.source) is not None:
        source = DataSource(own.name, {**own.options, **options})
    else:
        return None
    needed = {"fp32": ("test",), "int8": ("test", "val", "train")}.get(precision, ("test", "val"))
    try:
        splits = open_splits(source, needed)
    except ZooError as error:
        if data is not None or precision != "fp32":
            raise
        warn(f"the bundle's own data cannot be opened ({error}); the file is compared on random images only")
        return None
    if subject.bundle is not None:
        for dataset in splits.values():
            subject.bundle.check_bands(dataset.bands, source.label)
    elif len(splits["test"].bands) != len(subject.metadata.bands):
        raise ConfigError(
            f"the data have {len(splits['test'].bands)} bands, and the model takes {len(subject.metadata.bands)}",
            where=source.label,
            hint=f"Add --in-channels {len(splits['test'].bands)}",
        )
    return splits
