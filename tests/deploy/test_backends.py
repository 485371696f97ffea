"""ONNX Runtime and OpenVINO behind the interface of the model."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zoo.deploy.backends import BackendModule, OnnxRuntimeModule, OpenVinoModule
from zoo.errors import ConfigError, ModelError, ZooError
from zoo.registry import create_model

Make = Callable[[nn.Module, Tensor], BackendModule]
BACKENDS = [OnnxRuntimeModule, OpenVinoModule]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = create_model("enhanced_unet", widths=[4, 4, 8, 8, 8])
    with torch.no_grad():
        model(torch.randn(2, 7, 64, 64))
    return model.eval()


@pytest.fixture(scope="module", params=BACKENDS, ids=lambda make: make.__name__)
def backend(request: pytest.FixtureRequest, model: nn.Module) -> BackendModule:
    made: BackendModule = request.param(model, torch.randn(2, 7, 64, 64))
    return made


@pytest.mark.parametrize("shape", [(1, 7, 64, 64), (5, 7, 32, 47), (0, 7, 64, 64)])
def test_the_logits_are_those_of_the_model(model: nn.Module, backend: BackendModule, shape: tuple[int, ...]) -> None:
    images = torch.randn(shape)
    with torch.inference_mode():
        assert torch.allclose(backend(images), model(images), atol=1e-4)


def test_memory_layout_does_not_matter_and_results_are_kept(model: nn.Module, backend: BackendModule) -> None:
    images = torch.randn(2, 7, 64, 48)
    first = backend(images)
    kept = first.clone()
    backend(torch.randn(2, 7, 64, 48))
    assert torch.equal(first, kept)
    for other in (images.contiguous(memory_format=torch.channels_last), images.mT.contiguous().mT):
        assert torch.equal(backend(other), kept)
    assert not backend(images.requires_grad_()).requires_grad


def test_bf16_is_near(model: nn.Module) -> None:
    images = torch.randn(2, 7, 64, 64)
    with torch.inference_mode():
        expected = model(images)
    found = OpenVinoModule(model, images, precision="bf16")(images)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.1


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 64, 64),
        torch.zeros(7, 64, 64),
        torch.zeros(1, 7, 64, 64, dtype=torch.float64),
        torch.zeros(1, 7, 31, 64),
        torch.zeros(1, 7, 64, 64, device="meta"),
    ],
)
def test_other_input_is_refused(backend: BackendModule, images: Tensor) -> None:
    with pytest.raises(ModelError, match=r"expected float32 images|at least 32x32"):
        backend(images)


def test_training_is_refused(backend: BackendModule) -> None:
    backend.train()
    with pytest.raises(ModelError, match="cannot train"):
        backend(torch.zeros(1, 7, 64, 64))
    backend.eval()


def test_a_precision_that_is_not_to_be_had(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="not in bf16"):
        OnnxRuntimeModule(model, torch.randn(1, 7, 64, 64), precision="bf16")
    with pytest.raises(ConfigError, match="not in int4"):
        OpenVinoModule(model, torch.randn(1, 7, 64, 64), precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", BACKENDS)
@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "openvino"])
def test_a_missing_extra_is_named(model: nn.Module, make: Make, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if make is OnnxRuntimeModule and missing == "openvino":
        pytest.skip("ONNX Runtime does not need OpenVINO")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ZooError, match=rf"needs {missing}.*pip install 'landslide-zoo\[export\]'"):
        make(model, torch.randn(1, 7, 64, 64))
