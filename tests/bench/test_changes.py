"""Two sets of results: what is more than noise, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.bench.changes import compare_results
from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult
from zoo.errors import ResultError

Make = Callable[..., TrialConfig]
Trial = Callable[..., TrialResult]


def test_a_gain_is_distinguished_from_noise(trial: Make, result: Trial) -> None:
    before = [result(trial("unet"), 0.7), result(trial("segnet"), 0.7), result(trial("drs_unet"), 0.8)]
    now = [result(trial("unet"), 0.8), result(trial("segnet"), 0.701), result(trial("tiny"), 0.6)]
    changes = {change.model: change for change in compare_results(now, before)}
    assert {name: change.verdict for name, change in changes.items()} == {
        "unet": "better", "segnet": "within noise", "tiny": "new", "drs_unet": "gone",
    }  # fmt: skip
    assert changes["unet"].low > 0.05
    assert changes["unet"].difference == pytest.approx(changes["unet"].now - changes["unet"].before)
    assert changes["unet"].speed == 1.0
    assert changes["tiny"].before is None
    assert compare_results(before, now)[0].verdict in {"worse", "gone", "new"}


def test_the_same_results_are_called_the_same(trial: Make, result: Trial) -> None:
    same = [result(trial("unet", seed=seed), 0.7) for seed in range(3)]
    (change,) = compare_results(same, same)
    assert (change.difference, change.verdict, change.p) == (0.0, "the same", 1.0)


def test_a_model_that_failed_has_no_figures(trial: Make, result: Trial) -> None:
    (change,) = compare_results([TrialResult(trial("unet"), "failed", "why")], [result(trial("unet"), 0.7)])
    assert (change.verdict, change.now) == ("no figures", None)


def test_other_test_images_are_refused(trial: Make, result: Trial) -> None:
    other = trial("unet", fingerprints={"train": "a", "val": "b", "test": "c"})
    with pytest.raises(ResultError, match="share no test images"):
        compare_results([result(trial("unet"), 0.7)], [result(other, 0.7)])


def test_the_command_prints_what_changed(tmp_path: Path, trial: Make, result: Trial, zoo: Callable[..., Any]) -> None:
    result(trial("unet"), 0.8).save(tmp_path / "now")
    result(trial("unet"), 0.7).save(tmp_path / "before")
    done = zoo("report", "now", "--compare", "before")
    assert done.returncode == 0, done.stderr
    assert "better" in done.stdout
    (damaged,) = (tmp_path / "before" / "trials").glob("*.json")
    damaged.write_text(damaged.read_text()[:100])
    alone = zoo("report", "now", "--compare", "before")
    assert alone.returncode == 2
    assert "was the file truncated" in alone.stderr
    missing = zoo("report", "now", "--compare", "nowhere")
    assert missing.returncode == 2
    assert "there is no such folder" in missing.stderr
