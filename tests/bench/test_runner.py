"""Trials run apart: what fails, dies or hangs gets a row with its reason, and what is done is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult, load_results, result_path
from zoo.bench.runner import Runner
from zoo.errors import ResultError, ZooError
from zoo.training.bundle import Bundle

Make = Callable[..., TrialConfig]
pytestmark = pytest.mark.usefixtures("odd_models")


class Quiet:
    """Listens and remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stages: list[str] = []

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        self.told.append(f"kept {config.model}")

    def damaged(self, error: ResultError) -> None:
        self.told.append("damaged")

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        if stage not in self.stages:
            self.stages.append(stage)

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        self.told.append(f"{result.status} {config.model}")


def run(folder: Path, *trials: TrialConfig) -> tuple[list[TrialResult], Quiet]:
    listener = Quiet()
    return Runner(folder).run(trials, listener), listener


@pytest.mark.slow
def test_a_good_trial_leaves_result_bundle_and_progress(tmp_path: Path, trial: Make) -> None:
    (result,), listener = run(tmp_path, trial())
    assert result.ok, result.error
    assert listener.stages == ["data", "train", "val", "test", "speed"]
    (stored,), problems = load_results(tmp_path)
    assert not problems
    assert stored.measured == json.loads(json.dumps(result.measured))
    splits = result.measured["data"]["patches"]
    assert len(stored.counts) == splits["test"]
    assert set(stored.counts.pixels.tolist()) == {32 * 32}
    bundle = Bundle.load(tmp_path / "bundles" / result.config.file_stem)
    assert bundle.weights_sha256 == result.measured["weights_sha256"]
    assert bundle.threshold == result.measured["threshold"]
    assert sum(result.measured["training"]["curve"][-1][:1]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("raises", "failed", "RuntimeError: no such luck"),
        ("diverges", "failed", "the loss became nan at step 1 of 2"),
        ("dies", "out-of-memory", "killed by the system in stage 'train'"),
        ("hungry", "out-of-memory", "memory"),
        ("rainy", "skipped", "needs rainfall series"),
        ("no_such_model", "failed", "unknown model 'no_such_model'"),
    ],
)
def test_a_bad_trial_says_why_and_the_next_one_runs(
    tmp_path: Path, trial: Make, model: str, status: str, reason: str
) -> None:
    results, _ = run(tmp_path, trial(model), trial())
    assert (results[0].status, results[1].status) == (status, "ok")
    assert reason in results[0].error
    assert "\n" not in results[0].error
    assert len(load_results(tmp_path)[0]) == 2


@pytest.mark.slow
def test_a_trial_that_hangs_is_stopped_at_its_limit(tmp_path: Path, trial: Make) -> None:
    config = trial("hangs")
    limited = replace(config, recipe=config.recipe.changed(time_limit=5.0))
    start = time.monotonic()
    (result,), _ = run(tmp_path, limited)
    assert time.monotonic() - start < 60
    assert result.status == "failed"
    assert "time limit of 5 s reached in stage 'train'" in result.error


@pytest.mark.slow
def test_finished_trials_are_kept_and_failed_and_damaged_ones_are_done_anew(tmp_path: Path, trial: Make) -> None:
    good, bad, cut = trial(), trial("raises"), trial(seed=1)
    _, first = run(tmp_path, good, bad, cut)
    assert first.told == ["ok tiny", "failed raises", "ok tiny"]
    path = result_path(tmp_path, cut)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    _, second = run(tmp_path, good, bad, cut)
    assert second.told == ["kept tiny", "failed raises", "damaged", "ok tiny"]
    again = json.loads(path.read_text())
    assert again["test"]["counts"] == json.loads(whole)["test"]["counts"]
    assert again["weights_sha256"] == json.loads(whole)["weights_sha256"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path, trial: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        run(tmp_path / "file", trial())


def bench_arguments(patches: Path, models: str, out: Path) -> list[str]:
    """Two steps on the ellipses, as a user would type them."""
    line = f"bench --models {models} --group-column scene --steps 2 --crop 32 --batch-size 4 --precision fp32"
    return [*line.split(), "--data", str(patches), "--out", str(out)]


def wait_until_gone(group: int) -> None:
    """Wait for the last process of a session that has lost its leader."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes of the benchmark are still there")


@pytest.mark.slow
def test_kill_9_leaves_whole_results_and_the_next_call_goes_on(
    tmp_path: Path, patches: Path, zoo: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    arguments = bench_arguments(patches, "tiny,hangs", tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "logs").glob("hangs-*.log")):
        assert time.monotonic() < deadline, "the second trial did not start"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_gone(process.pid)
    results, problems = load_results(tmp_path / "out")
    assert [result.config.model for result in results] == ["tiny"]
    assert not problems
    assert not list((tmp_path / "out" / "trials").glob(".*"))
    done = zoo(*bench_arguments(patches, "tiny", tmp_path / "out"), check=True)
    assert "kept from an earlier run" in done.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(
    tmp_path: Path, patches: Path, start_session: Callable[..., subprocess.Popen[str]]
) -> None:
    arguments = bench_arguments(patches, "tiny,hangs", tmp_path / "out")
    process = start_session(sys.executable, "-m", "zoo", *arguments, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "logs").glob("hangs-*.log")):
        assert time.monotonic() < deadline, "the second trial did not start"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; 1 of 2 trials are finished" in errors
    assert "Traceback" not in errors
    wait_until_gone(process.pid)
