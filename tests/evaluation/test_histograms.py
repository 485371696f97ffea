"""Histograms give the exact counts at every threshold; curves and calibration agree with other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_score, recall_score
from torchmetrics.functional.classification import binary_calibration_error

from zoo.errors import ResultError
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import (
    LOGIT_CENTRES,
    PROBABILITY_BINS,
    RELIABILITY_BINS,
    LogitHistogram,
    ProbabilityHistogram,
    ThresholdCurve,
    is_landslide,
)
from zoo.evaluation.metrics import dice
from zoo.schema import from_plain, to_plain


def threshold_sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    # Values on the edges of the bins are where rounding would show.
    values = np.where(
        rng.random((2, 9, 9)) < 0.5,
        rng.random((2, 9, 9)),
        rng.integers(0, PROBABILITY_BINS + 1, (2, 9, 9)) / PROBABILITY_BINS,
    )
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(rng.choice([0, 0, 1, 255], (2, 9, 9)))


def best_by_search(probability: torch.Tensor, truth: torch.Tensor) -> float:
    scores = []
    for k in range(1, PROBABILITY_BINS):
        pooled = Counts.from_masks(is_landslide(probability, k / PROBABILITY_BINS), truth).pooled()
        scores.append(float(dice(pooled.tp, pooled.fp, pooled.fn, pooled.tn)[0]))
    return max(scores)


@given(st.integers(0, 2**31))
def test_histogram_counts_like_the_masks(seed: int) -> None:
    probability, truth = threshold_sample(seed)
    histogram = ProbabilityHistogram.empty()
    for image in range(2):
        histogram.update(probability[image : image + 1], truth[image : image + 1])
    for k in (1, 57, 100, 199):
        pooled = Counts.from_masks(is_landslide(probability, k / PROBABILITY_BINS), truth).pooled()
        assert histogram.positive[k:].sum() == pooled.tp[0]
        assert histogram.negative[k:].sum() == pooled.fp[0]
    assert histogram.positive.sum() + histogram.negative.sum() == int((truth != 255).sum())


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_best_threshold_is_the_best(seed: int) -> None:
    probability, truth = threshold_sample(seed)
    if not (truth == 1).any():
        return
    histogram = ProbabilityHistogram.empty()
    histogram.update(probability, truth)
    pooled = Counts.from_masks(is_landslide(probability, histogram.best_threshold()), truth).pooled()
    assert dice(pooled.tp, pooled.fp, pooled.fn, pooled.tn)[0] == pytest.approx(best_by_search(probability, truth))


def test_of_equal_thresholds_the_nearest_to_half_is_taken() -> None:
    histogram = ProbabilityHistogram.empty()
    histogram.update(torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[1, 0]]]))
    assert histogram.best_threshold() == 0.5


def test_without_landslides_the_threshold_is_half() -> None:
    histogram = ProbabilityHistogram.empty()
    histogram.update(torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0, 255]]]))
    assert histogram.best_threshold() == 0.5


@pytest.mark.parametrize("bad", [float("nan"), 1.5, -0.1])
def test_values_that_are_not_probabilities_are_refused(bad: float) -> None:
    with pytest.raises(ResultError, match=r"not all within \[0, 1\]"):
        ProbabilityHistogram.empty().update(torch.tensor([[[bad]]]), torch.tensor([[[0]]]))


def curve_sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.random(5000) < 0.1
    probability = np.clip(rng.normal(0.25 + 0.35 * truth, 0.2), 0, 1)
    return np.floor(probability * PROBABILITY_BINS) / PROBABILITY_BINS, truth


def curve_of(probability: np.ndarray, truth: np.ndarray) -> ThresholdCurve:
    histogram = ProbabilityHistogram.empty()
    histogram.update(torch.from_numpy(probability)[None, None], torch.from_numpy(truth.astype(np.int64))[None, None])
    return ThresholdCurve.from_histogram(histogram)


def test_curve_and_area_agree_with_scikit_learn() -> None:
    probability, truth = curve_sample()
    curve = curve_of(probability, truth)
    assert curve.average_precision == pytest.approx(average_precision_score(truth, probability), abs=1e-12)
    for k in (0, 40, 100, 150):
        assert curve.precision[k] == pytest.approx(precision_score(truth, probability >= k / PROBABILITY_BINS))
        assert curve.recall[k] == pytest.approx(recall_score(truth, probability >= k / PROBABILITY_BINS))


def test_without_a_landslide_there_is_no_area() -> None:
    assert math.isnan(curve_of(np.array([0.2, 0.7]), np.array([False, False])).average_precision)


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
    assert LOGIT_CENTRES[0] == pytest.approx(-LOGIT_CENTRES[-1])


def test_one_class_alone_has_no_temperature() -> None:
    histogram = LogitHistogram.empty()
    histogram.update(torch.full((1, 4, 4), 0.3), torch.zeros((1, 4, 4), dtype=torch.long))
    assert histogram.best_temperature() == 1.0
    assert np.isnan(LogitHistogram.empty().reliability().expected_calibration_error)


def test_histogram_survives_a_result_file_and_edits_are_seen() -> None:
    values = to_plain(histogram_of(*sample()))
    assert to_plain(from_plain(values, LogitHistogram)) == values
    with pytest.raises(ResultError, match="two lists of 240 counts"):
        from_plain({**values, "positive": values["positive"][1:]}, LogitHistogram)
