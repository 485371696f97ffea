"""The histogram gives the exact counts at every threshold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ResultError
from zoo.evaluation.counts import Counts
from zoo.evaluation.metrics import dice
from zoo.evaluation.threshold import BINS, ProbabilityHistogram, above


def sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    # Values on the edges of the bins are where rounding would show.
    values = np.where(rng.random((2, 9, 9)) < 0.5, rng.random((2, 9, 9)), rng.integers(0, BINS + 1, (2, 9, 9)) / BINS)
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(rng.choice([0, 0, 1, 255], (2, 9, 9)))


def best_by_search(probability: torch.Tensor, truth: torch.Tensor) -> float:
    scores = []
    for k in range(1, BINS):
        pooled = Counts.from_masks(above(probability, k / BINS), truth).pooled()
        scores.append(float(dice(pooled.tp, pooled.fp, pooled.fn, pooled.tn)[0]))
    return max(scores)


@given(st.integers(0, 2**31))
def test_histogram_counts_like_the_masks(seed: int) -> None:
    probability, truth = sample(seed)
    histogram = ProbabilityHistogram.empty()
    for image in range(2):
        histogram.update(probability[image : image + 1], truth[image : image + 1])
    for k in (1, 57, 100, 199):
        pooled = Counts.from_masks(above(probability, k / BINS), truth).pooled()
        assert histogram.positive[k:].sum() == pooled.tp[0]
        assert histogram.negative[k:].sum() == pooled.fp[0]
    assert histogram.positive.sum() + histogram.negative.sum() == int((truth != 255).sum())


@given(st.integers(0, 2**31))
def test_best_threshold_is_the_best(seed: int) -> None:
    probability, truth = sample(seed)
    if not (truth == 1).any():
        return
    histogram = ProbabilityHistogram.empty()
    histogram.update(probability, truth)
    pooled = Counts.from_masks(above(probability, histogram.best_threshold()), truth).pooled()
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
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ResultError, match=r"not all within \[0, 1\]"):
        ProbabilityHistogram.empty().update(torch.tensor([[[bad]]]), torch.tensor([[[0]]]))
