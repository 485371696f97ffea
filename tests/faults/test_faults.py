"""Commands that are killed or disturbed at any moment, and damaged files for every reader.

All of it is in one file, so that one process with libraries imported serves it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NIGHTLY, REPOSITORY
from tests.faults.conftest import COMMANDS, Zoo, assert_nothing_half_written, assert_same_files
from tests.faults.corpus import write_corpus
from tests.faults.fuzzing import READERS

pytestmark = pytest.mark.slow

KILLS = 34 if NIGHTLY else 2
"""Kills of each command: half of them kill -9, half SIGTERM; 204 in a night."""
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
INPUTS = int(os.environ.get("ZOO_FUZZ_INPUTS", "250000" if NIGHTLY else "2000"))
"""Damaged files in total."""
SLOW = {
    "bundle": 0.15,
    "safe": 0.3,
    "plugin": 0.4,
    "folder": 0.5,
    "vectors": 0.6,
    "stac": 0.6,
    "result": 0.5,
    "notes": 0.15,
}
"""Share of inputs of readers that take many milliseconds; that of the others is 1."""
RECOMPUTES = {"journal", "plugin"}
"""Readers that leave out what is damaged instead of refusing it."""
BATCH = 1000
GUIDED = int(os.environ.get("ZOO_GUIDED_INPUTS", "5000"))
"""Inputs of each reader that are guided by coverage."""
PURE = ("result", "benchmark", "weights", "bundle", "safe", "stac", "plugin", "card", "notes", "hub")
"""Readers whose work is done in Python, of which atheris sees every branch. It sees none of the compiled code of GDAL,
HDF5 and pandas; the files of those are damaged without guidance."""
SEED = int(os.environ.get("ZOO_FUZZ_SEED", "0"))


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_resumes_and_ends_with_the_same_files(zoo: Zoo, name: str, number: int) -> None:
    whole, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    rng = random.Random(f"{name} {number}")
    kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    fault = {"kind": "signal", "number": int(kind)}
    # Half of the moments lie between two changes of files, where most can go wrong, and half anywhere.
    at = {"event": rng.randint(1, whole.events)} if number % 4 < 2 else {"after": rng.uniform(0, whole.seconds)}
    killed = zoo.run(name, folder, **fault, **at)
    assert killed.code in (0, -kind, 130), killed.errors
    assert killed.orphans == []
    assert_nothing_half_written(name, folder, files)
    again = zoo.run(name, folder)
    if again.code == 2 and "already exists" in again.errors:
        # The kill came after the last file had its name.
        assert_nothing_half_written(name, folder, files)
    else:
        assert again.code == 0, again.errors
    assert again.orphans == []
    assert_same_files(name, folder, files)


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


@pytest.fixture(scope="session")
def corpus(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    done, _ = zoo.undisturbed("train")
    write_corpus(folder, zoo.inputs, done.folder / "run")
    return folder


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_used_or_refused_in_words(
    zoo: Zoo, corpus: Path, tmp_path: Path, reader: str, record_property: Callable[[str, object], None]
) -> None:
    total = sum(SLOW.get(name, 1) for name in READERS)
    left = round(INPUTS * SLOW.get(reader, 1) / total)
    figures = {"inputs": 0, "used": 0, "refused": 0}
    problems: list[str] = []
    crashes = hangs = 0
    seed = SEED
    while left > 0:
        found = zoo.fuzz(reader, corpus, tmp_path, seed, min(left, BATCH))
        figures = {name: figures[name] + found[name] for name in figures}
        crashes += sum(map(len, found["crashes"].values()))
        hangs += len(found["hangs"])
        problems += [f"{text} (seed {seed}, inputs {where[:5]})" for text, where in found["crashes"].items()]
        problems += [f"hang: seed {seed}, input {number}" for number in found["hangs"]]
        left, seed = left - BATCH, seed + 1
    record_property("fuzz", {**figures, "crashes": crashes, "hangs": hangs})
    assert problems == [], "\n".join(problems) + f"\nthe inputs are in {tmp_path / 'crashes'}"
    assert figures["used"] > 0, "nothing of the corpus is readable"
    assert figures["refused"] > 0 or reader in RECOMPUTES


@pytest.mark.skipif(not NIGHTLY, reason="coverage-guided fuzzing takes minutes: make nightly")
@pytest.mark.parametrize("reader", PURE)
def test_inputs_that_reach_new_branches_are_used_or_refused_in_words(
    corpus: Path, tmp_path: Path, reader: str, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    command = [sys.executable, "-m", "tests.faults.guided", reader, str(corpus / reader), str(tmp_path), str(GUIDED)]
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache"), "ZOO_PLUGINS": "none"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    record_property(
        "fuzz", {**{name: figures[name] for name in ("inputs", "used", "refused")}, "crashes": 0, "hangs": 0}
    )
    assert figures["refused"] > 0 or reader in RECOMPUTES


def test_every_reader_has_past_faults_or_none_were_found(corpus: Path) -> None:
    without = {reader for reader in READERS if not list((corpus / reader).glob("used-*"))}
    without = {reader for reader in without if not list((corpus / reader).glob("refused-*"))}
    assert without == {"netcdf", "folder"}
