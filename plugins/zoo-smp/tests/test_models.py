"""What all models of the plugin share: sizes, options, no layer without use."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_smp.models import DECODERS, drop_unused

from zoo.errors import ConfigError, UnknownNameError
from zoo.registry import create_model


def test_a_shallow_encoder_keeps_only_its_stages() -> None:
    model = create_model("smp/unet-resnet18", in_channels=4, encoder_depth=3).eval()
    assert not any(key.startswith("network.encoder.layer3") for key in model.state_dict())
    assert (model.stride, model.minimum_size) == (8, 16)
    with torch.no_grad():
        assert model(torch.zeros(1, 4, 17, 30)).shape == (1, 2, 17, 30)


def test_the_channels_of_the_decoder_are_an_option() -> None:
    model = create_model("smp/unet-resnet18", encoder_depth=4, decoder_channels="64,32,16,8")
    assert model.network.segmentation_head[0].in_channels == 8
    with pytest.raises(ConfigError, match=r"smp/unet-resnet18: these options do not fit \(Model depth is 4"):
        create_model("smp/unet-resnet18", encoder_depth=4, decoder_channels=(8, 8))
    with pytest.raises(ConfigError, match="encoder_depth must be from 1 to 5, not 9"):
        create_model("smp/unet-resnet18", encoder_depth=9)
    with pytest.raises(ConfigError, match="output stride 8 or 16"):
        create_model("smp/deeplabv3-resnet18", encoder_output_stride=4)


def test_names_of_timm_have_no_prefix_unless_smp_has_the_name() -> None:
    names = {
        name: type(create_model(f"smp/linknet-{name}").network.encoder).__name__ for name in ("resnet18", "tu-resnet18")
    }
    assert names == {"resnet18": "ResNetEncoder", "tu-resnet18": "TimmUniversalEncoder"}
    with pytest.raises(UnknownNameError, match="Did you mean 'smp/unet-tf_efficientnet_lite0'"):
        create_model("smp/unet-tu-tf_efficientnet_lite0")


def test_all_classes_of_smp_are_there() -> None:
    import segmentation_models_pytorch as smp

    assert set(DECODERS) == set(smp.MODEL_ARCHITECTURES_MAPPING)


def test_a_removed_layer_that_still_runs_takes_any_arguments() -> None:
    """The EfficientNet of smp runs blocks behind the map that PSPNet uses, with their rate of stochastic depth."""
    model = create_model("smp/pspnet-efficientnet-b6").eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 7, 64, 64)).shape == (1, 2, 64, 64)


def test_unused_layers_are_removed_and_unused_tensors_frozen() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(1, 1, 1)
            self.unused = nn.Sequential(nn.Conv2d(1, 1, 1))
            self.token = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.used(x)
            return result

    network = Network()
    drop_unused(network, torch.zeros(1, 1, 4, 4))
    assert sorted(network.state_dict()) == ["token", "used.bias", "used.weight"]
    assert not network.token.requires_grad
    assert network.training
