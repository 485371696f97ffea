"""Maps whose making is stopped: by kill -9, Ctrl-C, a full disk, a damaged scene."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.mapping.conftest import BANDS, WriteScene, make_image, read
from zoo.errors import ConfigError, DataError, ZooError
from zoo.mapping import MapOptions, ProbabilityClasses, Scene, map_scene
from zoo.rasters.cog import CogWriter
from zoo.training.predictor import Predictor

PROGRAM = """
import sys, time
from pathlib import Path
import torch
import zoo.mapping.tiling
zoo.mapping.tiling.BLOCK = 128
from tests.mapping.conftest import BANDS, SmallNet
from zoo.mapping import MapOptions, Scene, map_scene
from zoo.training.predictor import Predictor
scene, out, stage = sys.argv[1:4]
def progress(what, done, total):
    if f"{what} {done}" == stage:
        print(stage, flush=True)
        time.sleep(600)
predictor = Predictor(SmallNet(), [0.2, 25.0], [0.3, 12.0]).eval()
with Scene([scene], BANDS) as opened:
    options = MapOptions(tile=128, overlap=32, dtype="float32")
    report = map_scene(predictor, opened, Path(out), options, progress=progress)
print("resumed", report.resumed, report.blocks)
"""
REPOSITORY = Path(__file__).parents[2]


def make(predictor: Predictor, path: Path, out: Path, progress=None, **given):
    with Scene([path], BANDS) as scene:
        options = MapOptions(**{"tile": 128, "overlap": 32, "dtype": "float32", **given})
        return map_scene(predictor, scene, out, options, progress=progress)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 128)


def hidden(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.zoo-map"))


def stop_after(blocks: int, error: type[BaseException] = KeyboardInterrupt):
    def progress(what: str, done: int, total: int) -> None:
        if what == "mapping" and done == blocks:
            raise error

    return progress


@pytest.mark.slow
@pytest.mark.nightly
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    predictor: Predictor, write_scene: WriteScene, tmp_path, start_session
) -> None:
    """kill -9 after the first block, again later, and while the map is being written."""
    path = write_scene(make_image(500, 420))
    out = tmp_path / "out" / "prob.tif"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "3"}
    for stage in ("mapping 2", "mapping 9", "writing 3"):
        run = start_session(sys.executable, "-c", PROGRAM, path, out, stage, stdout=-1, env=environment, cwd=REPOSITORY)
        assert run.stdout.readline() == f"{stage}\n"
        time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert not out.exists()
        assert len(hidden(out.parent)) == 1
    report = make(predictor, path, out)
    assert report.resumed == report.blocks == 25
    make(predictor, path, tmp_path / "straight.tif", threads=1)
    assert out.read_bytes() == (tmp_path / "straight.tif").read_bytes()
    assert list(out.parent.iterdir()) == [out]


def test_ctrl_c_keeps_finished_blocks_and_no_other_map_uses_them(
    predictor: Predictor, write_scene: WriteScene, tmp_path
) -> None:
    path = write_scene(make_image(300, 300))
    out = tmp_path / "prob.tif"
    with pytest.raises(KeyboardInterrupt):
        make(predictor, path, out, stop_after(3))
    assert not out.exists()
    [folder] = hidden(tmp_path)
    for given in ({"tta": True}, {"overlap": 64}, {"dtype": "uint8"}):
        with pytest.raises(KeyboardInterrupt):
            make(predictor, path, out, stop_after(1), **given)
    assert len(hidden(tmp_path)) == 4
    other = Predictor(predictor.model, [0.2, 25.0], [0.3, 12.5]).eval()
    with pytest.raises(KeyboardInterrupt):
        make(other, path, out, stop_after(1))
    assert len(hidden(tmp_path)) == 5
    report = make(predictor, path, out)
    assert report.resumed == 3
    assert "pixels per second" not in replace(report, seconds=2.0).cost(), "most pixels took no time in this run"
    assert "pixels per second" in replace(report, seconds=2.0, resumed=0).cost()
    assert hidden(tmp_path) == []
    assert not folder.exists()


def test_stopped_between_two_files(predictor: Predictor, write_scene: WriteScene, tmp_path, monkeypatch) -> None:
    """The classes have their name, the probability has not: the same command ends it, another one asks first."""
    path = write_scene(make_image(200, 200))
    files = {"out": tmp_path / "prob.tif", "classes_out": tmp_path / "classes.tif"}

    def command(threshold: float = 0.5) -> None:
        with Scene([path], BANDS) as scene:
            classes = ProbabilityClasses(("low", "high"), (threshold,))
            options = MapOptions(tile=128, overlap=32)
            map_scene(predictor, scene, options=options, classes=classes, **files)

    place = CogWriter.place

    def stop(writer: CogWriter) -> None:
        if writer.path == files["out"]:
            raise KeyboardInterrupt
        place(writer)

    monkeypatch.setattr(CogWriter, "place", stop)
    with pytest.raises(KeyboardInterrupt):
        command()
    monkeypatch.setattr(CogWriter, "place", place)
    assert [one.exists() for one in files.values()] == [False, True]
    with pytest.raises(ConfigError, match="already exists"):
        command(threshold=0.3)
    command()
    assert [one.exists() for one in files.values()] == [True, True]
    assert hidden(tmp_path) == []
    with pytest.raises(ConfigError, match="already exists"):
        command()


def test_a_changed_scene_is_mapped_from_the_start(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(make_image(300, 300))
    with pytest.raises(KeyboardInterrupt):
        make(predictor, path, tmp_path / "prob.tif", stop_after(3))
    write_scene(make_image(300, 300, seed=5))
    assert make(predictor, path, tmp_path / "prob.tif").resumed == 0
    make(predictor, path, tmp_path / "straight.tif")
    assert (tmp_path / "prob.tif").read_bytes() == (tmp_path / "straight.tif").read_bytes()


def test_a_damaged_block_is_made_again(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(make_image(300, 300))
    with pytest.raises(KeyboardInterrupt):
        make(predictor, path, tmp_path / "prob.tif", stop_after(4))
    first, second, *_ = sorted(hidden(tmp_path)[0].glob("block-*.safetensors"))
    first.write_bytes(first.read_bytes()[:1000])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 255
    second.write_bytes(content)
    assert make(predictor, path, tmp_path / "prob.tif").resumed == 2
    make(predictor, path, tmp_path / "straight.tif")
    assert (tmp_path / "prob.tif").read_bytes() == (tmp_path / "straight.tif").read_bytes()


def test_two_processes_do_not_make_one_map(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    path = write_scene(make_image(200, 200))

    def progress(what: str, done: int, total: int) -> None:
        if (what, done) == ("mapping", 1):
            with pytest.raises(ZooError, match="another process is writing this map"):
                make(predictor, path, tmp_path / "prob.tif")

    make(predictor, path, tmp_path / "prob.tif", progress)
    assert read(tmp_path / "prob.tif").shape == (200, 200)


def test_an_unreadable_block_is_named_and_no_file_is_published(
    predictor: Predictor, write_scene: WriteScene, tmp_path
) -> None:
    image = make_image(512, 512)
    path = write_scene(image, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    # Several tiles whole: deflate has no checksum that GDAL looks at, so a few wrong bytes inside of one go unnoticed.
    data[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(data)
    out = tmp_path / "out" / "prob.tif"
    with pytest.raises(DataError, match="truncated") as caught:
        make(predictor, path, out)
    assert caught.value.where == str(path)
    assert not out.exists()


def test_a_full_disk_is_reported_before_the_work(
    predictor: Predictor, write_scene: WriteScene, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ZooError, match="MB are free"):
        make(predictor, write_scene(make_image(100, 100)), tmp_path / "out" / "prob.tif")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system of its own")
def test_a_disk_that_fills_up_keeps_the_blocks_for_the_next_run(
    predictor: Predictor, write_scene: WriteScene, tmp_path, monkeypatch
) -> None:
    """A real full disk, of two megabytes."""
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = write_scene(make_image(500, 500))
        monkeypatch.setattr("zoo.mapping.pipeline.check_disk_space", lambda *_: None)
        with pytest.raises(ZooError, match="cannot write here"):
            make(predictor, path, disk / "prob.tif")
        assert not (disk / "prob.tif").exists()
        [folder] = hidden(disk)
        done = len(list(folder.glob("block-*.safetensors")))
        assert done > 3
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert make(predictor, path, disk / "prob.tif").resumed == done
        make(predictor, path, tmp_path / "straight.tif")
        assert hashlib.sha256((disk / "prob.tif").read_bytes()).digest() == (
            hashlib.sha256((tmp_path / "straight.tif").read_bytes()).digest()
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(disk)


def test_nodata_pixels_of_a_resumed_map(predictor: Predictor, write_scene: WriteScene, tmp_path) -> None:
    image = make_image(300, 300)
    image[:, 90:130, 90:130] = np.nan
    path = write_scene(image)
    with pytest.raises(KeyboardInterrupt):
        make(predictor, path, tmp_path / "prob.tif", stop_after(5))
    make(predictor, path, tmp_path / "prob.tif")
    np.testing.assert_array_equal(np.isnan(read(tmp_path / "prob.tif")), np.isnan(image[0]))
