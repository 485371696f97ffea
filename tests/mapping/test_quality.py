"""Test that a map reports the quality of its model, unlikely shares of landslides, and demo models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio

from tests.mapping.conftest import WriteScene, make_image
from zoo.cli import run
from zoo.evaluation.quality import MeasuredSplit
from zoo.mapping import pictures
from zoo.training.bundle import Bundle


@pytest.fixture
def scene(write_scene: WriteScene) -> Path:
    return write_scene(make_image(96, 96))


def save(bundle: Path, folder: Path, share: float | None = None, **changes: object) -> Path:
    found = Bundle.load(bundle)
    statistics = replace(found.statistics, landslide_share=share)
    replace(found, statistics=statistics, **changes).save(folder)  # type: ignore[arg-type]
    return folder


def run_map(folder: Path, scene: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[str, str]:
    assert run(["map", str(folder), str(scene), "--out", str(folder / "prob.tif"), *options]) == 0
    told = capsys.readouterr()
    return told.out, " ".join(told.err.split())


def test_the_first_line_gives_the_quality_of_the_model(
    bundle: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = MeasuredSplit(data="L4S", dice=0.6, precision=0.7, recall=0.5, dice_interval=(0.5, 0.7), patches=114)
    out, err = run_map(save(bundle, tmp_path / "good", evaluations=(good,)), scene, capsys)
    text = "test Dice 0.600 (95 % interval 0.500 to 0.700), precision 0.700, recall 0.500; L4S, 114 patches"
    assert out.splitlines()[0] == f"model: {text}"
    assert "poor" not in err
    with rasterio.open(tmp_path / "good" / "prob.tif") as file:
        assert file.tags()["QUALITY"] == f"model: {text}"
        assert "LABEL" not in file.tags()
    out, err = run_map(save(bundle, tmp_path / "unknown", metrics={}), scene, capsys)
    assert out.splitlines()[0] == "model: quality not measured"
    adapted = replace(good, adapted=True, dice=0.65)
    out, _ = run_map(save(bundle, tmp_path / "both", evaluations=(good, adapted)), scene, capsys, "--adapt")
    assert out.startswith("model: test Dice 0.650")
    out, _ = run_map(save(bundle, tmp_path / "plain", evaluations=(good,)), scene, capsys, "--adapt")
    assert out.splitlines()[0].endswith("measured without adaptation")


def test_a_poor_model_is_called_poor_once(
    bundle: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = save(bundle, tmp_path / "poor", evaluations=(MeasuredSplit(dice=0.03, precision=0.02),))
    _, err = run_map(poor, scene, capsys)
    assert err.count("this model is poor: its test Dice is 0.030, below 0.2; its precision is 0.020") == 1


@pytest.mark.parametrize(("share", "threshold", "expected"), [(0.01, "0", "more than 3 times"), (0.9, "1", "1/100")])
def test_an_unlikely_share_causes_a_warning(
    bundle: Path,
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    share: float,
    threshold: str,
    expected: str,
) -> None:
    folder = save(bundle, tmp_path / "b", share)
    _, err = run_map(folder, scene, capsys, "--threshold", threshold)
    assert expected in err
    _, err = run_map(save(bundle, tmp_path / "old"), scene, capsys, "--threshold", threshold)
    assert "training masks" not in err


def test_every_output_of_a_demo_is_marked(
    bundle: Path,
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    legends: list[str] = []
    framed = pictures.framed_map

    def noted(*arguments: object, **given: object) -> object:
        legends.extend(one.get_label() for one in given["legend"])  # type: ignore[attr-defined]
        return framed(*arguments, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "framed_map", noted)
    folder = save(bundle, tmp_path / "demo", label="demo")
    slides, picture = tmp_path / "slides.gpkg", tmp_path / "map.png"
    values = np.median(Bundle.load(bundle).threshold)
    options = ["--classes", "low,high", "--breaks", "0.5", "--threshold", f"{values:g}"]
    out, _ = run_map(folder, scene, capsys, *options, "--polygons", str(slides), "--picture", str(picture))
    assert out.startswith("demo model: ")
    assert picture.is_file()
    assert "landslide (demo)" in legends[0]
    for name, about in (("prob.tif", "probability"), ("prob-classes.tif", "class of the probability")):
        with rasterio.open(folder / name) as file:
            assert file.tags()["LABEL"] == "demo"
            assert file.tags(1)["LONG_NAME"] == f"{about} of a landslide (demo)"
    found = geopandas.read_file(slides)
    assert len(found)
    assert set(found["class"]) <= {"low (demo)", "high (demo)"}
    assert "demo" in json.dumps(pyogrio.read_info(slides)["layer_metadata"])
    assert run(["polygons", str(folder / "prob.tif"), "--out", str(tmp_path / "later.gpkg")]) == 0
    assert set(geopandas.read_file(tmp_path / "later.gpkg")["class"]) == {"landslide (demo)"}
