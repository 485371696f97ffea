"""Trials run apart: what fails, dies or hangs gets a row with its reason, and what is done is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests.bench.conftest import finished
from tests.bench.conftest import plain as sections
from tests.conftest import PATIENCE_S
from zoo.bench.config import AdaptationSettings, TrialConfig
from zoo.bench.results import TrialResult, load_results, result_path
from zoo.bench.runner import Runner, trial_job
from zoo.datasets.audit import AuditSummary, TouchedPatches
from zoo.datasets.base import SPLITS
from zoo.datasets.source import DataSource
from zoo.errors import ResultError, ZooError
from zoo.jobs import Job, LocalExecutor, Outcome
from zoo.schema import to_plain
from zoo.training.bundle import Bundle
from zoo.training.evaluate import evaluate
from zoo.training.recipes import get_recipe

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


def run(folder: Path, *trials: TrialConfig, jobs: int = 1) -> tuple[list[TrialResult], Quiet]:
    listener = Quiet()
    return Runner(folder, lambda progress: LocalExecutor[TrialResult](jobs, progress)).run(trials, listener), listener


@pytest.mark.slow
def test_a_good_trial_leaves_result_bundle_and_progress(tmp_path: Path, trial: Make) -> None:
    (result,), listener = run(tmp_path, trial())
    assert result.ok, result.error
    assert listener.stages == ["data", "train", "val", "test"]
    assert not (tmp_path / "resume").exists()
    (stored,), problems = load_results(tmp_path)
    assert not problems
    # Pictures are kept once for all trials on the same patches, beside the results.
    assert sections(stored) == json.loads(json.dumps(sections(result)))
    assert list((tmp_path / "pictures").iterdir())
    splits = sections(result)["data"]["patches"]
    assert len(stored.counts) == splits["test"]
    assert set(stored.counts.pixels.tolist()) == {32 * 32}
    bundle = Bundle.load(tmp_path / "bundles" / result.config.file_stem)
    assert bundle.weights_sha256 == sections(result)["weights_sha256"]
    assert bundle.threshold == sections(result)["threshold"]
    assert sum(sections(result)["training"]["curve"][-1][:1]) == 2


@pytest.mark.slow
def test_a_failed_trial_reports_its_error_and_the_next_one_runs(tmp_path: Path, trial: Make) -> None:
    killed = "killed by the system in stage 'train', most likely for lack of memory (with 2 pat"
    expected = {
        "raises": ("failed", "the code of plugin zoo-odd 1.0 failed (RuntimeError: no such luck)"),
        "exits": ("failed", "the code of plugin zoo-odd 1.0 failed (SystemExit: 0)"),
        "mute": ("failed", "the code of plugin zoo-odd 1.0 failed (Mute: its message cannot be shown)"),
        "tells": ("failed", f"allocator thresholds raised: {sys.platform.startswith('linux')}"),
        "diverges": ("failed", "the loss became nan at step 1 of 2"),
        "dies": ("out-of-memory", killed),
        "hungry": ("out-of-memory", "memory"),
        "rainy": ("skipped", "needs rainfall series"),
        "dndvi_threshold": ("skipped", "needs the bands dNDVI, slope, but the data have none"),
        "no_such_model": ("failed", "unknown model 'no_such_model'"),
    }
    results, _ = run(tmp_path, *map(trial, expected), trial())
    assert results.pop().ok
    for result, (status, reason) in zip(results, expected.values(), strict=True):
        assert result.status == status
        assert reason in result.error
        assert "\n" not in result.error
    assert len(load_results(tmp_path)[0]) == len(expected) + 1


@pytest.mark.slow
def test_want_of_memory_halves_the_patches_at_a_time_with_a_note(tmp_path: Path, trial: Make) -> None:
    (greedy, tiny), _ = run(tmp_path, trial("greedy"), trial())
    assert greedy.ok, greedy.error
    training = sections(greedy)["training"]
    assert (training["batch"], training["micro_batch"], training["steps"]) == (4, 2, 2)
    (attempt,) = sections(greedy)["attempts"]
    assert attempt == {
        "micro_batch": 4, "status": "out-of-memory", "error": "tried to allocate more than there is",
    }  # fmt: skip
    assert sections(TrialResult.load(result_path(tmp_path, greedy.config)))["attempts"] == [attempt]
    # The same patches and steps: a network without batch normalisation ends where one with enough memory does.
    assert "attempts" not in sections(tiny)
    curves = [sections(result)["training"]["curve"] for result in (greedy, tiny)]
    assert curves[0][0][1] == pytest.approx(curves[1][0][1], rel=0.1)


@pytest.mark.slow
def test_several_trials_at_once_leave_the_same_files(tmp_path: Path, trial: Make) -> None:
    trials = [trial(), trial(seed=1), trial("raises")]
    one, _ = run(tmp_path / "one", *trials)
    two, listener = run(tmp_path / "two", *trials, jobs=3)
    assert sorted(listener.told) == ["failed raises", "ok tiny", "ok tiny"]
    assert [result.config for result in two] == trials
    one_by_one, together = (
        {path.relative_to(folder) for path in folder.rglob("*")} for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one_by_one == together
    for first, second in zip(one[:2], two[:2], strict=True):
        assert sections(first)["test"]["counts"] == sections(second)["test"]["counts"]


@pytest.mark.slow
def test_an_adapted_trial_starts_from_the_trained_one(tmp_path: Path, trial: Make) -> None:
    plain = trial("normed")
    failing = trial("raises")
    trials = [replace(plain, adapted=True), plain, failing, replace(failing, adapted=True)]
    (adapted, trained, _, lost), _ = run(tmp_path, *trials, jobs=2)
    assert adapted.ok, adapted.error
    assert adapted.config.label == "normed (adapted)"
    validated, share = sections(trained)["threshold"], sections(adapted)["adaptation"]["share"]
    assert share > 0
    assert sections(adapted)["threshold"] == pytest.approx(validated + share * (0.5 - validated))
    assert "training" not in sections(adapted)
    assert sections(adapted)["adaptation"]["source"]["weights_sha256"] == sections(trained)["weights_sha256"]
    assert lost.status == "failed"
    assert "the trained model that it starts from is failed: the code of plugin zoo-odd 1.0 failed (R" in lost.error


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "another", "adapted from others"])
def test_an_adapted_trial_is_not_combined_with_other_weights(tmp_path: Path, trial: Make, damage: str) -> None:
    plain = trial("normed")
    adapted = replace(plain, adapted=True)
    if damage == "adapted from others":
        (trained, _), _ = run(tmp_path, plain, adapted)
        trained.with_measurements(weights_sha256="0" * 64).save(tmp_path)
        expected = ["damaged", "damaged", "ok normed", "ok normed"]
    else:
        run(tmp_path, plain)
        bundle = tmp_path / "bundles" / plain.file_stem
        shutil.rmtree(bundle)
        if damage == "another":
            (other,), _ = run(tmp_path / "other", trial("normed", seed=1))
            (tmp_path / "other" / "bundles" / other.config.file_stem).rename(bundle)
        expected = ["damaged", "ok normed", "ok normed"]
    (trained, found), listener = run(tmp_path, plain, adapted)
    assert listener.told == expected
    assert found.measurements is not None
    assert trained.measurements is not None
    (adaptation,) = found.measurements.adaptations
    assert adaptation.source.weights_sha256 == trained.measurements.weights_sha256
    assert run(tmp_path, plain, adapted)[1].told == ["kept normed", "kept normed"]


@pytest.mark.slow
def test_scenes_are_adapted_to_one_by_one_and_measured_together(tmp_path: Path, trial: Make) -> None:
    source = DataSource("folder", {**trial().data.options, "train_groups": ["s0"], "test_groups": ["s1", "s2"]})
    plain = trial("normed", data=source, fingerprints={name: source.open(name).fingerprint() for name in SPLITS})
    trials = [plain, replace(plain, adapted=True), replace(plain, adapted=True, adapting=AdaptationSettings("group"))]
    (_, together, apart), _ = run(tmp_path, *trials)
    assert apart.ok, apart.error
    assert apart.measurements is not None
    records = sections(apart)["adaptation"]["groups"]
    groups = sections(apart)["test"]["groups"]
    assert [(name, record["target"]["patches"]) for name, record in records.items()] == [
        (name, groups.count(name)) for name in ("s1", "s2")
    ]
    assert sections(apart)["test"]["names"] == sections(together)["test"]["names"]
    assert sections(apart)["parameters"] == sections(together)["parameters"]
    histograms = [sections(one)["test"]["histogram"]["negative"] for one in (apart, together)]
    assert sum(histograms[0]) == sum(histograms[1])
    # A bundle measured by itself on its scene gives the figures of that scene.
    for number, name in enumerate(("s1", "s2")):
        bundle = Bundle.load(tmp_path / "bundles" / apart.config.file_stem / f"{number}-{name}")
        assert bundle.adaptation == apart.measurements.adaptations[number]
        loader = DataLoader(DataSource("folder", {**source.options, "test_groups": [name]}).open("test"), batch_size=4)
        alone = evaluate(bundle.predictor(), bundle.compute_format, loader, bundle.threshold)
        chosen = apart.counts.select([group == name for group in groups])
        assert to_plain(alone.counts) == to_plain(chosen)


@pytest.mark.slow
def test_a_scene_that_cannot_be_adapted_to_is_named(tmp_path: Path, trial: Make) -> None:
    plain = trial()
    (_, adapted), _ = run(tmp_path, plain, replace(plain, adapted=True, adapting=AdaptationSettings("group")))
    (group,) = {patch.group for patch in plain.data.open("test").patches}
    assert adapted.status == "failed"
    assert f"group {group!r}: model 'tiny': has no normalisation layer" in adapted.error


@pytest.mark.slow
def test_a_trial_that_hangs_is_stopped_at_its_limit(tmp_path: Path, trial: Make) -> None:
    config = trial("hangs")
    limited = replace(config, recipe=config.recipe.changed(time_limit=8.0))
    # The trial before it waits for the imports, which on a slow machine take longer than the limit.
    (_, result), _ = run(tmp_path, trial(), limited)
    assert result.status == "failed"
    assert "time limit of 8 s reached in stage 'train'" in result.error


@pytest.mark.slow
def test_finished_trials_are_kept_and_failed_and_damaged_ones_are_done_anew(tmp_path: Path, trial: Make) -> None:
    good, bad, cut = trial(), trial("raises"), trial(seed=1)
    _, first = run(tmp_path, good, bad, cut)
    assert first.told == ["ok tiny", "failed raises", "ok tiny"]
    path = result_path(tmp_path, cut)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    _, second = run(tmp_path, good, bad, cut)
    assert second.told == ["damaged", "kept tiny", "failed raises", "ok tiny"]
    again = json.loads(path.read_text())
    assert again["test"]["counts"] == json.loads(whole)["test"]["counts"]
    assert again["weights_sha256"] == json.loads(whole)["weights_sha256"]
    # Another name is no other trial: nothing runs, and the file takes the name.
    (renamed,), third = run(tmp_path, replace(good, title="Small"))
    assert third.told == ["kept tiny"]
    assert renamed.config.label == TrialResult.load(result_path(tmp_path, good)).config.label == "Small"


class Done:
    """Gives every trial a result at once."""

    free = True

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.jobs: list[Job[TrialResult]] = []

    def __enter__(self) -> Done:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, job: Job[TrialResult]) -> None:
        self.jobs.append(job)

    def poll(self) -> list[tuple[Job[TrialResult], Outcome[TrialResult]]]:
        jobs, self.jobs = self.jobs, []
        return [(job, Outcome("ok", finished(job.argument.config, self.values))) for job in jobs]


def test_results_hold_the_findings_of_the_audit_in_earlier_versions_too(
    tmp_path: Path, trial: Make, measured: Callable[..., dict[str, Any]]
) -> None:
    trials = [trial(), trial(seed=1)]
    finished(trials[0], measured()).save(tmp_path)
    clean = AuditSummary(False, "no leak found between 5/1/2 patches (0.1 s)")
    leaky = AuditSummary(True, "LEAK", (TouchedPatches("train", "test", "exact", 1),))
    for found in (clean, replace(clean, verdict="no leak found between 5/1/2 patches (0.2 s)"), leaky):
        Runner(tmp_path, lambda told: Done(measured()), {"": found}).run(trials, Quiet())
        kept = leaky if found.leaks else clean
        assert [result.audit for result in load_results(tmp_path)[0]] == [kept, kept]
    assert [result.audit for result in Runner(tmp_path).run(trials, Quiet())] == [leaky, leaky]


def test_an_unwritable_folder_is_reported_before_anything_runs(tmp_path: Path, trial: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        run(tmp_path / "file", trial())


def bench_arguments(patches: Path, models: str, out: Path) -> list[str]:
    """Two steps on the ellipses, as a user would type them."""
    line = (
        f"bench --models {models} --group-column scene --steps 2 --crop 32 --batch-size 4 --precision fp32 --no-speed"
    )
    return [*line.split(), "--data", str(patches), "--out", str(out)]


def wait_until_gone(number: int, kill: Callable[[int, int], None] = os.killpg) -> None:
    """Wait for the last process of a session that has lost its leader, or with ``os.kill`` for one process."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes of the benchmark are still there")


