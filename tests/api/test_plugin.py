"""A new plugin of every kind installs, loads, and passes its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from zoo.api.plugin import KINDS
from zoo.errors import ConfigError, UnknownNameError

LISTED = {
    "model": "models: my_thing",
    "dataset": "datasets: my_thing",
    "loss": "losses: my_thing",
    "metric": "metrics: my_thing",
    "risk-model": "risk models: my_thing",
    "command": "commands: my_thing",
    "exporter": "exporters: my_thing",
    "weights": "zoo-my-thing",
}


@pytest.mark.slow
@pytest.mark.fresh
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_works(kind: str, tmp_path: Path, zoo: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    zoo("plugin", "new", "zoo-my-thing", "--kind", kind, check=True)
    folder, site = tmp_path / "zoo-my-thing", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", "--target", site, folder], check=True, timeout=300)
    listed = zoo("plugins", check=True, PYTHONPATH=str(site)).stdout
    assert LISTED[kind] in listed
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_wrong_names_and_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'model'"):
        zoo.new_plugin("zoo-my-net", "modle", tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not a valid name"):
        zoo.new_plugin("My Net", out=tmp_path / "x")
    with pytest.raises(ConfigError, match="already exists"):
        zoo.new_plugin("zoo-my-net", out=tmp_path)
