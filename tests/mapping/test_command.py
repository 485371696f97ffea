"""`zoo map` as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.mapping.conftest import BANDS, WriteScene, make_image, read
from zoo.cli import run
from zoo.physics.bands import Band


def test_a_map_with_classes(bundle: Path, write_scene: WriteScene, tmp_path, capsys) -> None:
    image = make_image(300, 260)
    image[:, :20] = np.nan
    scene = write_scene(image)
    out = tmp_path / "prob.tif"
    assert run(["map", str(bundle), str(scene), "--out", str(out), "--classes", "low,medium,high"]) == 0
    told = capsys.readouterr()
    values, classes = read(out), read(tmp_path / "prob-classes.tif")
    np.testing.assert_array_equal(classes == 3, (values >= 100) & (values != 255))
    assert f"{(classes == 3).sum():,} pixels" in told.out
    assert "300 x 260 pixels, 5,200 without data" in told.out
    with rasterio.open(out) as file:
        tags = file.tags()
    assert tags["MODEL"] == "unet"
    assert tags["WEIGHTS_SHA256"] == json.loads((bundle / "bundle.json").read_text())["weights"]["sha256"]
    assert tags["THRESHOLD"] == "0.4"


@pytest.mark.parametrize(
    ("argument", "problem", "hint"),
    [
        ("enhanced_unet", "is an architecture without trained weights", "zoo train enhanced_unet"),
        ("nowhere", "there is no such folder", "zoo train"),
        ("empty", "there is no bundle.json", "zoo train"),
    ],
)
def test_without_a_bundle_the_message_names_zoo_train(
    write_scene: WriteScene,
    tmp_path,
    capsys,
    monkeypatch,
    argument: str,
    problem: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    scene = write_scene(make_image(40, 40))
    assert run(["map", argument, str(scene), "--out", "prob.tif"]) == 2
    told = capsys.readouterr().err
    assert problem in told
    assert hint in told
    assert not (tmp_path / "prob.tif").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_bad_input_is_one_clear_line(bundle: Path, write_scene: WriteScene, tmp_path, capsys) -> None:
    """Each: exit code 2, what is wrong and where, and nothing under the final name."""
    image = make_image(60, 60)
    good = write_scene(image)
    broken = tmp_path / "broken bundle"
    shutil.copytree(bundle, broken)
    cut(broken / "model.safetensors")
    truncated = write_scene(image, "truncated.tif")
    cut(truncated)
    (tmp_path / "there.tif").write_bytes(b"before")
    rotated = rasterio.Affine(10, 1, 6e5, 1, -10, 38e5)
    percent = (BANDS[0], Band("slope", "percent"))
    cases = [
        ([bundle, write_scene(image, "nocrs.tif", crs=None)], "no coordinate reference system"),
        ([bundle, write_scene(image, "turned.tif", transform=rotated)], "rotated"),
        ([bundle, write_scene(image[:1], "one.tif", bands=BANDS[:1])], "has no band slope"),
        ([bundle, write_scene(image, "percent.tif", bands=percent)], "is in percent"),
        ([bundle, write_scene(image * np.nan, "nothing.tif")], "nothing to map"),
        ([bundle, truncated], "truncated"),
        ([bundle, tmp_path / "absent.tif"], "no such file"),
        ([bundle, bundle / "bundle.json"], "cannot be read as a raster"),
        ([broken, good], "sha256 differs"),
        ([bundle, good, "--mask", tmp_path / "absent.gpkg"], "no such vector file"),
        ([bundle, good, "--mask", good], "the vector file cannot be read"),
        ([bundle, good, "--tile", "100"], "multiples of 32"),
        ([bundle, good, "--breaks", "0.5"], "--classes"),
        ([bundle, good, "--classes", "a,b", "--breaks", "x"], "is not a list of numbers"),
        ([bundle, good, "--device", "tpu"], "tpu"),
        ([bundle, good, "--scales", "1,2"], "Add --adapt"),
    ]
    for arguments, problem in cases:
        assert run(["map", *map(str, arguments), "--out", str(tmp_path / "out" / "prob.tif")]) == 2, arguments
        told = capsys.readouterr().err
        assert problem in told, told
        assert told.count("error:") == 1
        assert not [*(tmp_path / "out").glob("*")]
    assert run(["map", str(bundle), str(good), "--out", str(tmp_path / "there.tif")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "there.tif").read_bytes() == b"before"


@pytest.mark.parametrize("scales", ["1", "1,1.5"])
def test_adapted_to_the_scene_itself(bundle: Path, write_scene: WriteScene, tmp_path, capsys, scales: str) -> None:
    scene = str(write_scene(make_image(260, 300) * np.float32(1.5)))
    for name in ("a", "b"):
        command = ["map", str(bundle), scene, "--out", str(tmp_path / f"{name}.tif"), "--adapt", "--scales", scales]
        assert run([*command, "--threads", "1" if name == "a" else "2"]) == 0
    told = capsys.readouterr().err
    assert "the scene's share in the statistics is" in told
    assert re.search(r"the threshold is 0\.\d+; for the training regions it is 0\.\d+", told)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert 0 <= float(file.tags()["ADAPTED_SHARE"]) <= 1
        assert file.tags().get("SCALES", "1") == scales
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_map_is_written_to_an_address(bundle: Path, write_scene: WriteScene, tmp_path, capsys, monkeypatch) -> None:
    """In GDAL's memory, instead of a bucket."""
    monkeypatch.chdir(tmp_path)
    command = ["map", str(bundle), str(write_scene(make_image(80, 80))), "--classes", "low,high", "--out"]
    assert run([*command, "/vsimem/maps/prob.tif"]) == 0
    assert run([*command, "here.tif"]) == 0
    for suffix in ("", "-classes"):
        with rasterio.open(f"/vsimem/maps/prob{suffix}.tif") as file:
            np.testing.assert_array_equal(file.read(1), read(tmp_path / f"here{suffix}.tif"))
    assert not list(tmp_path.glob("prob*"))
    capsys.readouterr()
    assert run([*command, "/vsimem/maps/prob.tif"]) == 2
    assert "/vsimem/maps/prob.tif: already exists" in capsys.readouterr().err


@pytest.mark.slow
def test_the_message_after_ctrl_c_states_how_to_continue(
    bundle: Path,
    write_scene: WriteScene,
    tmp_path,
    zoo,
    start_session,
) -> None:
    from tests.conftest import PATIENCE_S, ZOO

    scene = write_scene(make_image(4500, 200))
    command = ["map", bundle, scene, "--out", tmp_path / "prob.tif", "--tile", "256", "--overlap", "32"]
    started = start_session(ZOO, *command, "--threads", "1", stderr=-1)
    while not list(tmp_path.glob(".prob-*.zoo-map/block-*.safetensors")):
        assert started.poll() is None
    started.send_signal(signal.SIGINT)
    assert "the same command resumes from the last finished block" in started.communicate(timeout=PATIENCE_S)[1]
    assert started.returncode == 130
    assert not (tmp_path / "prob.tif").exists()
    told = zoo(*command, check=True).stderr
    assert "blocks were finished by an earlier run" in told
    assert read(tmp_path / "prob.tif").shape == (4500, 200)
    assert not list(tmp_path.glob(".prob-*"))
