"""The classifier learns when and where it slides, and is one of scikit-learn's kind."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zoo_mondini
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from zoo_mondini.estimator import MondiniClassifier
from zoo_mondini.synthetic import make_histories

from zoo.errors import ConfigError, DataError, ModelError, ZooError

RAIN = [f"P_t-{lag}" for lag in range(1, 73)]
FEATURES = [*RAIN, "slope"]


@pytest.fixture(scope="module")
def places() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = make_histories(4000, seed=2)
    return table.iloc[:3000], table.iloc[3000:]


@pytest.fixture(scope="module")
def fitted(places: tuple[pd.DataFrame, pd.DataFrame]) -> MondiniClassifier:
    train, _ = places
    return MondiniClassifier().fit(train[FEATURES], train["landslide"])


def shuffled(table: pd.DataFrame) -> pd.DataFrame:
    rain = table[RAIN].sample(frac=1, random_state=0).to_numpy()
    return table.assign(**dict(zip(RAIN, rain.T, strict=True)))


def auc(model: MondiniClassifier, table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["landslide"], model.predict_proba(table[FEATURES])[:, 1]))


def test_it_learns_what_a_slope_alone_cannot_tell(
    places: tuple[pd.DataFrame, pd.DataFrame], fitted: MondiniClassifier
) -> None:
    train, test = places
    static = LogisticRegression().fit(train[["slope"]], train["landslide"]).predict_proba(test[["slope"]])[:, 1]
    alone = roc_auc_score(test["landslide"], static)
    truth = roc_auc_score(test["landslide"], test["probability"])
    assert alone < 0.85 < 0.95 < truth
    assert alone + 0.10 < auc(fitted, test) > truth - 0.04
    probability = fitted.predict_proba(test[FEATURES])[:, 1]
    assert abs(probability.mean() - test["landslide"].mean()) < 0.05
    assert np.mean((probability - test["landslide"]) ** 2) < 0.7 * test["landslide"].var()
    assert fitted.slope_threshold_ is not None
    assert 22 < fitted.slope_threshold_ < 30


def test_rain_of_other_places_destroys_it(places: tuple[pd.DataFrame, pd.DataFrame], fitted: MondiniClassifier) -> None:
    train, test = places
    assert auc(fitted, shuffled(test)) < 0.75 < auc(fitted, test)
    blind = MondiniClassifier(steps=400).fit(shuffled(train)[FEATURES], train["landslide"])
    alone = roc_auc_score(test["landslide"], test["slope"])
    assert auc(blind, test) < alone + 0.02


def test_one_seed_one_fit(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = places
    fits = []
    for seed in (5, 5, 6):
        torch.rand(1)  # the global generator is elsewhere each time
        model = MondiniClassifier(steps=20, random_state=seed).fit(train[FEATURES], train["landslide"])
        fits.append(model.predict_proba(test[FEATURES]))
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


def test_a_stopped_fit_leaves_the_earlier_one(
    places: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = places[0].iloc[:200]
    model = MondiniClassifier(steps=3, width=2).fit(table[FEATURES], table["landslide"])
    before = model.predict_proba(table[FEATURES])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo_mondini.estimator._Rows.loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table[[*RAIN[:60], "slope"]], 1 - table["landslide"])
    assert np.array_equal(before, model.predict_proba(table[FEATURES]))


def test_the_weights_of_the_best_step_are_kept() -> None:
    table = make_histories(300, hours=12, seed=6)
    table["landslide"] = np.arange(300) % 3 == 0
    long = MondiniClassifier(width=4, batch_size=64).fit(table, table["landslide"])
    assert long.steps_ < 600
    short = MondiniClassifier(width=4, batch_size=64, steps=long.steps_).fit(table, table["landslide"])
    assert np.array_equal(long.predict_proba(table), short.predict_proba(table))


def test_fitting_leaves_the_global_generator_alone(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    before = torch.random.get_rng_state()
    MondiniClassifier(steps=2).fit(places[0][FEATURES], places[0]["landslide"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_is_a_classifier_of_scikit_learn(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table = places[0].iloc[:400]
    model = MondiniClassifier(steps=30, width=4)
    assert is_classifier(model)
    assert clone(model).get_params() == model.get_params()
    scores = cross_val_predict(model, table[FEATURES], table["landslide"], cv=3, method="predict_proba")
    assert scores.shape == (400, 2)
    assert np.allclose(scores.sum(1), 1)
    assert ((scores >= 0) & (scores <= 1)).all()
    words = np.where(table["landslide"] == 1, "yes", "no")
    named = model.fit(table[FEATURES], words)
    assert set(named.predict(table[FEATURES])) <= {"no", "yes"}
    copy = pickle.loads(pickle.dumps(named))
    assert np.array_equal(copy.predict_proba(table[FEATURES]), named.predict_proba(table[FEATURES]))


def test_the_order_of_columns_and_other_columns_do_not_matter(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table = places[0].iloc[:300]
    model = MondiniClassifier(steps=5, width=4).fit(table[FEATURES], table["landslide"])
    more = table[["probability", *FEATURES[::-1]]]
    assert np.array_equal(model.predict_proba(more), model.predict_proba(table[FEATURES]))
    array = MondiniClassifier(steps=5, width=4, slope=-1).fit(table[FEATURES].to_numpy(), table["landslide"])
    assert np.array_equal(array.predict_proba(table[FEATURES].to_numpy()), model.predict_proba(table[FEATURES]))


def test_below_a_mask_in_degrees_nothing_slides(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = places
    model = MondiniClassifier(mask=20.0, steps=30).fit(train[FEATURES], train["landslide"])
    probability = model.predict_proba(test[FEATURES])[:, 1]
    assert np.array_equal(probability == 0, (test["slope"].astype(np.float32) < 20).to_numpy())
    assert model.slope_threshold_ == 20


def test_without_a_slope_the_rain_alone_decides(places: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = places
    model = MondiniClassifier(slope=None, steps=30).fit(train[RAIN], train["landslide"])
    flat = model.predict_proba(test.assign(slope=0.0)[FEATURES])
    assert np.array_equal(flat, model.predict_proba(test[RAIN]))
    assert model.slope_threshold_ is None


def test_few_rows_are_all_learned_from() -> None:
    table = make_histories(60, hours=6, seed=3)
    table["landslide"] = np.arange(60) % 10 == 0
    model = MondiniClassifier(steps=12, width=2).fit(table, table["landslide"])
    assert model.steps_ == 12
    assert np.isfinite(model.predict_proba(table)).all()


def test_the_registered_risk_model_is_a_classifier_that_says_what_a_table_lacks() -> None:
    assert is_classifier(zoo_mondini.MONDINI.resolve()())
    unsupported_reason = zoo_mondini.MONDINI.resolve(zoo_mondini.MONDINI.unsupported_reason)
    assert unsupported_reason(make_histories(5, hours=4, seed=4)) is None
    gap = make_histories(5, hours=4, seed=4).drop(columns="P_t-1")
    assert "step 1 is not among the columns" in unsupported_reason(gap)


TABLE = make_histories(80, hours=4, seed=4)
LABELS = np.arange(80) % 2


@pytest.mark.parametrize(
    ("arguments", "labels", "kind", "words"),
    [
        ({}, np.zeros(80), DataError, "there are 1 classes of labels"),
        ({}, np.arange(80) % 3, DataError, "there are 3 classes of labels"),
        ({}, np.where(LABELS == 1, np.nan, 0.0), DataError, "a label is NaN"),
        ({}, [None, *LABELS[1:]], DataError, "a label is NaN or missing"),
        ({}, LABELS[:79], DataError, "labels of shape (79,) for 80 rows"),
        ({"steps": 0}, LABELS, ConfigError, "steps must be a positive integer"),
        ({"learning_rate": 0.0}, LABELS, ConfigError, "learning_rate > 0"),
        ({"validation": 1.0}, LABELS, ConfigError, "validation < 1"),
        ({"mask": "steep"}, LABELS, ConfigError, "mask must be 'learned' or degrees, not 'steep'"),
        ({"mask": None}, LABELS, ConfigError, "or degrees, not None"),
        ({"mask": 95.0}, LABELS, ConfigError, "mask must be 0 to 90 degrees"),
        ({"mask": 10.0, "slope": None}, LABELS, ConfigError, "needs the slope"),
        ({"mask": 80.0}, LABELS, DataError, "degrees are of one class"),
        ({"slope": "hang"}, LABELS, ZooError, "unknown column 'hang'"),
        ({"learning_rate": 1e30}, LABELS, ModelError, "lower learning_rate"),
    ],
)
def test_what_cannot_be_fitted(arguments: dict[str, Any], labels: Any, kind: type[ZooError], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        MondiniClassifier(**({"steps": 3, "width": 2} | arguments)).fit(TABLE, labels)


def test_what_cannot_be_predicted() -> None:
    with pytest.raises(ModelError, match="not fitted"):
        MondiniClassifier().predict_proba(TABLE)
    model = MondiniClassifier(steps=1, width=2, slope=None).fit(np.ones((20, 5)), np.arange(20) % 2)
    with pytest.raises(DataError, match="histories of 5 steps, got 4"):
        model.predict_proba(np.ones((20, 4)))
