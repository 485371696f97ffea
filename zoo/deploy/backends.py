"""Export a model as an ONNX graph and run the graph with ONNX Runtime or OpenVINO."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.deploy.parity import difference
from zoo.errors import ConfigError, ModelError, ResultError, ZooError, first_line
from zoo.files import redirected

if TYPE_CHECKING:
    import onnx

INPUT = "image"
OUTPUT = "logits"
OPSET = 18
"""Default opset: read by ONNX Runtime >= 1.14 and OpenVINO >= 2023.0, and the lowest of torch's newer exporter."""
OPSETS = range(13, 21)
"""Supported opsets: from the first with per-channel quantisation to the last that torch's older exporter writes."""

BackendPrecision = Literal["fp32", "bf16"]


def require(module: str, purpose: str) -> Any:
    """Import a module of the extra ``export``.

    Args:
        module: full name, such as ``onnxruntime.quantization``.
        purpose: what needs the module, for the error message.

    Raises:
        ZooError: if the module is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise ZooError(
            f"{purpose} needs {missing}, which is not installed", hint="Run: pip install 'landslide-zoo[export]'"
        ) from error


# The ONNX graph.


def export_onnx(model: nn.Module, example: Tensor, *, opset: int = OPSET, dynamic: bool = True) -> onnx.ModelProto:
    """Return the model as an ONNX graph with one input, ``image``, and one output, ``logits``.

    torch's exporters trace the example. A model that pads to a multiple of its stride, traced at such a multiple,
    gives a graph without padding, which fails or is wrong at every other size. A model that takes any size is therefore
    traced at odd heights and widths, and the graph is run with ONNX Runtime at further sizes and compared with the
    model. torch's older exporter is tried first, because it takes a tenth of the time; the newer one supports
    operations that the older one lacks, such as SegNet's unpooling.

    Args:
        model: a model in eval mode that maps float32 ``(B, C, H, W)`` to one tensor of logits ``(B, K, H, W)``.
        example: float32 ``(B, C, H, W)`` on the model's device, with realistic values.
        opset: one of :data:`OPSETS`.
        dynamic: make batch, height and width dynamic. ``False`` fixes height and width to the example's, which lets a
            backend plan its memory.

    Returns:
        A graph with float32 weights that agrees with the model at every tested size.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: for an opset outside :data:`OPSETS`.
        ModelError: if the model is in training mode or does not map an image to a tensor, if an operation has no ONNX
            form, or if no graph agrees with the model.
    """
    onnx_module = require("onnx", "an ONNX graph")
    require("onnxruntime", "checking an ONNX graph")
    check_opset(opset)
    logits = reference_logits(model, example)
    sample = any_size_sample(model, example) if dynamic else example
    reasons = []
    for exporter in (_trace, _capture):
        try:
            with quiet():
                graph = exporter(model, sample, opset, dynamic)
        except Exception as error:  # exporters may raise any error of the libraries below them
            reasons.append(_export_failure(error))
            continue
        _name_dimensions(graph, logits.shape[1], None if dynamic else (example.shape[2], example.shape[3]))
        onnx_module.checker.check_model(graph)
        problem = _disagreement(graph, model, example, dynamic)
        if problem is None:
            return graph
        reasons.append(problem)
    raise ModelError(
        f"cannot be written as an ONNX graph of opset {opset}: {'; '.join(dict.fromkeys(reasons))}",
        where=type(model).__name__,
        hint="Replace the named operation, or export with --to torch-export",
    )


def check_opset(opset: int) -> None:
    """Check that an opset is supported.

    Raises:
        ConfigError: if it is not.
    """
    if opset not in OPSETS:
        word = "low" if opset < OPSETS.start else "high"
        raise ConfigError(
            f"opset {opset} is too {word}",
            hint=f"Choose one from {OPSETS.start} to {OPSETS.stop - 1}; {OPSET} is the default",
        )


def reference_logits(model: nn.Module, example: Tensor) -> Tensor:
    """Return the logits of ``example`` after checking that the model can be exported.

    Raises:
        ModelError: if it is in training mode, or does not map the example to a tensor ``(B, K, H, W)``.
    """
    where = type(model).__name__
    if model.training:
        raise ModelError(
            "is in training mode, where dropout is random and batch normalisation depends on the batch",
            where=where,
            hint="Call model.eval() first",
        )
    if example.ndim != 4 or example.dtype != torch.float32:
        raise ModelError(
            f"the example must be float32 of shape (batch, channels, height, width), not "
            f"{str(example.dtype).removeprefix('torch.')} of shape {tuple(example.shape)}",
            where=where,
        )
    with torch.inference_mode():
        logits = model(example)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"returns {type(logits).__name__}, not a tensor of logits",
            where=where,
            hint="Wrap it in a module that returns only the logits",
        )
    if logits.ndim != 4 or logits.shape[0] != example.shape[0] or logits.shape[2:] != example.shape[2:]:
        raise ModelError(
            f"returns logits of shape {tuple(logits.shape)} for images {tuple(example.shape)}; height and width "
            "must stay the same",
            where=where,
        )
    return logits


def any_size_sample(model: nn.Module, example: Tensor) -> Tensor:
    """Return two images for tracing, enlarged to odd heights and widths if the model takes them."""
    images = example[:2] if len(example) > 1 else example.expand(2, -1, -1, -1)
    height, width = example.shape[2:]
    odd = F.pad(images, (0, 3 - width % 2, 0, 1 + height % 2), mode="replicate")
    return odd if _accepts(model, odd) else images.contiguous()


def _accepts(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.inference_mode():
            model(images)
    except Exception:  # a model may raise anything for a size that it does not take
        return False
    return True


def _trace(model: nn.Module, sample: Tensor, opset: int, dynamic: bool) -> onnx.ModelProto:
    import onnx

    free = {0: "batch", 2: "height", 3: "width"} if dynamic else {0: "batch"}
    written: Any = io.BytesIO()  # torch's stubs accept only paths
    with _pooling_as_products():
        torch.onnx.export(
            model,
            (sample,),
            written,
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: free, OUTPUT: free},
        )
    return onnx.load_from_string(written.getvalue())


def _bins(length: int, count: int, like: Tensor) -> Tensor:
    """Return weights ``(count, length)`` that average into ``count`` bins, with the bin edges of torch's pooling."""
    place, number = torch.arange(length, device=like.device), torch.arange(count, device=like.device)[:, None]
    first = torch.div(number * length, count, rounding_mode="floor")
    last = torch.div((number + 1) * length + count - 1, count, rounding_mode="floor")
    inside = ((place >= first) & (place < last)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


@contextmanager
def _pooling_as_products() -> Iterator[None]:
    """Replace adaptive average pooling with two matrix products inside the ``with`` block.

    The older exporter does not support pooling whose bins depend on the image size, such as pyramid pooling.
    """
    pool = F.adaptive_avg_pool2d

    def pool_by_products(x: Tensor, output_size: Any) -> Tensor:
        height, width = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        if (height, width) == (1, 1) or None in (height, width):
            return pool(x, output_size)
        return _bins(x.shape[2], height, x) @ x @ _bins(x.shape[3], width, x).transpose(0, 1)

    F.adaptive_avg_pool2d = pool_by_products  # type: ignore[assignment]
    try:
        yield
    finally:
        F.adaptive_avg_pool2d = pool


def _capture(model: nn.Module, sample: Tensor, opset: int, dynamic: bool) -> onnx.ModelProto:
    free = torch.export.Dim.AUTO
    program = torch.onnx.export(
        model,
        (sample,),
        dynamo=True,
        opset_version=opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: free, 2: free, 3: free} if dynamic else {0: free},),
        verbose=False,
    )
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    written = {entry.domain: entry.version for entry in graph.opset_import}.get("", 0)
    if written != opset:
        raise ModelError(f"opset {opset} is too low for this model; the lowest is {written}")
    return graph


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the exporters' messages to developers; their results are checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            warnings.catch_warnings(),
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            redirected(nowhere.fileno(), 1, 2),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _export_failure(error: Exception) -> str:
    text = str(error)
    # Both exporters hide the name of the operation in paragraphs of text.
    operation = re.search(r"(?:aten|torchvision|prims|zoo\w*)::?[\w.]*\w", text) or re.search(r"aten\.\w+", text)
    if (operation is not None and "nsupported" in text + type(error).__name__) or "No ONNX function" in text:
        return f"operation {operation.group() if operation else 'unknown'} is not supported"
    line = first_line(error)
    return line if isinstance(error, ModelError) else f"{type(error).__name__}: {line}"


