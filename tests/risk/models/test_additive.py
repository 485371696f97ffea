"""GAMM: its solver against scikit-learn, smooths, random intercepts; dynamic thresholds; spatial x meteorological."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from zoo.errors import ConfigError, DataError
from zoo.risk import logistic
from zoo.risk.logistic import fit_penalised
from zoo.risk.models.additive import AdditiveDesign, AdditiveMixed, DynamicThresholds, SpatialMeteo, Spline


def test_the_solver_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = (rng.uniform(size=500) < 1 / (1 + np.exp(-x @ [1, -2, 0, 0.5] - 0.7))).astype(float)
    design = np.column_stack([np.ones(500), x])
    penalty = np.diag([0.0, 2.0, 2.0, 2.0, 2.0])
    found = fit_penalised(lambda: iter([(design[:200], y[:200]), (design[200:], y[200:])]), penalty)
    judge = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(found, [judge.intercept_[0], *judge.coef_[0]], atol=1e-5)


def test_labels_that_are_separated_have_an_answer() -> None:
    x = np.linspace(-1, 1, 50)
    design = np.column_stack([np.ones(50), x])
    found = fit_penalised(lambda: iter([(design, (x > 0).astype(float))]), np.diag([0.0, 1e-3]))
    assert np.isfinite(found).all()
    assert found[1] > 5


def test_a_valley_is_found_that_no_line_can_follow() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 3000)
    y = (rng.uniform(size=3000) < 1 / (1 + np.exp(-(x**2 - 3)))).astype(int)
    model = AdditiveMixed(smoothness=3.0).fit(pd.DataFrame({"x": x}), y)
    at = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(model.logit(pd.DataFrame({"x": at})), at**2 - 3, atol=0.6)


def test_a_strong_penalty_leaves_a_straight_line() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3, 3, 2000))
    y = (rng.uniform(size=2000) < 1 / (1 + np.exp(-(x**2 - 3 + x)))).astype(int)
    at = pd.DataFrame({"x": [-1.0, 0.0, 1.0]})
    stiff = AdditiveMixed(smoothness=1e9).fit(pd.DataFrame({"x": x}), y).logit(at)
    free = AdditiveMixed(smoothness=1.0).fit(pd.DataFrame({"x": x}), y).logit(at)
    assert abs(stiff[0] - 2 * stiff[1] + stiff[2]) < 0.3 < abs(free[0] - 2 * free[1] + free[2])


def test_few_values_are_a_line_and_beyond_the_knots_it_goes_on_straight() -> None:
    assert Spline(np.array([0.0, 1.0] * 10), 8).width == 1
    spline = Spline(np.linspace(0, 1, 100), 6)
    outside = spline.basis(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(outside[2] - outside[1], outside[1] - outside[0], atol=1e-9)


def test_a_region_shifts_its_places_and_a_new_one_is_the_mean() -> None:
    rng = np.random.default_rng(0)
    region = rng.choice(["wet", "dry"], 1000)
    y = (rng.uniform(size=1000) < np.where(region == "wet", 0.8, 0.2)).astype(int)
    frame = pd.DataFrame({"x": rng.normal(size=1000), "region": region})
    model = AdditiveMixed(group="region", smoothness=100.0).fit(frame, y)
    asked = pd.DataFrame({"x": [0.0, 0.0, 0.0], "region": ["wet", "dry", "elsewhere"]})
    wet, dry, new = model.predict_proba(asked)[:, 1]
    assert wet == pytest.approx(0.8, abs=0.08)
    assert dry == pytest.approx(0.2, abs=0.08)
    assert new == pytest.approx(0.5, abs=0.08)
    pulled = AdditiveMixed(group="region", group_ridge=1e6, smoothness=100.0).fit(frame, y)
    assert np.ptp(pulled.predict_proba(asked)[:, 1]) < 0.01


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "z": rng.normal(size=300)})
    y = (rng.uniform(size=300) < 1 / (1 + np.exp(-frame["x"]))).astype(int).to_numpy()
    whole = AdditiveMixed(smoothness=10.0).fit(frame, y).logit(frame)
    monkeypatch.setattr("zoo.risk.models.additive.BLOCK_ROWS", 70)
    for kept in (60_000_000, 1):
        monkeypatch.setattr("zoo.risk.models.additive._CACHED_NUMBERS", kept)
        np.testing.assert_allclose(AdditiveMixed(smoothness=10.0).fit(frame, y).logit(frame), whole, atol=1e-6)
    assert logistic.BLOCK_ROWS > 70


def test_penalties_fit_the_design() -> None:
    frame = pd.DataFrame({"x": np.arange(50.0), "P": np.arange(50.0), "D": np.ones(50), "g": ["a", "b"] * 25})
    smooths = AdditiveDesign(6, group="g", product=("P", "D")).fit(frame)
    design = smooths.transform(frame)
    penalty = smooths.penalty(3.0, 1.0)
    assert penalty.shape == (design.shape[1],) * 2
    assert (np.linalg.eigvalsh(penalty) > -1e-9).all()
    with pytest.raises(ConfigError):
        AdditiveMixed(knots=2).fit(frame[["x"]], np.array([0, 1] * 25))


def storms(rows: int = 3000) -> tuple[pd.DataFrame, np.ndarray]:
    """Slopes fail above an intensity that falls with the duration: ln P > 2 - 0.5 ln D."""
    rng = np.random.default_rng(0)
    rain, days = np.exp(rng.normal(1.5, 0.8, rows)), np.exp(rng.uniform(-1.5, 1.5, rows))
    slope = rng.uniform(0, 40, rows)
    logit = 4 * (np.log(rain) - 2 + 0.5 * np.log(days)) + 0.1 * (slope - 20)
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return pd.DataFrame({"slope": slope, "P": rain, "D": days}), labels


def test_thresholds_fall_with_duration_and_keep_their_rates() -> None:
    frame, labels = storms()
    model = DynamicThresholds(rain=("P", "D"), smoothness=10.0).fit(frame, labels)
    table = model.dynamic(tpr=0.9, durations=[0.4, 1.0, 2.5])
    assert table["intensity"].is_monotonic_decreasing
    assert table["intensity"].between(1, 15).all()
    cut, tpr, fpr = model.cutpoint(tpr=0.9)
    assert 0.9 <= tpr < 0.91
    new, truth = storms(6000)
    held = model.predict_proba(new[3000:])[:, 1] >= cut
    assert held[truth[3000:] == 1].mean() == pytest.approx(0.9, abs=0.04)
    assert held[truth[3000:] == 0].mean() == pytest.approx(fpr, abs=0.04)
    # The rain of the table is the rain at which the model says the cutpoint.
    at = model.place_.iloc[[0, 0, 0]].assign(P=table["intensity"].to_numpy(), D=table["duration"].to_numpy())
    np.testing.assert_allclose(model.predict_proba(at)[:, 1], cut, atol=0.01)


def test_a_lower_rate_needs_more_rain_and_steep_places_need_less() -> None:
    frame, labels = storms()
    model = DynamicThresholds(rain=("P", "D"), smoothness=10.0).fit(frame, labels)
    many, few = (model.dynamic(tpr=rate, durations=[1.0])["intensity"].iloc[0] for rate in (0.95, 0.6))
    assert many < few
    places = pd.DataFrame({"slope": [5.0, 35.0], "P": 1.0, "D": 1.0})
    gentle, steep = model.dynamic(tpr=0.9, durations=[1.0], places=places)["intensity"]
    assert steep < gentle
    _, _, fpr = model.cutpoint(fpr=0.1)
    assert 0.09 < fpr <= 0.1


def test_impossible_cutpoints_and_durations_are_refused() -> None:
    frame, labels = storms(800)
    model = DynamicThresholds(rain=("P", "D"), smoothness=10.0).fit(frame, labels)
    dry = model.dynamic(tpr=0.05, durations=[0.25], places=pd.DataFrame({"slope": [0.0], "P": 1.0, "D": 1.0}))
    wet = model.dynamic(tpr=0.999, durations=[4.0], places=pd.DataFrame({"slope": [40.0], "P": 1.0, "D": 1.0}))
    assert dry["intensity"].iloc[0] > wet["intensity"].iloc[0]
    for options in ({}, {"tpr": 0.9, "fpr": 0.1}, {"tpr": 1.0}, {"fpr": float("nan")}):
        with pytest.raises(ConfigError):
            model.cutpoint(**options)
    for durations in ([0.0], [float("inf")]):
        with pytest.raises(ConfigError, match="duration"):
            model.dynamic(tpr=0.9, durations=durations)
    with pytest.raises(ConfigError, match="need rain"):
        DynamicThresholds().fit(frame, labels)


@pytest.mark.parametrize("combine", ["additive", "product"])
def test_where_and_when_together_beat_each_alone(combine: str) -> None:
    frame, labels = storms()
    model = SpatialMeteo(combine=combine, rain=("P", "D")).fit(frame[:2000], labels[:2000])
    both = roc_auc_score(labels[2000:], model.predict_proba(frame[2000:])[:, 1])
    spatial, meteo = model._logits(model.models_, frame[2000:]).T
    assert both > max(roc_auc_score(labels[2000:], spatial), roc_auc_score(labels[2000:], meteo))
    assert model.predict_proba(frame)[:, 1].mean() == pytest.approx(labels.mean(), abs=0.08)


def test_the_two_models_need_their_columns() -> None:
    frame, labels = storms(200)
    with pytest.raises(ConfigError, match="combination"):
        SpatialMeteo(combine="sum", rain=("P", "D")).fit(frame, labels)
    with pytest.raises(ConfigError, match="needs rain"):
        SpatialMeteo().fit(frame, labels)
    with pytest.raises(DataError, match="only has rain columns"):
        SpatialMeteo(rain=("P", "D")).fit(frame[["P", "D"]], labels)
