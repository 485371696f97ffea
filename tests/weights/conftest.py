"""A small bundle, archives of it, and a plugin that registers it."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.registry import reload


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test; return its folder of weights."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def write_bundle(folder: Path, *, rows: int = 2, **changes: object) -> Path:
    """A folder that holds what a bundle's head needs, with weights of one tensor of 12 bytes a row."""
    folder.mkdir(parents=True)
    save_file({"head.weight": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    head = {
        "format": 1,
        "model": {"name": "unet", "options": {"widths": [8, 16]}},
        "bands": [{"name": name, "unit": "1"} for name in ("red", "green", "blue")],
        "class_names": ["background", "landslide"],
        "threshold": 0.4,
        "pixel_size": 10.0,
        "weights": {"sha256": digest, "file": "model.safetensors"},
    }
    (folder / "bundle.json").write_text(json.dumps({**head, **changes}))
    (folder / "README.md").write_text("# A card\n")
    return folder


def pack(folder: Path, archive: Path, top: str = "") -> Path:
    """Pack a folder as a zip, its files under ``top``."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{top}{path.relative_to(folder)}")
    return archive


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small")


SPEC = """
from zoo.registry import MeasuredFigures, WeightsSpec, hookimpl

@hookimpl
def zoo_register_weights(register):
    values = dict(
        name="unet/valley-rgb", summary="true colour at 10 m", model="unet", options={"widths": (8, 16)},
        bands=(("red", "1"), ("green", "1"), ("blue", "1")), pixel_size=10.0, threshold=0.4,
        location="zoo_valley_data:valley", data="a valley", licence="CC-BY-4.0", size=1000,
        figures=(MeasuredFigures(split="held-out blocks", dice=0.71, dice_interval=(0.66, 0.75), patches=120),),
        limits=("Not tested on snow.",),
    )
    register(WeightsSpec(**{**values, **CHANGES}))
"""


@pytest.fixture
def register(install: Callable[[str, str], None], tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Install a plugin whose package holds a bundle, register it with changed fields, and return the package."""

    def add(bundle: Path | None = None, **changes: object) -> Path:
        package = tmp_path / "site" / "zoo_valley_data"
        package.mkdir()
        (package / "__init__.py").write_text("")
        if bundle is not None:
            shutil.copytree(bundle, package / "valley")
        install("zoo-valley", f"CHANGES = {changes!r}\n{SPEC}")
        importlib.invalidate_caches()
        reload()
        return package

    yield add
    reload()
    for name in ("zoo_valley", "zoo_valley_data"):
        sys.modules.pop(name, None)
