"""Tables in documents are those of the results that are committed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.bench.conftest import finished
from zoo.bench.config import TrialConfig

REPOSITORY = Path(__file__).parents[2]
MAX_TRIAL_BYTES = 250_000
MARKED = "Before.\n\n<!-- table: benchmarks/results/tiny -->\nold\n<!-- end of table -->\n\nAfter.\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("render_tables", REPOSITORY / "benchmarks" / "render_tables.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path, trial: Callable[..., TrialConfig], measured: Callable[..., dict[str, Any]]) -> Path:
    """A repository with one document and the results of two models."""
    for model, tp in (("unet", 30), ("segnet", 20)):
        finished(trial(model), measured(tp)).save(tmp_path / "benchmarks" / "results" / "tiny")
    (tmp_path / "README.md").write_text(MARKED, encoding="utf-8")
    return tmp_path


def test_the_documents_of_this_repository_show_their_results(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0


def test_committed_results_are_small() -> None:
    large = [
        path for path in REPOSITORY.glob("benchmarks/results/*/trials/*.json") if path.stat().st_size > MAX_TRIAL_BYTES
    ]
    assert not large, f"too large: {large}; run: python benchmarks/render_tables.py --compact benchmarks/results/NAME"


def test_tables_are_written_and_then_checked(
    script: ModuleType, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--repository", str(repository)]
    assert script.main([*place, "--check"]) == 1
    assert "-old" in capsys.readouterr().out
    assert (repository / "README.md").read_text() == MARKED, "a check changes nothing"
    assert script.main(place) == 0
    text = (repository / "README.md").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("<!-- end of table -->\n\nAfter.\n")
    assert "| `unet` | 0.750 |" in text
    assert "bootstrap intervals over 2 tiles" in text
    assert script.main([*place, "--check"]) == 0
    changed = next((repository / "benchmarks" / "results" / "tiny" / "trials").glob("unet*"))
    changed.write_text(changed.read_text().replace('"parameters": 1500000', '"parameters": 2500000'))
    assert script.main([*place, "--check"]) == 1
    assert "+| `unet` | 0.750" in capsys.readouterr().out


def test_examples_in_blocks_of_code_stay(script: ModuleType, repository: Path) -> None:
    example = f"```\n{MARKED}```\n"
    assert script.render(example, repository, Path("README.md")) == example


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- table: benchmarks/results/tiny -->\nno end\n", "README.md:1: the table has no end"),
        ("<!-- table: benchmarks/results/none -->\n<!-- end of table -->\n", "there is no such folder"),
    ],
)
def test_a_table_that_cannot_be_made_is_an_error(
    script: ModuleType, repository: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    (repository / "README.md").write_text(text)
    assert script.main(["--repository", str(repository), "--check"]) == 2
    assert reason in capsys.readouterr().err


def test_a_damaged_result_is_an_error_and_no_smaller_table(
    script: ModuleType, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "benchmarks" / "results" / "tiny" / "trials" / "cut.json").write_text("{")
    assert script.main(["--repository", str(repository)]) == 2
    assert "cut.json" in capsys.readouterr().err
    assert (repository / "README.md").read_text() == MARKED


def test_compact_files_hold_the_same_values(script: ModuleType, repository: Path) -> None:
    folder = repository / "benchmarks" / "results" / "tiny"
    before = {path: path.read_text() for path in folder.glob("trials/*.json")}
    assert script.main(["--compact", str(folder)]) == 0
    for path, text in before.items():
        assert json.loads(path.read_text()) == json.loads(text)
        assert len(path.read_text()) < 0.6 * len(text)
