"""Precision and recall at every threshold, and PR-AUC, agree with scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_score, recall_score

from zoo.evaluation.curves import ThresholdCurve
from zoo.evaluation.threshold import BINS, ProbabilityHistogram


def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.random(5000) < 0.1
    probability = np.clip(rng.normal(0.25 + 0.35 * truth, 0.2), 0, 1)
    return np.floor(probability * BINS) / BINS, truth


def curve_of(probability: np.ndarray, truth: np.ndarray) -> ThresholdCurve:
    histogram = ProbabilityHistogram.empty()
    histogram.update(torch.from_numpy(probability)[None, None], torch.from_numpy(truth.astype(np.int64))[None, None])
    return ThresholdCurve.from_histogram(histogram)


def test_curve_and_area_agree_with_scikit_learn() -> None:
    probability, truth = sample()
    curve = curve_of(probability, truth)
    assert curve.average_precision == pytest.approx(average_precision_score(truth, probability), abs=1e-12)
    for k in (0, 40, 100, 150):
        assert curve.precision[k] == pytest.approx(precision_score(truth, probability >= k / BINS))
        assert curve.recall[k] == pytest.approx(recall_score(truth, probability >= k / BINS))


def test_without_a_landslide_there_is_no_area() -> None:
    assert math.isnan(curve_of(np.array([0.2, 0.7]), np.array([False, False])).average_precision)
