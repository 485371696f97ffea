"""Rows are means over seeds with intervals, differences and groups, and say what they are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.bench.conftest import finished
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import Leaderboard, add_uncertainty, describe_draws, make_leaderboards, make_rows
from zoo.bench.results import TrialResult, group_by_setting
from zoo.bench.tables import markdown
from zoo.errors import ResultError, UnknownNameError
from zoo.evaluation.counts import Counts

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]
Trial = Callable[..., TrialResult]
IMAGES = 60  # as many as the fixture ``result`` makes


def table(results: list[TrialResult], baseline: str | None = None) -> dict[str, Any]:
    return {row.model: row for row in add_uncertainty(make_rows(results), results, baseline)}


def test_models_that_differ_get_different_letters_and_equal_models_share_one(trial: Make, result: Trial) -> None:
    results = [
        result(trial(model, seed=seed), quality)
        for model, quality in (("unet", 0.7), ("segnet", 0.701), ("drs_unet", 0.8))
        for seed in range(3)
    ]
    rows = table(results)
    assert rows["unet"].difference is None
    better, twin = rows["drs_unet"].difference, rows["segnet"].difference
    assert better.baseline == twin.baseline == "unet"
    assert better.certain
    assert better.low > 0.05
    assert better.mean == pytest.approx(rows["drs_unet"].figures["dice"] - rows["unet"].figures["dice"])
    assert not twin.certain
    assert twin.low < 0 < twin.high
    assert rows["drs_unet"].group == "a"
    assert rows["unet"].group == rows["segnet"].group == "b"
    low, high = rows["unet"].intervals["dice"]
    assert low < rows["unet"].figures["dice"] < high
    assert "| `drs_unet` |" in markdown(Leaderboard(results, list(rows.values())))
    assert "| a |" in markdown(Leaderboard(results, list(rows.values())))
    assert "60 tiles and 3 seeds" in describe_draws(results)


def test_a_baseline_is_named_or_the_unet_or_the_best(trial: Make, result: Trial) -> None:
    results = [result(trial("segnet"), 0.7), result(trial("drs_unet"), 0.8)]
    assert table(results)["segnet"].difference.baseline == "drs_unet"
    assert table(results, "segnet")["drs_unet"].difference.baseline == "segnet"
    with pytest.raises(UnknownNameError, match="segnets"):
        table(results, "segnets")
    assert "the effect of the seed" in describe_draws(results)


def test_failed_seeds_and_models_keep_their_rows(trial: Make, result: Trial) -> None:
    failed = TrialResult(trial("drs_unet"), "failed", "why")
    rows = table([result(trial("unet"), 0.7), failed])
    assert rows["drs_unet"].intervals == {}
    assert rows["unet"].group == "a"
    assert list(table([failed])) == ["drs_unet"]
    assert describe_draws([failed]) == ""


def test_a_model_that_predicts_nothing_has_an_interval_of_zero(trial: Make, result: Trial) -> None:
    nothing = result(trial("segnet"), 0.7)
    counts, zero = nothing.counts, np.zeros(IMAGES, np.int64)
    missed = Counts(zero, zero, counts.fn + counts.tp, counts.tn + counts.fp)
    nothing = nothing.with_measurements(test=replace(nothing.test, counts=missed))
    row = table([result(trial("unet"), 0.7), nothing])["segnet"]
    assert row.intervals["dice"] == (0, 0)
    assert np.isnan(row.intervals["precision"]).all()
    assert row.to_dict()["precision_low"] is None
    assert row.difference.certain


def test_two_data_sets_are_not_compared(trial: Make, result: Trial) -> None:
    with pytest.raises(ResultError, match="not tested on the same images"):
        table([result(trial("unet"), 0.7), result(trial("segnet"), 0.7, names="other")])


def test_figures_beyond_pixels_are_in_the_row(trial: Make, measured: Measured) -> None:
    (row,) = make_rows([finished(trial("unet"), measured())])
    assert row.figures["detection"] == 0.5
    assert row.figures["pr_auc"] == 1.0
    assert row.figures["dice_per_event"] == row.figures["dice"]
    # Precision 6/10 and recall 6/10 at two pixels.
    assert row.figures["boundary_f1_2px"] == pytest.approx(0.6)
    assert row.figures["ece"] == pytest.approx(0, abs=1e-4)


def test_rows_are_means_over_seeds_sorted_by_dice(trial: Make, measured: Measured) -> None:
    results = [
        TrialResult(trial("segnet"), "failed", "no luck"),
        finished(trial("unet", seed=0), measured(20)),
        finished(trial("unet", seed=1), measured(30)),
        finished(trial("drs_unet"), measured(39)),
    ]
    rows = make_rows(results)
    assert [row.model for row in rows] == ["drs_unet", "unet", "segnet"]
    unet = rows[1].to_dict()
    assert unet["dice"] == pytest.approx((40 / 70 + 60 / 80) / 2)
    assert unet["dice_per_image"] == pytest.approx(unet["dice"])
    assert (unet["fps"], unet["fps_batch"], unet["best_batch"]) == (50.0, 100.0, 8)
    assert (unet["parameters"], unet["seeds"]) == (1_500_000, 2)
    assert rows[2].to_dict()["status"] == "failed"
    assert rows[2].to_dict()["dice"] is None


def test_a_seed_without_figures_shows_in_the_row(trial: Make, measured: Measured) -> None:
    results = [
        finished(trial("unet", seed=0), measured()),
        TrialResult(trial("unet", seed=1), "out-of-memory", "no memory"),
    ]
    (row,) = make_rows(results)
    assert (row.status, row.error, row.seeds) == ("out-of-memory", "no memory", 1)


def test_other_data_or_recipes_get_a_table_of_their_own(trial: Make, measured: Measured) -> None:
    base = finished(trial("unet"), measured())
    other = finished(trial("unet", fingerprints={"train": "x"}), measured())
    slow = finished(trial("unet", device="cuda"), measured())
    assert [len(group) for group in group_by_setting([base, other, slow, base])] == [2, 1, 1]


def test_tables_of_one_description_name_what_differs(trial: Make, measured: Measured) -> None:
    plain = trial()
    changed = replace(plain, fingerprints={**plain.fingerprints, "train": "other"})
    boards = make_leaderboards(
        [finished(one, {**measured(), "started": "2026-05-01T10:00:00"}) for one in (plain, changed)]
    )
    assert len({board.description for board in boards}) == 2
    assert all(board.description.endswith(" of the data, measured until 2026-05-01") for board in boards)
    (alone,) = make_leaderboards([finished(plain, measured())])
    assert "content" not in alone.description


def test_a_single_test_image_has_no_interval(trial: Make, result: Trial) -> None:
    whole = result(trial(), 0.8)
    test = replace(whole.test, names=("t",), groups=("s",), counts=whole.test.counts.select([0]))
    results = [whole.with_measurements(test=test)]
    (row,) = add_uncertainty(make_rows(results), results)
    assert row.interval_text("dice") == "-"
    assert "no interval, because the test split has one tile" in describe_draws(results)
