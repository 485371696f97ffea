"""Test that the load of the machine is measured, and that threads sleep while they wait where it is busy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import machine
from zoo.cli import progress
from zoo.machine import available_cores, cores_in_use, is_busy, waiting_variables

needs_linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc/stat of Linux")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def stat(busy: int, idle: int, *, core: int = 0) -> str:
    """A row of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""
    return f"cpu{core} {busy} 1 2 {idle} 3 4 5 6 {busy} 0\n"


@needs_linux
def test_the_cores_of_other_processes_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2})
    texts = iter(
        [
            "cpu  9 9 9 9\n" + stat(0, 0) + stat(0, 0, core=1) + stat(0, 0, core=2) + stat(0, 0, core=12),
            "cpu  9 9 9 9\n" + stat(10, 10) + stat(900, 0, core=1) + stat(20, 0, core=2) + stat(0, 900, core=12),
        ]
    )
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_kwargs: next(texts))
    assert cores_in_use(0) == pytest.approx(2 * 30 / 40)


@needs_linux
def test_a_program_that_computes_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            found = cores_in_use(0.3)
        finally:
            other.kill()
    assert found is not None
    assert 0.1 < found <= available_cores()


def test_unknown_use_of_cores_does_not_count_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores_in_use(0) is None
    assert not is_busy(None)
    assert waiting_variables() == {}


@pytest.mark.parametrize(
    ("in_use", "given", "expected"),
    [
        (0.4, {}, {}),
        (1.0, {}, {"OMP_WAIT_POLICY": "passive"}),
        (1.0, {"OMP_WAIT_POLICY": "active"}, {}),
        (1.0, {"GOMP_SPINCOUNT": "10"}, {}),
        (1.0, {"OMP_NUM_THREADS": "1"}, {}),
        (1.0, {"OMP_NUM_THREADS": "2"}, {"OMP_WAIT_POLICY": "passive"}),
    ],
)
def test_threads_sleep_only_beside_other_programs(
    in_use: float, given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "cores_in_use", lambda: in_use)
    assert waiting_variables() == expected
    assert waiting_variables(in_use) == expected


SCRIPT = """
import os
import zoo.jobs
from zoo.jobs import Job, prepare, run_job

zoo.jobs.waiting_variables = lambda: {"OMP_WAIT_POLICY": "passive"}
prepare("os")
assert "OMP_WAIT_POLICY" not in os.environ
for fresh in (False, True):
    assert run_job(Job("os:getenv", "OMP_WAIT_POLICY", fresh=fresh)).unwrap() == "passive"
"""


def test_the_processes_of_jobs_start_with_the_choice() -> None:
    """The server process, whose libraries its copies share, and a fresh interpreter."""
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)


def test_a_command_warns_of_a_busy_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(progress, "cores_in_use", lambda: 1.26)
    progress.prepare_threads()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    assert f"other programs use 1.3 of {available_cores()} cores: this takes longer" in capsys.readouterr().err
    monkeypatch.setattr(progress, "cores_in_use", lambda: 0.1)
    progress.prepare_threads()
    assert capsys.readouterr().err == ""
