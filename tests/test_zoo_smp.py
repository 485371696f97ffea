"""The plugin zoo-smp, installed where nothing else sees it: it lists thousands of names without torch and works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PLUGIN = REPOSITORY / "plugins" / "zoo-smp"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Zoo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    here = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, *here, str(PLUGIN)], check=True, timeout=300)
    return str(folder)


def python(site: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": site}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def test_families_are_rows_and_patterns_list_their_models(zoo: Zoo, site: str) -> None:
    (report,) = [
        one for one in json.loads(zoo("plugins", "--json", PYTHONPATH=site).stdout) if one["name"] == "zoo-smp"
    ]
    assert "smp/unet-*" in report["provides"]["models"]
    rows = [line for line in zoo("models", check=True, PYTHONPATH=site).stdout.splitlines() if line.startswith("smp/")]
    assert len(rows) == 12
    assert all(line.endswith("zoo-smp") and " models " in line for line in rows)
    listed = zoo("models", "smp/*-resnet34", check=True, PYTHONPATH=site).stdout
    assert "smp/unet-resnet34" in listed
    assert "smp/dpt" not in listed
    every = zoo("models", "--all", check=True, PYTHONPATH=site).stdout
    assert len(every.splitlines()) > 5000


def test_listing_every_name_imports_no_torch(site: str, tmp_path: Path) -> None:
    code = "import sys, zoo; print(len(zoo.list_models('smp/*')) > 5000, 'torch' in sys.modules, 'timm' in sys.modules)"
    assert python(site, "-c", code, cwd=tmp_path).stdout == "True False False\n"


def test_the_models_of_the_leaderboard_are_registered(site: str, tmp_path: Path) -> None:
    asked = tomllib.loads((REPOSITORY / "benchmarks" / "smp.toml").read_text())["models"]
    names = [one["model"] for one in asked if one["model"].startswith("smp/")]
    assert len(names) == 12
    code = f"import zoo; print(all(name in zoo.registry.catalogue().models for name in {names}))"
    assert python(site, "-c", code, cwd=tmp_path).stdout == "True\n"


def test_its_own_tests_pass(site: str, tmp_path: Path) -> None:
    done = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", PLUGIN / "tests", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
