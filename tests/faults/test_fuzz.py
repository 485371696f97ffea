"""Every reader takes damaged files: it uses them or refuses them in words. No crash, no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import NIGHTLY, REPOSITORY
from tests.faults.conftest import Zoo
from tests.faults.corpus import write_corpus
from tests.faults.fuzzing import READERS

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
