"""Writing a model in each format, and opening it again as its users would."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.deploy.backends import BackendModule, OnnxRuntimeModule, OpenVinoModule, unreadable
from zoo.deploy.export.description import KEYS, read_facts
from zoo.deploy.extra import require
from zoo.errors import ConfigError, ModelError, ResultError
from zoo.files import unwritable

if TYPE_CHECKING:
    import onnx

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Of the file that is named; OpenVINO keeps its weights in a ``.bin`` beside it."""
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch-export": ("fp32", "bf16"),
}
_FACTS = "zoo.json"


def check_format(to: str, path: Path, precision: str) -> None:
    """Refuse a format that does not exist, a file that is not called as it should be, or a precision that it lacks.

    Raises:
        ConfigError: naming what there is.
    """
    if to not in SUFFIXES:
        raise ConfigError(f"unknown format {to!r}", hint="Choose one of " + ", ".join(SUFFIXES))
    if path.suffix != SUFFIXES[to]:
        raise ConfigError(f"a file of format {to} ends in {SUFFIXES[to]}", where=path, hint="Name it so")
    if precision not in PRECISIONS[to]:
        raise ConfigError(
            f"{precision} is not to be had in format {to}", hint="Choose one of " + ", ".join(PRECISIONS[to])
        )


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a hidden folder beside ``path``; publish what was written there at the end.

    On an error, Ctrl-C included, nothing of it stays, and ``path`` is as it was.

    Raises:
        ZooError: if the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}-"))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield folder / path.name
        _publish(folder, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, path: Path) -> None:
    written = sorted(folder.iterdir(), key=lambda one: one.name == path.name)
    umask = os.umask(0)
    os.umask(umask)
    for one in written:
        with one.open("rb+") as file:
            os.fsync(file.fileno())
        one.chmod(0o666 & ~umask)
    if len(written) > 1:
        # Between the two renames a reader must not find the old file with the new weights.
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
    """Write OpenVINO's ``.xml`` and ``.bin``, the metadata in the former's ``rt_info`` under ``zoo``."""
    openvino = require("openvino", "an OpenVINO file")
    network = openvino.Core().read_model(graph.SerializeToString())
    for key, text in texts.items():
        network.set_rt_info(text, ["zoo", key])
    openvino.save_model(network, str(path), compress_to_fp16=half)


def write_torch_export(module: nn.Module, sample: Tensor, texts: Mapping[str, str], path: Path) -> None:
    """Write a ``torch.export`` program with free batch, height and width.

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
    except Exception as error:  # torch.export raises whatever it stumbles over
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ModelError(
            f"cannot be captured by torch.export ({type(error).__name__}: {reason[:200]})",
            where=type(module).__name__,
            hint="Its forward may depend on values or sizes; try --to onnx",
        ) from error
    torch.export.save(program, path, extra_files={_FACTS: json.dumps(dict(texts))})


class TorchProgram(BackendModule):
    """A ``.pt2`` file behind the interface of the model."""

    name = "torch.export"

    def __init__(self, path: Path) -> None:
        facts = {_FACTS: ""}
        try:
            program = torch.export.load(path, extra_files=facts)
            texts = json.loads(facts[_FACTS] or "{}")
        except Exception as error:  # zip, JSON and torch errors share no base class
            raise unreadable(path, error) from error
        known = read_facts(texts, path)
        (output,) = program.graph_signature.user_outputs
        shape = next(node for node in program.graph.nodes if node.name == output).meta["val"].shape
        super().__init__(len(known["bands"]), int(shape[1]), known["minimum_size"])
        self.texts: dict[str, str] = texts
        # Not a child: the module of a program refuses eval() and train().
        self._program = (program.module(),)

    def compute(self, images: Tensor, logits: Tensor) -> None:
        with torch.inference_mode():
            logits.copy_(self._program[0](images))


def open_exported(path: Path | str) -> tuple[BackendModule, dict[str, Any]]:
    """A file that ``zoo export`` wrote, as a module, and what it says about itself.

    An OpenVINO file made for bf16 is computed in it.

    Args:
        path: of the ``.onnx``, ``.xml`` or ``.pt2``.

    Returns:
        A module that maps float32 images ``(B, C, H, W)`` in units to the file's output, and the facts by key.

    Raises:
        ResultError: if the file cannot be read, or was not written by ``zoo export``.
        ZooError: if the extra ``export`` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultError("there is no such file", where=path)
    module: BackendModule
    if path.suffix == ".pt2":
        module = TorchProgram(path)
        return module, read_facts(module.texts, path)
    if path.suffix == ".onnx":
        module = OnnxRuntimeModule.from_file(path)
        facts = read_facts(module.metadata(), path)
    elif path.suffix == ".xml":
        facts = read_facts(_openvino_texts(path), path)
        module = OpenVinoModule.from_file(path, precision="bf16" if facts["precision"] == "bf16" else "fp32")
    else:
        raise ResultError("is no exported file", where=path, hint="They end in " + ", ".join(SUFFIXES.values()))
    module.minimum_size = facts["minimum_size"]
    return module, facts


def _openvino_texts(path: Path) -> dict[str, str]:
    openvino = require("openvino", "an OpenVINO file")
    try:
        network = openvino.Core().read_model(str(path))
    except Exception as error:  # OpenVINO's errors share no public base class
        raise unreadable(path, error) from error
    places = {key: ["zoo", key] for key in KEYS}
    return {key: network.get_rt_info(place).astype(str) for key, place in places.items() if network.has_rt_info(place)}


class Bfloat16(nn.Module):
    """A predictor whose model computes in bf16; images, normalisation and logits stay float32."""

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = self.predictor(image)
        return logits.float()
