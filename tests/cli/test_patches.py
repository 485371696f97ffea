"""``zoo patches`` as a user types it, on real elevation and a real inventory where they are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import box

from tests.conftest import PATIENCE_S
from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run
from zoo.physics import slope_degrees
from zoo.registry import create_dataset

Zoo = Callable[..., "subprocess.CompletedProcess[str]"]


def write_terrain(path: Path, dem: np.ndarray, crs: object, transform: object, **tags: str) -> Path:
    """Slope and elevation, as a stack of terrain alone would hold them."""
    bands = np.stack([slope_degrees(dem, transform.a), dem]).astype(np.float32)  # type: ignore[attr-defined]
    names = (("slope", "degree"), ("DEM", "m"))
    write_geotiff(path, bands, names=names, tags=tags, crs=crs, transform=transform, nodata=np.nan)
    return path


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A stack of 64 x 64 pixels and one landslide in it."""
    transform = from_origin(400000, 3900000, 10, 10)
    dem = np.random.default_rng(0).normal(size=(64, 64)).cumsum(axis=0)
    stack = write_terrain(tmp_path / "stack.tif", dem, "EPSG:32643", transform, PHASE="post")
    inventory = tmp_path / "slides.gpkg"
    geopandas.GeoDataFrame(geometry=[box(400100, 3899800, 400150, 3899860)], crs=32643).to_file(inventory)
    return stack, inventory


@pytest.mark.slow
def test_kashmir_becomes_a_data_set(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with rasterio.open(shared_data / "kashmir" / "AW3D30.tif") as source:
        write_terrain(tmp_path / "kashmir.tif", source.read(1), source.crs, source.transform)
    command = ["patches", "kashmir.tif", "--inventory", str(shared_data / "kashmir" / "landslides.shp"), "--out", "p"]
    assert run([*command, "--phase", "post"]) == 0
    told = capsys.readouterr()
    assert "1,895 of 2,619" in told.out
    assert "6,708" in told.out
    assert "724 landslides were not drawn" in told.err
    (scene,) = json.loads((tmp_path / "p" / "patches.json").read_text())["scenes"]
    # Areas of the Shapefile's own column: 12.5 m2 to 88,444 m2, median 925 m2.
    assert scene["areas"] == pytest.approx([12.52, 925.08, 88443.66], rel=1e-3)
    with rasterio.open(tmp_path / "p" / "overview.png") as picture:
        assert min(picture.shape) > 500
    train = create_dataset("folder", root="p", group_column="scene", split_by="block")
    assert [(band.name, band.unit) for band in train.bands] == [("slope", "degree"), ("DEM", "m")]
    assert train.pixel_size == pytest.approx(28.55, rel=1e-3)
    assert run([*command, "--phase", "post", "--all-touched", "--overwrite"]) == 0
    told = capsys.readouterr()
    assert "1,895 of 2,619" not in told.out
    assert "cover the centre of no pixel" not in told.err


def test_the_smallest_call_and_its_table(zoo: Zoo, small: tuple[Path, Path], tmp_path: Path) -> None:
    stack, inventory = small
    done = zoo("patches", stack, "--inventory", inventory, "--out", "p", "--size", 32, "--stride", 16, check=True)
    assert "landslide px" in done.stdout
    assert "patches of 32 x 32 px, 320 m; 2 bands: slope [degree], DEM [m]" in done.stderr
    assert "a split keeps 2 patches between its parts" in done.stderr
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "images",
        "masks",
        "overview.png",
        "patches.json",
        "tiles.csv",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--positives", "--all"), "cannot be combined"),
        (("--positives", "--negatives-per-positive", 2), "cannot be combined"),
        (("--phase", "pre"), "its tag PHASE is post, but the option is pre"),
        (("--phase", "during"), "is not one of 'pre', 'post'"),
        (("--stride", 64, "--size", 32), "a stride of 64 with patches of 32 pixels"),
        (("--min-valid", "nan"), "not a share"),
        (("--where", "Year = 1"), "cannot be applied"),
        (("--date", "tomorrow"), "'tomorrow' is not a date"),
        (("--inventory", "none.gpkg"), "there is no such inventory"),
        (("--out", "stack.tif"), "is a file"),
    ],
)
def test_bad_input_is_reported_in_two_lines(
    small: tuple[Path, Path],
    tmp_path: Path,
    arguments: tuple[object, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stack, inventory = small
    monkeypatch.chdir(tmp_path)
    assert run(["patches", str(stack), "--inventory", str(inventory), "--out", "p", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


def test_ctrl_c_leaves_nothing(small: tuple[Path, Path], tmp_path: Path) -> None:
    stack, inventory = small
    command = [str(Path(sys.executable).with_name("zoo")), "patches", stack, "--inventory", inventory]
    process = subprocess.Popen(
        [*command, "--out", "p", "--size", "8", "--stride", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell in the background hands an ignored SIGINT down to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob(".p.part*/**/*.tif")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert errors.endswith("\ninterrupted\n")
    assert not errors.endswith("\n\n\ninterrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slides.gpkg", "stack.tif"]
