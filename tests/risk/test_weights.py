import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from zoo.errors import DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, rainfall_factor
from zoo.risk.logistic import fit_logistic
from zoo.risk.weights import (
    FittedWeights,
    _dense_ranks,
    _rank_correlation,
    fit_rain,
    fit_ranges,
    fit_weights,
    weights_from_expert,
    weights_from_logistic,
    weights_from_spearman,
)

UNIT = FeatureRange(0.0, 1.0)


def places(count=3000, seed=0, slope=4.0, dem=-2.0):
    """Slope pushes towards landslides, DEM away from them, NDVI does nothing."""
    rng = np.random.default_rng(seed)
    features = {name: rng.random(count) for name in ("slope", "DEM", "NDVI")}
    logit = -1.0 + slope * features["slope"] + dem * features["DEM"]
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return features, labels, dict.fromkeys(features, UNIT)


def test_free_logistic_regression_agrees_with_scikit_learn():
    features, labels, ranges = places()
    x = np.column_stack(list(features.values()))
    judge = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, labels)
    ours = fit_logistic(x, labels)
    assert ours.coefficients == pytest.approx(judge.coef_[0], abs=1e-4)
    assert ours.intercept == pytest.approx(judge.intercept_[0], abs=1e-4)
    fitted = weights_from_logistic(features, labels, ranges, signs=None, repeats=0)
    assert fitted.slope == pytest.approx(np.abs(judge.coef_).sum(), abs=1e-3)
    assert list(fitted.weights.values()) == pytest.approx(judge.coef_[0] / np.abs(judge.coef_).sum(), abs=1e-4)


def test_counting_rows_twice_is_repeating_them():
    features, labels, _ = places(400)
    x = np.column_stack(list(features.values()))
    times = np.random.default_rng(1).integers(0, 4, len(labels))
    rows = np.repeat(np.arange(len(labels)), times)
    weighted = fit_logistic(x, labels, weight=times.astype(float))
    repeated = fit_logistic(x[rows], labels[rows])
    assert weighted.coefficients == pytest.approx(repeated.coefficients, abs=1e-4)
    ranks = _rank_correlation(_dense_ranks(x), labels, times.astype(float))
    assert ranks == pytest.approx([spearmanr(column[rows], labels[rows])[0] for column in x.T])


def test_a_contradicted_sign_sets_the_weight_to_zero_and_is_reported():
    features, labels, ranges = places()
    for method in (weights_from_logistic, weights_from_spearman):
        fitted = method(features, labels, ranges, repeats=20)
        assert fitted.weights["DEM"] == 0
        assert fitted.contradicted["DEM"] < 0
        assert fitted.intervals["DEM"] == (0, 0)
        assert fitted.weights["slope"] > 0.8
        free = method(features, labels, ranges, signs=None, repeats=0)
        assert free.weights["DEM"] < -0.2
        assert not free.contradicted


def test_rank_correlation_is_spearmans():
    features, labels, ranges = places(500)
    fitted = weights_from_spearman(features, labels, ranges, signs=None, repeats=0)
    judge = np.array([spearmanr(values, labels)[0] for values in features.values()])
    assert list(fitted.weights.values()) == pytest.approx(judge / np.abs(judge).sum())


def test_the_weights_of_table_1_are_scaled_to_the_present_features():
    rng = np.random.default_rng(0)
    features = {name: rng.random(200) for name in PAPER_WEIGHTS}
    labels = (features["slope"] > 0.6).astype(np.int64)
    whole = weights_from_expert(features, labels, dict.fromkeys(PAPER_WEIGHTS, UNIT))
    assert dict(whole.weights) == pytest.approx(dict(PAPER_WEIGHTS))
    part = weights_from_expert(features, labels, dict.fromkeys(("slope", "DEM"), UNIT))
    assert dict(part.weights) == pytest.approx({"slope": 0.625, "DEM": 0.375})
    with pytest.raises(UnknownNameError, match="slope"):
        weights_from_expert(features, labels, {"slpoe": UNIT})


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(["logistic", "spearman", "expert"]), st.floats(0.5, 100))
def test_absolute_weights_sum_to_one_for_any_unit(seed, method, scale):
    features, labels, _ = places(300, seed)
    features["DEM"] = features["DEM"] * 3000 * scale
    fitted = fit_weights(method, features, labels, fit_ranges(features), repeats=0)
    assert sum(map(abs, fitted.weights.values())) == pytest.approx(1)
    low, high = (sum(w for w in fitted.weights.values() if (w > 0) == side) for side in (False, True))
    total = fitted.weighted_sum(features)
    assert low - 1e-9 <= total.min() <= total.max() <= high + 1e-9


def test_intervals_hold_the_truth_and_are_wider_over_blocks():
    rng = np.random.default_rng(3)
    # Sixteen blocks, each with one slope and one fate: 2000 rows say no more than sixteen.
    block = np.arange(2000) % 16
    features = {"slope": rng.random(16)[block] + rng.normal(0, 0.01, 2000), "DEM": rng.random(2000)}
    labels = (rng.random(16) < 0.5).astype(np.int64)[block]
    ranges = fit_ranges(features)
    rows = weights_from_logistic(features, labels, ranges, signs=None, repeats=60).intervals["slope"]
    blocks = weights_from_logistic(features, labels, ranges, signs=None, blocks=block, repeats=60).intervals["slope"]
    assert blocks[1] - blocks[0] > 2 * (rows[1] - rows[0])
    features, labels, ranges = places(seed=1)
    found = weights_from_logistic(features, labels, ranges, signs=None, repeats=60).intervals
    assert found["slope"][0] < 4 / 6 < found["slope"][1]
    assert found["NDVI"][0] < 0 < found["NDVI"][1]


