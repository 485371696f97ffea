"""Scripts that the pages print, with libraries in place of those that the tests do not install."""

from __future__ import annotations

import fcntl
import inspect
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import zoo.risk
from zoo.cli.risk.watch import watch
from zoo.risk.watch_files import Alert

DOCS = Path(__file__).parents[2] / "docs"


class Operator:
    """Records what a task runs and what runs after it."""

    made: list[Operator] = []  # noqa: RUF012 - each test replaces it

    def __init__(self, task_id: str, bash_command: str) -> None:
        self.task_id, self.bash_command, self.after = task_id, bash_command, []
        Operator.made.append(self)

    def __rshift__(self, other: Operator) -> Operator:
        self.after.append(other.task_id)
        return other


class Dag:
    """Records its options."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __enter__(self) -> Dag:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_the_airflow_script_runs_commands_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, members in (
        ("airflow", {}),
        ("airflow.sdk", {"DAG": Dag}),
        ("airflow.providers", {}),
        ("airflow.providers.standard", {}),
        ("airflow.providers.standard.operators", {}),
        ("airflow.providers.standard.operators.bash", {"BashOperator": Operator}),
    ):
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Operator, "made", [])
    found = runpy.run_path(str(DOCS / "examples" / "watch_airflow.py"))
    fetch, *watching = Operator.made
    assert fetch.after == [one.task_id for one in watching] == ["watch_hongya", "watch_emei"]
    assert found["dag"].options["catchup"] is False
    assert found["dag"].options["max_active_runs"] == 1
    for one in watching:
        words = shlex.split(one.bash_command.partition("&& ")[2])
        assert words[:3] == ["zoo", "risk", "watch"]
        watch.make_context("watch", words[3:])


@pytest.fixture
def counties(tmp_path: Path) -> Path:
    """A folder with commands in place of zoo and of the download, which record what they are given."""
    for name, text in (
        ("fetch_imerg.sh", 'echo "fetch $*" >> log\n'),
        ("zoo", 'echo "zoo $*" >> log\ntest "$3" != hongya.tif\n'),
    ):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    return tmp_path


def run_cron(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    script = str(DOCS / "examples" / "watch_cron.sh")
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=False)


def test_the_cron_script_maps_all_counties_though_one_fails(counties: Path) -> None:
    done = run_cron(counties)
    assert done.returncode == 1, done.stderr
    assert "hongya failed" in done.stdout
    assert "emei failed" not in done.stdout
    fetch, *watching = (counties / "log").read_text().splitlines()
    assert fetch == "fetch imerg"
    assert [line.split()[3] for line in watching] == ["hongya.tif", "emei.tif"]
    for line in watching:
        watch.make_context("watch", shlex.split(line)[3:])


def test_the_cron_script_leaves_a_run_at_work_alone(counties: Path) -> None:
    with (counties / "watch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_cron(counties)
    assert done.returncode == 0
    assert "still at work" in done.stdout
    assert not (counties / "log").exists()


def test_the_prefect_script_maps_all_counties(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        def __init__(self, function: Any) -> None:
            self.call, self.found = function, None

        def __call__(self, *given: Any) -> Any:
            return self.call(*given)

        def submit(self, *given: Any) -> Task:
            made = Task(self.call)
            made.found = self.call(*given)
            return made

        def wait(self) -> None:
            pass

        def result(self) -> Any:
            return self.found

    for name, members in (
        ("prefect", {"task": lambda **options: Task, "flow": lambda **options: lambda function: function}),
        ("prefect.task_runners", {"ThreadPoolTaskRunner": lambda max_workers: None}),
    ):
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    called: list[tuple[Path, Path]] = []
    signature = inspect.signature(zoo.risk.watch)
    alerts = tuple(Alert(name, 1.0, first, (0.2, ""), (0.1, "")) for name, first in (("north", "x"), ("south", None)))

    def fake(*given: Any, **options: Any) -> zoo.risk.WatchReport:
        bound = signature.bind(*given, **options).arguments
        called.append((Path(bound["stack"]), Path(bound["out"])))
        return zoo.risk.WatchReport(Path(bound["out"]), (), (), alerts)

    monkeypatch.setattr(zoo.risk, "watch", fake)
    found = runpy.run_path(str(DOCS / "examples" / "watch_prefect.py"))
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **options: commands.append(words))
    assert found["landslide_watch"]() == {"hongya": ["north"], "emei": ["north"]}
    assert commands == [["./fetch_imerg.sh", "imerg"]]
    assert [(stack.name, out.name) for stack, out in called] == [("hongya.tif", "hongya"), ("emei.tif", "emei")]
