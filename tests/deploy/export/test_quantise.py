"""Less precision inside the graph, and none lost where it would hurt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.deploy.backends import open_session
from zoo.deploy.export.quantise import half_precision, quantise
from zoo.deploy.onnx_graph import INPUT, OUTPUT, export_onnx
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
    all_of_it = difference(quantise(graph, list(images(8))), high_ground)
    assert 1e-4 < all_of_it < 0.05
    assert difference(quantise(graph, list(images(8)), spare_ends=True), high_ground) < 1e-5, "both are ends"


def test_what_cannot_be_quantised_is_said_why(high_ground: Predictor) -> None:
    graph = export_onnx(high_ground, images(2))
    with pytest.raises(ConfigError, match=r"needs patches.*--data"):
        quantise(graph, [])
    plain = export_onnx(nn.Softplus().eval(), images(2))
    with pytest.raises(ConfigError, match="no convolutions"):
        quantise(plain, list(images(1)))
