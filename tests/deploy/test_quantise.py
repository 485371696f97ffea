"""Less precision inside the graph, and none lost where it would hurt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from zoo.deploy.backends import INPUT, OUTPUT, export_onnx, open_session
from zoo.deploy.quantise import eight_bit_graphs, half_precision, keep_in_float, quantise
from zoo.errors import ConfigError
from zoo.training.predictor import Predictor


@pytest.fixture
def high_ground() -> Predictor:
    """A model of elevations around 3,000 m that differ by tens of metres."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    return Predictor(layers, [3000.0], [10.0]).eval()


def images(count: int) -> Tensor:
    return 3000 + 10 * torch.randn(count, 1, 48, 48, generator=torch.Generator().manual_seed(count))


def difference(graph: object, model: nn.Module) -> float:
    session = open_session(graph.SerializeToString(), threads=1)  # type: ignore[attr-defined]
    given = images(2)
    given[0, 0, 3, 4] = float("nan")
    with torch.inference_mode():
        expected = model(given)
    found = torch.from_numpy(session.run([OUTPUT], {INPUT: given.numpy()})[0])
    assert found.dtype == torch.float32
    return float((found - expected).abs().max() / expected.abs().max())


def test_float16_normalises_in_float32(high_ground: Predictor) -> None:
    graph = export_onnx(high_ground, images(2))
    halved = half_precision(graph)
    assert 1e-6 < difference(halved, high_ground) < 5e-3
    kernels = [one for one in halved.graph.initializer if len(one.dims) == 4]
    assert {one.data_type for one in kernels} == {10}, "float16, as ONNX numbers types"


def test_eight_bits_follow_the_ranges_of_the_patches(high_ground: Predictor) -> None:
    graph = export_onnx(high_ground, images(2))
    quantised = quantise(graph, list(images(8)))
    names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    both, last, none = (
        difference(keep_in_float(quantised, graph, names[2 - count :]), high_ground) for count in (0, 1, 2)
    )
    assert 1e-4 < both < 0.05
    assert last < both
    assert 0 < largest_weight(quantised) <= 64, "two products of uint8 and seven bits fit into 16 bits"
    assert none < 1e-5
    kept = {one.name for one in keep_in_float(quantised, graph, names).graph.initializer}
    assert kept == {one.name + "_float" * (one.name in weights_of(graph)) for one in graph.graph.initializer}, "no more"


def largest_weight(graph: Any) -> int:
    kernels = [numpy_helper.to_array(one) for one in graph.graph.initializer if len(one.dims) == 4]
    return max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels if kernel.dtype == np.int8)


def weights_of(graph: Any) -> set[str]:
    return {name for node in graph.graph.node if node.op_type == "Conv" for name in node.input[1:]}


def test_what_loses_most_stays_in_float32_first(high_ground: Predictor) -> None:
    coarse = high_ground.model[2].weight.data  # type: ignore[index,union-attr]
    coarse[:, 0] *= 1000  # one band of its input decides, so that what the others say is lost
    graph = export_onnx(high_ground, images(2))
    found = list(eight_bit_graphs(graph, list(images(8))))
    assert found[0][0] == ""
    assert {what for what, _ in found[1:]} == {"the 1 of 2 convolutions with the largest loss stay in float32"}
    floats = {name for node in found[1][1].graph.node if node.op_type == "Conv" for name in node.input[1:2]}
    assert [name for name in floats if name.endswith("_float")] == ["model.2.weight_float"]


def test_a_failed_quantisation_gives_the_reason(high_ground: Predictor) -> None:
    graph = export_onnx(high_ground, images(2))
    with pytest.raises(ConfigError, match=r"needs patches.*--data"):
        quantise(graph, [])
    plain = export_onnx(nn.Softplus().eval(), images(2))
    with pytest.raises(ConfigError, match="no convolutions"):
        quantise(plain, list(images(1)))
