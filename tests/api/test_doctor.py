"""``zoo doctor`` finds what is wrong, says what to do, and survives what it cannot examine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest

import zoo
from zoo.api import doctor as page
from zoo.registry import reload

Zoo = Callable[..., "subprocess.CompletedProcess[str]"]


def found(topic: str) -> list[page.Finding]:
    return [one for one in zoo.doctor() if one.topic == topic]


def test_every_topic_is_reported_and_problems_have_advice() -> None:
    findings = zoo.doctor()
    assert {one.topic for one in findings} >= set(page.TOPICS)
    assert all(one.advice for one in findings if one.status == "problem")


def test_a_requirement_that_is_not_met_is_named(install: Callable[[str, str], None], tmp_path: Path) -> None:
    install("zoo-old", "")
    metadata = tmp_path / "site" / "zoo_old-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: numpy<1\nRequires-Dist: no-such-package>=2\n")
    assert requires("zoo-old") == ["numpy<1", "no-such-package>=2"]
    problems = dict(page.unmet_requirements("zoo-old"))
    assert any(text.startswith("zoo-old needs numpy <1, and") for text in problems)
    assert problems["no-such-package is not installed, and zoo-old needs it"] == "pip install 'no-such-package>=2'"


def test_more_threads_than_cores_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    (finding,) = found("threads")
    assert (finding.status, finding.text) == ("problem", "torch uses 8 threads on 1 cores")
    assert "OMP_NUM_THREADS=1" in finding.advice


def test_caches_have_sizes_and_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "a.bin").write_bytes(b"x" * 5000)
    monkeypatch.setattr(page, "LARGE_CACHE", 1000)
    (finding,) = [one for one in found("caches") if "patches" in one.text]
    assert finding.text.endswith("patches: 5 kB")
    assert (finding.status, finding.advice) == ("note", f"You may delete {tmp_path / 'patches'}")


def test_a_failed_plugin_is_a_problem(install: Callable[[str, str], None]) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    reload()
    try:
        (finding,) = [one for one in found("plugins") if "zoo-bad" in one.text]
    finally:
        reload()
    assert (finding.status, finding.text) == ("problem", "zoo-bad 1.0 failed: RuntimeError: boom")
    assert "zoo plugins disable zoo-bad" in finding.advice


def test_a_topic_that_cannot_be_examined_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[page.Finding]:
        raise ImportError("no torch here")

    monkeypatch.setitem(page.TOPICS, "devices", fails)  # type: ignore[arg-type]
    assert [one.text for one in found("devices")] == ["cannot be examined (ImportError: no torch here)"]
    assert found("plugins")


def test_the_command_prints_what_to_do(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    done = zoo("doctor", "--json")
    assert done.returncode == 1
    assert {"topic", "status", "text", "advice"} == set(json.loads(done.stdout)[0])
    assert "zoo plugins disable zoo-bad" in done.stdout
