"""Jobs in child processes: what they return, how they fail, and that none is left behind."""

from __future__ import annotations

import builtins
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S
from zoo.errors import ConfigError, ZooError
from zoo.jobs import Job, LocalExecutor, Outcome, RayExecutor, Work, connected, run_job

ROOT = str(Path(__file__).parents[1])


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":6379", "host:port", "host:99999", "ray://host"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="is not the address of a cluster"), connected(address):
        pytest.fail("connected")


def test_an_unreachable_cluster_is_reported_at_once() -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match="no answer from"), connected(f"127.0.0.1:{port}"):
        pytest.fail("connected")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *rest: object, **more: object) -> object:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ConfigError, match=r"landslide-zoo\[ray\]"), connected("auto"):
        pytest.fail("connected")


# Jobs. The functions run in child processes, which import them from here by name.


def double(argument: int, work: Work) -> int:
    work.report("compute", 1, 1)
    print("working on", argument)
    return 2 * argument


def misbehave(argument: str, work: Work) -> None:
    work.keep("so far")
    work.report("compute", 1, 3)
    if argument == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if argument == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if argument == "exit":
        os._exit(3)
    if argument == "hang":
        time.sleep(600)
    if argument == "refused":
        raise ConfigError("wrong option", where="option a", hint="Use b")
    if argument == "memory":
        raise MemoryError
    raise RuntimeError("two\nlines")


def fill(argument: int, work: Work) -> int:
    """Run out of memory above a size of 2."""
    if argument > 2:
        raise MemoryError(f"cannot take {argument}")
    return argument


def halve(job: Job[int], outcome: Outcome[int]) -> Job[int] | None:
    return replace(job, argument=job.argument // 2) if job.argument > 1 else None


def place(argument: None, work: Work) -> tuple[str | None, str | None]:
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")


def copy(argument: None, work: Work) -> None:
    text = (work.folders["source"] / "a" / "text").read_text()
    (work.folders["target"] / "b").mkdir(parents=True)
    (work.folders["target"] / "b" / "text").write_text(text.upper())


HERE = __name__


def test_a_job_returns_its_value_reports_progress_and_logs(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    job: Job[int] = Job(f"{HERE}:double", 21, log=tmp_path / "logs" / "job.log")
    outcome = run_job(job, lambda *stage: told.append(stage))
    assert (outcome.unwrap(), outcome.status, told) == (42, "ok", [("compute", 1, 1)])
    assert (tmp_path / "logs" / "job.log").read_text() == "working on 21\n"
    assert run_job(replace(job, fresh=True)).unwrap() == 42


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("killed", "out-of-memory", "killed by the system in stage 'compute', most likely for lack of memory"),
        ("segfault", "failed", "the process died from SIGSEGV in stage 'compute'; see job.log"),
        ("exit", "failed", "the process ended with exit code 3 in stage 'compute'; see job.log"),
        ("hang", "failed", "time limit of 5 s reached in stage 'compute', 1 of 3 done"),
        ("refused", "failed", "option a: wrong option. Use b"),
        ("memory", "out-of-memory", "out of memory"),
        ("raise", "failed", "RuntimeError: two"),
    ],
)
def test_a_failed_job_reports_its_error_and_keeps_its_messages(
    tmp_path: Path, how: str, status: str, reason: str
) -> None:
    limit = 5.0 if how == "hang" else None
    if limit:
        run_job(Job(f"{HERE}:double", 1))  # the imports of the server process must not count
    outcome = run_job(Job[None](f"{HERE}:misbehave", how, log=tmp_path / "job.log", time_limit=limit))
    assert (outcome.status, outcome.error, outcome.value) == (status, reason, "so far")
    with pytest.raises(ZooError) as caught:
        outcome.unwrap()
    assert isinstance(caught.value, ConfigError) is (how == "refused")
    log = (tmp_path / "job.log").read_text()
    assert ("RuntimeError: two" in log) is (how == "raise")
    assert ("in misbehave" in log) is (how in ("raise", "memory", "segfault"))


