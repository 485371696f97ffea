"""Losses take options on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_benchmark_passes_options_to_the_loss(zoo, patches: Path, tmp_path: Path) -> None:
    line = "bench --models unet --group-column scene --steps 1 --crop 32 --batch-size 4 --json rows.json --loss focal"
    done = zoo(*line.split(), "--data", patches, "--loss-option", "gamma=3", "--no-speed")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "rows.json").read_text())[0]["status"] == "ok"
    assert "gamma=3" in done.stderr + done.stdout


@pytest.mark.parametrize(("option", "problem"), [("gama=3", "Did you mean 'gamma'"), ("gamma=x", "Give a number")])
def test_wrong_options_are_refused(zoo, patches: Path, option: str, problem: str) -> None:
    done = zoo("bench", "--models", "unet", "--data", patches, "--loss", "focal", "--loss-option", option)
    assert done.returncode == 2
    assert problem in done.stderr
