"""Test that a comparison uses the same held-out rows for all models, leaks nothing and reports failures."""

from __future__ import annotations

import csv
import doctest
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.risk import comparison as module
from zoo.risk import models
from zoo.risk.comparison import OK, CompareSettings, Comparison, compare, compare_table
from zoo.risk.models.base import RiskModel
from zoo.risk.pictures import feature_dependence
from zoo.risk.splits import Fold
from zoo.risk.tables import RiskTable

FAST = ("gamm", "lsi_without_rain", "lsi")


def places(rows: int = 400) -> RiskTable:
    """Rain and slope drive landslides; a smooth field of the place does too, which only neighbours know."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 20_000, (2, rows))
    slope, rain, days = rng.uniform(0, 50, rows), rng.gamma(2, 3, rows), rng.uniform(0.2, 3, rows)
    field = np.sin(x / 1500) * np.cos(y / 1500)
    logit = 0.12 * (slope - 25) + 0.4 * (rain - 6) + 2 * field
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    features = pd.DataFrame({"slope": slope, "x": x, "y": y, "P": rain, "D": days})
    return RiskTable(features, labels, np.column_stack([x, y]), np.where(x < 7000, "west", "east"))


@pytest.fixture(scope="module")
def done() -> Comparison:
    settings = CompareSettings(FAST, ("random", "block"), rain=("P", "D"), repeats=50, curves=True, folds=3)
    return compare_table(places(), settings)


def test_figures_are_those_of_the_held_out_rows(done: Comparison) -> None:
    assert [(one.model, one.cv) for one in done.outcomes] == [(m, c) for c in ("random", "block") for m in FAST]
    for outcome in done.outcomes:
        assert outcome.status == OK
        assert outcome.probability is not None
        split = done.splits[outcome.cv]
        each = [
            metrics.roc_auc_score(done.data.labels[fold.test], outcome.probability[fold.test]) for fold in split.folds
        ]
        assert outcome.scores["auc"] == pytest.approx(np.mean(each))
        assert outcome.fold_auc == pytest.approx(each)
        pooled = metrics.roc_auc_score(done.data.labels, outcome.probability)
        assert outcome.pooled["auc"] == pytest.approx(pooled)
        assert outcome.scores["mse"] == pytest.approx(metrics.brier_score_loss(done.data.labels, outcome.probability))
        assert outcome.scores["auc"] > 0.6


def test_rain_helps_the_index_where_rain_drives_landslides(done: Comparison) -> None:
    for cv in ("random", "block"):
        assert done.differences("lsi_without_rain", cv)["lsi"]["auc"][0] > 0.01


class Remembering(RiskModel):
    """Knows the label of every row that it was fitted on, and nothing else."""

    def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
        self.seen_ = dict(zip(X["slope"], y, strict=True))

    def _probability(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return np.array([float(self.seen_.get(slope, 0.5)) for slope in X["slope"]])


def test_no_test_row_is_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "create_risk_model", lambda name, **options: Remembering())
    found = compare_table(places(200), CompareSettings(("gamm",), ("random", "block", "group"), folds=2, repeats=2))
    for outcome in found.outcomes:
        assert outcome.scores["auc"] == 0.5
        assert outcome.probability == pytest.approx(np.full(200, 0.5))


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    settings = {"models": ("lsi_without_rain",), "cv": ("random",), "repeats": 5, "folds": 3}
    alone = compare_table(places(200), CompareSettings(**settings))  # type: ignore[arg-type]
    many = compare_table(places(200), CompareSettings(**settings, jobs=2))  # type: ignore[arg-type]
    np.testing.assert_array_equal(alone.outcomes[0].probability, many.outcomes[0].probability)
    assert alone.outcomes[0].intervals == many.outcomes[0].intervals


def test_what_needs_rain_is_skipped_without_it() -> None:
    found = compare_table(places(200), CompareSettings(("lsi_without_rain", "lsi"), ("random",), repeats=2, folds=2))
    rows = found.rows()
    assert [row["status"] for row in rows] == [OK, "skipped: needs rain (--rain-columns P,D)"]
    assert rows[1]["auc"] is None
    assert rows[1]["n"] == 200


def test_one_model_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.create_risk_model

    class Broken(RiskModel):
        def _fit(self, X: pd.DataFrame, y: NDArray[np.int64], inner: Sequence[Fold]) -> None:
            raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(
        module, "create_risk_model", lambda name, **given: Broken() if name == "gamm" else real(name, **given)
    )
    found = compare_table(places(200), CompareSettings(("gamm", "lsi_without_rain"), ("random",), repeats=2, folds=2))
    assert [one.status for one in found.outcomes] == ["failed: LinAlgError: singular", OK]
    assert any("gamm, random cross-validation: failed" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"models": ("gam",)}, UnknownNameError, "Did you mean 'gamm'"),
        ({"cv": ("blocks",)}, UnknownNameError, "Did you mean 'block'"),
        ({"folds": 1}, ConfigError, "too few"),
        ({"folds": 300}, DataError, "fewer than 300 folds"),
        ({"rain": ("P", "p")}, UnknownNameError, "'p'"),
        ({"rain": ("P", "P")}, ConfigError, "same column"),
        ({"rain": ("x", "cold")}, DataError, "column 'cold': rain duration of -3; 200 rows"),
        ({"jobs": 0}, ConfigError, "at least one"),
    ],
)
def test_unusable_tables_are_refused_before_any_fit(
    change: dict[str, object], error: type[Exception], problem: str
) -> None:
    table = places(200)
    table.features["cold"] = -3.0
    settings = {"models": FAST, "cv": ("random",), "repeats": 2}
    with pytest.raises(error, match=problem):
        compare_table(table, CompareSettings(**{**settings, **change}))  # type: ignore[arg-type]


def test_constant_rain_is_reported() -> None:
    table = places(200)
    dry = RiskTable(table.features.drop(columns="P"), table.labels, notes=("P: left out, it is 3 everywhere",))
    with pytest.raises(DataError, match="3 everywhere"):
        compare_table(dry, CompareSettings(("lsi",), rain=("P", "D")))


def test_rows_are_flat_and_their_intervals_hold_the_figures(done: Comparison) -> None:
    rows = done.rows()
    assert len(rows) == 6
    for row in rows:
        assert (row["n"], row["folds"], row["status"]) == (400, 3, OK)
        for name in ("accuracy", "auc", "pr_auc", "mse", "rmse", "ece"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
        assert row["rmse"] == pytest.approx(row["mse"] ** 0.5, abs=1e-5)
    assert {row["interval_over"] for row in rows} == {"rows", "spatial blocks"}
    json.dumps(rows, allow_nan=False)


def test_optimism_is_the_difference_between_random_and_block_scores(done: Comparison) -> None:
    text = done.optimism()
    assert text is not None
    gains = []
    for name in FAST:
        random, block = done.get(name, "random"), done.get(name, "block")
        assert random is not None
        assert block is not None
        gains.append(random.scores["auc"] - block.scores["auc"])
    mean = float(np.mean(gains))
    assert f"is {abs(mean):.3f} {'higher' if mean > 0 else 'lower'}" in text
    alone = Comparison(done.data, done.settings, done.splits, done.outcomes[:3], ())
    assert alone.optimism() is None


def test_files_hold_everything(done: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "Ergebnisse ä"
    folder.mkdir()
    files = done.write(folder, "places.csv")
    names = {file.name for file in files}
    assert names == {
        "results.json",
        "results.csv",
        "predictions.csv",
        "roc.png",
        "rates.png",
        "reliability.png",
        "features.png",
        "features.csv",
    }
    assert {path.name for path in folder.iterdir()} == names
    whole = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in whole["rows"]] == [*FAST, *FAST]
    with (folder / "results.csv").open(encoding="utf-8") as file:
        assert [row["cv"] for row in csv.DictReader(file)] == ["random"] * 3 + ["block"] * 3
    predictions = pd.read_csv(folder / "predictions.csv")
    assert metrics.roc_auc_score(predictions["label"], predictions["random_gamm"]) == pytest.approx(
        whole["rows"][0]["auc_pooled"], abs=1e-4
    )
    for name in ("roc.png", "features.png"):
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_features_are_judged_for_repeating_each_other() -> None:
    table = places(200)
    table.features["twice"] = 2 * table.features["slope"] + 1
    found = feature_dependence(table)
    assert found is not None
    assert np.isinf(found.vif[list(found.names).index("twice")])
    assert found.correlation[0, -1] == pytest.approx(1)
    assert feature_dependence(RiskTable(table.features[["slope"]], table.labels)) is None


def test_the_front_door_takes_a_frame_and_shows_a_table() -> None:
    rows = places(200)
    frame = rows.features.assign(landslide=np.where(rows.labels == 1, "yes", "no"))
    found = compare(
        frame, "landslide", coords=("x", "y"), rain_columns=("P", "D"), models=["lsi", "lsi_without_rain"], folds=2,
        repeats=5,
    )  # fmt: skip
    assert list(found.splits) == ["random", "block"]
    table = found.to_pandas()
    assert len(table) == 4
    assert table["base_rate"].iloc[0] == pytest.approx(max(rows.labels.mean(), 1 - rows.labels.mean()))
    assert "LSI without Rainfall" in repr(found)
    assert "base rate" in found.table()
    assert "<table" in found._repr_html_()
    with pytest.raises(ConfigError, match="label"):
        compare(frame)
    for option in ({"drop": ["P"]}, {"group": "P"}):
        with pytest.raises(ConfigError, match="'P' is rain, and the label, a group"):
            compare(frame, "landslide", coords=("x", "y"), rain_columns=("P", "D"), models=["lsi"], **option)
    gaps = frame.assign(P=frame["P"].where(np.arange(200) % 4 > 0))
    few = compare(gaps, "landslide", rain_columns=("P", "D"), models=["lsi"], folds=2, repeats=2)
    assert any("50 of 200 rows have no rain; models fill it in" in note for note in few.notes)
    hourly = frame.rename(columns={"D": "D (h)"})
    with pytest.raises(DataError, match=r"'D \(h\)' is not in days, by its name"):
        compare(hourly, "landslide", coords=("x", "y"), rain_columns=("P", "D (h)"), models=["lsi"])


def test_shuffling_the_rows_changes_no_score_and_no_prediction() -> None:
    rows = places(240)
    frame = rows.features.assign(landslide=rows.labels)
    shuffled = frame.sample(frac=1, random_state=3)
    models = ["random_forest_untuned", "svm", "lsi_without_rain"]
    one, other = (
        compare(table, "landslide", coords=("x", "y"), models=models, cv=["random", "block"], folds=3, repeats=10)
        for table in (frame, shuffled)
    )
    drop = ["seconds"]
    pd.testing.assert_frame_equal(one.to_pandas().drop(columns=drop), other.to_pandas().drop(columns=drop))
    back = other.predictions().set_axis(shuffled.index).sort_index()
    pd.testing.assert_frame_equal(one.predictions(), back)


def test_the_csv_escapes_feature_names_that_look_like_formulas(tmp_path: Path) -> None:
    rows = places(120)
    table = RiskTable(rows.features[["slope", "x"]].set_axis(["=1+1", "$x^{$"], axis=1), rows.labels)
    compare_table(table, CompareSettings(("lsi_without_rain",), folds=2, repeats=2)).write(tmp_path)
    assert (tmp_path / "features.csv").read_text().splitlines()[0] == "feature,vif,'=1+1,$x^{$"


def test_the_examples_of_the_docstrings_run() -> None:
    for module_, functions in ((module, [compare]), (models, [models.create_risk_model])):
        for function in functions:
            (example,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__, module_)
            assert doctest.DocTestRunner().run(example).failed == 0


def test_a_seed_beyond_scikit_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed"):
        compare_table(places(200), CompareSettings(("gamm",), seed=2**32))
