"""A small bundle that was really trained, once for all tests of exporting."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.bench.config import SPLITS, DataSource, TrialConfig
from zoo.bench.trial import run_trial
from zoo.training.recipes import get_recipe

OPTIONS = {"widths": [8, 8, 8, 8, 8]}


@pytest.fixture(scope="session")
def trained(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of a U-Net that finds the ellipses of ``patches``."""
    folder = tmp_path_factory.mktemp("trained")
    source = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    fingerprints = {split: source.open(split).fingerprint() for split in SPLITS}
    recipe = get_recipe("quick").changed(steps=60, batch_size=8, crop=32, precision="fp32")
    result = run_trial(TrialConfig("unet", OPTIONS, source, fingerprints, recipe, 0, "cpu"), folder, lambda *_: None)
    assert result.ok, result.error
    return folder
