"""ImageNet weights: asked for by name, widened to the bands, whole or not at all. Nothing here uses a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import Tensor, nn

from zoo.errors import ModelError
from zoo.models import encoders
from zoo.models.builtin import MODELS
from zoo.models.encoders import MOBILENETV2, RESNET101, VGG16_BN, PretrainedEncoder, pretrained_state
from zoo.registry import Flag, create_model
from zoo.testing import no_network

State = dict[str, Tensor]


def vgg_state() -> State:
    with torch.device("meta"):
        features = smp.encoders.get_encoder("vgg16_bn").features
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    return state | {"pre_logits.fc1.weight": torch.empty(8, 8), "head.fc.bias": torch.empty(10)}


def timm_state(name: str) -> State:
    with torch.device("meta"):
        state: State = timm.create_model(name).state_dict()
    return state


LAYOUTS: dict[str, tuple[PretrainedEncoder, Callable[[], State]]] = {
    "deeplabv3plus": (RESNET101, lambda: timm_state("resnet101")),
    "mobilenetv2": (MOBILENETV2, lambda: timm_state("mobilenetv2_100")),
    "segnet": (VGG16_BN, vgg_state),
    "model54_standin": (VGG16_BN, vgg_state),
}


def published(name: str) -> State:
    """A state dict of the published layout, each tensor filled with a number of its own."""
    state: State = {}
    for index, (key, value) in enumerate(LAYOUTS[name][1]().items()):
        state[key] = torch.full(value.shape, 1 + index / 1000, dtype=value.dtype)
    stem = LAYOUTS[name][0].stem
    state[stem] = torch.randn(state[stem].shape, generator=torch.Generator().manual_seed(0))
    return state


def convolutions(name: str, model: nn.Module) -> list[nn.Module]:
    """Layers of the encoder in the order of the published ones."""
    encoder = model.get_submodule("unet.encoder" if name == "model54_standin" else "encoder")
    return [m for m in encoder.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_right_weights_land(name: str, tmp_path: Path) -> None:
    state = published(name)
    path = tmp_path / "encoder.safetensors"
    save_file(state, path)
    with no_network() as refused:
        model = create_model(name, encoder_weights=str(path))
    assert refused == []
    source = LAYOUTS[name][0]
    kept = {key: value for key, value in state.items() if not key.startswith(source.classifier)}
    expected = [value for key, value in kept.items() if key.endswith("weight")]
    layers = convolutions(name, model)
    assert len(layers) == len(expected) > 20
    for layer, weight in zip(layers[1:], expected[1:], strict=True):
        assert torch.equal(layer.get_parameter("weight"), weight)
    means = [value for key, value in kept.items() if key.endswith("running_mean")]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    for norm, mean in zip(norms, means, strict=True):
        assert torch.equal(norm.get_buffer("running_mean"), mean)

    stem = layers[0].get_parameter("weight")
    assert stem.shape[1] == 7
    for band in range(7):
        torch.testing.assert_close(stem[:, band], state[source.stem][:, band % 3] * 3 / 7)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7, 14])
def test_the_stem_is_widened_as_smp_does(bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"features.0.weight": torch.randn(8, 3, 3, 3)}
    monkeypatch.setattr(encoders, "load_state_dict_from_hf", lambda *args, **kwargs: dict(state))
    conv = nn.Conv2d(3, 8, 3, bias=False)
    conv.weight = nn.Parameter(state["features.0.weight"].clone())
    if bands != 3:
        patch_first_conv(conv, bands)
    widened = pretrained_state(VGG16_BN, "imagenet", bands)["features.0.weight"]
    assert widened.shape == (8, bands, 3, 3)
    torch.testing.assert_close(widened, conv.weight.detach())


@pytest.mark.parametrize("name", LAYOUTS)
def test_imagenet_asks_the_hub_once_and_for_the_right_repository(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def hub(repository: str, **options: Any) -> State:
        asked.append(repository)
        assert options["weights_only"] is True
        return published(name)

    monkeypatch.setattr(encoders, "load_state_dict_from_hf", hub)
    with torch.device("meta"):
        create_model(name)
        assert asked == []
        create_model(name, in_channels=3, encoder_weights="imagenet")
    assert asked == [LAYOUTS[name][0].repository]


def test_repositories_exist_in_timm() -> None:
    for source in (RESNET101, MOBILENETV2, VGG16_BN):
        tag = source.repository.removeprefix("timm/")
        config = timm.get_pretrained_cfg(tag)
        assert config is not None
        assert config.hf_hub_id == source.repository or config.hf_hub_id == "timm/"
        assert f"{config.first_conv}.weight" == source.stem


def test_timm_has_vgg_in_the_layout_that_is_expected() -> None:
    theirs = {key: tuple(v.shape) for key, v in timm_state("vgg16_bn").items() if key.startswith("features.")}
    ours = {key: tuple(v.shape) for key, v in vgg_state().items() if key.startswith("features.")}
    assert theirs == ours
    others = [key for key in timm_state("vgg16_bn") if not key.startswith("features.")]
    assert all(key.startswith(VGG16_BN.classifier) for key in others)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_error_without_a_network_states_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repository: str, **options: Any) -> State:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(encoders, "load_state_dict_from_hf", offline)
    with torch.device("meta"), pytest.raises(ModelError) as error:
        create_model(name, encoder_weights="imagenet")
    text = str(error.value)
    assert LAYOUTS[name][0].repository in text
    assert "could not be downloaded (ConnectionError)" in text
    assert "Leave encoder_weights out" in text
    assert "pass its path" in text


def test_the_real_loader_meets_a_closed_network_with_our_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("timm.models._hub.get_cache_dir", lambda *args, **kwargs: str(tmp_path))
    with no_network() as refused, pytest.raises(ModelError, match="could not be downloaded"):
        create_model("mobilenetv2", encoder_weights="imagenet")
    assert any("huggingface" in destination for destination in refused)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = published("mobilenetv2")
    path = tmp_path / "encoder.safetensors"
    missing = {key: value for key, value in state.items() if key != "blocks.3.0.conv_pw.weight"}
    for wrong, message in (
        (missing, r"do not fit.*blocks\.3\.0\.conv_pw\.weight"),
        (state | {"stranger": torch.zeros(1)}, "do not fit.*stranger"),
        ({"conv_stem.weight": torch.zeros(32, 7, 3, 3)}, "no first convolution"),
        ({"other": torch.zeros(1)}, "no first convolution"),
    ):
        save_file(wrong, path)
        with pytest.raises(ModelError, match=message):
            create_model("mobilenetv2", encoder_weights=str(path))
    path.write_bytes(b"not a state dict")
    with pytest.raises(ModelError, match="does not hold a state dict"):
        create_model("mobilenetv2", encoder_weights=str(path))
    with pytest.raises(ModelError, match=r"'imagnet' is neither the name of weights nor a file.*Give 'imagenet'"):
        create_model("mobilenetv2", encoder_weights="imagnet")


def test_models_without_an_encoder_take_no_weights() -> None:
    for spec in MODELS:
        assert (spec.name in LAYOUTS) == (Flag.PRETRAINED_ENCODER in spec.flags)


@pytest.mark.parametrize(("name", "last"), [("deeplabv3plus", "layer4"), ("mobilenetv2", "conv_head")])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride_is_the_size_of_the_deepest_map(name: str, last: str, output_stride: int) -> None:
    with torch.device("meta"):
        model = create_model(name, output_stride=output_stride).eval()
    sizes: list[tuple[int, ...]] = []
    model.get_submodule(f"encoder.{last}").register_forward_hook(lambda m, a, y: sizes.append(tuple(y.shape[2:])))
    with torch.no_grad():
        assert model(torch.empty(1, 7, 64, 96, device="meta")).shape == (1, 2, 64, 96)
    assert sizes == [(64 // output_stride, 96 // output_stride)]


def test_mobilenet_is_dilated_from_block_14() -> None:
    with torch.device("meta"):
        model = create_model("mobilenetv2")
    depthwise = [
        m for m in model.get_submodule("encoder.blocks").modules() if isinstance(m, nn.Conv2d) and m.groups > 1
    ]
    assert [m.stride[0] for m in depthwise] == [1, 2, 1, 2, 1, 1, 2] + [1] * 10
    assert [m.dilation[0] for m in depthwise] == [1] * 14 + [2] * 3
