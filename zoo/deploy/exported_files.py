"""Write a model in each export format, and reopen it as its users would."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import __version__
from zoo.deploy.backends import BackendModule, OnnxRuntimeModule, OpenVinoModule, require, unreadable
from zoo.errors import ConfigError, ModelError, ResultError, ZooError, first_line, one_line
from zoo.files import unwritable, working_folder
from zoo.physics.bands import Band
from zoo.registry import ExporterSpec, catalogue
from zoo.schema import encode_json, from_plain

if TYPE_CHECKING:
    import onnx

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Suffix of each format; OpenVINO keeps its weights in a ``.bin`` next to the ``.xml``."""
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch-export": ("fp32", "bf16"),
}
_METADATA_FILE = "zoo.json"


@dataclass(frozen=True)
class Normalisation:
    """Normalisation inside the graph.

    Attributes:
        mean: mean of each band, which is subtracted.
        std: standard deviation of each band, by which it is divided.
        missing: how missing values are treated.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    missing: str = "NaN counts as the mean of its band"


@dataclass(frozen=True)
class ExportMetadata:
    """Metadata of an exported file; every format stores each field as a JSON string under its name.

    Attributes:
        producer: program and version that wrote the file.
        model: registered name of the architecture.
        options: keyword arguments of the architecture.
        bands: bands of the input, in order, with units.
        normalisation: normalisation inside the graph.
        class_names: names of the logits' channels, by index, as QGIS Deepness reads them.
        threshold: landslide probability at and above which a pixel is landslide.
        trained: ``False`` for random weights.
        weights_sha256: sha256 of the bundle's ``model.safetensors``; empty for fresh weights.
        minimum_size: smallest height and width in pixels.
        precision: precision of the file: fp32, fp16, bf16 or int8.
        output: meaning of the output.
        label: word that marks every output of the model, such as ``demo``; empty for none.
    """

    model: str
    options: dict[str, Any]
    bands: tuple[Band, ...]
    normalisation: Normalisation
    class_names: dict[str, str]
    threshold: float
    trained: bool
    weights_sha256: str
    minimum_size: int
    precision: str = "fp32"
    output: str = "logits"
    label: str = ""
    producer: str = f"landslide-zoo {__version__}"

    def texts(self) -> dict[str, str]:
        """Return every field as a JSON string by name."""
        return {name: encode_json(value) for name, value in vars(self).items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], where: object) -> ExportMetadata:
        """Read the metadata of a file; keys of other programs are ignored.

        Raises:
            ResultError: if the file was not written by ``zoo export``.
        """
        values = {}
        for key, text in texts.items():
            with suppress(ValueError, RecursionError):
                values[key] = json.loads(text)
        if not str(values.get("producer", "")).startswith("landslide-zoo"):
            raise ResultError("was not written by zoo export", where=where, hint="Export the bundle again")
        return from_plain(values, cls, what="exported file", where=where, hint="Export the bundle again")


def check_format(to: str, path: Path, precision: str) -> None:
    """Check that the format exists, that it supports the precision, and that the file has its suffix.

    Raises:
        ConfigError: if a check fails.
    """
    known = suffixes()
    if to not in known:
        raise ConfigError(f"unknown format {to!r}", hint="Choose one of " + ", ".join(known))
    if path.suffix != known[to]:
        raise ConfigError(f"the name of a file in format {to} must end in {known[to]}", where=path)
    precisions = PRECISIONS.get(to, ("fp32",))
    if precision not in precisions:
        raise ConfigError(f"format {to} has no precision {precision}", hint="Choose one of " + ", ".join(precisions))


def suffixes() -> dict[str, str]:
    """Return the file suffix of each format, including those of plugins."""
    return SUFFIXES | {spec.name: spec.suffix for spec in catalogue().exporters.match()}


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a hidden folder next to ``path``, and move the written files to it on success.

    On an error, Ctrl-C included, the draft is removed and ``path`` is unchanged.

    Raises:
        ZooError: if the folder cannot be written to, or the disk is full.
    """
    with working_folder(path) as folder:
        try:
            yield folder / path.name
            _publish(folder, path)
        except OSError as error:
            raise unwritable(path, error) from error


def _publish(folder: Path, path: Path) -> None:
    written = sorted(folder.iterdir(), key=lambda one: one.name == path.name)
    umask = os.umask(0)
    os.umask(umask)
    for one in written:
        with one.open("rb+") as file:
            os.fsync(file.fileno())
        one.chmod(0o666 & ~umask)
    if len(written) > 1:
        # A reader must not find the old file with the new weights between the two renames.
        with suppress(FileNotFoundError):
            path.unlink()
    for one in written:
        one.replace(path.parent / one.name)


def write_onnx(graph: onnx.ModelProto, texts: Mapping[str, str], path: Path) -> None:
    """Write a graph with its metadata."""
    from onnx.helper import set_model_props

    set_model_props(graph, dict(texts))
    graph.producer_name = "landslide-zoo"
    path.write_bytes(graph.SerializeToString())


