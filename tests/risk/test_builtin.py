"""Test that a plugin's risk model is compared with the built-in ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from zoo.registry import catalogue, plugin_reports, reload
from zoo.risk.builtin import OTHER_MODELS, TABLE_2
from zoo.risk.comparison import CompareSettings, compare_table
from zoo.risk.models import create_risk_model, risk_models, select_risk_models
from zoo.risk.tables import RiskTable

PLUGIN = """
    from zoo.registry import RiskModelSpec, hookimpl

    @hookimpl
    def zoo_register_risk_models(register):
        register(RiskModelSpec(
            name="naive_bayes", title="Naive Bayes", summary="s", target="sklearn.naive_bayes:GaussianNB",
            plain=True, unsupported_reason="zoo_bayes:unsupported_reason",
        ))

    def unsupported_reason(features):
        return None if "slope" in features.columns else "needs a slope"
"""


@pytest.fixture
def plugged(install: Callable[[str, str], None]) -> Iterator[None]:
    install("zoo-bayes", PLUGIN)
    reload()
    yield
    reload()


def table(name: str) -> RiskTable:
    rng = np.random.default_rng(0)
    slope = rng.uniform(0, 50, 400)
    labels = (rng.uniform(0, 50, 400) < slope).astype(np.int64)
    return RiskTable(pd.DataFrame({name: slope, "noise": rng.normal(size=400)}), labels)


def test_the_built_in_risk_models_are_registered_by_the_hook() -> None:
    names = [spec.name for spec in (*TABLE_2, *OTHER_MODELS)]
    assert list(risk_models())[: len(names)] == names
    assert all(catalogue().risk_models.provider(name).startswith("landslide-zoo/") for name in names)


def test_a_plain_classifier_is_compared_and_names_missing_columns(plugged: None) -> None:
    assert "naive_bayes" in select_risk_models("all", rain=False)
    report = next(report for report in plugin_reports() if report.name == "zoo-bayes")
    assert report.provides == {"risk_models": ["naive_bayes"]}
    settings = CompareSettings(models=("naive_bayes", "lsi"), folds=3, repeats=5)
    naive, index = compare_table(table("slope"), settings).outcomes
    assert naive.status == "ok"
    assert 0.75 < naive.scores["auc"] < 0.95
    assert index.status == "skipped: needs rain (--rain-columns P,D)"
    (skipped, _) = compare_table(table("grade"), settings).outcomes
    assert skipped.status == "skipped: needs a slope"


def test_the_group_is_not_a_feature_of_a_plain_classifier(plugged: None) -> None:
    rows = table("slope")
    features = rows.features.assign(group=pd.Categorical(["a", "b"] * 200))
    model = create_risk_model("naive_bayes", group="group", seed=1).fit(features, rows.labels)
    alone = create_risk_model("naive_bayes").fit(rows.features, rows.labels)
    np.testing.assert_array_equal(model.predict_proba(features), alone.predict_proba(rows.features))


OLD_PLUGIN = """
    from zoo.registry import ComparatorSpec, hookimpl

    @hookimpl
    def zoo_register_comparators(register):
        register(ComparatorSpec(name="old_bayes", summary="s", target="sklearn.naive_bayes:GaussianNB", plain=True))
"""


def test_a_plugin_that_uses_the_old_names_still_works_with_a_warning(install: Callable[[str, str], None]) -> None:
    install("zoo-old-bayes", OLD_PLUGIN)
    try:
        reload()
        with pytest.warns(FutureWarning, match="RiskModelSpec"):
            names = list(risk_models())
        assert "old_bayes" in names
    finally:
        reload()
