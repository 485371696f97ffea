"""A model run by ONNX Runtime or OpenVINO behind the interface of the model: a float32 tensor in, logits out."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.deploy.extra import require
from zoo.deploy.onnx_graph import export_onnx, reference_logits
from zoo.errors import ConfigError, ModelError, ResultError, ZooError

BackendPrecision = Literal["fp32", "bf16"]


class BackendModule(nn.Module):
    """What both backends have in common: they compute on the CPU, give no gradients and hold no parameters.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        minimum_size: smallest height and width; a graph computes something of smaller images too, which is no
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
        """Fill ``logits`` from ``images``, both contiguous."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, without a gradient; a contiguous tensor is read where it lies.

        Raises:
            ModelError: for input that the model was not made for, in training mode, or if the backend fails, which
                it does for a size that the model does not take.
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
                hint="Use larger patches or pad them",
            )
        logits = torch.empty((x.shape[0], self.classes, *x.shape[2:]))
        if x.shape[0]:
            try:
                self.compute(x.detach().contiguous(), logits)
            except Exception as error:  # the errors of the backends share no public base class
                reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
                raise ModelError(
                    f"{self.name} cannot compute images of {x.shape[2]}x{x.shape[3]} pixels ({reason[:200]})",
                    where=type(self).__name__,
                    hint="Use a size that the model takes",
                ) from error
        return logits


class OnnxRuntimeModule(BackendModule):
    """A model run by ONNX Runtime on the CPU, with as many threads as torch has.

    Input and output are bound to the tensors' own memory: nothing is copied but input that is not contiguous.

    Args:
        model: in eval mode; see :func:`zoo.deploy.onnx_graph.export_onnx`.
        example: float32 ``(B, C, H, W)``.
        precision: fp32; ONNX Runtime has no bfloat16 convolutions on the CPU.
        dynamic: any size; False takes images of the example's height and width alone.
        graph: the model's graph where it is known already.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: for another precision.
        ModelError: if the model cannot be exported.
    """

    name = "ONNX Runtime"

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        precision: BackendPrecision = "fp32",
        dynamic: bool = True,
        graph: Any = None,
    ) -> None:
        if precision != "fp32":
            raise ConfigError(f"ONNX Runtime computes in fp32 on the CPU, not in {precision}")
        require("onnxruntime", self.name)
        super().__init__(example.shape[1], reference_logits(model, example[:1]).shape[1], smallest_side(model))
        graph = export_onnx(model, example, dynamic=dynamic) if graph is None else graph
        self._session = open_session(graph.SerializeToString(), threads=torch.get_num_threads())

    @classmethod
    def from_file(cls, path: Path, *, minimum_size: int = 1) -> OnnxRuntimeModule:
        """The model of an ONNX file with one input ``(B, C, H, W)`` and one output ``(B, K, H, W)``.

        Raises:
            ZooError: if the extra ``export`` is not installed.
            ResultError: if the file cannot be read.
        """
        module = cls.__new__(cls)
        try:
            session = open_session(path.read_bytes(), threads=torch.get_num_threads())
        except ZooError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no public base class
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
        """The texts that the graph carries, by key."""
        return dict(self._session.get_modelmeta().custom_metadata_map)


class OpenVinoModule(BackendModule):
    """A model run by OpenVINO on the CPU, with as many threads as torch has.

    Input and output are bound to the tensors' own memory: nothing is copied but input that is not contiguous.

    Args:
        model: in eval mode; see :func:`zoo.deploy.onnx_graph.export_onnx`.
        example: float32 ``(B, C, H, W)``.
        precision: fp32, or bf16 where the processor has it; the logits are float32 in either.
        dynamic: any size; False takes images of the example's height and width alone.
        graph: the model's graph where it is known already.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: for another precision.
        ModelError: if the model cannot be exported.
    """

    name = "OpenVINO"

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        precision: BackendPrecision = "fp32",
        dynamic: bool = True,
        graph: Any = None,
    ) -> None:
        openvino = require("openvino", self.name)
        super().__init__(example.shape[1], reference_logits(model, example[:1]).shape[1], smallest_side(model))
        graph = export_onnx(model, example, dynamic=dynamic) if graph is None else graph
        core = openvino.Core()
        self._compile(core, core.read_model(graph.SerializeToString()), precision)

    def _compile(self, core: Any, network: Any, precision: BackendPrecision) -> None:
        options = openvino_options(precision, torch.get_num_threads())
        self._compiled = partial(core.compile_model, network, "CPU", options)
        self._threads = threading.local()
        self._threads.request = self._compiled().create_infer_request()
        self._tensor = require("openvino", self.name).Tensor

    @classmethod
    def from_file(cls, path: Path, *, precision: BackendPrecision = "fp32", minimum_size: int = 1) -> OpenVinoModule:
        """The model of an OpenVINO ``.xml``, whose ``.bin`` lies beside it, with one input and one output.

        Raises:
            ZooError: if the extra ``export`` is not installed.
            ResultError: if the files cannot be read.
        """
        openvino = require("openvino", cls.name)
        module = cls.__new__(cls)
        core = openvino.Core()
        try:
            network = core.read_model(str(path))
        except Exception as error:  # OpenVINO's errors share no public base class
            raise unreadable(path, error) from error
        channels = network.input(0).get_partial_shape()[1].get_length()
        classes = network.output(0).get_partial_shape()[1].get_length()
        BackendModule.__init__(module, channels, classes, minimum_size)
        module._compile(core, network, precision)
        return module

    def compute(self, images: Tensor, logits: Tensor) -> None:
        # A request serves one thread, and those of one compiled model wait for each other.
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._compiled().create_infer_request()
        request.set_input_tensor(self._tensor(images.numpy(), shared_memory=True))
        request.set_output_tensor(self._tensor(logits.numpy(), shared_memory=True))
        request.infer()


def smallest_side(model: nn.Module) -> int:
    """Smallest height and width that a model of the zoo takes, itself or inside a wrapper; 1 where none says so."""
    return max((int(getattr(part, "minimum_size", 1)) for part in model.modules()), default=1)


def unreadable(path: Path, error: Exception) -> ResultError:
    """The error for an exported file that its library cannot read."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return ResultError(f"cannot be read ({reason[:200]})", where=path, hint="Was it cut short? Export it again")


def open_session(graph: bytes, *, threads: int) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        graph: a serialised model.
        threads: of one operation; operations run one after another.
    """
    onnxruntime = require("onnxruntime", "ONNX Runtime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a refused size is raised; printing it too would be the second time
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def openvino_options(precision: BackendPrecision, threads: int) -> dict[str, object]:
    """Options of a compiled model on the CPU.

    The precision is always named: OpenVINO takes bf16 by itself on processors that have it.

    Raises:
        ConfigError: for another precision than fp32 and bf16.
    """
    names = {"fp32": "f32", "bf16": "bf16"}
    if precision not in names:
        raise ConfigError(f"OpenVINO computes in fp32 or bf16, not in {precision}")
    return {
        "INFERENCE_PRECISION_HINT": names[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # Models that run beside each other would be pinned to the same core.
        "ENABLE_CPU_PINNING": False,
    }