def _name_dimensions(graph: onnx.ModelProto, classes: int, size: tuple[int, int] | None) -> None:
    (image,), (logits,) = graph.graph.input, graph.graph.output
    for value, channels in ((image, None), (logits, classes)):
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_param = "batch"
        if channels is not None:
            dimensions[1].dim_value = channels
        for place, name, pixels in ((2, "height", 0), (3, "width", 1)):
            if size is None:
                dimensions[place].dim_param = name
            else:
                dimensions[place].dim_value = size[pixels]


def _disagreement(graph: onnx.ModelProto, model: nn.Module, example: Tensor, dynamic: bool) -> str | None:
    """Return how the graph differs from the model; ``None`` if they agree at every tested size."""
    session = open_session(graph.SerializeToString(), threads=torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    spread, centre = torch.std_mean(torch.nan_to_num(example).cpu(), dim=(0, 2, 3), keepdim=True, correction=0)
    for batch, height, width in _sizes_to_compare(model, example) if dynamic else [(1, *example.shape[2:])]:
        shape = (batch, example.shape[1], height, width)
        images = centre + spread * torch.randn(shape, generator=generator)
        with torch.inference_mode():
            expected = model(images.to(example.device)).cpu()
        try:
            (written,) = session.run([OUTPUT], {INPUT: images.numpy()})
        except Exception as error:  # ONNX Runtime's errors have no public base class
            return f"the graph fails at {height}x{width} pixels ({first_line(error)})"
        logits = torch.from_numpy(written)
        if logits.shape != expected.shape:
            return f"the graph returns {tuple(logits.shape)}, not {tuple(expected.shape)}, at {height}x{width} pixels"
        found = difference(logits, expected, "fp32")
        if not found.passed:
            return f"the graph differs by {found.largest:.2g} of the largest logit at {height}x{width} pixels"
    return None


def _sizes_to_compare(model: nn.Module, example: Tensor) -> list[tuple[int, int, int]]:
    """Return ``(batch, height, width)`` to compare, from the minimum size of the model: even, odd and elongated."""
    accepts: Callable[..., bool] = lambda *size: _accepts(model, example.new_zeros(1, example.shape[1], *size))  # noqa: E731
    side = next((side for side in (32, 64, 128) if accepts(side, side)), None)
    if side is None:
        return [(1, example.shape[2], example.shape[3])]
    sizes = [(1, side, side), (3, 2 * side, side), (1, side + 1, side + 29), (2, 2 * side + 3, side)]
    return [size for size in sizes if accepts(*size[1:])]


# Running a graph.


class BackendModule(nn.Module):
    """Base class of the backends, which run on the CPU without gradients and hold no parameters.

    Args:
        in_channels: number of bands.
        classes: number of channels of the logits.
        minimum_size: smallest height and width; a graph also computes smaller images, but the result is not a
            prediction.

    Shape:
        float32 ``(B, in_channels, H, W)`` on the CPU -> float32 logits ``(B, classes, H, W)``, for any B.
    """

    name = "backend"

    def __init__(self, in_channels: int, classes: int, minimum_size: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.classes = classes
        self.minimum_size = minimum_size
        self.eval()

    def compute(self, images: Tensor, logits: Tensor) -> None:
        """Write the logits of ``images`` into ``logits``; both are contiguous."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of ``x`` without a gradient; a contiguous tensor is not copied.

        Raises:
            ModelError: for invalid input, in training mode, or if the backend fails, for example on a size that the
                model does not take.
        """
        if self.training:
            raise ModelError(f"{self.name} cannot train", where=type(self).__name__, hint="Call eval() first")
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.dtype != torch.float32 or x.device.type != "cpu":
            raise ModelError(
                f"expected float32 images of shape (batch, {self.in_channels}, height, width) on the CPU, got "
                f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)} on {x.device.type}",
                where=type(self).__name__,
            )
        if min(x.shape[2:]) < self.minimum_size:
            raise ModelError(
                f"needs images of at least {self.minimum_size}x{self.minimum_size} pixels, got "
                f"{x.shape[2]}x{x.shape[3]}",
                where=type(self).__name__,
                hint="Use larger images or pad them",
            )
        logits = torch.empty((x.shape[0], self.classes, *x.shape[2:]))
        if x.shape[0]:
            try:
                self.compute(x.detach().contiguous(), logits)
            except Exception as error:  # the errors of the backends have no public base class
                raise ModelError(
                    f"{self.name} cannot compute images of {x.shape[2]}x{x.shape[3]} pixels ({first_line(error)})",
                    where=type(self).__name__,
                    hint="Use a size that the model takes",
                ) from error
        return logits


