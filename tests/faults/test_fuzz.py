"""Every reader takes damaged files: it uses them or refuses them in words. No crash, no hang."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.faults.conftest import NIGHTLY, Zoo
from tests.faults.corpus import PAST_FAULTS, write_corpus
from tests.faults.fuzzing import READERS

INPUTS = int(os.environ.get("ZOO_FUZZ_INPUTS", "250000" if NIGHTLY else "2000"))
"""Damaged files in total."""
SLOW = {"bundle": 0.15, "safe": 0.3, "plugin": 0.4, "folder": 0.5, "vectors": 0.6, "stac": 0.6, "result": 0.5}
"""Share of inputs of readers that take many milliseconds; that of the others is 1."""
RECOMPUTES = {"journal", "plugin"}
"""Readers that leave out what is damaged in place of refusing it."""
BATCH = 1000
SEED = int(os.environ.get("ZOO_FUZZ_SEED", "0"))


@pytest.fixture(scope="session")
def corpus(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    done, _ = zoo.undisturbed("train")
    write_corpus(folder, zoo.inputs, done.folder / "run")
    return folder


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_used_or_refused_in_words(zoo: Zoo, corpus: Path, tmp_path: Path, reader: str) -> None:
    total = sum(SLOW.get(name, 1) for name in READERS)
    left = round(INPUTS * SLOW.get(reader, 1) / total)
    figures = {"inputs": 0, "used": 0, "refused": 0}
    problems: list[str] = []
    seed = SEED
    while left > 0:
        found = zoo.fuzz(reader, corpus, tmp_path, seed, min(left, BATCH))
        figures = {name: figures[name] + found[name] for name in figures}
        problems += [f"{text} (seed {seed}, inputs {where[:5]})" for text, where in found["crashes"].items()]
        problems += [f"hang: seed {seed}, input {number}" for number in found["hangs"]]
        left, seed = left - BATCH, seed + 1
    print(json.dumps({"reader": reader, **figures, "problems": len(problems)}))
    assert problems == [], "\n".join(problems) + f"\nthe inputs are in {tmp_path / 'crashes'}"
    assert figures["used"] > 0, "nothing of the corpus is readable"
    assert figures["refused"] > 0 or reader in RECOMPUTES


def test_past_faults_are_small_and_belong_to_readers() -> None:
    for path in PAST_FAULTS.rglob("*"):
        assert path.is_dir() or path.stat().st_size <= 10_000
    assert {path.name for path in PAST_FAULTS.glob("*")} <= set(READERS)