def write_openvino(graph: onnx.ModelProto, texts: Mapping[str, str], path: Path, *, half: bool) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``, with the metadata under ``zoo`` in the ``rt_info`` of the ``.xml``."""
    openvino = require("openvino", "an OpenVINO file")
    network = openvino.Core().read_model(graph.SerializeToString())
    for key, text in texts.items():
        network.set_rt_info(text, ["zoo", key])
    openvino.save_model(network, str(path), compress_to_fp16=half)


def write_torch_export(module: nn.Module, sample: Tensor, texts: Mapping[str, str], path: Path) -> None:
    """Write a ``torch.export`` program with dynamic batch, height and width.

    Raises:
        ModelError: if torch cannot capture the module.
    """
    free = torch.export.Dim.AUTO
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, (sample,), dynamic_shapes=({0: free, 2: free, 3: free},), strict=False
            )
    except Exception as error:  # torch.export raises errors of many kinds
        raise ModelError(
            f"cannot be captured by torch.export ({type(error).__name__}: {first_line(error)})",
            where=type(module).__name__,
            hint="Its forward may depend on values or sizes; try --to onnx",
        ) from error
    torch.export.save(program, path, extra_files={_METADATA_FILE: json.dumps(dict(texts))})


def write_by_plugin(
    spec: ExporterSpec, module: nn.Module, sample: Tensor, texts: Mapping[str, str], path: Path
) -> None:
    """Write a file with the exporter of a plugin.

    Raises:
        ModelError: if the exporter raises an error or writes no file.
    """
    try:
        spec.resolve()(model=module, sample=sample, texts=dict(texts), path=path)
    except ZooError:
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise any error
        raise ModelError(f"cannot write it ({one_line(error)})", where=_exporter_label(spec)) from error
    if not path.is_file():
        raise ModelError("wrote no file", where=_exporter_label(spec), hint="Tell the plugin's author")


def _exporter_label(spec: ExporterSpec) -> str:
    """Return the name of an exporter and its plugin for messages."""
    return f"{spec.label} of plugin {catalogue().exporters.provider(spec.name)}"


class PluginFile(BackendModule):
    """A file in a plugin's format, behind the interface of the model."""

    name = "plugin"

    def __init__(self, spec: ExporterSpec, path: Path) -> None:
        try:
            opened, texts = spec.resolve(spec.opener)(path)
        except ZooError:
            raise
        except Exception as error:  # a plugin may raise any error
            raise unreadable(path, error) from error
        self.metadata = ExportMetadata.from_texts(texts, path)
        classes = len(self.metadata.class_names)
        super().__init__(len(self.metadata.bands), classes, self.metadata.minimum_size)
        # Not registered as a submodule: it need not be a module.
        self._opened = (opened,)

    def compute(self, images: Tensor, logits: Tensor) -> None:
        with torch.inference_mode():
            logits.copy_(self._opened[0](images))


class TorchProgram(BackendModule):
    """A ``.pt2`` file, behind the interface of the model."""

    name = "torch.export"

    def __init__(self, path: Path) -> None:
        extra = {_METADATA_FILE: ""}
        try:
            program = torch.export.load(path, extra_files=extra)
            texts = json.loads(extra[_METADATA_FILE] or "{}")
        except Exception as error:  # zip, JSON and torch errors have no common base class
            raise unreadable(path, error) from error
        self.metadata = ExportMetadata.from_texts(texts, path)
        (output,) = program.graph_signature.user_outputs
        shape = next(node for node in program.graph.nodes if node.name == output).meta["val"].shape
        super().__init__(len(self.metadata.bands), int(shape[1]), self.metadata.minimum_size)
        # Not registered as a submodule: the module of a program does not support eval() and train().
        self._program = (program.module(),)

    def compute(self, images: Tensor, logits: Tensor) -> None:
        with torch.inference_mode():
            logits.copy_(self._program[0](images))


def open_exported(path: Path | str) -> tuple[BackendModule, ExportMetadata]:
    """Open a file that ``zoo export`` wrote.

    An OpenVINO file exported with bf16 precision runs in bf16.

    Args:
        path: the ``.onnx``, ``.xml`` or ``.pt2`` file.

    Returns:
        A module that maps float32 images ``(B, C, H, W)`` in the bands' units to the file's output, and the metadata.

    Raises:
        ResultError: if the file cannot be read, or was not written by ``zoo export``.
        ZooError: if the extra ``export`` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultError("there is no such file", where=path)
    module: BackendModule
    for spec in catalogue().exporters.match():
        if path.suffix == spec.suffix:
            opened = PluginFile(spec, path)
            return opened, opened.metadata
    if path.suffix == ".pt2":
        program = TorchProgram(path)
        return program, program.metadata
    if path.suffix == ".onnx":
        session = OnnxRuntimeModule.from_file(path)
        module, metadata = session, ExportMetadata.from_texts(session.metadata(), path)
    elif path.suffix == ".xml":
        metadata = ExportMetadata.from_texts(_openvino_texts(path), path)
        module = OpenVinoModule.from_file(path, precision="bf16" if metadata.precision == "bf16" else "fp32")
    else:
        raise ResultError("is not an exported file", where=path, hint="They end in " + ", ".join(suffixes().values()))
    module.minimum_size = metadata.minimum_size
    return module, metadata


def _openvino_texts(path: Path) -> dict[str, str]:
    openvino = require("openvino", "an OpenVINO file")
    try:
        network = openvino.Core().read_model(str(path))
    except Exception as error:  # OpenVINO's errors have no public base class
        raise unreadable(path, error) from error
    places = {key: ["zoo", key] for key in ExportMetadata.__dataclass_fields__}
    return {key: network.get_rt_info(place).astype(str) for key, place in places.items() if network.has_rt_info(place)}


class Bfloat16(nn.Module):
    """A predictor whose model runs in bf16; images, normalisation and logits stay float32."""

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = self.predictor(image)
        return logits.float()
