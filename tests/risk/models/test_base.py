"""Risk models: one interface, learnable data, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.risk.models import create_risk_model, risk_models, select_risk_models
from zoo.risk.models.base import Encoder, RiskModel, choose, thin_folds
from zoo.risk.models.svm import SupportVectors
from zoo.risk.splits import Fold, random_folds


def places(rows: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Steep places of one rock under much rain slide; a third number means nothing and has gaps."""
    rng = np.random.default_rng(seed)
    slope, noise = rng.uniform(0, 60, rows), rng.normal(size=rows)
    rock = rng.choice(["shale", "granite", "chalk"], rows)
    rain, days = rng.gamma(2, 3, rows), rng.uniform(0.2, 3, rows)
    logit = 0.18 * (slope - 30) + 2.0 * (rock == "shale") + 0.3 * (rain - 6)
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    noise[rng.uniform(size=rows) < 0.1] = np.nan
    features = pd.DataFrame({"slope": slope, "noise": noise, "rock": pd.Categorical(rock), "P": rain, "D": days})
    return features, labels


OPTIONS = {"svm": {"tune": False}, "random_forest": {"trees": 20, "tune": False}, "gamm": {"smoothness": 10.0}}


@pytest.mark.parametrize("name", list(risk_models()))
def test_every_risk_model_learns_and_gives_probabilities(name: str) -> None:
    features, labels = places()
    model = create_risk_model(name, rain=("P", "D"), **OPTIONS.get(name, {}))
    assert isinstance(clone(model), type(model))
    fitted = model.fit(features[:300], labels[:300])
    probability = fitted.predict_proba(features[300:])
    assert probability.shape == (100, 2)
    assert probability.sum(axis=1) == pytest.approx(np.ones(100))
    assert ((probability >= 0) & (probability <= 1)).all()
    assert roc_auc_score(labels[300:], probability[:, 1]) > 0.75
    assert (fitted.predict(features[300:]) == (probability[:, 1] >= 0.5)).all()
    again = clone(model).fit(features[:300], labels[:300]).predict_proba(features[300:])
    np.testing.assert_array_equal(probability, again)


@pytest.mark.parametrize("name", list(risk_models()))
def test_random_labels_give_an_auc_of_one_half(name: str) -> None:
    features, labels = places(1200)
    labels = np.random.default_rng(1).permutation(labels)
    model = create_risk_model(name, rain=("P", "D"), **OPTIONS.get(name, {})).fit(features[:300], labels[:300])
    assert 0.42 < roc_auc_score(labels[300:], model.predict_proba(features[300:])[:, 1]) < 0.58


@pytest.mark.parametrize("name", list(risk_models()))
def test_rows_of_a_new_class_and_with_gaps_are_predicted(name: str) -> None:
    features, labels = places(200)
    model = create_risk_model(name, rain=("P", "D"), **OPTIONS.get(name, {})).fit(features, labels)
    new = features[:5].copy()
    new["rock"] = pd.Categorical(["basalt", None, "shale", "shale", "chalk"])
    new.loc[0, ["slope", "P"]] = np.nan
    assert np.isfinite(model.predict_proba(new)).all()


@pytest.mark.parametrize("name", list(risk_models()))
def test_bad_input_is_refused_with_a_clear_message(name: str) -> None:
    features, labels = places(60)
    model = create_risk_model(name, rain=("P", "D"), **OPTIONS.get(name, {}))
    with pytest.raises(DataError, match="same label"):
        model.fit(features, np.ones(60))
    with pytest.raises(DataError, match="not 0 and 1"):
        model.fit(features, labels + 1)
    with pytest.raises(DataError, match="60 rows"):
        model.fit(features, labels[:-1])
    with pytest.raises(UnknownNameError, match="'P'"):
        model.fit(features.rename(columns={"P": "p"}), labels)
    model.fit(features, labels)
    with pytest.raises(DataError, match="'slope', on which the model was fitted, is missing"):
        model.predict_proba(features.drop(columns="slope"))


def test_names_are_selected_and_misspelt_names_are_refused() -> None:
    six = ["svm", "random_forest", "xgboost", "gamm", "lsi_without_rain", "lsi"]
    assert select_risk_models("all", rain=False) == six
    assert select_risk_models("all", rain=True) == [*six, "dynamic_thresholds", "spatial_meteo"]
    assert select_risk_models("gamm, svm,gamm", rain=False) == ["gamm", "svm"]
    with pytest.raises(UnknownNameError, match="Did you mean 'xgboost'"):
        select_risk_models("xgbost", rain=False)
    with pytest.raises(ConfigError, match="no risk model"):
        select_risk_models(" , ", rain=False)


