"""Full and read-only disks, limited files, folders that vanish, Ctrl-C, two runs at once, a clock that jumps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NIGHTLY
from tests.faults.conftest import COMMANDS, Zoo, assert_nothing_half_written, assert_same_files

DISTURBANCES: dict[str, dict[str, Any]] = {
    "full disk": {"kind": "refuse", "errno": "ENOSPC"},
    "read-only disk": {"kind": "refuse", "errno": "EROFS"},
    "no permission": {"kind": "refuse", "errno": "EACCES"},
    "Ctrl-C": {"kind": "signal", "number": int(signal.SIGINT)},
}
SAMPLE = ("map", "patches", "stack", "train")
"""Commands that `make test` disturbs, one each; a night disturbs all in every way, ten times."""
CASES = (
    [(kind, name, seed) for kind in DISTURBANCES for name in COMMANDS for seed in range(10)]
    if NIGHTLY
    else [(kind, name, 0) for kind, name in zip(DISTURBANCES, SAMPLE, strict=True)]
)


def finish(zoo: Zoo, name: str, folder: Path, files: dict[str, bytes]) -> None:
    """Run a command again where it was disturbed, and check that it ends as if nothing had happened."""
    again = zoo.run(name, folder)
    assert again.code == 0 or (again.code == 2 and "already exists" in again.errors), again.errors
    assert again.orphans == []
    assert_same_files(name, folder, files)


@pytest.mark.parametrize(("kind", "name", "seed"), CASES)
def test_a_disturbed_command_reports_it_and_the_next_one_completes_it(
    zoo: Zoo, kind: str, name: str, seed: int
) -> None:
    whole, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    event = random.Random(f"{kind} {name} {seed}").randint(1, whole.events)
    done = zoo.run(name, folder, **DISTURBANCES[kind], event=event)
    if kind == "Ctrl-C":
        assert done.code in (0, 130), done.errors
    elif done.code:
        assert done.code in (1, 2), done.errors
        assert "error" in done.errors
    assert done.orphans == []
    assert_nothing_half_written(name, folder, files)
    finish(zoo, name, folder, files)


@pytest.mark.parametrize("seed", range(5 if NIGHTLY else 1))
@pytest.mark.parametrize("name", COMMANDS if NIGHTLY else ["polygons", "stack"])
def test_a_file_that_cannot_grow_is_no_result(zoo: Zoo, name: str, seed: int) -> None:
    """GDAL and SQLite write in C, where the other faults do not reach."""
    _, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    limit = int(max(map(len, files.values())) * random.Random(f"{name} {seed}").uniform(0, 0.9))
    done = zoo.run(name, folder, kind="limit", bytes=limit)
    assert done.code in (1, 2), (limit, done.errors)
    assert "cannot write here" in done.errors
    assert_nothing_half_written(name, folder, files)
    finish(zoo, name, folder, files)


@pytest.mark.parametrize("name", COMMANDS if NIGHTLY else ["patches"])
def test_a_folder_that_vanishes_is_no_crash(zoo: Zoo, name: str) -> None:
    whole, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    event = random.Random(name).randint(1, whole.events)
    done = zoo.run(name, folder, kind="vanish", event=event)
    assert done.code in (0, 1, 2), done.errors
    assert done.orphans == []
    folder.mkdir(exist_ok=True)
    assert_nothing_half_written(name, folder, files)


@pytest.mark.parametrize("name", COMMANDS if NIGHTLY else ["stack", "train"])
def test_two_runs_at_once_leave_one_whole_result(zoo: Zoo, name: str) -> None:
    _, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    both = zoo.together((name, folder, {}), (name, folder, {}))
    assert 0 in [one.code for one in both], [one.errors for one in both]
    assert {one.code for one in both} <= {0, 2}, [one.errors for one in both]
    assert_nothing_half_written(name, folder, files)
    finish(zoo, name, folder, files)


@pytest.mark.parametrize("name", COMMANDS if NIGHTLY else ["map"])
@pytest.mark.parametrize("seconds", [86_400.0] if not NIGHTLY else [3.0, 86_400.0, 1e9])
def test_a_clock_that_jumps_changes_nothing(zoo: Zoo, name: str, seconds: float) -> None:
    _, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    done = zoo.run(name, folder, kind="clock", seconds=seconds)
    assert done.code == 0, done.errors
    assert_same_files(name, folder, files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB; the test is skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("name", COMMANDS if NIGHTLY else ["risk map"])
def test_a_disk_that_is_really_full(zoo: Zoo, small_disk: Path, name: str) -> None:
    _, files = zoo.undisturbed(name)
    folder = zoo.new_folder(small_disk)
    done = zoo.run(name, folder)
    assert done.code in (0, 1, 2), done.errors
    assert_nothing_half_written(name, folder, files)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    finish(zoo, name, folder, files)
