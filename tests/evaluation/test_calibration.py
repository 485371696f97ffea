"""Calibration agrees with torchmetrics and with an optimiser on the logits themselves."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from zoo.errors import ResultError
from zoo.evaluation.calibration import CENTRES, RELIABILITY_BINS, LogitHistogram


def sample(scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log odds and truth drawn from sigmoid(z / scale), so that the right temperature is ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    odds = torch.randn((4, 64, 64), generator=generator) * 1.5 - 1.0
    truth = (torch.rand(odds.shape, generator=generator) < odds.sigmoid()).long()
    return odds * scale, truth


def histogram_of(odds: torch.Tensor, truth: torch.Tensor) -> LogitHistogram:
    histogram = LogitHistogram.empty()
    for image in range(len(odds)):
        histogram.update(odds[image : image + 1].sigmoid(), truth[image : image + 1])
    return histogram


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_error_agrees_with_torchmetrics_before_and_after_scaling(scale: float) -> None:
    odds, truth = sample(scale)
    histogram = histogram_of(odds, truth)
    for temperature in (1.0, scale):
        judged = binary_calibration_error((odds / temperature).sigmoid().flatten(), truth.flatten(), RELIABILITY_BINS)
        ours = histogram.reliability(temperature).expected_calibration_error
        assert ours == pytest.approx(float(judged), abs=4e-3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_is_that_of_an_optimiser_on_the_logits(scale: float) -> None:
    odds, truth = sample(scale)
    grid = torch.exp(torch.linspace(np.log(scale / 2), np.log(scale * 2), 400))
    losses = [float(torch.nn.functional.binary_cross_entropy_with_logits(odds / t, truth.float())) for t in grid]
    assert histogram_of(odds, truth).best_temperature() == pytest.approx(float(grid[np.argmin(losses)]), rel=0.02)


def test_scaling_mends_an_overconfident_model() -> None:
    odds, truth = sample(4.0)
    histogram = histogram_of(odds, truth)
    before = histogram.reliability().expected_calibration_error
    after = histogram.reliability(histogram.best_temperature()).expected_calibration_error
    assert after < before / 5


def test_pixels_to_ignore_and_extremes_are_counted_right() -> None:
    histogram = LogitHistogram.empty()
    histogram.update(torch.tensor([[[0.0, 1.0, 0.5]]]), torch.tensor([[[0, 1, 255]]]))
    assert histogram.negative[0] == 1
    assert histogram.positive[-1] == 1
    assert histogram.positive.sum() + histogram.negative.sum() == 2
    assert CENTRES[0] == pytest.approx(-CENTRES[-1])


def test_one_class_alone_has_no_temperature() -> None:
    histogram = LogitHistogram.empty()
    histogram.update(torch.full((1, 4, 4), 0.3), torch.zeros((1, 4, 4), dtype=torch.long))
    assert histogram.best_temperature() == 1.0
    assert np.isnan(LogitHistogram.empty().reliability().expected_calibration_error)


def test_histogram_survives_a_result_file_and_edits_are_seen() -> None:
    values = histogram_of(*sample()).to_dict()
    assert LogitHistogram.from_dict(values).to_dict() == values
    with pytest.raises(ResultError, match="not twice 240"):
        LogitHistogram.from_dict({**values, "positive": values["positive"][1:]})
