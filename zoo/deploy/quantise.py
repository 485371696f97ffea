"""Quantise graphs to int8 with ONNX Runtime, with float32 where int8 loses most accuracy, or convert them to float16.

Weights become int8 per output channel, but use only seven of the eight bits: a processor without VNNI adds two products
in 16 bits, which overflow with eight, and the same file would give other probabilities there (ONNX Runtime's page
"Quantize ONNX models" [S]). Inputs and outputs of convolutions become uint8 in the range seen on the calibration
patches. Without quantised outputs, ONNX Runtime has no eight-bit kernels, and OpenVINO computed a trained DRs-UNet
incorrectly. Everything else stays float32: normalisation, additions, concatenations and attention. ONNX Runtime and
OpenVINO both run such a graph with eight-bit kernels, so one quantiser serves both formats.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.deploy.backends import INPUT, open_session, quiet, require
from zoo.errors import ConfigError
from zoo.training.predictor import landslide_probability

if TYPE_CHECKING:
    import onnx

QUANTISED = ("Conv",)
RANKING_PATCHES = 4
"""Number of patches on which each convolution is quantised separately, to rank the convolutions by their loss."""
FLOAT_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the convolutions that stay in float32, tried in order; above one half int8 gains little."""


def eight_bit_graphs(graph: onnx.ModelProto, patches: Sequence[Tensor]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield graphs with ever fewer eight-bit convolutions, each with a note on what stays in float32.

    Args:
        graph: a float32 graph with one input and one output, logits or a probability.
        patches: float32 ``(C, H, W)`` in the units of the graph's input, all of one size.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: without patches, or for a graph without convolutions.
    """
    quantised = quantise(graph, patches)
    yield "", quantised
    order = _rank_by_loss(quantised, graph, patches[:RANKING_PATCHES])
    for share in FLOAT_SHARES:
        count = math.ceil(share * len(order))
        kept = f"the {count} of {len(order)} convolutions with the largest loss stay in float32"
        yield kept, keep_in_float(quantised, graph, order[:count])


def quantise(graph: onnx.ModelProto, patches: Sequence[Tensor]) -> onnx.ModelProto:
    """Return the graph with eight-bit convolutions.

    Args:
        graph: a float32 graph with one input.
        patches: float32 ``(C, H, W)`` in the units of the graph's input, all of one size; they give the ranges.

    Returns:
        A new graph with the same input and output; metadata are not copied.

    Raises:
        ZooError: if the extra ``export`` is not installed.
        ConfigError: without patches, or for a graph without convolutions.
    """
    quantization = require("onnxruntime.quantization", "int8")
    onnx_module = require("onnx", "int8")
    if not patches:
        raise ConfigError("int8 needs patches for calibration", hint="Name some with --data")
    if not _convolutions(graph):
        raise ConfigError("the model has no convolutions that could be int8", hint="Choose --precision fp32")
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # Pass a file: given a graph in memory, the quantiser saves it in parts that it cannot always find again.
        onnx_module.save(graph, given)
        quantization.quantize_static(
            given,
            written,
            _Patches(patches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantised: onnx.ModelProto = onnx_module.load(written)
    open_session(quantised.SerializeToString(), threads=1)
    return quantised


def keep_in_float(quantised: onnx.ModelProto, graph: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Return the quantised graph with the named convolutions back in float32.

    Args:
        quantised: a graph from :func:`quantise`.
        graph: the float32 graph that it was made from.
        names: node names of the convolutions.
    """
    mixed = copy.deepcopy(quantised)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    inputs = {node.name: node.input for node in graph.graph.node if node.name in names}
    added: set[str] = set()
    for node in mixed.graph.node:
        for place, name in enumerate(inputs.get(node.name, ())):
            # The node that dequantises a bias outputs it under the bias's name.
            node.input[place] = f"{name}_float" if name in weights else name
            if name in weights and name not in added:
                added.add(name)
                initializer = mixed.graph.initializer.add()
                initializer.CopyFrom(weights[name])
                initializer.name = f"{name}_float"
    _read_directly(mixed, names)
    _drop_unused(mixed)
    return mixed


def _read_directly(graph: onnx.ModelProto, names: Collection[str]) -> None:
    """Read the outputs of the named convolutions without rounding, except where another convolution reads them."""
    body = graph.graph
    given = {node.output[0]: node for node in body.node if node.name in names}
    rounded = {node.output[0]: node.input[0] for node in body.node if node.op_type == "QuantizeLinear"}
    # An output of the graph keeps its name, so the convolution takes over that name.
    for restored in [node for node in body.node if node.op_type == "DequantizeLinear"]:
        source = rounded.get(restored.input[0], "")
        if source in given and restored.output[0] in {value.name for value in body.output}:
            given[source].output[0] = restored.output[0]
            body.node.remove(restored)
    direct = {
        node.output[0]: rounded[node.input[0]]
        for node in body.node
        if node.op_type == "DequantizeLinear" and rounded.get(node.input[0]) in given
    }
    for node in body.node:
        if node.op_type not in QUANTISED or node.name in names:
            for place, name in enumerate(node.input):
                node.input[place] = direct.get(name, name)


def _convolutions(graph: onnx.ModelProto) -> list[str]:
    return [node.name for node in graph.graph.node if node.op_type in QUANTISED]


def _rank_by_loss(quantised: onnx.ModelProto, graph: onnx.ModelProto, patches: Sequence[Tensor]) -> list[str]:
    """Return the convolutions sorted by the change of the probability when only that one is quantised."""
    images = torch.stack(list(patches)).numpy()
    names = _convolutions(graph)

    def probability(one: onnx.ModelProto) -> Tensor:
        session = open_session(one.SerializeToString(), threads=torch.get_num_threads())
        return torch.stack(
            [landslide_probability(torch.from_numpy(session.run(None, {INPUT: image[None]})[0])) for image in images]
        )

    expected = probability(graph)
    loss = {
        name: float((probability(keep_in_float(quantised, graph, {*names} - {name})) - expected).abs().mean())
        for name in names
    }
    return sorted(names, key=loss.__getitem__, reverse=True)


def _drop_unused(graph: onnx.ModelProto) -> None:
    """Remove nodes and weights whose results are not used."""
    body = graph.graph
    needed = {value.name for value in body.output}
    for node in reversed(body.node):
        if needed & set(node.output):
            needed |= set(node.input)
    for node in [node for node in body.node if not needed & set(node.output)]:
        body.node.remove(node)
    for weight in [weight for weight in body.initializer if weight.name not in needed]:
        body.initializer.remove(weight)


class _Patches:
    """The calibration data reader of ONNX Runtime: one patch at a time."""

    def __init__(self, patches: Sequence[Tensor]) -> None:
        self._remaining = iter(patches)

    def get_next(self) -> dict[str, Any] | None:
        patch = next(self._remaining, None)
        return None if patch is None else {INPUT: patch[None].numpy()}


def half_precision(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with float16 weights and arithmetic; input, output and normalisation stay float32.

    In float16 an elevation of 3,000 m would be rounded to 2 m.
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
    """Remove pairs of casts from float32 to float16 and back, which the converter inserts."""
    from onnx import TensorProto
    from onnx.helper import get_node_attr_value

    casts = {node.output[0]: node for node in graph.graph.node if node.op_type == "Cast"}
    to = {name: get_node_attr_value(node, "to") for name, node in casts.items()}
    direct = {}
    for name, node in casts.items():
        producer = node.input[0]
        if to[name] == TensorProto.FLOAT and to.get(producer) == TensorProto.FLOAT16:
            direct[name] = casts[producer].input[0]
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            while name in direct:
                name = direct[name]
            node.input[place] = name
