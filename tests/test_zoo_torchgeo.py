"""The plugin zoo-torchgeo, installed where nothing else sees it: its own tests pass, and its models train and map."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PLUGIN = REPOSITORY / "plugins" / "zoo-torchgeo"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Zoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    here = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, *here, str(PLUGIN)], check=True, timeout=300)
    return str(folder)


def test_its_own_tests_pass(site: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": site},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout


def test_a_model_is_trained_on_named_bands_and_listed(zoo: Zoo, site: str, patches: Path, tmp_path: Path) -> None:
    listed = zoo("models", "torchgeo/unet-resnet18*", check=True, PYTHONPATH=site).stdout
    assert "torchgeo/unet-resnet18-sentinel2_all_moco" in listed
    line = "train torchgeo/unet-earthloc --group-column scene --steps 2 --crop 32 --batch-size 4 --out run"
    done = zoo(*line.split(), "--data", patches, "--option", "decoder_channels=(8, 8, 8, 8)", PYTHONPATH=site)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = json.loads((tmp_path / "run" / "bundle.json").read_text())
    assert bundle["model"]["name"] == "torchgeo/unet-earthloc"
    assert bundle["provider"]["distribution"] == "zoo-torchgeo"