def test_scales_and_fillings_come_from_training_rows_alone() -> None:
    train = pd.DataFrame({"a": [1.0, 3.0, np.nan], "b": pd.Categorical(["x", "x", "y"])})
    encoder = Encoder().fit(pd.concat([train] * 10, ignore_index=True))
    assert encoder.names == ["a", "a is missing", "b = x", "b = y"]
    filled = np.array([1.0, 3.0, 2.0])
    expected = (100.0 - filled.mean()) / filled.std()
    given = encoder.transform(pd.DataFrame({"a": [100.0, np.nan], "b": pd.Categorical(["y", "z"])}))
    np.testing.assert_allclose(given, [[expected, 0, 0, 1], [0, 1, 0, 0]], atol=1e-12)


def test_a_column_without_spread_or_values_does_no_harm() -> None:
    frame = pd.DataFrame({"a": np.ones(20), "b": np.full(20, np.nan), "c": np.arange(20.0)})
    encoder = Encoder().fit(frame)
    assert encoder.names == ["c"]
    assert np.isfinite(encoder.transform(frame.assign(a=5.0, b=7.0))).all()
    with pytest.raises(DataError, match="no feature is left"):
        Encoder().fit(frame[["a", "b"]])


def test_settings_are_chosen_on_held_out_rows() -> None:
    labels = np.array([0, 1] * 20)
    folds = random_folds(labels, 2)
    asked = []

    def judge(settings: dict[str, int], fold: Fold) -> np.ndarray:
        asked.append((settings["number"], fold.test.tolist()))
        return labels[fold.test] * (1.0 if settings["number"] == 2 else -1.0)

    assert choose([{"number": 1}, {"number": 2}], folds, labels, judge) == {"number": 2}
    assert len(asked) == 4
    assert choose([{"number": 1}, {"number": 2}], [], labels, judge) == {"number": 1}


def test_a_grid_search_uses_a_part_of_a_big_table() -> None:
    folds = random_folds(np.array([0, 1] * 5000), 2)
    for small, fold in zip(thin_folds(folds, 1000, 0), folds, strict=True):
        assert len(small.train) + len(small.test) == 1000
        assert set(small.train) <= set(fold.train)
        assert set(small.test) <= set(fold.test)
    assert [len(fold.train) for fold in thin_folds(folds, 10**6, 0)] == [5000, 5000]


def test_a_big_table_is_sampled_for_the_exact_kernel_with_a_note() -> None:
    features, labels = places(300)
    model = SupportVectors(max_rows=100, tune=False).fit(features, labels)
    assert model.notes_ == ["svm: fitted to 100 of 300 rows, drawn at random"]
    assert SupportVectors(tune=False).fit(features, labels).notes_ == []
    every = SupportVectors(kernel="nystroem", max_rows=100, tune=False).fit(features[:200], labels[:200])
    assert every.notes_ == []
    assert roc_auc_score(labels[200:], every.predict_proba(features[200:])[:, 1]) > 0.75
    for options in ({"kernel": "cubic"}, {"max_rows": 30_000}):
        with pytest.raises(ConfigError):
            SupportVectors(**options).fit(features, labels)  # type: ignore[arg-type]


def test_a_tuned_risk_model_uses_the_folds_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = places(120)
    rows = np.arange(120)
    inner = [Fold(rows[:60], rows[60:]), Fold(rows[60:], rows[:60])]
    seen: list[list[Fold]] = []

    class Watching(RiskModel):
        def _fit(self, X: pd.DataFrame, y: np.ndarray, inner: list[Fold]) -> None:
            seen.append(inner)

    Watching().fit(features, labels, inner)
    assert seen[0] is inner
    Watching().fit(features, labels)
    assert len(seen[1]) == 3


def test_a_setting_that_wins_by_luck_is_not_taken() -> None:
    labels = np.array([0, 1] * 30)
    folds = random_folds(labels, 3)
    lucky = {tuple(folds[0].test): 1.0, tuple(folds[1].test): -0.2, tuple(folds[2].test): -0.2}
    rng = np.random.default_rng(0)

    def judge(settings: dict[str, int], fold: Fold) -> np.ndarray:
        noise = rng.normal(size=len(fold.test))
        return noise if settings["number"] == 1 else noise + lucky[tuple(fold.test)] * labels[fold.test]

    assert choose([{"number": 1}, {"number": 2}], folds, labels, judge) == {"number": 1}
