"""The index as a risk model: equation 4 with fitted weights, with and without rain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics import PAPER_WEIGHTS, rainfall_factor
from zoo.risk.models.index import RainIndex, RainlessIndex


def channels(rows: int = 2000) -> tuple[pd.DataFrame, np.ndarray]:
    """The paper's six channels and rain; steep bare places slide, more under much rain."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.uniform(0, 1, rows) for name in PAPER_WEIGHTS})
    frame["slope"] *= 50
    frame["P"], frame["D"] = rng.gamma(2, 3, rows), rng.uniform(0.3, 2, rows)
    score = 4 * (frame["slope"] / 50 - 0.5) - 3 * (frame["NDVI"] - 0.5) + np.log(frame["P"] / 4)
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(-score))).astype(int).to_numpy()
    return frame, labels


def test_weights_find_what_drives_and_keep_their_signs() -> None:
    frame, labels = channels()
    model = RainlessIndex(rain=("P", "D")).fit(frame, labels)
    assert set(model.weights_) == set(PAPER_WEIGHTS)
    assert sum(map(abs, model.weights_.values())) == pytest.approx(1)
    assert model.weights_["slope"] > 0.4
    assert model.weights_["NDVI"] < -0.25
    flipped = frame.assign(NDVI=1 - frame["NDVI"])
    assert RainlessIndex(rain=("P", "D")).fit(flipped, labels).weights_["NDVI"] == 0


def test_rain_columns_are_not_features_and_change_nothing_without_rain() -> None:
    frame, labels = channels()
    model = RainlessIndex(rain=("P", "D")).fit(frame, labels)
    wet = frame.assign(P=100.0)
    np.testing.assert_array_equal(model.predict_proba(frame), model.predict_proba(wet))


def test_the_probability_is_a_line_through_equation_4() -> None:
    frame, labels = channels()
    model = RainIndex(rain=("P", "D"), clip=(0.8, 1.25)).fit(frame, labels)
    total = sum(weight * model.ranges_[name].scale(frame[name]) for name, weight in model.weights_.items())
    factor = rainfall_factor(frame["P"], frame["D"], clip=(0.8, 1.25))
    expected = model.intercept_ + model.slope_ * factor * total
    np.testing.assert_allclose(logit(model.predict_proba(frame)[:, 1]), expected, atol=1e-6)


def test_the_paper_s_weights_are_table_1() -> None:
    frame, labels = channels()
    model = RainlessIndex(weights="paper", rain=("P", "D")).fit(frame, labels)
    assert model.weights_ == pytest.approx(dict(PAPER_WEIGHTS))
    with pytest.raises(ConfigError, match="'slope'"):
        RainlessIndex(weights="paper", rain=("P", "D")).fit(frame.drop(columns="slope"), labels)
    with pytest.raises(UnknownNameError, match="Did you mean 'spearman'"):
        RainlessIndex(weights="spearmen").fit(frame, labels)


def test_spearman_weights_rank_nearly_as_well() -> None:
    frame, labels = channels()
    fitted = RainlessIndex(rain=("P", "D")).fit(frame, labels).predict_proba(frame)[:, 1]
    ranked = RainlessIndex(weights="spearman", rain=("P", "D")).fit(frame, labels).predict_proba(frame)[:, 1]
    assert abs(roc_auc_score(labels, fitted) - roc_auc_score(labels, ranked)) < 0.02


def test_more_rain_never_lowers_the_log_additive_index() -> None:
    frame, labels = channels()
    model = RainIndex(form="log-additive", rain=("P", "D"), clip=None).fit(frame, labels)
    little = model.predict_proba(frame)[:, 1]
    much = model.predict_proba(frame.assign(P=2 * frame["P"]))[:, 1]
    assert (much > little).all()
    dry = model.predict_proba(frame.assign(P=0.0))
    assert np.isfinite(dry).all()
    plain = RainlessIndex(rain=("P", "D")).fit(frame, labels).predict_proba(frame)[:, 1]
    assert roc_auc_score(labels, little) > roc_auc_score(labels, plain) + 0.03


def test_missing_rain_is_the_usual_rain_and_a_negative_sum_is_noted() -> None:
    frame, labels = channels()
    model = RainIndex(rain=("P", "D")).fit(frame, labels)
    assert any("where more rain lowers the index" in note for note in model.notes_)
    gap, usual = frame[:1].assign(P=np.nan), frame[:1].assign(P=frame["P"].median())
    np.testing.assert_array_equal(model.predict_proba(gap), model.predict_proba(usual))


def test_a_rain_index_without_rain_or_features_is_refused() -> None:
    frame, labels = channels(100)
    with pytest.raises(ConfigError, match="needs rain"):
        RainIndex().fit(frame, labels)
    with pytest.raises(UnknownNameError, match="form"):
        RainIndex(form="sum", rain=("P", "D")).fit(frame, labels)
    with pytest.raises(DataError, match="only has rain columns"):
        RainIndex(rain=("P", "D")).fit(frame[["P", "D"]], labels)
    with pytest.raises(DataError, match="-1"):
        RainIndex(rain=("P", "D")).fit(frame.assign(P=-1.0), labels)
