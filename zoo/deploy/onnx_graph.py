"""The ONNX graph of a model, for any batch and any size, checked at sizes other than its example's."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.deploy.extra import require
from zoo.deploy.parity import difference
from zoo.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import onnx

INPUT = "image"
OUTPUT = "logits"
OPSET = 18
"""Default. ONNX Runtime reads it since 1.14, OpenVINO since 2023.0; torch's newer exporter writes none below."""
OPSETS = range(13, 21)
"""From the first with per-channel quantisation to the last that torch's faster exporter writes."""


def export_onnx(model: nn.Module, example: Tensor, *, opset: int = OPSET, dynamic: bool = True) -> onnx.ModelProto:
    """The model as an ONNX graph with one input, ``image``, and one output, ``logits``.

    torch's exporters follow the example: a model that pads to a multiple of its stride, traced at such a multiple,
    gives a graph without padding that is wrong, or fails, at every other size. So a model that takes any size is
    traced at one that is no multiple of anything, and the graph is run with ONNX Runtime at further sizes against
    the model. torch's older exporter is tried first, which takes a tenth of the time; the newer one writes what the
    older cannot, such as SegNet's unpooling.

    Args:
        model: in eval mode; maps float32 ``(B, C, H, W)`` to one tensor of logits ``(B, K, H, W)``.
        example: float32 ``(B, C, H, W)`` on the model's device, of values as the model will see them.
        opset: one of :data:`OPSETS`.
        dynamic: batch, height and width are free; False fixes height and width as the example has them, which lets a
            backend plan its memory.

    Returns:
        A graph that is right at every size that the model takes and that was tried; weights are float32.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: for an opset outside :data:`OPSETS`.
        ModelError: if the model is in training mode or does not map an image to a tensor, if it holds an operation
            that has no ONNX form, or if no graph agrees with it, with the difference.
    """
    onnx_module = require("onnx", "an ONNX graph")
    require("onnxruntime", "checking an ONNX graph")
    check_opset(opset)
    logits = reference_logits(model, example)
    where = type(model).__name__
    sample = free_sample(model, example) if dynamic else example
    reasons = []
    for exporter in (_trace, _capture):
        try:
            with quiet():
                graph = exporter(model, sample, opset, dynamic)
        except Exception as error:  # exporters raise whatever the library below them raises
            reasons.append(_reason(error))
            continue
        _name_dimensions(graph, logits.shape[1], None if dynamic else (example.shape[2], example.shape[3]))
        onnx_module.checker.check_model(graph)
        problem = _disagreement(graph, model, example, dynamic)
        if problem is None:
            return graph
        reasons.append(problem)
    raise ModelError(
        f"has no ONNX graph of opset {opset}: {'; '.join(dict.fromkeys(reasons))}",
        where=where,
        hint="Replace the operation that is named, or export with --to torch-export",
    )


def check_opset(opset: int) -> None:
    """Refuse an opset that cannot be written.

    Raises:
        ConfigError: naming those that can.
    """
    if opset not in OPSETS:
        word = "low" if opset < OPSETS.start else "high"
        raise ConfigError(
            f"opset {opset} is too {word}",
            hint=f"Choose one from {OPSETS.start} to {OPSETS.stop - 1}; {OPSET} is usual",
        )


def reference_logits(model: nn.Module, example: Tensor) -> Tensor:
    """The logits of ``example``, after checking that the model is one that can be exported.

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
            hint="Wrap it in a module that returns the logits alone",
        )
    if logits.ndim != 4 or logits.shape[0] != example.shape[0] or logits.shape[2:] != example.shape[2:]:
        raise ModelError(
            f"returns logits of shape {tuple(logits.shape)} for images {tuple(example.shape)}; height and width "
            "must stay",
            where=where,
        )
    return logits


def free_sample(model: nn.Module, example: Tensor) -> Tensor:
    """What to trace a model of any size with: two images, grown to odd sides where the model takes that."""
    images = example[:2] if len(example) > 1 else example.expand(2, -1, -1, -1)
    height, width = example.shape[2:]
    odd = F.pad(images, (0, 3 - width % 2, 0, 1 + height % 2), mode="replicate")
    return odd if _takes(model, odd) else images.contiguous()


def _takes(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.inference_mode():
            model(images)
    except Exception:  # a model may refuse a size in any way it likes
        return False
    return True


def _trace(model: nn.Module, sample: Tensor, opset: int, dynamic: bool) -> onnx.ModelProto:
    import onnx

    free = {0: "batch", 2: "height", 3: "width"} if dynamic else {0: "batch"}
    written: Any = io.BytesIO()  # torch's stubs know paths alone
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
        raise ModelError(f"opset {opset} is too low for it; the lowest is {written}")
    return graph


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters' remarks for developers away from users; what matters is checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    text = str(error)
    # Both exporters bury the name of the operation in paragraphs.
    operation = re.search(r"(?:aten|torchvision|prims|zoo\w*)::?[\w.]*\w", text) or re.search(r"aten\.\w+", text)
    if (operation is not None and "nsupported" in text + type(error).__name__) or "No ONNX function" in text:
        return f"operation {operation.group() if operation else 'unknown'} is not supported"
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if isinstance(error, ModelError) else f"{type(error).__name__}: {line[:200]}"


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
    from zoo.deploy.backends import open_session

    session = open_session(graph.SerializeToString(), threads=torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    spread, centre = torch.std_mean(torch.nan_to_num(example).cpu(), dim=(0, 2, 3), keepdim=True, correction=0)
    for batch, height, width in _probes(model, example) if dynamic else [(1, *example.shape[2:])]:
        shape = (batch, example.shape[1], height, width)
        images = centre + spread * torch.randn(shape, generator=generator)
        with torch.inference_mode():
            expected = model(images.to(example.device)).cpu()
        try:
            (written,) = session.run([OUTPUT], {INPUT: images.numpy()})
        except Exception as error:  # ONNX Runtime's errors share no public base class
            return f"the graph fails at {height}x{width} pixels ({str(error).splitlines()[0][:200]})"
        logits = torch.from_numpy(written)
        if logits.shape != expected.shape:
            return f"the graph gives {tuple(logits.shape)}, not {tuple(expected.shape)}, at {height}x{width} pixels"
        found = difference(logits, expected, "fp32")
        if not found.passed:
            return f"the graph differs by {found.largest:.2g} of the largest logit at {height}x{width} pixels"
    return None


def _probes(model: nn.Module, example: Tensor) -> list[tuple[int, int, int]]:
    """Batches and sizes to compare at, from the smallest that the model takes: even ones, odd ones, long ones."""
    takes: Callable[..., bool] = lambda *size: _takes(model, example.new_zeros(1, example.shape[1], *size))  # noqa: E731
    side = next((side for side in (32, 64, 128) if takes(side, side)), None)
    if side is None:
        return [(1, example.shape[2], example.shape[3])]
    sizes = [(1, side, side), (3, 2 * side, side), (1, side + 1, side + 29), (2, 2 * side + 3, side)]
    return [size for size in sizes if takes(*size[1:])]
