"""A model run by ONNX Runtime or OpenVINO behind the interface of the model: a float32 tensor in, logits out."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.deploy.extra import require
from zoo.deploy.onnx_graph import INPUT, OUTPUT, export_onnx, reference_logits
from zoo.errors import ConfigError, ModelError

BackendPrecision = Literal["fp32", "bf16"]


class BackendModule(nn.Module):
    """What both backends have in common: they compute on the CPU, give no gradients and hold no parameters.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.

    Shape:
        float32 ``(B, in_channels, H, W)`` on the CPU -> float32 logits ``(B, classes, H, W)``, for any B.
    """

    name = "backend"

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.classes = classes
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
        super().__init__(example.shape[1], reference_logits(model, example[:1]).shape[1])
        graph = export_onnx(model, example, dynamic=dynamic) if graph is None else graph
        self._session = open_session(graph.SerializeToString(), threads=torch.get_num_threads())

    def compute(self, images: Tensor, logits: Tensor) -> None:
        binding = self._session.io_binding()
        float32 = images.numpy().dtype.type
        binding.bind_input(INPUT, "cpu", 0, float32, tuple(images.shape), images.data_ptr())
        binding.bind_output(OUTPUT, "cpu", 0, float32, tuple(logits.shape), logits.data_ptr())
        self._session.run_with_iobinding(binding)


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
        super().__init__(example.shape[1], reference_logits(model, example[:1]).shape[1])
        graph = export_onnx(model, example, dynamic=dynamic) if graph is None else graph
        core = openvino.Core()
        network = core.read_model(graph.SerializeToString())
        options = openvino_options(precision, torch.get_num_threads())
        self._compile = partial(core.compile_model, network, "CPU", options)
        self._threads = threading.local()
        self._threads.request = self._compile().create_infer_request()
        self._tensor = openvino.Tensor

    def compute(self, images: Tensor, logits: Tensor) -> None:
        # A request serves one thread, and those of one compiled model wait for each other.
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._compile().create_infer_request()
        request.set_input_tensor(self._tensor(images.numpy(), shared_memory=True))
        request.set_output_tensor(self._tensor(logits.numpy(), shared_memory=True))
        request.infer()


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
