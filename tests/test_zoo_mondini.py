"""The plugin zoo-mondini, installed where nothing else sees it: listed, skipped without rain, never a crash."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PLUGIN = REPOSITORY / "plugins" / "zoo-mondini"
REASON = "needs rainfall series, but the data have none"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(plugin_site: Callable[[str], str]) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    return plugin_site("zoo-mondini")


def test_the_model_is_listed_as_needing_rain(zoo: Run, site: str) -> None:
    reports = json.loads(zoo("plugins", "--json", check=True, PYTHONPATH=site).stdout)
    (report,) = [report for report in reports if report["name"] == "zoo-mondini"]
    assert report["provides"] == {"models": ["mondini_rain"], "risk_models": ["mondini"], "commands": ["rain-table"]}
    listed = zoo("models", "mondini*", check=True, PYTHONPATH=site).stdout
    assert "NEEDS RAIN" in listed
    shown = json.loads(zoo("models", "show", "mondini_rain", "--json", check=True, PYTHONPATH=site).stdout)
    assert "needs_rain" in shown["flags"]
    assert shown["parameters"] == shown["parameters_counted"]
    assert {choice["mark"] for choice in shown["provenance"]} == {"P", "S", "O"}


def test_a_benchmark_skips_it_and_goes_on(zoo: Run, site: str, patches: Path, tmp_path: Path) -> None:
    line = "bench --models mondini_rain,unet --group-column scene --steps 2 --crop 32 --batch-size 4 --json rows.json"
    done = zoo(*line.split(), "--no-speed", "--data", patches, PYTHONPATH=site)
    assert done.returncode == 0, done.stderr
    rows = {row["model"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert {name: row["status"] for name, row in rows.items()} == {"mondini_rain": "skipped", "unet": "ok"}
    assert f"mondini_rain: skipped: {REASON}" in done.stdout


def test_training_on_images_states_why_it_cannot(zoo: Run, site: str, patches: Path) -> None:
    line = "train mondini_rain --group-column scene --steps 2 --crop 32 --out run"
    done = zoo(*line.split(), "--data", patches, PYTHONPATH=site)
    assert done.returncode == 1
    assert REASON in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.nightly
def test_it_is_a_row_of_table_2_where_there_are_rainfall_histories(zoo: Run, site: str, tmp_path: Path) -> None:
    line = "rain-table rain.csv --rows 600 --hours 24 --seed 1"
    zoo(*line.split(), check=True, PYTHONPATH=site)
    refused = zoo("rain-table", "rain.csv", PYTHONPATH=site)
    assert refused.returncode == 2
    assert "rain.csv: already exists" in refused.stderr
    line = (
        "risk compare rain.csv --label landslide --coords x,y --models mondini,lsi_without_rain --folds 3 --cv random"
    )
    zoo(*line.split(), "--json", "rows.json", check=True, PYTHONPATH=site)
    rows = {row["model"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["mondini"]["status"] == "ok"
    assert rows["mondini"]["auc"] > 0.75
    (tmp_path / "dry.csv").write_text(
        "label,slope,x\n" + "".join(f"{i % 2},{20 + i % 7 + i % 2},{i}\n" for i in range(60))
    )
    line = "risk compare dry.csv --label label --models mondini --cv random"
    done = zoo(*line.split(), PYTHONPATH=site)
    assert "skipped: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_its_own_tests_pass(python: Run, site: str) -> None:
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", PLUGIN / "tests", check=True, PYTHONPATH=site)


@pytest.mark.nightly
def test_the_example_prints_what_the_documents_say(python: Run, site: str) -> None:
    done = python(PLUGIN / "examples" / "train_on_a_table.py", check=True, PYTHONPATH=site)
    for document in (PLUGIN / "README.md", REPOSITORY / "docs" / "how_to" / "mondini.md"):
        text = document.read_text(encoding="utf-8")
        (block,) = [block for block in re.findall(r"^```text\n(.*?)^```", text, re.M | re.S) if "AUC" in block]
        assert _words(block) == _words(done.stdout)
        # Another processor or release of torch adds in another order.
        assert _numbers(block) == pytest.approx(_numbers(done.stdout), rel=0.2)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)