@pytest.mark.parametrize("method", ["logistic", "spearman"])
def test_labels_of_one_class_are_refused(method):
    features, labels, ranges = places(100)
    with pytest.raises(DataError, match="label"):
        fit_weights(method, features, np.zeros_like(labels), ranges)


@pytest.mark.parametrize("method", ["logistic", "spearman"])
def test_features_that_all_point_the_wrong_way_are_refused(method):
    features, labels, ranges = places(1000, slope=-4, dem=-4)
    del features["NDVI"], ranges["NDVI"]
    with pytest.raises(DataError, match="direction"):
        fit_weights(method, features, labels, ranges)


def test_a_constant_or_broken_feature_is_named():
    with pytest.raises(DataError, match="SMI"):
        fit_ranges({"slope": np.arange(10.0), "SMI": np.full(10, 0.3)})
    with pytest.raises(DataError, match="slope"):
        fit_ranges({"slope": np.array([1.0, np.nan])})


def test_an_unknown_method_has_a_suggestion():
    with pytest.raises(UnknownNameError, match="logistic"):
        fit_weights("logistics", *places(50))


def test_the_sum_of_rows_by_hand():
    fitted = FittedWeights(
        {"slope": 0.75, "NDVI": -0.25}, {"slope": FeatureRange(0, 60), "NDVI": FeatureRange(-1, 1)}, "expert", 0, 1
    )
    assert fitted.weighted_sum({"slope": [30, 90], "NDVI": [0, 1]}) == pytest.approx([0.375 - 0.125, 0.75 - 0.25])


def storms(count=6000, seed=0, a=0.0, b=3.0, alpha=1.5, beta=0.6, p0=6.0):
    rng = np.random.default_rng(seed)
    p, d = rng.lognormal(np.log(6), 0.8, count), np.exp(rng.uniform(np.log(0.25), np.log(4), count))
    s = rng.uniform(-0.2, 0.6, count)
    logit = a + b * s + alpha * np.log(p / p0) + beta * np.log(d)
    return p, d, s, (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def test_exponents_are_found_again():
    found = fit_rain(*storms(), blocks=np.arange(6000) // 20, repeats=40)
    assert found.parameters.alpha == pytest.approx(1.5, abs=0.12)
    assert found.parameters.beta == pytest.approx(0.6, abs=0.12)
    assert found.slope == pytest.approx(3.0, abs=0.4)
    assert found.parameters.duration == 1.0
    for name, truth in (("alpha", 1.5), ("beta", 0.6)):
        assert found.intervals[name][0] < truth < found.intervals[name][1]
    assert not found.notes


def test_the_reference_is_where_odds_are_even_at_the_average_place():
    p, d, s, labels = storms()
    found = fit_rain(p, d, s, labels, repeats=0)
    parameters = found.parameters
    # By the definition: a + b mean(S) is the odds of the sample, and there a + b mean(S) of the truth is 0 at P0.
    share = labels.mean()
    assert found.intercept + found.slope * s.mean() == pytest.approx(np.log(share / (1 - share)))
    expected = 6.0 * np.exp((np.log(share / (1 - share)) - 3.0 * s.mean()) / 1.5)
    assert parameters.intensity == pytest.approx(expected, rel=0.08)


def test_another_unit_of_the_reference_changes_no_logit():
    p, d, s, labels = storms(2000)
    one, other = fit_rain(p, d, s, labels, repeats=0), fit_rain(p * 25.4, d, s, labels, repeats=0)
    assert other.parameters.intensity == pytest.approx(25.4 * one.parameters.intensity, rel=1e-3)
    logits = [
        found.intercept + found.slope * s + np.log(rainfall_factor(p * k, d, found.parameters))
        for found, k in ((one, 1.0), (other, 25.4))
    ]
    assert logits[0] == pytest.approx(logits[1], abs=1e-3)


def test_an_exponent_is_never_negative():
    p, d, s, labels = storms(beta=-1.0)
    found = fit_rain(p, d, s, labels, repeats=0)
    assert found.parameters.beta == 0
    assert "duration" in found.notes[0]


def test_rain_that_does_not_explain_landslides_is_refused():
    p, _, s, labels = storms(500)
    with pytest.raises(DataError, match="same in all rows"):
        fit_rain(np.full(500, 4.0), np.full(500, 2.0), s, labels)
    with pytest.raises(DataError, match="do not increase with rain intensity"):
        fit_rain(*storms(alpha=-1.5), repeats=0)
    found = fit_rain(p, np.full(500, 2.0), s, labels, repeats=0)
    assert found.parameters.beta == 0
    assert any("duration is the same" in note for note in found.notes)


@pytest.mark.parametrize("bad", [0.0, -3.0, np.nan, np.inf])
def test_rain_that_has_no_logarithm_is_refused(bad):
    p, d, s, labels = storms(100)
    p[3] = bad
    with pytest.raises(DataError, match="intensity"):
        fit_rain(p, d, s, labels)
