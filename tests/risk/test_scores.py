"""Figures of merit against scikit-learn's own, drawn or not; intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from zoo.risk.scores import (
    SortedProbabilities,
    auc,
    base_rate,
    block_bootstrap,
    intervals,
    paired_intervals,
    rate_curve,
    reliability,
)


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with some of both, and probabilities with many ties."""
    size = draw(st.integers(2, 60))
    seed = draw(st.integers(0, 10_000))
    steps = draw(st.sampled_from([1, 4, 10, 10**6]))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    labels[:2] = [0, 1]
    return labels, rng.integers(0, steps + 1, size) / steps


def expected(labels: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Scores by scikit-learn, which returns 0 for an undefined correlation."""
    called = probability >= 0.5
    return {
        "accuracy": metrics.accuracy_score(labels, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, called),
        "mcc": metrics.matthews_corrcoef(labels, called) if 0 < called.sum() < len(labels) else np.nan,
        "auc": metrics.roc_auc_score(labels, probability),
        "pr_auc": metrics.average_precision_score(labels, probability),
        "mse": metrics.brier_score_loss(labels, probability),
        "rmse": metrics.root_mean_squared_error(labels, probability),
    }


@given(judged())
@settings(max_examples=40)
def test_scores_are_those_of_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probability = data
    assert auc(labels, probability) == pytest.approx(metrics.roc_auc_score(labels, probability))
    found = SortedProbabilities(labels, probability).scores()
    for name, value in expected(labels, probability).items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 1, 1, 1, 0])
    probability = np.array([0.05, 0.05, 0.95, 1.0, 0.51])
    # Bins: two rows with 0.5 against 0.05; two with 1 against 0.975; one with 0 against 0.51.
    found = SortedProbabilities(labels, probability).scores()
    assert found["ece"] == pytest.approx((2 * 0.45 + 2 * 0.025 + 0.51) / 5)


def test_a_model_that_never_calls_a_landslide_has_the_base_rate_as_accuracy_and_no_mcc() -> None:
    labels = np.array([1] + [0] * 35)
    judged = SortedProbabilities(labels, np.full(36, 0.1))
    found = judged.scores()
    assert found["accuracy"] == pytest.approx(base_rate(labels)) == pytest.approx(35 / 36)
    assert found["balanced_accuracy"] == 0.5
    assert np.isnan(found["mcc"])
    assert "mcc" not in intervals(judged, None, repeats=10)


@given(judged(), st.integers(0, 1000))
@settings(max_examples=50)
def test_weights_count_rows_as_drawing_them_does(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, probability = data
    times = np.random.default_rng(seed).integers(0, 4, len(labels)).astype(float)
    times[:2] = 1
    rows = np.repeat(np.arange(len(labels)), times.astype(int))
    found = SortedProbabilities(labels, probability).scores(times)
    for name, value in expected(labels[rows], probability[rows]).items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_ranking_is_within_folds_and_the_rest_over_all() -> None:
    rng = np.random.default_rng(0)
    labels, fold = rng.integers(0, 2, 300), np.repeat([0, 1, 2], 100)
    # Each fold's model has an offset of its own, which pooling would take for errors of ranking.
    probability = np.clip(0.3 * labels + 0.2 * fold + rng.uniform(0, 0.3, 300), 0, 1)
    found = SortedProbabilities(labels, probability, fold)
    each = [metrics.roc_auc_score(labels[fold == one], probability[fold == one]) for one in range(3)]
    assert found.fold_auc() == pytest.approx(each)
    assert found.scores()["auc"] == pytest.approx(np.mean(each))
    assert found.scores()["auc"] > auc(labels, probability)
    assert found.scores()["mse"] == pytest.approx(metrics.brier_score_loss(labels, probability))


def test_a_fold_of_one_label_is_left_out_of_ranking() -> None:
    labels, fold = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    found = SortedProbabilities(labels, np.array([0.1, 0.9, 0.5, 0.5]), fold).scores()
    assert found["auc"] == 1.0
    none = SortedProbabilities(np.ones(4, dtype=np.int64), np.full(4, 0.5), fold).scores()
    assert np.isnan(none["auc"])
    assert none["accuracy"] == 1.0


def test_intervals_hold_the_figure_and_widen_over_places_that_repeat_each_other() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(30), 40)
    level = rng.normal(size=30)[place]
    labels = (rng.uniform(size=1200) < 1 / (1 + np.exp(-2 * level))).astype(int)
    probability = np.clip(0.5 + 0.2 * rng.normal(size=30)[place] + 0.1 * (labels - 0.5), 0, 1)
    one = SortedProbabilities(labels, probability, np.zeros(1200, dtype=np.int64))
    rows, places = intervals(one, None, repeats=200), intervals(one, place, repeats=200)
    for name, value in one.scores().items():
        assert rows[name][0] <= value <= rows[name][1]
        assert places[name][0] <= value <= places[name][1]
    assert np.diff(places["auc"])[0] > 2 * np.diff(rows["auc"])[0]
    assert intervals(one, place, repeats=200) == places


def test_a_95_percent_interval_holds_the_truth_about_as_often() -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 200)
        right = rng.uniform(size=200) < 0.8
        probability = np.where(right, labels, 1 - labels) * 0.8 + 0.1
        low, high = intervals(
            SortedProbabilities(labels, probability, np.zeros(200, dtype=np.int64)), None, repeats=100
        )["accuracy"]
        held += low <= 0.8 <= high
    assert 33 <= held <= 40


def test_a_pair_is_judged_on_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    labels, fold = rng.integers(0, 2, 400), np.zeros(400, dtype=np.int64)
    probability = np.clip(0.5 + 0.2 * (labels - 0.5) + rng.normal(0, 0.2, 400), 0, 1)
    better = SortedProbabilities(labels, np.clip(probability + 0.02 * (labels - 0.5), 0, 1), fold)
    plain = SortedProbabilities(labels, probability, fold)
    assert paired_intervals(plain, plain, None, repeats=50)["auc"] == (0.0, 0.0, 0.0)
    value, low, high = paired_intervals(better, plain, None, repeats=100)["auc"]
    assert 0 < low <= value <= high
    # Alone, the two intervals overlap: only the pairing shows the difference.
    assert intervals(plain, None, repeats=100)["auc"][1] > intervals(better, None, repeats=100)["auc"][0]


def test_the_bootstrap_draws_whole_blocks() -> None:
    block = np.repeat([7, 8, 9], [1, 2, 3])
    seen: list[np.ndarray] = []

    def fit(times: np.ndarray) -> dict[str, float]:
        seen.append(times)
        return {"n": float(times.sum())}

    block_bootstrap(fit, block, 6, repeats=30)
    for times in seen:
        assert len(set(times[1:3])) == len(set(times[3:])) == 1
        assert times[[0, 1, 3]].sum() == 3


def test_rate_curve_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, 0])
    x, y = rate_curve(labels, np.array([0.9, 0.8, 0.8, 0.2, 0.1]))
    at = np.array([0, 0.2, 0.6, 0.8, 1])
    np.testing.assert_allclose(np.interp(at, x, y), [0, 0.5, 1, 1, 1])


def test_reliability_by_hand() -> None:
    bins = reliability(np.array([0, 1, 1]), np.array([0.02, 0.08, 1.0]))
    np.testing.assert_allclose(bins.predicted, [0.05, 1.0])
    np.testing.assert_allclose(bins.observed, [0.5, 1.0])
    assert bins.rows.tolist() == [2, 1]
