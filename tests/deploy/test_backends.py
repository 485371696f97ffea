"""ONNX Runtime and OpenVINO behind the interface of the model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.deploy import backends
from zoo.deploy.backends import (
    INPUT,
    OUTPUT,
    BackendModule,
    OnnxRuntimeModule,
    OpenVinoModule,
    export_onnx,
    open_session,
)
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


SMALL: dict[str, dict[str, Any]] = {
    "unet": {"widths": [4, 4, 8, 8, 8], "upsample": "bilinear"},
    "enhanced_unet": {"widths": [4, 4, 8, 8, 8]},
    "drs_unet": {"widths": [4, 4, 8, 8, 8], "depths": [1, 1, 1, 1, 1]},
    "mobilenetv2": {},
}
LARGE: dict[str, dict[str, Any]] = {"segnet": {"decoder": "lite"}, "deeplabv3plus": {}, "model54_standin": {}}
SIZES = ((1, 64, 64), (2, 96, 64), (3, 70, 91), (1, 65, 128))


def settled(model: nn.Module, channels: int = 7) -> nn.Module:
    """In eval mode, with batch statistics that are not those of a new model."""
    model.train()
    with torch.no_grad():
        model(torch.randn(2, channels, 64, 64))
    return model.eval()


def worst(graph: Any, model: nn.Module, channels: int = 7) -> float:
    """Largest difference over SIZES, relative to the largest logit."""
    session = open_session(graph.SerializeToString(), threads=1)
    found = 0.0
    for batch, height, width in SIZES:
        images = torch.randn(batch, channels, height, width)
        with torch.inference_mode():
            expected = model(images)
        logits = torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])
        assert logits.shape == expected.shape
        found = max(found, float((logits - expected).abs().max() / expected.abs().max()))
    return found


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.nightly) for name in LARGE)], ids=lambda name: str(name)
)
def test_every_model_has_a_graph_of_any_size(name: str) -> None:
    torch.manual_seed(0)
    model = settled(create_model(name, **(SMALL | LARGE)[name]))
    graph = export_onnx(model, torch.randn(1, 7, 64, 64))
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == backends.OPSET
    assert worst(graph, model) < 1e-4  # SegNet: 2.6e-5 on AVX2


class OwnPadding(nn.Module):
    """A plugin's model that pads in its own way, only where it has to."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(7, 4, 3, stride=4, padding=1)
        self.up = nn.ConvTranspose2d(4, 2, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="reflect")
        return self.up(self.down(x))[..., :height, :width]


class OnlyMultiples(nn.Module):
    """A model that refuses sizes that it would have to pad."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(7, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 16 or x.shape[3] % 16:
            raise ValueError("not a multiple of 16")
        return self.conv(x)


def test_padding_that_depends_on_the_size_is_in_the_graph() -> None:
    torch.manual_seed(0)
    model = OwnPadding().eval()
    assert worst(export_onnx(model, torch.randn(1, 7, 64, 64)), model) < 1e-5


def test_a_pyramid_of_pooled_maps_is_in_the_graph() -> None:
    """As PSPNet and UPerNet have it; torch's exporters know no pooling whose bins follow the size of the image."""

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d((6, 2))])

        def forward(self, x: Tensor) -> Tensor:
            maps = [*(pool(x) for pool in self.pools), F.interpolate(x, (2, 2), mode="area")]
            return x + sum(F.interpolate(one, x.shape[2:], mode="bilinear") for one in maps)

    network = Pyramid().eval()
    session = open_session(export_onnx(network, torch.randn(1, 2, 32, 32)).SerializeToString(), threads=1)
    for shape in ((1, 2, 6, 7), (3, 2, 35, 50)):
        images = torch.randn(shape)
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images), rtol=1e-4, atol=1e-5)


def test_a_model_that_takes_multiples_alone_is_traced_at_one() -> None:
    model = OnlyMultiples().eval()
    graph = export_onnx(model, torch.randn(1, 7, 64, 64))
    images = torch.randn(2, 7, 32, 48)
    found = open_session(graph.SerializeToString(), threads=1).run([OUTPUT], {INPUT: images.numpy()})[0]
    assert torch.allclose(torch.from_numpy(found), model(images), atol=1e-5)


def test_a_graph_that_is_wrong_at_other_sizes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "any_size_sample", lambda model, example: example)
    with pytest.raises(ModelError, match=r"ONNX graph of opset 18: the graph (fails|differs|returns)"):
        export_onnx(OwnPadding().eval(), torch.randn(2, 7, 64, 64))


def test_a_fixed_size_and_another_opset() -> None:
    graph = export_onnx(OwnPadding().eval(), torch.randn(2, 7, 64, 80), opset=13, dynamic=False)
    assert graph.opset_import[0].version == 13
    dimensions = graph.graph.output[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in dimensions] == ["batch", 2, 64, 80]


class Bessel(OwnPadding):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(super().forward(x))


class Names(OwnPadding):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"out": super().forward(x)}


class Shrinks(OwnPadding):
    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Bessel().eval(), "bessel_j0"),
        (Names().eval(), "returns dict, not a tensor"),
        (Shrinks().eval(), "height and width must stay"),
        (OwnPadding().train(), "in training mode"),
    ],
)
def test_a_failed_export_gives_the_reason(model: nn.Module, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        export_onnx(model, torch.randn(1, 7, 64, 64))


@pytest.mark.parametrize(("opset", "word"), [(9, "too low"), (40, "too high")])
def test_an_opset_out_of_range_is_named(opset: int, word: str) -> None:
    with pytest.raises(ConfigError, match=f"opset {opset} is {word}"):
        export_onnx(OwnPadding().eval(), torch.randn(1, 7, 64, 64), opset=opset)


def test_what_exporters_print_is_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    """Torch prints the whole graph from C++ when it cannot export a model, such as one with pyramid pooling."""
    with backends.quiet():
        print("print")
        os.system("echo child; echo child >&2")
    print("after")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("after\n", "")


def test_the_global_generator_is_left_alone() -> None:
    model = OwnPadding().eval()
    before = torch.get_rng_state()
    export_onnx(model, torch.zeros(1, 7, 64, 64))
    assert torch.equal(before, torch.get_rng_state())
