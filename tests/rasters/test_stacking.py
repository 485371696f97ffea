"""Test the file of a stack: its tags, its layout, and that it is complete or absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

import zoo
from tests.conftest import PATIENCE_S
from zoo.errors import ZooError
from zoo.physics import PAPER_CHANNELS, IndexParameters
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions, build_stack
from zoo.rasters.stacks import Stack

WriteRaster = Callable[..., Path]


def test_the_file_describes_itself_in_tags(one_grid: Sources, tmp_path: Path) -> None:
    options = StackOptions(rain=(12.5, 2.0), phase="post", moisture="optram")
    report = build_stack(one_grid, tmp_path / "stäck.tif", options)
    with Stack(report.path) as stack:
        assert stack.made_by_zoo
        tags = stack.tags
        for found, band in zip(stack.bands, PAPER_CHANNELS, strict=True):
            assert (found.name, found.unit) == (band.name, band.unit)
            assert (found.valid_min, found.valid_max) == (band.valid_min, band.valid_max)
            assert found.nodata is not None
            assert np.isnan(found.nodata)
            assert found.description == report.sources[band.name] != ""
    assert (tags["SCENE"], tags["DATE"], tags["PHASE"], tags["RAIN"]) == ("T43SCT", "2024-06-11", "post", "12.5,2")
    assert tags["TIFFTAG_SOFTWARE"] == f"landslide-zoo {zoo.__version__}"
    sources = json.loads(tags["SOURCES"])
    assert set(sources) == {"green", "red", "nir", "swir", "swir2", "dem"}
    assert sources["red"]["file"] == "red.tif"
    assert sources["red"]["offset"] == -1000.0
    assert str(tmp_path) not in json.dumps(dict(tags))
    assert IndexParameters.from_dict(json.loads(tags["LSI_PARAMETERS"])) == report.index
    assert json.loads(tags["NOTES"]) == [*report.warnings, *report.notes]


def test_unknown_things_are_left_out(one_grid: Sources, tmp_path: Path) -> None:
    report = build_stack(Sources({"dem": one_grid.files["dem"]}), tmp_path / "stack.tif")
    with Stack(report.path) as stack:
        assert not {"SCENE", "DATE", "PHASE", "RAIN", "LSI_PARAMETERS"} & set(stack.tags)


@pytest.mark.parametrize(
    ("crs", "origin", "pixel", "coarser", "noted"),
    [
        ("EPSG:4326", (76.0, 34.0), 1e-4, 1, False),
        ("EPSG:4326", (76.0, 34.0), 1e-4, 5, True),
        ("EPSG:2227", (6_000_000.0, 2_100_000.0), 30.0, 1, False),
        ("EPSG:2227", (6_000_000.0, 2_100_000.0), 30.0, 5, True),
    ],
)
def test_coarse_moisture_is_noted_in_any_unit_of_the_grid(
    write_raster: WriteRaster,
    tmp_path: Path,
    crs: str,
    origin: tuple[float, float],
    pixel: float,
    coarser: int,
    noted: bool,
) -> None:
    rng = np.random.default_rng(0)
    files = {}
    for role, step in {"red": 1, "nir": 1, "moisture": coarser}.items():
        values = rng.uniform(0.1, 0.4, (60 // step, 60 // step)).astype(np.float32)
        files[role] = BandFile(str(write_raster(f"{role}.tif", values, crs=crs, origin=origin, pixel=pixel * step)))
    report = build_stack(Sources(files), tmp_path / "stack.tif", StackOptions(moisture="product"))
    assert any("SMI shows regions" in note for note in report.notes) is noted


def test_a_token_in_an_address_is_not_published() -> None:
    from zoo.rasters.reading import file_label

    assert file_label("/vsicurl/https://host/a/B04.tif?sig=secret") == "B04.tif"
    assert file_label("https://host/a/B04.tif?sig=secret") == "B04.tif"
    assert file_label("/vsizip//data/S2.zip/GRANULE/B04.jp2") == "B04.jp2"


def test_it_is_a_cloud_optimised_geotiff(write_raster: WriteRaster, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_raster("dem.tif", rng.random((700, 600)).astype(np.float32))
    report = build_stack(Sources({"dem": BandFile(str(path))}), tmp_path / "stack.tif")
    with rasterio.open(report.path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.compression is not None
        assert file.compression.name == "deflate"
        assert file.block_shapes == [(512, 512)] * 2
        assert file.overviews(1) == [2]
        whole = file.read(2)
        half = file.read(2, out_shape=(350, 300))
    np.testing.assert_allclose(half, whole.reshape(350, 2, 300, 2).mean(axis=(1, 3)), rtol=1e-5)
    with rasterio.open(report.path) as file:
        assert file.dtypes == ("float32", "float32")
        assert np.isnan(file.nodata)
    assert list(tmp_path.glob(".*")) == []
    assert report.path.stat().st_mode & 0o444 == 0o444


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_one_clear_line(write_raster: WriteRaster, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up while the stack is written."""
    rng = np.random.default_rng(0)
    path = write_raster("dem.tif", rng.random((700, 600)).astype(np.float32))
    out = tmp_path / "out"
    out.mkdir()
    code = """
    import resource, sys
    from zoo.rasters import reading
    from zoo.cli import run
    reading.CACHE_BYTES = int(sys.argv[4]) * 2**20
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(run(["stack", "--dem", sys.argv[1], "--out", sys.argv[2]]))
    """
    for cache in (1, 500):  # full while it is written; full while GDAL's cache is flushed at the end
        done = child(code, path, out / "stack.tif", 3_000_000, cache)
        _, said = done.communicate(timeout=PATIENCE_S)
        assert done.returncode == 2, said
        assert "cannot write here" in said
        assert "Traceback" not in said
        assert list(out.iterdir()) == []


def test_a_full_disk_is_reported_before_the_work(
    one_grid: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=1_000_000))
    with pytest.raises(ZooError, match=r"about 20 MB .* 1 MB are free"):
        build_stack(one_grid, tmp_path / "out" / "stack.tif")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing(sent: signal.Signals, write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster("dem.tif", np.random.default_rng(0).random((900, 900)).astype(np.float32))
    out = tmp_path / "out"
    out.mkdir()
    code = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from zoo.rasters import stacking
    from zoo.rasters import stack_channels as channels
    from zoo.cli import run
    stacking.WINDOW = 64
    make = channels.ChannelMaker.make
    def slow(self, window):
        print("working", flush=True)
        time.sleep(0.3)
        return make(self, window)
    channels.ChannelMaker.make = slow
    sys.exit(run(["stack", "--dem", sys.argv[1], "--out", sys.argv[2]]))
    """
    process = child(code, path, out / "stack.tif")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert list(out.iterdir()) != []
    time.sleep(0.1)
    os.kill(process.pid, sent)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert list(out.iterdir()) == []


def test_progress_reaches_its_end(one_grid: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.rasters.stacking.WINDOW", 100)
    seen: list[tuple[int, int]] = []
    options = StackOptions(moisture="optram")
    build_stack(one_grid, tmp_path / "stack.tif", options, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 18) for done in range(1, 19)]
