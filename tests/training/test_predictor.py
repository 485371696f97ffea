"""The predictor normalises as the training split was, and knows missing values."""

import pytest
import torch
from torch import nn

from zoo.errors import ConfigError
from zoo.training.predictor import Predictor


def test_input_is_normalised_with_the_given_statistics() -> None:
    predictor = Predictor(nn.Identity(), [1.0, 100.0, 7.0], [2.0, 50.0, 0.0])
    image = torch.tensor([5.0, 0.0, 7.0])[None, :, None, None]
    assert predictor(image).flatten().tolist() == [2.0, -2.0, 0.0]
    image[0, 0] = float("nan")
    assert predictor(image).flatten().tolist() == [0.0, -2.0, 0.0]


def test_statistics_of_another_number_of_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 band means but 1"):
        Predictor(nn.Identity(), [0.0, 0.0], [1.0])


def test_probability_is_everything_but_background() -> None:
    predictor = Predictor(nn.Identity(), [0.0], [1.0])
    logits = torch.randn(2, 3, 4, 4, dtype=torch.bfloat16) * 30
    probability = predictor.landslide_probability(logits)
    assert probability.dtype == torch.float32
    assert probability.min() >= 0
    assert probability.max() <= 1
    torch.testing.assert_close(probability, logits.float().softmax(1)[:, 1:].sum(1))
    single = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(predictor.landslide_probability(single), single[:, 0].sigmoid())


def test_the_state_dict_does_not_hold_the_normalisation() -> None:
    assert list(Predictor(nn.Conv2d(1, 1, 1), [0.0], [1.0]).state_dict()) == ["model.weight", "model.bias"]