class ModelBackend(BackendModule):
    """A backend that runs the graph of a model.

    Args:
        model: a model in eval mode; see :func:`export_onnx`.
        example: float32 ``(B, C, H, W)``.
        precision: number format to compute in.
        dynamic: accept any size; ``False`` accepts only the height and width of the example.
        graph: the model's graph, if it exists already.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: for a precision that the backend lacks.
        ModelError: if the model cannot be exported.
    """

    package = ""
    precisions: tuple[BackendPrecision, ...] = ("fp32",)

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        precision: BackendPrecision = "fp32",
        dynamic: bool = True,
        graph: Any = None,
    ) -> None:
        if precision not in self.precisions:
            raise ConfigError(f"{self.name} computes in {' and '.join(self.precisions)} on the CPU, not in {precision}")
        require(self.package, self.name)
        super().__init__(example.shape[1], reference_logits(model, example[:1]).shape[1], minimum_size_of(model))
        graph = export_onnx(model, example, dynamic=dynamic) if graph is None else graph
        self._open(graph.SerializeToString(), precision)

    def _open(self, graph: bytes, precision: BackendPrecision) -> None:
        raise NotImplementedError


_EXTERNAL_DATA = b"\x0a\x08location\x12"
"""Protobuf encoding of the key with which a tensor refers to an external data file, which may be any file on disk."""


