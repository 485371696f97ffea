"""The plugin zoo-weights, installed where nothing else sees it: its bundles, their cards, and the tutorial with one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tests.conftest import REPOSITORY, pip_install
from tests.rasters.geotiffs import write_geotiff

PLUGIN = REPOSITORY / "plugins" / "zoo-weights"
BUNDLES = PLUGIN / "src" / "zoo_weights" / "bundles"
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "sentinel2.md"
MAX_WHEEL_BYTES = 20_000_000
DEMO = "demo/seven-channels"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Zoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the plugin."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    here = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *here, str(PLUGIN)], check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    return pip_install(tmp_path_factory.mktemp("site"), wheel)


@pytest.fixture
def editable(tmp_path: Path) -> str:
    """A folder for PYTHONPATH that finds the plugin where it lies in the repository, as an editable install does."""
    info = tmp_path / "editable" / "zoo_weights-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-weights\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[zoo]\nweights = zoo_weights\n")
    return os.pathsep.join([str(info.parent), str(PLUGIN / "src")])


def test_the_wheel_is_small_and_holds_the_licences(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert sum(one.file_size for one in archive.infolist()) < MAX_WHEEL_BYTES
    for wanted in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f".dist-info/licenses/{wanted}") for name in names)
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin", ".pkl"))]


@pytest.mark.parametrize("place", sorted(BUNDLES.iterdir()), ids=lambda path: path.name)
def test_every_bundle_has_a_name_figures_a_licence_and_its_own_card(place: Path) -> None:
    from zoo.training.bundle import Bundle
    from zoo.weights.card import check_card

    description = (place / "bundle.json").read_text(encoding="utf-8")
    assert not re.search(r'"/(?!\*)[^"]*/', description), "the folder of the training data is on no reader's machine"
    bundle = Bundle.load(place)
    assert bundle.notes.name
    assert f"`{bundle.notes.name}`" in (PLUGIN / "README.md").read_text(encoding="utf-8")
    assert bundle.provider is not None
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bundle.provider.distribution in project["dependencies"], "installing the weights installs their architecture"
    assert bundle.notes.summary
    assert bundle.notes.licence
    assert bundle.notes.reproduce
    assert bundle.data.licence
    quality = bundle.quality()
    assert quality is not None
    assert quality.dice_interval is not None
    assert quality.calibration is not None
    assert bundle.landslide_share
    check_card(place)
    card = (place / "README.md").read_text(encoding="utf-8")
    assert f"weights_sha256: {bundle.weights_sha256}" in card
    pictures = re.findall(r"\]\((card/[\w.]+)\)", card)
    assert pictures
    for picture in pictures:
        assert (place / picture).is_file()


def test_it_is_listed_without_torch_from_a_wheel_and_as_editable(zoo: Zoo, site: str, editable: str) -> None:
    names = {
        json.loads((place / "bundle.json").read_text(encoding="utf-8"))["notes"]["name"] for place in BUNDLES.iterdir()
    }
    assert DEMO in names
    for path in (site, editable):
        reports = json.loads(zoo("plugins", "--json", check=True, PYTHONPATH=path).stdout)
        (report,) = [report for report in reports if report["name"] == "zoo-weights"]
        assert report["status"] == "loaded", report
        assert set(report["provides"]["weights"]) == names
    shown = json.loads(zoo("weights", "show", DEMO, "--json", check=True, PYTHONPATH=site).stdout)
    assert shown["summary"].startswith("DEMO:")
    assert shown["figures"]
    code = (
        "import sys; from zoo.registry import catalogue; names = list(catalogue().weights);"
        "assert 'demo/seven-channels' in names, names; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": site}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_tutorial_maps_a_stack_with_the_demo(zoo: Zoo, site: str, tmp_path: Path) -> None:
    """The commands of the tutorial's last step, on a small made-up scene with the seven channels."""
    write_stack(tmp_path / "stack.tif")
    text = TUTORIAL.read_text(encoding="utf-8")
    commands = [line for line in re.findall(r"^zoo .*$", text.replace("\\\n", " "), re.MULTILINE) if DEMO in line]
    assert any(command.startswith(f"zoo map {DEMO} stack.tif") for command in commands)
    for command in commands:
        done = zoo(*shlex.split(command)[1:], check=True, PYTHONPATH=site)
        assert "demo" in done.stdout.lower()
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["LABEL"] == "demo"
    found = geopandas.read_file(tmp_path / "slides.gpkg")
    assert all("(demo)" in name for name in found["class"])
    assert (tmp_path / "map.png").stat().st_size > 10_000


def write_stack(path: Path) -> None:
    """Write one synthetic scene as ``zoo stack`` writes a real one."""
    from zoo.datasets.synthetic import Synthetic

    patches = Synthetic(split="test", scenes=3, region="alpine", workers=1)
    image, _ = patches.read(0)
    place = from_origin(400_000, 3_800_000, 10, 10)
    names = [(band.name, band.unit) for band in patches.bands]
    write_geotiff(path, image, names=names, transform=place, nodata=np.nan, dtype="float32")


def test_a_bundle_without_a_name_is_named_as_the_fault(zoo: Zoo, tmp_path: Path) -> None:
    package = tmp_path / "site" / "zoo_nameless"
    shutil.copytree(BUNDLES / "demo-seven-channels", package / "bundles" / "one")
    description = package / "bundles" / "one" / "bundle.json"
    values = json.loads(description.read_text())
    del values["notes"]
    description.write_text(json.dumps(values))
    code = (PLUGIN / "src" / "zoo_weights" / "__init__.py").read_text().replace("zoo_weights", "zoo_nameless")
    (package / "__init__.py").write_text(code)
    info = tmp_path / "site" / "zoo_nameless-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-nameless\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[zoo]\nmain = zoo_nameless\n")
    reports = json.loads(zoo("plugins", "--json", check=True, PYTHONPATH=str(tmp_path / "site")).stdout)
    (report,) = [report for report in reports if report["name"] == "zoo-nameless"]
    assert report["status"] == "failed"
    assert "the bundle has no name" in report["error"]
