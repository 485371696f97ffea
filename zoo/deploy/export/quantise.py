"""Eight-bit convolutions: ONNX Runtime's static quantisation, calibrated on patches.

Weights become int8 a channel, inputs of convolutions uint8 by the range that the patches show. The graph stays float32
outside: its normalisation, additions, concatenations and attention lose nothing. ONNX Runtime and OpenVINO both run
such a graph with eight-bit kernels, so one quantiser serves both formats.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zoo.deploy.backends import open_session
from zoo.deploy.extra import require
from zoo.deploy.onnx_graph import INPUT, quiet
from zoo.errors import ConfigError

if TYPE_CHECKING:
    import onnx

QUANTISED = ("Conv",)


def quantise(graph: onnx.ModelProto, patches: Sequence[Tensor], *, spare_ends: bool = False) -> onnx.ModelProto:
    """The graph with eight-bit convolutions.

    Args:
        graph: float32, with one input.
        patches: float32 ``(C, H, W)`` in the units of the graph's input, of one size; the ranges are taken from them.
        spare_ends: leave the first and the last convolution in float32, which lose most.

    Returns:
        Another graph of the same input and output; metadata are not copied.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: without patches, or for a graph without convolutions.
    """
    quantization = require("onnxruntime.quantization", "int8")
    onnx_module = require("onnx", "int8")
    if not patches:
        raise ConfigError("int8 needs patches to calibrate on", hint="Name some with --data")
    convolutions = [node.name for node in graph.graph.node if node.op_type in QUANTISED]
    if not convolutions:
        raise ConfigError("the model has no convolutions that could be int8", hint="Choose --precision fp32")
    spared = [convolutions[0], convolutions[-1]] if spare_ends else []
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # As a file: a graph in memory is saved by the quantiser in pieces that it cannot always find again.
        onnx_module.save(graph, given)
        quantization.quantize_static(
            given,
            written,
            _Patches(patches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=spared,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantised: onnx.ModelProto = onnx_module.load(written)
    open_session(quantised.SerializeToString(), threads=1)
    return quantised


class _Patches:
    """What ONNX Runtime asks for patches, one at a time."""

    def __init__(self, patches: Sequence[Tensor]) -> None:
        self._left = iter(patches)

    def get_next(self) -> dict[str, Any] | None:
        patch = next(self._left, None)
        return None if patch is None else {INPUT: patch[None].numpy()}


def half_precision(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 weights and arithmetic; input, output and normalisation stay float32.

    In float16 an elevation of 3,000 m would be known to 2 m alone.
    """
    float16 = require("onnxruntime.transformers.float16", "fp16")
    nodes = list(graph.graph.node)
    first = next((index for index, node in enumerate(nodes) if node.op_type in QUANTISED), 0)
    halved: onnx.ModelProto = float16.convert_float_to_float16(
        graph, keep_io_types=True, node_block_list=[node.name for node in nodes[:first]]
    )
    _drop_round_trips(halved)
    return halved


def _drop_round_trips(graph: onnx.ModelProto) -> None:
    """Read float32 values where they are, not after the converter's way to float16 and back."""
    from onnx import TensorProto
    from onnx.helper import get_node_attr_value

    casts = {node.output[0]: node for node in graph.graph.node if node.op_type == "Cast"}
    to = {name: get_node_attr_value(node, "to") for name, node in casts.items()}
    direct = {}
    for name, node in casts.items():
        there = node.input[0]
        if to[name] == TensorProto.FLOAT and to.get(there) == TensorProto.FLOAT16:
            direct[name] = casts[there].input[0]
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            while name in direct:
                name = direct[name]
            node.input[place] = name