def test_lack_of_memory_is_retried_with_what_the_hook_returns() -> None:
    outcome = run_job(Job[int](f"{HERE}:fill", 8, retry=halve))
    assert (outcome.status, outcome.value, outcome.argument) == ("ok", 2, 2)
    alone = run_job(Job[int](f"{HERE}:fill", 8))
    assert (alone.status, alone.error) == ("out-of-memory", "cannot take 8")


def test_slots_divide_threads_and_gpus() -> None:
    job: Job[tuple[str, str]] = Job(f"{HERE}:place", gpus=1)
    executor: LocalExecutor[tuple[str, str]] = LocalExecutor(3, threads=8, gpus=["4", "6"])
    placed = [executor.place(job, slot) for slot in range(3)]
    assert [(one.threads, one.environment["CUDA_VISIBLE_DEVICES"]) for one in placed] == [(2, "4"), (2, "6"), (2, "4")]
    assert LocalExecutor(1, threads=8, gpus=["4", "6"]).place(job, 0) == job
    assert run_job(placed[1]).unwrap() == ("2", "6")
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        LocalExecutor(0)


def test_several_jobs_run_at_a_time_and_all_end() -> None:
    waiting, ended = [Job[int](f"{HERE}:double", number) for number in range(5)], []
    with LocalExecutor[int](2) as executor:
        while len(ended) < 5:
            while waiting and executor.free:
                executor.submit(waiting.pop())
            ended += executor.poll()
    assert sorted(outcome.unwrap() for _, outcome in ended) == [0, 2, 4, 6, 8]


def test_a_log_that_is_a_link_is_refused_and_its_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "job.log").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(ZooError, match="is a symbolic link"):
        run_job(Job[int](f"{HERE}:double", 1, log=tmp_path / "job.log"))
    assert (tmp_path / "mine.txt").read_text() == "precious"


SCRIPT = """
import sys
sys.path.insert(0, {repository!r})
print("script runs")
from zoo.jobs import Job, run_job
print(run_job(Job("tests.test_jobs:double", 4)).unwrap())
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(repository=ROOT))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.stdout, done.stderr) == ("script runs\n8\n", "")


WAITING = """
import os, sys
sys.path.insert(0, {repository!r})
from zoo.jobs import Job, run_job
try:
    run_job(Job("tests.test_jobs:misbehave", "hang"), lambda *stage: print(os.getpid(), flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_survives_its_parent(
    tmp_path: Path, start_session: Callable[..., subprocess.Popen[str]], number: int
) -> None:
    code = WAITING.format(repository=ROOT)
    process = start_session(sys.executable, "-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    printed, errors = process.communicate(timeout=PATIENCE_S)
    assert printed == ("interrupted\n" if number == signal.SIGINT else "")
    assert errors == ""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process is still there")


@pytest.mark.usefixtures("ray_node")
def test_on_a_cluster_folders_and_log_travel(tmp_path: Path) -> None:
    (tmp_path / "source" / "a").mkdir(parents=True)
    (tmp_path / "source" / "a" / "text").write_text("hello")
    folders = {"reads": {"source": tmp_path / "source"}, "writes": {"target": tmp_path / "target"}}
    jobs = [
        Job[Any](f"{HERE}:copy", name="copy", **folders),
        Job[Any](f"{HERE}:double", 3, name="double", log=tmp_path / "double.log"),
        Job[Any](f"{HERE}:misbehave", "refused", name="refused"),
    ]
    told: list[str] = []
    with RayExecutor[Any]("local", 2, lambda job, *stage: told.append(job.name)) as executor:
        for job in jobs:
            executor.submit(job)
        ended: dict[str, Outcome[Any]] = {}
        while len(ended) < len(jobs):
            ended |= {job.name: outcome for job, outcome in executor.poll()}
    assert ended["double"].unwrap() == 6
    assert ended["refused"].error == "option a: wrong option. Use b"
    assert (tmp_path / "target" / "b" / "text").read_text() == "HELLO"
    assert (tmp_path / "double.log").read_text() == "working on 3\n"
    assert "double" in told