class OnnxRuntimeModule(ModelBackend):
    """A model run by ONNX Runtime on the CPU, with as many threads as torch uses.

    Input and output share the memory of the tensors. ``precision`` is ``fp32``: ONNX Runtime has no bfloat16
    convolutions on the CPU. See :class:`ModelBackend`.
    """

    name, package = "ONNX Runtime", "onnxruntime"

    def _open(self, graph: bytes, precision: BackendPrecision) -> None:
        self._session = open_session(graph, threads=torch.get_num_threads())

    @classmethod
    def from_file(cls, path: Path, *, minimum_size: int = 1) -> OnnxRuntimeModule:
        """Open an ONNX file with one input ``(B, C, H, W)`` and one output ``(B, K, H, W)``.

        Raises:
            ZooError: if the extra ``export`` is not installed.
            ResultError: if the file cannot be read.
        """
        module = cls.__new__(cls)
        try:
            graph = path.read_bytes()
            if _EXTERNAL_DATA in graph:
                raise ResultError(
                    "keeps its weights in another file, which is not opened",
                    where=path,
                    hint="Save the model with its weights inside, as zoo export does",
                )
            session = open_session(graph, threads=torch.get_num_threads())
        except ZooError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise unreadable(path, error) from error
        BackendModule.__init__(
            module, session.get_inputs()[0].shape[1], session.get_outputs()[0].shape[1], minimum_size
        )
        module._session = session
        return module

    def compute(self, images: Tensor, logits: Tensor) -> None:
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        binding = self._session.io_binding()
        float32 = images.numpy().dtype.type
        binding.bind_input(image.name, "cpu", 0, float32, tuple(images.shape), images.data_ptr())
        binding.bind_output(output.name, "cpu", 0, float32, tuple(logits.shape), logits.data_ptr())
        self._session.run_with_iobinding(binding)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the graph by key."""
        return dict(self._session.get_modelmeta().custom_metadata_map)


class OpenVinoModule(ModelBackend):
    """A model run by OpenVINO on the CPU, with as many threads as torch uses.

    Input and output share the memory of the tensors. ``precision`` is ``fp32``, or ``bf16`` where the processor has it;
    the logits are float32 in either case. See :class:`ModelBackend`.
    """

    name, package, precisions = "OpenVINO", "openvino", ("fp32", "bf16")

    def _open(self, graph: bytes, precision: BackendPrecision) -> None:
        core = require("openvino", self.name).Core()
        self._compile(core, core.read_model(graph), precision)

    def _compile(self, core: Any, network: Any, precision: BackendPrecision) -> None:
        options = _openvino_options(precision, torch.get_num_threads())
        self._compiled = partial(core.compile_model, network, "CPU", options)
        self._threads = threading.local()
        self._threads.request = self._compiled().create_infer_request()
        self._tensor = require("openvino", self.name).Tensor

    @classmethod
    def from_file(cls, path: Path, *, precision: BackendPrecision = "fp32", minimum_size: int = 1) -> OpenVinoModule:
        """Open an OpenVINO ``.xml`` file (with its ``.bin`` in the same folder) with one input and one output.

        Raises:
            ZooError: if the extra ``export`` is not installed.
            ResultError: if the files cannot be read.
        """
        openvino = require("openvino", cls.name)
        module = cls.__new__(cls)
        core = openvino.Core()
        try:
            network = core.read_model(str(path))
        except Exception as error:  # OpenVINO's errors have no public base class
            raise unreadable(path, error) from error
        channels = network.input(0).get_partial_shape()[1].get_length()
        classes = network.output(0).get_partial_shape()[1].get_length()
        BackendModule.__init__(module, channels, classes, minimum_size)
        module._compile(core, network, precision)
        return module

    def compute(self, images: Tensor, logits: Tensor) -> None:
        # An inference request is not thread-safe, and the requests of one compiled model wait for each other.
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._compiled().create_infer_request()
        request.set_input_tensor(self._tensor(images.numpy(), shared_memory=True))
        request.set_output_tensor(self._tensor(logits.numpy(), shared_memory=True))
        request.infer()


def minimum_size_of(model: nn.Module) -> int:
    """Return the minimum height and width of a zoo model, wrapped or not; 1 if it declares none."""
    return max((int(getattr(part, "minimum_size", 1)) for part in model.modules()), default=1)


def unreadable(path: Path, error: Exception) -> ResultError:
    """Return the error for an exported file that its library cannot read."""
    return ResultError(f"cannot be read ({first_line(error)})", where=path, hint="Was it truncated? Export it again")


def open_session(graph: bytes, *, threads: int) -> Any:
    """Open an ONNX Runtime session on the CPU.

    Args:
        graph: a serialised model.
        threads: threads per operation; operations run one after another.
    """
    onnxruntime = require("onnxruntime", "ONNX Runtime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; do not also print them
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _openvino_options(precision: BackendPrecision, threads: int) -> dict[str, object]:
    """Return the options of a compiled model.

    The precision is always set, because OpenVINO uses bf16 by default on processors that support it.

    Raises:
        ConfigError: if the precision is neither fp32 nor bf16.
    """
    names = {"fp32": "f32", "bf16": "bf16"}
    if precision not in names:
        raise ConfigError(f"OpenVINO computes in fp32 or bf16, not in {precision}")
    return {
        "INFERENCE_PRECISION_HINT": names[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # Models that run in parallel would be pinned to the same core.
        "ENABLE_CPU_PINNING": False,
    }
