"""Test the interface of every architecture: input, output, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.blocks import pad_to_multiple
from zoo.errors import ConfigError, ModelError
from zoo.models.base import SegmentationModel
from zoo.models.builtin import MODELS
from zoo.registry import Flag, ModelSpec, create_model

NAMES = [spec.name for spec in MODELS]
each_model = pytest.mark.parametrize("built", MODELS, ids=NAMES, indirect=True)
TRAINED = [spec for spec in MODELS if Flag.UNTRAINED not in spec.flags]
each_trained_model = pytest.mark.parametrize("built", TRAINED, ids=[spec.name for spec in TRAINED], indirect=True)


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> tuple[ModelSpec, SegmentationModel]:
    """A model, which its tests share: they run one after another."""
    torch.manual_seed(0)
    model = create_model(request.param.name)
    assert isinstance(model, SegmentationModel)
    return request.param, model


@each_model
def test_wrong_input_is_refused_with_a_clear_message(built: tuple[ModelSpec, SegmentationModel]) -> None:
    spec, model = built
    model.eval()
    size = spec.minimum_size
    assert model.minimum_size == size
    good = torch.zeros(1, 7, size, size)
    cases: list[tuple[Any, str]] = [
        (good[0], r"expected images of shape \(batch, channels, height, width\).*unsqueeze"),
        (good[None], "expected images of shape"),
        (good[:, :3], "made for 7 channels, got 3.*in_channels=3"),
        (good[..., 1:], f"at least {size}x{size} pixels, got {size}x{size - 1}"),
        (good[..., 1:, :], f"at least {size}x{size} pixels, got {size - 1}x{size}"),
        (good.double(), "expected float32, the dtype of its weights, got float64"),
        (good.to(torch.uint8), "expected float32, the dtype of its weights, got uint8"),
        (good.bfloat16(), "got bfloat16"),
        (np.zeros((1, 7, size, size)), "expected a torch.Tensor, got ndarray"),
    ]
    for wrong, message in cases:
        with pytest.raises(ModelError, match=message) as error:
            model(wrong)
        assert type(model).__name__ in str(error.value)


@each_trained_model
def test_training_at_the_minimum_size(built: tuple[ModelSpec, SegmentationModel]) -> None:
    spec, model = built
    model.train()
    image = torch.randn(1, 7, spec.minimum_size, spec.minimum_size)
    if Flag.BATCH1_TRAINING in spec.flags:
        assert model(image).shape == (1, 2, *image.shape[2:])
    else:
        with pytest.raises(ModelError, match="cannot train on a batch of one"):
            model(image)
    assert model(image.repeat(2, 1, 1, 1)).isfinite().all()


@each_model
def test_an_odd_size_is_the_crop_of_the_padded_image(built: tuple[ModelSpec, SegmentationModel]) -> None:
    model = built[1].eval()
    image = torch.randn(1, 7, 70, 97)
    with torch.no_grad():
        logits = model(image)
        padded = model(pad_to_multiple(image, model.stride))
    assert logits.shape == (1, 2, 70, 97)
    assert torch.equal(logits, padded[..., :70, :97])


@each_trained_model
def test_the_result_depends_on_every_band(built: tuple[ModelSpec, SegmentationModel]) -> None:
    model = built[1].eval()
    image = torch.randn(1, 7, 64, 64).requires_grad_()
    model(image).abs().sum().backward()
    assert isinstance(image.grad, Tensor)
    assert bool((image.grad.abs().sum(dim=(0, 2, 3)) > 0).all())


def test_autocast_takes_its_own_types() -> None:
    model = create_model("unet", widths=(8, 16)).eval()
    image = torch.randn(1, 7, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(image).dtype == torch.bfloat16
        assert model(image.bfloat16()).dtype == torch.bfloat16
        with pytest.raises(ModelError, match="float64"):
            model(image.double())


def test_converted_models_take_what_their_weights_are() -> None:
    model = create_model("unet", widths=(8, 16)).eval().double()
    assert model(torch.randn(1, 7, 8, 8, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ModelError, match=r"expected float64.*x\.to\(torch\.float64\)"):
        model(torch.randn(1, 7, 8, 8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [{"in_channels": 0}, {"classes": -1}, {"classes": 2.0}, {"in_channels": True}])
def test_counts_must_be_positive_integers(name: str, wrong: dict[str, Any]) -> None:
    from zoo.registry import catalogue

    with pytest.raises(ConfigError, match="must be a positive integer"):
        catalogue().models.get(name).resolve()(**wrong)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"widths": (64,)}, "two or more levels"),
        ("unet", {"widths": (64, 0)}, "width must be a positive integer"),
        ("unet", {"convolution": "grouped", "widths": (6, 12)}, "not divisible by 4 groups"),
        ("drs_unet", {"depths": (1, 1)}, "same two or more levels"),
        ("drs_unet", {"widths": (8, 4), "depths": (1, 1)}, "cannot shrink 8 channels to 4"),
        ("deeplabv3plus", {"decoder_convs": 0}, "decoder_convs"),
        ("mobilenetv2", {"aspp_rates": (0, 1, 2)}, "rate must be a positive integer"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        create_model(name, **options)
