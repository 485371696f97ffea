"""The plugin zoo-torchgeo, installed where nothing else sees it: its own tests pass, and its models train and map."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TESTS = REPOSITORY / "plugins" / "zoo-torchgeo" / "tests"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(plugin_site: Callable[[str], str]) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    return plugin_site("zoo-torchgeo")


def test_its_own_tests_pass(python: Run, site: str) -> None:
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS, check=True, PYTHONPATH=site)


def test_a_model_is_trained_on_named_bands_and_listed(zoo: Run, site: str, patches: Path, tmp_path: Path) -> None:
    listed = zoo("models", "torchgeo/unet-resnet18*", check=True, PYTHONPATH=site).stdout
    assert "torchgeo/unet-resnet18-sentinel2_all_moco" in listed
    line = "train torchgeo/unet-earthloc --group-column scene --steps 2 --crop 32 --batch-size 4 --no-speed --out run"
    done = zoo(*line.split(), "--data", patches, "--option", "decoder_channels=(8, 8, 8, 8)", PYTHONPATH=site)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = json.loads((tmp_path / "run" / "bundle.json").read_text())
    assert bundle["model"]["name"] == "torchgeo/unet-earthloc"
    assert bundle["provider"]["distribution"] == "zoo-torchgeo"
