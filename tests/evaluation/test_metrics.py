"""Metrics agree with scikit-learn, and are undefined where they should be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as judge

from zoo.evaluation import metrics
from zoo.evaluation.columns import summarise
from zoo.evaluation.counts import Counts

cells = st.tuples(*[st.integers(0, 30)] * 4)
JUDGES = {
    "dice": judge.f1_score,
    "iou": judge.jaccard_score,
    "precision": judge.precision_score,
    "recall": judge.recall_score,
    "accuracy": judge.accuracy_score,
    "mcc": judge.matthews_corrcoef,
}


def arrays(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value]) for value in (tp, fp, fn, tn))


@pytest.mark.parametrize("name", JUDGES)
@given(cells)
def test_metric_agrees_with_scikit_learn(name: str, cell: tuple[int, int, int, int]) -> None:
    tp, fp, fn, tn = cell
    value = float(getattr(metrics, name)(*arrays(*cell))[0])
    if math.isnan(value):
        return
    truth = [1] * tp + [0] * fp + [1] * fn + [0] * tn
    predicted = [1] * tp + [1] * fp + [0] * fn + [0] * tn
    assert value == pytest.approx(JUDGES[name](truth, predicted), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("dice", (0, 0, 0, 9)),
        ("precision", (0, 0, 3, 9)),
        ("recall", (0, 3, 0, 9)),
        ("mcc", (3, 0, 0, 0)),
        ("accuracy", (0, 0, 0, 0)),
    ],
)
def test_metric_is_undefined_without_what_it_divides_by(name: str, cell: tuple[int, int, int, int]) -> None:
    assert math.isnan(getattr(metrics, name)(*arrays(*cell))[0])


def test_mcc_does_not_overflow() -> None:
    big = 10**12
    assert metrics.mcc(*arrays(big, 0, 0, big))[0] == pytest.approx(1)


def test_the_averages_differ() -> None:
    # Two images with landslides, Dice 1 and 0.5, and an empty one with false positives.
    counts = Counts(*(np.array(v) for v in ([10, 100, 0], [0, 100, 5], [0, 100, 0], [90, 0, 95])))
    figures = summarise(counts, pixel_size=10.0)
    assert figures["dice_per_image"] == pytest.approx(0.75)
    assert figures["dice"] == pytest.approx(220 / (220 + 105 + 100))
    assert figures["false_positives_per_km2"] == pytest.approx(5 / (100 * 100 / 1e6))


def test_a_model_that_predicts_nothing_has_no_precision() -> None:
    figures = summarise(Counts(*(np.array(v) for v in ([0], [0], [7], [93]))))
    assert figures["dice"] == 0
    assert figures["precision"] is None
    assert "false_positives_per_km2" not in figures