@pytest.mark.slow
@pytest.mark.nightly
def test_kill_9_leaves_whole_results_and_the_next_call_goes_on(
    tmp_path: Path, patches: Path, zoo: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    arguments = bench_arguments(patches, "tiny,hangs", tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
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
@pytest.mark.nightly
def test_kill_9_in_a_training_costs_no_step_twice_and_no_bit(tmp_path: Path, patches: Path, trial: Make) -> None:
    arguments = [*bench_arguments(patches, "normed", tmp_path / "killed"), "--steps", "120"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "killed" / "resume").rglob("last.ckpt")):
        assert time.monotonic() < deadline, "no resume state was written"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed" / "trials").glob("*.json"))
    recipe = get_recipe("quick").changed(steps=120, batch_size=4, crop=32, precision="fp32")
    (resumed,), _ = run(tmp_path / "killed", trial("normed", recipe=recipe))
    assert sections(resumed)["training"]["resumed_from"] >= 12
    assert sections(resumed)["training"]["steps"] == 120
    assert [step for step, _ in sections(resumed)["training"]["curve"]] == list(range(1, 121))
    assert not (tmp_path / "killed" / "resume").exists()
    (whole,), _ = run(tmp_path / "whole", resumed.config)
    assert sections(whole)["training"]["resumed_from"] is None
    assert sections(whole)["weights_sha256"] == sections(resumed)["weights_sha256"]
    assert sections(whole)["test"] == sections(resumed)["test"]


def long_trial(trial: Make) -> TrialConfig:
    """A trial that writes resume states before and after batch 7, at which the model "stops" fails."""
    return trial("stops", recipe=get_recipe("quick").changed(steps=20, batch_size=4, crop=32, precision="fp32"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "failures",
    [
        {"SIGABRT": ["failed", "ok"], "SIGKILL": ["ok"]},
        pytest.param({"SIGKILL SIGKILL SIGKILL": ["ok"]}, marks=pytest.mark.nightly),
    ],
)
def test_a_failed_training_resumes(tmp_path: Path, trial: Make, failures: dict[str, list[str]]) -> None:
    config = long_trial(trial)
    (whole,), _ = run(tmp_path / "whole", config)
    for signals, statuses in failures.items():
        (tmp_path / "site" / "stops").write_text(signals)
        for status in statuses:
            (result,), listener = run(tmp_path / signals, config)
            assert result.status == status, result.error
        assert "resume" in listener.stages
        assert sections(result)["training"]["resumed_from"] >= 2 * len(signals.split())
        assert sections(result)["training"]["micro_batch"] == 4
        assert "attempts" not in sections(result)
        assert not (tmp_path / signals / "resume").exists()
        assert sections(whole)["weights_sha256"] == sections(result)["weights_sha256"]


@pytest.mark.slow
def test_a_training_that_fails_because_of_its_model_starts_again(tmp_path: Path, trial: Make) -> None:
    (tmp_path / "site" / "stops").write_text("error")
    (failed,), _ = run(tmp_path / "out", long_trial(trial))
    assert failed.status == "failed"
    assert not (tmp_path / "out" / "resume").exists()


@pytest.mark.slow
def test_a_resume_state_that_cannot_be_used_is_reported_and_the_training_starts_again(
    tmp_path: Path, trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = long_trial(trial)
    (tmp_path / "site" / "stops").write_text("SIGABRT")
    run(tmp_path / "out", config)
    (state,) = (tmp_path / "out" / "resume").glob("*/last.ckpt")
    content = torch.load(state, weights_only=True)
    content["state_dict"] = {f"{name}.old": tensor for name, tensor in content["state_dict"].items()}
    torch.save(content, state)
    for damage in ("another model", "cut", "cut, and kept on another machine"):
        shutil.copytree(tmp_path / "out", tmp_path / damage)
        if damage != "another model":
            (tmp_path / damage / state.relative_to(tmp_path / "out")).write_bytes(state.read_bytes()[:1000])
        if "another machine" in damage:
            monkeypatch.setattr(Runner, "_remove_state", lambda *_: None)
        (result,), listener = run(tmp_path / damage, config)
        assert listener.told == ["damaged", "ok stops"], damage
        assert sections(result)["training"]["resumed_from"] is None


def test_a_training_that_runs_out_of_memory_twice_waits_for_the_next_run(tmp_path: Path, trial: Make) -> None:
    config = trial()
    state = tmp_path / "state"
    state.mkdir()
    job = trial_job(config, bundle=tmp_path / "bundle", log=tmp_path / "log", state=state)
    assert job.retry is not None
    killed = Outcome[TrialResult]("out-of-memory", error="killed", stage="train")
    halved = job.retry(job, killed)
    assert halved is not None
    assert halved.argument.accumulate == 2
    (state / "last.ckpt").write_bytes(b"")
    resumed = job.retry(job, killed)
    assert resumed is not None
    assert resumed.argument.accumulate == 1
    assert resumed.argument.resume
    assert job.retry(resumed, killed) is None
    # The images of an evaluation may be larger than the crops of the training.
    evaluated = job.retry(resumed, replace(killed, stage="val"))
    assert evaluated is not None
    assert evaluated.argument.accumulate == 2
    assert not (state / "last.ckpt").exists()


@pytest.mark.slow
def test_a_repeated_training_keeps_its_number_format(tmp_path: Path, trial: Make) -> None:
    config = trial("normed", recipe=trial().recipe.changed(precision="auto"))
    (first,), _ = run(tmp_path / "first", config)
    assert first.training is not None
    assert first.training.format is not None
    other = replace(first.training.format, precision="fp32", channels_last=not first.training.format.channels_last)
    for source in ("result", "bundle"):
        folder = shutil.copytree(tmp_path / "first", tmp_path / source)
        bundle = folder / "bundles" / config.file_stem
        if source == "result":
            first.with_measurements(training=replace(first.training, format=other)).save(folder)
            shutil.rmtree(bundle)
        else:
            replace(Bundle.load(bundle), compute_format=other).save(bundle)
            result_path(folder, config).write_text("{")
        (repeated, _), listener = run(folder, config, replace(config, adapted=True))
        assert listener.told == ["damaged", "ok normed", "ok normed"]
        assert repeated.training is not None
        assert repeated.training.format == other


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_stops_the_trial(
    tmp_path: Path, patches: Path, zoo: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = zoo(*bench_arguments(patches, "tiny,interrupts", tmp_path / "out"))
    assert done.returncode == 130, done.stderr
    assert "stopped; 1 of 2 trials are finished" in done.stderr
    assert "Traceback" not in done.stderr
    assert [result.config.model for result in load_results(tmp_path / "out")[0]] == ["tiny"]
    wait_until_gone(int((tmp_path / "site" / "interrupts").read_text()), os.kill)


@pytest.mark.slow
@pytest.mark.nightly
def test_ctrl_c_at_a_terminal_leaves_no_process(
    tmp_path: Path, patches: Path, start_session: Callable[..., subprocess.Popen[str]]
) -> None:
    arguments = bench_arguments(patches, "tiny,hangs", tmp_path / "out")
    process = start_session(sys.executable, "-m", "zoo", *arguments, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "out" / "logs").glob("hangs-*.log")):
        assert time.monotonic() < deadline, "the second trial did not start"
        time.sleep(0.2)
    # An impatient user presses Ctrl-C several times.
    for _ in range(4):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "stopped; 1 of 2 trials are finished" in errors
    assert "Traceback" not in errors
    wait_until_gone(process.pid)
